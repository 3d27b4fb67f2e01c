"""Every form of receipt is a PDU that the codec takes, and our own reader understands it."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any, get_args

import pytest

from gateway.simulator.delivery import ReceiptTimes, pick_state, receipt_body, receipt_id, reply_bodies, write_id
from gateway.simulator.faults import AnswerId, Faults, ReceiptId
from gateway.smpp import receipt
from gateway.smpp.message_id import normalise_id
from gateway.smpp.pdu import DATA_SM, DELIVER_SM, SUBMIT_SM
from gateway.smpp.short_message import ShortMessage, decode_message
from gateway.smpp.text import Joiner, decode
from tests.smpp.peers import id_forms

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC in ms
SUBMIT = ShortMessage(
    SUBMIT_SM, 1, b"", 5, 0, b"SHOP", 1, 1, b"46700000001", registered_delivery=1, short_message=b"hello"
)
TEXTS = ["standard", "seconds", "century", "no-sub", "reordered", "upper", "no-dates"]


def made(faults: Faults, message: ShortMessage = SUBMIT, state: int = receipt.DELIVERED) -> ShortMessage:
    command_id, body = receipt_body(faults, message, b"12AB", state, ReceiptTimes(NOON, NOON + 60_000))
    return decode_message(body, 0, len(body), command_id, 7)


@pytest.mark.parametrize(
    ("text", "tlvs", "via"), [*product(TEXTS, [True, False], ["deliver_sm", "data_sm", "payload"])]
)
def test_every_form_is_understood(text: Any, tlvs: bool, via: Any) -> None:
    message = made(Faults(receipt_text=text, receipt_tlvs=tlvs, receipt_via=via, receipt_error="01f"))
    assert message.command_id == (DATA_SM if via == "data_sm" else DELIVER_SM)
    assert (message.source, message.dest, message.dest_ton) == (b"46700000001", b"SHOP", 5)
    assert receipt.is_receipt(message)
    found = receipt.parse(message)
    assert found is not None
    assert (found.ids, found.state) == ((b"12AB",), receipt.DELIVERED)
    assert found.error.lower() == b"01f"
    if text != "no-dates":
        assert found.done_date == NOON + 60_000
    if text not in {"reordered"}:
        assert found.text == b"hello"


def test_tlvs_alone() -> None:
    found = receipt.parse(made(Faults(receipt_text="none"), state=receipt.EXPIRED))
    assert found is not None and (found.ids, found.state) == ((b"12AB",), receipt.EXPIRED)


def test_a_text_that_is_not_plain_is_not_repeated() -> None:
    found = receipt.parse(made(Faults(), SUBMIT._replace(data_coding=8, short_message="я".encode("utf-16-be"))))
    assert found is not None and found.text == b""


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("dec", b"48879"),
        ("hex", b"beef"),
        ("HEX", b"BEEF"),
        ("dec-padded", b"00000000000000048879"),
        ("hex-padded", b"000000000000beef"),
        ("uuid", b"00000000-0000-0000-0000-00000000beef"),
    ],
)
def test_ids_of_answers(form: AnswerId, text: bytes) -> None:
    assert write_id(0xBEEF, form) == text


@pytest.mark.parametrize(
    ("answered", "form", "text"),
    [
        (b"0aF", "same", b"0aF"),
        (b"0aF", "upper", b"0AF"),
        (b"0aF", "lower", b"0af"),
        (b"0aF", "stripped", b"aF"),
        (b"x", "dec", b"175"),
        (b"x", "HEX", b"AF"),
        (b"x", "hex-padded", b"00000000000000af"),
    ],
)
def test_ids_of_receipts(answered: bytes, form: ReceiptId, text: bytes) -> None:
    assert receipt_id(175, answered, form) == text


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (answer, shown)
        for answer, shown in product(get_args(AnswerId), get_args(ReceiptId))
        if answer != "uuid" or shown in {"same", "upper", "lower"}  # no carrier turns an uuid into a number
    ],
)
def test_a_receipt_can_be_matched_whatever_its_id_looks_like(answer: AnswerId, shown: ReceiptId) -> None:
    for number in (0xBEEF, 1234567890123, 9):
        answered = write_id(number, answer)
        forms = id_forms(receipt_id(number, answered, shown), "auto")
        assert normalise_id(answered, "auto") in forms


def test_states_follow_their_weights() -> None:
    faults = Faults(receipt_states={"DELIVRD": 3, "UNDELIV": 1})
    states = [pick_state(faults, Random(seed)) for seed in range(400)]
    assert 250 < states.count(receipt.DELIVERED) < 350
    assert set(states) == {receipt.DELIVERED, receipt.UNDELIVERABLE}


def test_a_long_reply_is_joined_again() -> None:
    joiner, joined = Joiner(), None
    for body in reply_bodies(b"4670", b"12345", "прив" * 30, 7):
        message = decode_message(body, 0, len(body), DELIVER_SM, 1)
        assert not receipt.is_receipt(message)
        joined = joiner.add(
            message.source, message.dest, message.esm_class, message.data_coding, message.payload, message.tlvs, 0.0
        )
    assert joined is not None
    assert decode(joined.payload, joined.data_coding) == "прив" * 30
