"""Receipts as carriers write them: the vectors of other suites, then the traps one by one."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp import receipt
from gateway.smpp.message_id import bounded_id, normalise_id
from gateway.smpp.receipt import Receipt, build, is_receipt, parse
from gateway.smpp.tlv import RECEIPTED_MESSAGE_ID
from tests.smpp.peers import id_forms

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data/vectors.json").read_text())["receipts"]
JAN_2026 = 1_767_225_600_000  # 2026-01-01 00:00 UTC in ms


def message(text: bytes = b"", tlvs: dict[int, bytes] | None = None, esm_class: int = 4, data_coding: int = 0) -> Any:
    return SimpleNamespace(payload=text, tlvs=tlvs, esm_class=esm_class, data_coding=data_coding)


def parsed(text: bytes, tlvs: dict[int, bytes] | None = None, **more: int) -> Receipt:
    found = parse(message(text, tlvs, **more))
    assert found is not None
    return found


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["text"][:30])
def test_vectors(vector: dict[str, Any]) -> None:
    expect, text = vector["expect"], vector["text"].encode()
    if expect.get("is_receipt") is False:
        assert not is_receipt(message(text, esm_class=0))
        return
    assert is_receipt(message(text))
    found = parsed(text)
    assert found.ids == (expect["id"].encode(),)
    assert found.state_text == expect["stat"].encode()
    assert found.final == expect.get("final", True)
    for field in ("err", "sub", "text"):
        if field in expect:
            assert getattr(found, {"err": "error"}.get(field, field)) == expect[field].encode()
    for field in ("submit", "done"):
        if field in expect:
            assert getattr(found, f"{field}_date") == receipt._instant(expect[field].encode(), UTC) > 0
    if "must_match_any_of" in expect:
        for answered in expect["must_match_any_of"]:
            assert normalise_id(answered.encode(), "auto") in id_forms(found.ids[0], "auto")


# What counts as a receipt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("esm_class", "tlvs", "answer"),
    [
        (0x04, None, True),
        (0x44, None, True),
        (0x20, None, True),
        (0x08, {0x1E: b"1"}, False),  # an acknowledgement by the handset's user
        (0x00, None, False),
        (0x00, {0x1E: b"1"}, True),
        (0x00, {0x0427: b"\2"}, False),
    ],
)
def test_a_receipt_is_known_by_esm_class_or_tlv(esm_class: int, tlvs: dict[int, bytes] | None, answer: bool) -> None:
    assert is_receipt(message(b"id:1 stat:DELIVRD", tlvs, esm_class)) is answer


def test_settings_of_the_carrier() -> None:
    assert not is_receipt(message(b"", {0x1E: b"1"}, 0), trust_tlv=False)
    assert is_receipt(message(b"id:1 stat:DELIVRD", None, 0), trust_text=True)
    assert not is_receipt(message(b"Your id:1 is here", None, 0), trust_text=True)


# Text and TLVs ----------------------------------------------------------------------------------------------------


def test_the_tlv_wins_and_the_text_fills_the_gaps() -> None:
    found = parsed(
        b"id:8 sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:UNDELIV err:021",
        {0x1E: b"7\0", 0x0427: b"\2"},
    )
    assert found.ids == (b"7", b"8")
    assert found.state == receipt.DELIVERED
    assert (found.state_text, found.error, found.done_date) == (b"UNDELIV", b"021", JAN_2026 + 60_000)


def test_tlvs_alone_are_enough() -> None:
    found = parsed(b"", {0x1E: b"7\0", 0x0427: b"\5", 0x0423: b"\3\0\x15"})
    assert found == Receipt((b"7",), receipt.UNDELIVERABLE, error=b"021")


def test_nothing_after_text_is_a_field() -> None:
    assert parsed(b"id:1 stat:DELIVRD text:stat:REJECTD err:9").error == b""
    assert parse(message(b"text:id:999 stat:REJECTD")) is None


def test_a_text_without_id_and_state_is_no_receipt() -> None:
    assert parse(message(b"hello")) is None
    assert parse(message(b"hello", {0x0204: b"\0\1"})) is None


@pytest.mark.parametrize(
    "text",
    [
        b"stat:DELIVRD err:000 id:77",
        b"ID:77 Stat:DELIVRD",
        b"id: 77 stat: DELIVRD",
        b"id:77,stat:DELIVRD,err:0",
        b"id:77 stat:delivrd",
        b"id:77 stat:DELIVERED",
        b"id:77 sub:001 dlvrd:001 submit_date:2601010000 stat:DELIVRD\0",
    ],
)
def test_order_case_spaces_and_gaps(text: bytes) -> None:
    found = parsed(text)
    assert (found.ids, found.state) == ((b"77",), receipt.DELIVERED)


@pytest.mark.parametrize(
    ("stat", "state", "final"),
    [
        (b"ENROUTE", 1, False),
        (b"BUFFRED", 1, False),
        (b"ACCEPTD", 6, False),
        (b"ACKED", 6, False),
        (b"DELETED", 4, True),
        (b"REJECTD", 8, True),
        (b"FAILED", 5, True),
        (b"WHATEVER", 0, False),
        (b"UNKNOWN", 7, False),
        (b"DELIVRD_TO_HANDSET", 2, True),
        (b"Undeliverd", 5, True),
        (b"expired", 3, True),
        (b"2", 0, False),
    ],
)
def test_states(stat: bytes, state: int, final: bool) -> None:
    found = parsed(b"id:1 stat:" + stat)
    assert (found.state, found.state_text, found.final) == (state, stat, final)


def test_states_of_version_5() -> None:
    assert [parsed(b"id:1", {0x0427: octet}).state for octet in (b"\0", b"\x09", b"\x63")] == [1, 5, 0]


def test_wrapped_in_ucs2_or_under_a_header() -> None:
    text = b"id:1 stat:DELIVRD"
    assert parsed(text.decode().encode("utf-16-be"), data_coding=8).ids == (b"1",)
    assert parsed(b"\x05\0\x03\1\1\1" + text, esm_class=0x44).ids == (b"1",)
    assert parsed(text, esm_class=0x44).ids == (b"1",)  # the bit is a lie


USUAL = b"id:77 sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:hi"
WIDE = USUAL.decode().encode("utf-16-be")
HEADER = b"\5\0\3\x2a\2\1"


@pytest.mark.parametrize("data_coding", [0, 1, 3, 8])
@pytest.mark.parametrize("esm_class", [0x04, 0x44])
@pytest.mark.parametrize(
    "text",
    [
        USUAL,
        USUAL + b"\0",
        USUAL.replace(b"hi", "привет".encode("utf-16-be")),
        USUAL.replace(b"hi", b"\0h\0i\0"),
        WIDE,
        WIDE[:-1],  # cut in the middle of a character
        b"\xfe\xff" + WIDE,
        b"\xff\xfe" + USUAL.decode().encode("utf-16-le"),
        USUAL.decode().encode("utf-16-le"),
        b"\x7a" + WIDE,
        b"\xef\xbb\xbf" + USUAL,
        b"\0" + USUAL,
        b'"' + USUAL + b'"',
        b"'" + USUAL,
        b"z" + USUAL,
        b"\n " + USUAL,
        HEADER + USUAL,
        HEADER + WIDE,
        b"\x0b\5\4\x0b\x84\x23\xf0\0\3\x2a\2\1" + USUAL,  # with ports
    ],
)
def test_receipts_that_deviate_from_appendix_b_are_parsed(text: bytes, esm_class: int, data_coding: int) -> None:
    found = parsed(text, esm_class=esm_class, data_coding=data_coding)
    assert (found.ids, found.state, found.error) == ((b"77",), receipt.DELIVERED, b"000")
    assert found.done_date == JAN_2026 + 60_000
    if text in {WIDE, HEADER + WIDE, b"\xfe\xff" + WIDE}:
        assert found.text == b"hi"


def test_a_header_is_taken_off_where_it_stands_before_another_field() -> None:
    found = parsed(HEADER + b"stat:DELIVRD err:000 id:77", esm_class=0x44)
    assert (found.ids, found.state) == ((b"77",), receipt.DELIVERED)


def test_an_excerpt_in_ucs2_is_returned_as_utf8() -> None:
    wide = USUAL.replace(b"hi", "привет".encode()).decode().encode("utf-16-be")
    assert parsed(wide).text.decode() == "привет"


@pytest.mark.parametrize(
    ("octets", "text", "state"),
    [
        (b"\2", b"UNDELIV", receipt.DELIVERED),  # the TLV wins
        (b"\1", b"DELIVRD", receipt.ENROUTE),
        (b"\0", b"DELIVRD", receipt.DELIVERED),
        (b"\x0c", b"UNDELIV", receipt.UNDELIVERABLE),
        (b"2", b"EXPIRED", receipt.EXPIRED),
        (b"\7", b"DELIVRD", receipt.DELIVERED),  # it does not know, the text does
        (b"\7", b"UNKNOWN", receipt.UNKNOWN),
        (b"\7", b"WHATEVER", receipt.UNKNOWN),
        (b"\x0c", b"UNKNOWN", receipt.UNKNOWN),
        (b"\x0c", b"WHATEVER", receipt.UNREADABLE),
        (b"\x0c", b"", receipt.UNREADABLE),
        (b"2", b"", receipt.DELIVERED),
        (b"5", b"WHATEVER", receipt.UNDELIVERABLE),
        (b"DELIVRD\0", b"", receipt.DELIVERED),
        (b"\0\0\0\2", b"", receipt.DELIVERED),
        (b"\2\0", b"", receipt.DELIVERED),
        (b"", b"", receipt.UNREADABLE),
        (b"\xff" * 60_000, b"", receipt.UNREADABLE),
    ],
)
def test_an_invalid_message_state_never_overrides_the_text(octets: bytes, text: bytes, state: int) -> None:
    found = parsed(b"id:1 stat:" + text if text else b"id:1", {0x0427: octets})
    assert found.state == state
    assert found.final is (state not in {receipt.ENROUTE, receipt.UNKNOWN, receipt.UNREADABLE})


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from([0x1E, 0x0423, 0x0427]), st.binary(max_size=5)))
def test_any_octets_are_read_without_error(text: bytes, tlvs: dict[int, bytes]) -> None:
    found = parse(message(b"id:1 stat:" + text, tlvs, data_coding=8))
    assert found is None or 0 <= found.state <= 8


# Dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "instant"),
    [
        (b"2601010000", JAN_2026),
        (b"260101000001", JAN_2026 + 1000),
        (b"202601010001", JAN_2026 + 60_000),
        (b"20260101000001", JAN_2026 + 1000),
        (b"2026-01-01 00:00:01", JAN_2026 + 1000),
        (b"2613010000", 0),
        (b"260101", 0),
        (b"null", 0),
        (b"", 0),
    ],
)
def test_dates(date: bytes, instant: int) -> None:
    assert parsed(b"id:1 submit date:" + date + b" done date:2601010000 stat:DELIVRD").submit_date == instant


def test_dates_are_in_the_carriers_own_time() -> None:
    found = parse(message(b"id:1 done date:2601010200 stat:DELIVRD"), clock=timezone(timedelta(hours=2)))
    assert found is not None and (found.submit_date, found.done_date) == (0, JAN_2026)


def test_an_id_longer_than_its_field_is_the_same_in_text_tlv_and_answer() -> None:
    long = b"7f" * 126
    text = b"id:%b sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000" % long
    (in_text,) = parsed(text).ids
    (in_tlv,) = parsed(b"", {RECEIPTED_MESSAGE_ID: long.upper() + b"\0"}).ids
    assert in_text == bounded_id(long)
    assert in_tlv.lower() == in_text
    assert len(in_text) == 64
    assert parsed(text, {RECEIPTED_MESSAGE_ID: long + b"\0"}).ids == (in_text,)


def test_fields_of_a_text_are_bounded() -> None:
    for text in (
        b"id:1 sub:001 dlvrd:001 submit date:%b done date:%b stat:DELIVRD err:%b text:x",
        b"stat:DELIVRD id:1 submit date:%b done date:%b err:%b",
    ):
        found = parsed(text % (b"1" * 20_000, b"2" * 20_000, b"9" * 20_000))
        assert (found.ids, found.submit_date, found.done_date) == ((b"1",), 0, 0)
        assert found.error == b"9" * 64


# Writing ----------------------------------------------------------------------------------------------------------


def test_what_is_built_is_read_back() -> None:
    text = build(b"abc", receipt.DELIVERED, submitted=JAN_2026, done=JAN_2026 + 65_000, text=b"x" * 30)
    assert text == (
        b"id:abc sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 text:" + b"x" * 20
    )
    assert parsed(text) == (
        (b"abc",), 2, b"DELIVRD", b"000", JAN_2026, JAN_2026 + 60_000, b"001", b"001", b"x" * 20
    )  # fmt: skip


@given(st.sampled_from(list(receipt.STATE_TEXTS)))
def test_every_state_can_be_written(state: int) -> None:
    assert parsed(build(b"1", state, submitted=JAN_2026, done=JAN_2026, error=b"01f")).state == state
