from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.config import Carrier
from gateway.model import Category, Content, Envelope, Leased, PartState, Recipient
from gateway.pipeline.encode import Encoder, absolute_time, source_address
from gateway.pipeline.submission import Asked
from gateway.smpp.messages import Message, decode_message
from gateway.smpp.pdus import SUBMIT_SM
from gateway.smpp.text import TextError

NOW = 1_795_000_000_000


def carrier(**settings: Any) -> Carrier:
    return Carrier(name="north", hosts=("127.0.0.1:2775",), system_id="gw", password="pw", **settings)


def leased(text: str = "hello", **changes: Any) -> Leased:
    envelope = changes.pop("envelope", Envelope("46700000001", "shop", "acme", 1, ""))
    message = Leased(
        id=bytes(16),
        lease=1,
        recipient=Recipient("46700000001", bytes(16), 0),
        category=Category.TRANSACTIONAL,
        route="*",
        place=0,
        attempts=0,
        resent=False,
        pinned="",
        reference_number=0x1234,
        parts=b"",
        expires=NOW + 60_000,
        closes=NOW + 30_000,
        envelope=envelope,
        content=Content(text),
    )
    return msgspec.structs.replace(message, **changes)


def bodies(message: Leased, **settings: Any) -> list[Message | None]:
    found = Encoder(carrier(**settings)).encode(message, NOW)
    return [None if body is None else decode_message(body, 0, len(body), SUBMIT_SM, 1) for body in found]


def only(message: Leased, **settings: Any) -> Message:
    (body,) = bodies(message, **settings)
    assert body is not None
    return body


def test_a_plain_text() -> None:
    body = only(leased("hello [x]"))
    assert (body.dest, body.dest_ton, body.dest_npi) == (b"46700000001", 1, 1)
    assert (body.source, body.source_ton, body.source_npi) == (b"shop", 5, 0)
    assert (body.data_coding, body.esm_class, body.registered_delivery) == (0, 0, 1)
    assert body.short_message == b"hello \x1b<x\x1b>"
    assert body.validity == absolute_time((NOW + 60_000) // 1000)


def test_settings_of_the_carrier() -> None:
    body = only(
        leased(), number_format="plus", dest_ton=0, dest_npi=8, source_ton=2, source_npi=9, registered_delivery=2
    )
    assert (body.dest, body.dest_ton, body.dest_npi) == (b"+46700000001", 0, 8)
    assert (body.source_ton, body.source_npi, body.registered_delivery) == (2, 9, 2)


def test_alphabets() -> None:
    assert only(leased("åäö")).short_message == b"\x0f\x7b\x7c"
    latin = only(leased("åäöç"), alphabet="latin1")
    assert (latin.data_coding, latin.short_message) == (3, "åäöç".encode("latin-1"))
    assert only(leased("Привет")).data_coding == 8
    asked = only(leased(content=Content("hello", "ucs2")))
    assert (asked.data_coding, asked.short_message) == (8, "hello".encode("utf-16-be"))


def test_binary_content_keeps_its_header() -> None:
    body = only(leased(content=Content("", "binary", b"\x06\x05\x04\x0b\x84\x23\xf0abc", 0xF5, 0x40)))
    assert (body.data_coding, body.esm_class) == (0xF5, 0x40)
    assert body.short_message == b"\x06\x05\x04\x0b\x84\x23\xf0abc"


@pytest.mark.parametrize(
    ("long", "first"), [("udh8", b"\x05\x00\x03\x34\x02\x01"), ("udh16", b"\x06\x08\x04\x12\x34\x02\x01")]
)
def test_long_texts_carry_the_number_of_the_lease(long: str, first: bytes) -> None:
    one, two = bodies(leased("x" * 200), long_messages=long)
    assert one is not None and two is not None
    assert one.short_message.startswith(first)
    assert one.esm_class == two.esm_class == 0x40


def test_payload_and_sar() -> None:
    body = only(leased("x" * 200), long_messages="payload")
    assert (body.short_message, body.payload) == (b"", b"x" * 200)
    one, _ = bodies(leased("x" * 200), long_messages="sar")
    assert one is not None and one.tlvs is not None
    assert one.tlvs[0x020C] == b"\x00\x34"


def test_accepted_parts_are_not_encoded_again() -> None:
    states = bytes((PartState.ACCEPTED, PartState.UNKNOWN, PartState.PENDING))
    assert [body is None for body in bodies(leased("x" * 400, parts=states))] == [True, False, False]
    # another carrier's splitting says nothing about ours
    assert None not in bodies(leased("x" * 400, parts=bytes((PartState.ACCEPTED,))))


def test_the_same_text_keeps_its_own_reference_numbers() -> None:
    encoder = Encoder(carrier())
    first = encoder.encode(leased("x" * 200), NOW)
    second = encoder.encode(leased("x" * 200, reference_number=0x99), NOW)
    assert first != second


def test_validity() -> None:
    marketing = leased(category=Category.MARKETING, expires=NOW + 86_400_000)
    # The permission ends a minute before the permitted hours, the validity with them.
    assert only(marketing).validity == absolute_time((NOW + 30_000 + 60_000) // 1000)
    assert only(leased(expires=NOW + 365 * 86_400_000)).validity == b""
    assert only(leased(expires=0)).validity == b""
    assert absolute_time(0) == b"700101000000000+"
    assert len(absolute_time(NOW // 1000)) == 16


def test_senders() -> None:
    assert source_address("") == (b"", 0, 0)
    assert source_address("Acme Ltd") == (b"Acme Ltd", 5, 0)
    assert source_address("72345") == (b"72345", 3, 0)
    assert source_address("+46700000009") == (b"46700000009", 1, 1)
    assert source_address("46700000009", plus=True) == (b"+46700000009", 1, 1)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(TextError):
        bodies(leased("x" * 153 * 256))


def test_the_priority_that_the_app_asked_for() -> None:
    encoder = Encoder(carrier())
    for priority in (0, 3, 1):
        facts = msgspec.json.decode(msgspec.json.encode(Asked(priority=priority))) if priority else None
        message = leased(envelope=Envelope("46700000001", "shop", "acme", 1, "", facts=facts))
        (body,) = encoder.encode(message, NOW)
        assert body is not None
        assert decode_message(body, 0, len(body), SUBMIT_SM, 1).priority == priority
