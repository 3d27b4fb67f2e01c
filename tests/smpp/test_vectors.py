"""Every PDU of the vectors, through the codec and over the wire of a session."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.smpp.codec import HEADER, decode, encode
from gateway.smpp.errors import PeerError
from gateway.smpp.events import Answered, Closed, Event, MessageReceived
from gateway.smpp.operations import Role
from gateway.smpp.pdu import (
    BIND_TRANSCEIVER,
    BIND_TRANSCEIVER_RESP,
    DELIVER_SM,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    RESP,
    SUBMIT_SM,
    UNBIND,
    UNBIND_RESP,
)
from gateway.smpp.session import Session
from gateway.smpp.short_message import decode_message
from gateway.smpp.status import CommandStatus
from tests.smpp.vectors import decode_fields, load

VECTORS = {entry["name"]: entry for entry in load("pdu")}
OCTETS = {name: bytes.fromhex(entry["hex"]) for name, entry in VECTORS.items()}


def expecting(*kinds: str) -> list[str]:
    return [name for name, entry in VECTORS.items() if entry["expect"] in kinds]


def bound() -> Session:
    """An ESME bound as transceiver, with a submit_sm outstanding under each of the numbers 1 to 3."""
    session = Session(Role.ESME)
    session.bind(BIND_TRANSCEIVER, b"gw", b"secret", now=0)
    session.receive(HEADER.pack(17, BIND_TRANSCEIVER_RESP, 0, 1) + b"\0", 0)
    session.output()
    return session


def replies(session: Session) -> list[tuple[int, int, int]]:
    """(command_id, status, sequence) of each PDU in the output."""
    data = session.output()
    found = []
    while data:
        length, command_id, status, sequence = HEADER.unpack_from(data)
        found.append((command_id, status, sequence))
        data = data[length:]
    return found


def test_every_vector_is_here() -> None:
    assert len(VECTORS) == 74
    assert {entry["expect"] for entry in VECTORS.values()} == {
        "ok", "incomplete", "bad_length", "unknown_command", "malformed", "salvage", "stream",
    }  # fmt: skip


@pytest.mark.parametrize("name", expecting("ok"))
def test_ok_is_decoded_in_full(name: str) -> None:
    entry = VECTORS[name]
    found: dict[str, Any] = decode_fields(OCTETS[name]) or {}
    tlvs = dict(found.get("tlvs", []))
    for key, value in {**entry["fields"], **entry["asserted"]}.items():
        seen = tlvs.get(key[4:]) if key.startswith("tlv:") else found.get(key)
        assert seen == value, key


@pytest.mark.parametrize("name", expecting("ok"))
def test_ok_is_encoded_to_the_same_octets(name: str) -> None:
    assert encode(decode(OCTETS[name])) == OCTETS[name]


@pytest.mark.parametrize("name", expecting("incomplete"))
def test_incomplete_waits(name: str) -> None:
    assert decode_fields(OCTETS[name]) is None
    session = bound()
    assert session.receive(OCTETS[name], 1) == []
    assert session.output() == b""
    assert session.bound


@pytest.mark.parametrize("name", expecting("unknown_command"))
def test_unknown_command_is_refused_and_the_session_stays(name: str) -> None:
    with pytest.raises(PeerError) as caught:
        decode(OCTETS[name])
    assert caught.value.status == CommandStatus.ESME_RINVCMDID
    _, command_id, _, sequence = HEADER.unpack_from(OCTETS[name])
    assert caught.value.sequence == sequence
    session = bound()
    assert session.receive(OCTETS[name], 1) == []
    expected = [] if command_id & RESP else [(GENERIC_NACK, 3, sequence)]
    assert replies(session) == expected
    assert session.bound


@pytest.mark.parametrize("name", expecting("bad_length"))
def test_bad_length_is_refused(name: str) -> None:
    with pytest.raises(PeerError):
        decode_fields(OCTETS[name])


def test_a_length_that_no_pdu_has_ends_the_session_after_four_octets() -> None:
    for name in ("ch.decodeSignedIntLength", "mozes.test_decode_command_length_too_short"):
        session = bound()
        events = session.receive(OCTETS[name][:4], 1)
        assert [type(event) for event in events] == [Closed]
        assert replies(session) == [(GENERIC_NACK, 2, 0)]


def test_a_body_where_none_may_be_is_answered_with_an_error() -> None:
    session = bound()
    assert session.receive(OCTETS["mozes.test_decode_command_length_too_long"], 1) == []
    assert replies(session) == [(UNBIND_RESP, CommandStatus.ESME_RINVCMDLEN, 0)]
    assert session.bound


def test_a_bind_answer_that_breaks_off_is_still_an_answer() -> None:
    session = Session(Role.ESME)
    session.bind(BIND_TRANSCEIVER, b"gw", b"secret", now=0)
    session.receive(OCTETS["mozes.test_decode_bad_message_ends_in_middle_of_option"], 0)
    assert session.bound
    assert session.salvaged == 1


@pytest.mark.parametrize("name", expecting("malformed"))
def test_malformed_is_answered_with_an_error_and_the_session_stays(name: str) -> None:
    _, command_id, _, sequence = HEADER.unpack_from(OCTETS[name])
    for fault in (decode, lambda data: decode_message(data, 16, len(data), command_id, sequence)):
        with pytest.raises(PeerError) as caught:
            fault(OCTETS[name])
        assert caught.value.status == CommandStatus.ESME_RINVMSGLEN
        assert caught.value.sequence == sequence
    session = bound()
    assert session.receive(OCTETS[name], 1) == []
    assert replies(session) == [(command_id | RESP, CommandStatus.ESME_RINVMSGLEN, sequence)]
    assert session.bound
    assert session.malformed == 1


@pytest.mark.parametrize("name", [name for name in expecting("salvage") if OCTETS[name][4] & 0x80])
def test_salvaged_answers_keep_status_and_sequence(name: str) -> None:
    _, _, status, sequence = HEADER.unpack_from(OCTETS[name])
    pdu = decode(OCTETS[name])
    assert pdu.error
    assert (pdu.status, pdu.sequence) == (status, sequence)
    assert VECTORS[name]["asserted"].items() >= {"command_status": status, "sequence_number": sequence}.items()


def test_an_answer_without_the_nul_of_its_id_is_an_acceptance() -> None:
    assert answered("ch.decodeSubmitSmRespWithNoNullByteForMessageId") == [Answered("context", 0, b"9", False)]


def test_a_refusal_with_a_broken_body_is_a_refusal() -> None:
    assert answered("smppex.protocol_107") == [Answered("context", 11, b"0A000000A3D323A1", False)]


def answered(name: str) -> list[Event]:
    """What a session makes of this answer when it awaits one under that number."""
    sequence = HEADER.unpack_from(OCTETS[name])[3]
    session = Session(Role.ESME, first_sequence=sequence)
    session.bind(BIND_TRANSCEIVER, b"gw", b"secret", now=0)
    session.receive(HEADER.pack(17, BIND_TRANSCEIVER_RESP, 0, sequence) + b"\0", 0)
    session._next = sequence
    session.request(SUBMIT_SM, b"", "context", 1)
    events = session.receive(OCTETS[name], 1)
    assert session.salvaged == 1
    assert session.outstanding == 0
    return events


def test_a_receipt_whose_tlvs_break_off_keeps_its_text() -> None:
    name = "ch.decodeDeliverSmNetforsDeliveryReceiptTriggeredErrorInLegacySmppLibrary"
    session = bound()
    (event,) = session.receive(OCTETS[name], 1)
    assert isinstance(event, MessageReceived)
    assert event.message.salvaged
    assert event.message.payload.startswith(b"id:0000003005 ")
    assert b"stat:DELIVRD" in event.message.payload
    assert event.message.tlvs == {0x0427: b"\x02"}
    assert session.salvaged == 1
    with pytest.raises(PeerError) as caught:
        decode(OCTETS[name])
    assert caught.value.status == CommandStatus.ESME_RINVTLVSTREAM


@pytest.mark.parametrize("name", expecting("stream"))
def test_stream_goes_on_after_an_unknown_command(name: str) -> None:
    session = bound()
    assert session.receive(OCTETS[name], 1) == []
    assert replies(session) == [(GENERIC_NACK, 3, 171192039), (ENQUIRE_LINK_RESP, 0, 171192039)]


def test_the_numbers_of_the_peer_are_echoed_as_they_are() -> None:
    entry = VECTORS["ch.decodeDeliverSMWithNotPerSpecSequenceNumberButNeedsToBeValid"]
    session = bound()
    (event,) = session.receive(bytes.fromhex(entry["hex"]), 1)
    assert isinstance(event, MessageReceived)
    session.respond(DELIVER_SM, event.message.sequence, 0)
    assert session.output().hex() == entry["reply_hex"]


@pytest.mark.parametrize("name", expecting("ok"))
def test_no_vector_ends_a_session_unless_it_says_so(name: str) -> None:
    _, command_id, _, sequence = HEADER.unpack_from(OCTETS[name])
    session = bound()
    events = session.receive(OCTETS[name], 1)
    if command_id == GENERIC_NACK and sequence == 0:
        assert isinstance(events[-1], Closed)
    elif command_id != UNBIND:
        assert session.bound


@pytest.mark.parametrize("name", [name for name in expecting("ok") if decode(OCTETS[name]).command_id in (4, 5, 0x103)])
def test_the_hot_path_decodes_like_the_tables(name: str) -> None:
    data = OCTETS[name]
    pdu = decode(data)
    message = decode_message(data, 16, len(data), pdu.command_id, pdu.sequence)
    fields = pdu.fields
    assert (message.source, message.dest) == (fields["source_addr"], fields["destination_addr"])
    assert message.short_message == fields.get("short_message", b"")
    assert message.tlvs == (dict(pdu.tlvs) or None)
