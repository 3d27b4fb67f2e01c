from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.carriers.submit import SubmitEncoder, source_address
from gateway.carriers.validity import absolute_time
from gateway.config import Carrier, CarrierTlv
from gateway.intake.carrier_tlvs import ParameterError
from gateway.intake.submission import RequestedTerms
from gateway.model import Category, Content, Envelope, LeasedMessage, PartState, Recipient
from gateway.smpp.pdu import SUBMIT_SM
from gateway.smpp.short_message import ShortMessage, decode_message
from gateway.smpp.text import TextError

NOW = 1_795_000_000_000


def carrier(**settings: Any) -> Carrier:
    return Carrier(name="north", hosts=("127.0.0.1:2775",), system_id="gw", password="pw", **settings)


def leased(text: str = "hello", **changes: Any) -> LeasedMessage:
    envelope = changes.pop("envelope", Envelope("46700000001", "shop", "acme", 1, ""))
    message = LeasedMessage(
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


def bodies(message: LeasedMessage, **settings: Any) -> list[ShortMessage | None]:
    found = SubmitEncoder(carrier(**settings)).encode(message, NOW)
    return [None if body is None else decode_message(body, 0, len(body), SUBMIT_SM, 1) for body in found]


def only(message: LeasedMessage, **settings: Any) -> ShortMessage:
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
    encoder = SubmitEncoder(carrier())
    first = encoder.encode(leased("x" * 200), NOW)
    second = encoder.encode(leased("x" * 200, reference_number=0x99), NOW)
    assert first != second


def test_service_type_and_validity_are_those_of_the_carrier() -> None:
    body = only(leased(), service_type="CMT", validity="relative")
    assert (body.service_type, body.validity) == (b"CMT", b"000000000100000R")
    assert only(leased(), validity="none").validity == b""


DLT = (
    CarrierTlv(tag=0x1400, type="cstring", value="1101456789"),
    CarrierTlv(tag=0x1401, metadata="template_id", templates={"otp": "1107"}, required=True),
    CarrierTlv(tag=0x1402, type="int16", metadata="campaign"),
)


def test_parameters_are_fixed_from_metadata_or_by_template() -> None:
    told = leased(
        envelope=Envelope("46700000001", "shop", "acme", 1, "", metadata={"template_id": "99", "campaign": 7})
    )
    assert only(told, tlvs=DLT).tlvs == {0x1400: b"1101456789\0", 0x1401: b"99", 0x1402: b"\0\7"}
    facts = msgspec.json.decode(msgspec.json.encode(RequestedTerms(template="otp")))
    by_template = leased(envelope=Envelope("46700000001", "shop", "acme", 1, "", facts=facts))
    assert only(by_template, tlvs=DLT).tlvs == {0x1400: b"1101456789\0", 0x1401: b"1107"}


def test_every_part_has_the_parameters_beside_its_own() -> None:
    parts = bodies(leased("x" * 400), tlvs=DLT[:1], long_messages="sar")
    assert [part.tlvs[0x1400] for part in parts if part and part.tlvs] == [b"1101456789\0"] * 3
    assert [part.tlvs[0x020F] for part in parts if part and part.tlvs] == [b"\1", b"\2", b"\3"]


@pytest.mark.parametrize(
    "metadata", [None, {}, {"template_id": ""}, {"template_id": True}, {"template_id": ["1"]}, [1]]
)
def test_a_message_without_what_its_carrier_demands_is_refused_by_name(metadata: Any) -> None:
    message = leased(envelope=Envelope("46700000001", "shop", "acme", 1, "", metadata=metadata))
    with pytest.raises(ParameterError, match=r'"north" demands TLV 0x1401; give metadata.template_id .*otp') as caught:
        bodies(message, tlvs=DLT)
    assert caught.value.field == "metadata.template_id"


def test_a_value_that_does_not_fit_is_refused_by_name() -> None:
    metadata = {"template_id": "9", "campaign": "70000"}
    message = leased(envelope=Envelope("46700000001", "shop", "acme", 1, "", metadata=metadata))
    with pytest.raises(ParameterError, match="0x1402 as int16: the value must be a whole number from 0 to 65535"):
        bodies(message, tlvs=DLT)


@pytest.mark.parametrize(("charset", "codec"), [("latin1", "latin-1"), ("ascii", "ascii")])
def test_data_coding_0_is_written_as_the_carrier_reads_it(charset: str, codec: str) -> None:
    body = only(leased("a@b [1] {2} _"), default_alphabet=charset)
    assert (body.data_coding, body.short_message) == (0, "a@b [1] {2} _".encode(codec))


@pytest.mark.parametrize("text", ["½", "`", "€", "Ω"])  # not GSM, not GSM, not Latin-1, not Latin-1
def test_what_only_one_of_the_two_sets_has_goes_as_ucs2(text: str) -> None:
    body = only(leased(text), default_alphabet="latin1")
    assert (body.data_coding, body.short_message) == (8, text.encode("utf-16-be"))


def test_latin1_under_data_coding_0_is_cut_by_septets() -> None:
    text = "[" * 100  # two septets each
    one, two = bodies(leased(text), default_alphabet="latin1")
    assert one is not None and two is not None
    assert (one.data_coding, one.esm_class, one.short_message[:3]) == (0, 0x40, b"\5\0\3")
    assert one.short_message[6:] + two.short_message[6:] == text.encode()
    assert len(one.short_message) == 6 + 76
    assert only(leased("x" * 160), default_alphabet="latin1").short_message == b"x" * 160
    whole = only(leased("é" * 200), default_alphabet="latin1", long_messages="payload")
    assert whole.payload == "é".encode("latin-1") * 200


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
    encoder = SubmitEncoder(carrier())
    for priority in (0, 3, 1):
        facts = msgspec.json.decode(msgspec.json.encode(RequestedTerms(priority=priority))) if priority else None
        message = leased(envelope=Envelope("46700000001", "shop", "acme", 1, "", facts=facts))
        (body,) = encoder.encode(message, NOW)
        assert body is not None
        assert decode_message(body, 0, len(body), SUBMIT_SM, 1).priority == priority
