from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp import tlv
from gateway.smpp.codec import HEADER, Pdu, decode, encode, encode_body, without_tlvs
from gateway.smpp.errors import LocalError, PeerError, SmppError
from gateway.smpp.pdu import (
    BIND_TRANSCEIVER,
    CANCEL_SM_RESP,
    DATA_SM,
    DELIVER_SM,
    LAYOUTS,
    QUERY_SM,
    RESP,
    SUBMIT_MULTI,
    SUBMIT_SM,
    SUBMIT_SM_RESP,
    DistributionList,
    FieldKind,
    PduField,
    Sme,
    Unsuccess,
    command_name,
)
from gateway.smpp.short_message import ShortMessage, decode_message, submit_template
from gateway.smpp.status import CommandStatus
from gateway.smpp.tlv import encode_tlv
from tests.short_messages import encode_sm
from tests.smpp.strategies import OCTET, TLVS, pdus, text


@given(pdus())
def test_every_pdu_survives_encode_and_decode(pdu: Pdu) -> None:
    data = encode(pdu)
    assert decode(data) == pdu
    assert decode(data).error is None


@given(pdus(), st.data())
def test_a_truncated_or_damaged_pdu_raises_peer_error(pdu: Pdu, data: st.DataObject) -> None:
    octets = bytearray(encode(pdu))
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(16, len(octets) - 1)) if len(octets) > 16 else 15] = data.draw(OCTET)
    octets = octets[: data.draw(st.integers(16, len(octets)))]
    octets[:4] = len(octets).to_bytes(4, "big")
    try:
        found = decode(bytes(octets))
    except PeerError as error:
        assert not pdu.command_id & RESP
        assert error.sequence == int.from_bytes(octets[12:16], "big")
    else:
        assert (found.command_id, found.status) == (pdu.command_id, pdu.status)


@pytest.mark.parametrize("command_id", sorted(LAYOUTS), ids=command_name)
def test_every_shorter_body_is_malformed(command_id: int) -> None:
    lists = {
        "dest_addresses": [Sme(1, 1, b"46"), DistributionList(b"all")],
        "unsuccess_smes": [Unsuccess(1, 1, b"46", 8)],
        "short_message": b"text",
        "source_addr": b"1",
    }
    names = {field.name for field in LAYOUTS[command_id].fields}
    body = encode_body(command_id, {name: value for name, value in lists.items() if name in names})
    for size in range(1 if command_id & RESP else 0, len(body)):
        data = HEADER.pack(16 + size, command_id, 0, 5) + body[:size]
        if command_id & RESP:
            error = decode(data).error
            assert error is not None
        else:
            with pytest.raises(PeerError) as caught:
                decode(data)
            error = caught.value
        assert error.sequence == 5


@given(st.binary(max_size=80))
def test_garbage_raises_peer_error(data: bytes) -> None:
    for octets in (data, len(data).to_bytes(4, "big") + data[4:]):
        with contextlib.suppress(PeerError):
            decode(octets)


@given(pdus(SUBMIT_SM, DELIVER_SM, DATA_SM))
def test_the_hot_path_decodes_like_the_tables(pdu: Pdu) -> None:
    before, after = b"\x00\xff", b"\x00\x01"
    data = before + encode(pdu) + after
    message = decode_message(data, 18, len(data) - 2, pdu.command_id, pdu.sequence)
    fields = pdu.fields
    assert message == ShortMessage(
        pdu.command_id,
        pdu.sequence,
        fields["service_type"],
        fields["source_addr_ton"],
        fields["source_addr_npi"],
        fields["source_addr"],
        fields["dest_addr_ton"],
        fields["dest_addr_npi"],
        fields["destination_addr"],
        fields["esm_class"],
        fields.get("protocol_id", 0),
        fields.get("priority_flag", 0),
        fields.get("schedule_delivery_time", b""),
        fields.get("validity_period", b""),
        fields["registered_delivery"],
        fields.get("replace_if_present_flag", 0),
        fields["data_coding"],
        fields.get("sm_default_msg_id", 0),
        fields.get("short_message", b""),
        dict(pdu.tlvs) or None,
    )


@given(
    st.one_of(pdus(SUBMIT_SM, DELIVER_SM, DATA_SM).map(lambda pdu: encode(pdu)[16:]), st.binary(max_size=60)), st.data()
)
def test_the_hot_path_refuses_like_the_tables(body: bytes, data: st.DataObject) -> None:
    body = body[: data.draw(st.integers(0, len(body)))]
    command_id = data.draw(st.sampled_from((SUBMIT_SM, DELIVER_SM, DATA_SM)))
    fast: ShortMessage | int
    try:
        fast = decode_message(b"\0" + body + b"\0\0\0", 1, 1 + len(body), command_id, 7)
    except PeerError as error:
        assert error.sequence == 7
        fast = error.status
    try:
        decode(HEADER.pack(16 + len(body), command_id, 0, 7) + body)
    except PeerError as error:
        if command_id == DELIVER_SM:  # read on past a string that is too long, it may meet another fault behind it
            assert not isinstance(fast, ShortMessage) or fast.salvaged
        else:
            assert fast == error.status
    else:
        assert isinstance(fast, ShortMessage)
        assert not fast.salvaged


TIMES = st.one_of(st.just(b""), st.just(b"261121235959000+"))


@given(
    st.tuples(*[OCTET] * 11), text(6), text(21), text(21), TIMES, TIMES, st.binary(max_size=254), TLVS,
)  # fmt: skip
def test_a_template_encodes_like_the_tables(
    octets: tuple[int, ...],
    service_type: bytes,
    source: bytes,
    dest: bytes,
    schedule: bytes,
    validity: bytes,
    short_message: bytes,
    optional: list[tuple[int, bytes]],
) -> None:
    source_ton, source_npi, dest_ton, dest_npi, esm, protocol, priority, registered, replace, coding, default = octets
    template = submit_template(
        source_ton=source_ton, source_npi=source_npi, source=source, dest_ton=dest_ton, dest_npi=dest_npi,
        service_type=service_type, esm_class=0, protocol_id=protocol, priority=priority, schedule=schedule,
        registered_delivery=registered, replace=replace, data_coding=0, default_id=default,
    )  # fmt: skip
    body = template.encode(
        dest, short_message, esm_class=esm, data_coding=coding, validity=validity, tlvs=tlv.encode_tlvs(optional)
    )
    assert body == encode_body(
        SUBMIT_SM,
        {
            "service_type": service_type, "source_addr_ton": source_ton, "source_addr_npi": source_npi,
            "source_addr": source, "dest_addr_ton": dest_ton, "dest_addr_npi": dest_npi, "destination_addr": dest,
            "esm_class": esm, "protocol_id": protocol, "priority_flag": priority, "schedule_delivery_time": schedule,
            "validity_period": validity, "registered_delivery": registered, "replace_if_present_flag": replace,
            "data_coding": coding, "sm_default_msg_id": default, "short_message": short_message,
        },
        optional,
    )  # fmt: skip


def test_a_variant_does_not_change_the_template() -> None:
    template = submit_template(source=b"SHOP", data_coding=0)
    plain = template.encode(b"461", b"hi")
    assert template.encode(b"461", b"hi", esm_class=0x40, data_coding=8) != plain
    assert template.encode(b"461", b"hi", esm_class=0x40) == template.encode(b"461", b"hi", esm_class=0x40)
    assert template.encode(b"461", b"hi", validity=b"261121235959000+") != plain
    assert template.encode(b"461", b"hi") == plain


def test_variants_with_a_validity_are_not_cached() -> None:
    template = submit_template()
    for second in range(60):
        template.encode(b"461", b"hi", validity=b"2611212359%02d000+" % second)
    template.encode(b"461", b"hi", esm_class=0x40)
    assert list(template._variants) == [(0x40, None)]


@pytest.mark.parametrize(
    ("dest", "short_message"),
    [(b"4" * 21, b""), (b"46\x00", b""), (b"46", b"x" * 255)],
)
def test_a_template_refuses_values_that_do_not_fit(dest: bytes, short_message: bytes) -> None:
    with pytest.raises(LocalError):
        submit_template().encode(dest, short_message)


def test_a_template_is_not_made_of_values_that_do_not_fit() -> None:
    for wrong in (
        {"source": b"x" * 21},
        {"source": b"a\0b"},
        {"service_type": b"sixsix"},
        {"source_ton": 256},
        {"esm_class": -1},
        {"validity": b"1"},
        {"schedule": b"261121235959000\0"},
    ):
        with pytest.raises(LocalError):
            submit_template(**wrong)


def test_one_body_without_a_template() -> None:
    body = encode_sm(b"4670", b"SHOP", b"hi", esm_class=4, tlvs=encode_tlv(0x0427, b"\x02"))
    message = decode_message(body, 0, len(body), DELIVER_SM, 1)
    assert (message.source, message.dest, message.esm_class, message.payload) == (b"4670", b"SHOP", 4, b"hi")
    assert message.tlvs == {0x0427: b"\x02"}


def test_payload_is_message_payload_or_short_message() -> None:
    body = encode_sm(b"1", b"2", b"", tlvs=encode_tlv(tlv.MESSAGE_PAYLOAD, b"long"))
    assert decode_message(body, 0, len(body), SUBMIT_SM, 1).payload == b"long"
    body = encode_sm(b"1", b"2", b"plain")
    assert decode_message(body, 0, len(body), SUBMIT_SM, 1).payload == b"plain"
    body = encode_sm(b"1", b"2", b"short", tlvs=encode_tlv(tlv.MESSAGE_STATE, b"\2"))
    assert decode_message(body, 0, len(body), SUBMIT_SM, 1).payload == b"short"


def test_a_deliver_sm_without_text_and_with_truncated_tlvs_is_refused() -> None:
    body = encode_sm(b"1", b"2", b"") + b"\x04\x24\x00\x09long"
    with pytest.raises(PeerError) as caught:
        decode_message(body, 0, len(body), DELIVER_SM, 1)
    assert caught.value.status == CommandStatus.ESME_RINVTLVSTREAM


RECEIPT_TLVS = encode_tlv(tlv.RECEIPTED_MESSAGE_ID, b"77\0") + encode_tlv(tlv.MESSAGE_STATE, b"\2")
DATA_RECEIPT = b"\0\1\x0146\0\1\x0147\0\4\0\0"


@pytest.mark.parametrize("stray", [b"\4", b"\4\x23", b"\4\x23\0\3", b"\4\x23\0\3\3\0", b"\0"])
@pytest.mark.parametrize("command_id", [DELIVER_SM, DATA_SM])
def test_a_receipt_in_tlvs_alone_survives_a_stray_octet_or_a_truncated_tlv(command_id: int, stray: bytes) -> None:
    body = DATA_RECEIPT if command_id == DATA_SM else encode_sm(b"46", b"47", b"", esm_class=4)
    body += RECEIPT_TLVS + stray
    message = decode_message(body, 0, len(body), command_id, 1)
    assert message.tlvs == {tlv.RECEIPTED_MESSAGE_ID: b"77\0", tlv.MESSAGE_STATE: b"\2"}
    assert message.salvaged


def test_truncated_tlvs_that_identify_no_receipt_are_refused() -> None:
    stray = encode_tlv(tlv.USER_MESSAGE_REFERENCE, b"\0\1") + b"\4"
    for body, command_id in (
        (encode_sm(b"46", b"47", b"", esm_class=4) + stray, DELIVER_SM),
        (encode_sm(b"46", b"47", b"") + encode_tlv(tlv.MESSAGE_STATE, b"\2") + b"\4", DELIVER_SM),
        (DATA_RECEIPT + stray, DATA_SM),
        (encode_sm(b"46", b"47", b"hi") + RECEIPT_TLVS + b"\4", SUBMIT_SM),
    ):
        with pytest.raises(PeerError):
            decode_message(body, 0, len(body), command_id, 1)


SM_FIELDS = {"service_type": b"CMT", "source_addr": b"1", "destination_addr": b"2", "short_message": b"hi"}


def overlong(command_id: int, field: str) -> tuple[bytes, int]:
    """A body in which this string is an octet longer than its field; and the size that the field has."""
    names = [found.name for found in LAYOUTS[command_id].fields]
    fields = {name: value for name, value in SM_FIELDS.items() if name in names}
    body = encode_body(command_id, {**fields, field: b"\x01"})
    size = LAYOUTS[command_id].fields[names.index(field)].size
    return body.replace(b"\x01\0", b"7" * size + b"\0"), size - 1


STRINGS = {
    "service_type": CommandStatus.ESME_RINVSERTYP,
    "source_addr": CommandStatus.ESME_RINVSRCADR,
    "destination_addr": CommandStatus.ESME_RINVDSTADR,
    "schedule_delivery_time": CommandStatus.ESME_RINVSCHED,
    "validity_period": CommandStatus.ESME_RINVEXPIRY,
}


@pytest.mark.parametrize("field", STRINGS)
def test_a_string_longer_than_its_field_is_refused_by_the_status_of_the_field(field: str) -> None:
    for command_id in (SUBMIT_SM, DATA_SM):
        if field not in {found.name for found in LAYOUTS[command_id].fields}:
            continue
        body, _ = overlong(command_id, field)
        with pytest.raises(PeerError) as fast:
            decode_message(body, 0, len(body), command_id, 7)
        with pytest.raises(PeerError) as slow:
            decode(HEADER.pack(16 + len(body), command_id, 0, 7) + body)
        assert fast.value.status == slow.value.status == STRINGS[field]


@pytest.mark.parametrize("field", STRINGS)
def test_a_delivery_with_a_string_longer_than_its_field_is_kept_cut_and_marked(field: str) -> None:
    body, size = overlong(DELIVER_SM, field)
    message = decode_message(body + encode_tlv(0x0427, b"\2"), 0, len(body) + 5, DELIVER_SM, 7)
    names = {"source_addr": "source", "destination_addr": "dest"}
    names |= {"schedule_delivery_time": "schedule", "validity_period": "validity"}
    assert getattr(message, names.get(field, field)) == b"7" * size
    assert (message.salvaged, message.payload, message.tlvs) == (True, b"hi", {0x0427: b"\2"})


@given(pdus(SUBMIT_SM, DELIVER_SM, DATA_SM), st.data())
def test_no_string_that_is_read_is_longer_than_its_field(pdu: Pdu, data: st.DataObject) -> None:
    body = bytearray(encode(pdu)[16:])
    at = data.draw(st.integers(0, len(body)))
    body[at:at] = b"x" * data.draw(st.integers(1, 300))
    with contextlib.suppress(PeerError):
        message = decode_message(bytes(body), 0, len(body), pdu.command_id, 7)
        address = 64 if pdu.command_id == DATA_SM else 20
        assert len(message.service_type) <= 5
        assert max(len(message.source), len(message.dest)) <= address
        assert max(len(message.schedule), len(message.validity)) <= 16


@pytest.mark.parametrize(("command_id", "field"), [(0x80000009, "system_id"), (SUBMIT_SM_RESP, "message_id")])
def test_a_string_of_a_response_is_cut_to_its_field_and_marked(command_id: int, field: str) -> None:
    body = b"y" * 300 + b"\0" + encode_tlv(0x0210, b"\x34")
    found = decode(HEADER.pack(16 + len(body), command_id, 0, 7) + body)
    assert found.fields[field] == b"y" * (LAYOUTS[command_id].fields[0].size - 1)
    assert found.tlv(0x0210) == b"\x34"
    assert found.error is not None


@pytest.mark.parametrize(
    ("command_id", "fields"),
    [
        (SUBMIT_SM, {"source_addr": b"x" * 21}),
        (SUBMIT_SM, {"source_addr": b"a\0b"}),
        (SUBMIT_SM, {"source_addr": "text"}),
        (SUBMIT_SM, {"esm_class": 256}),
        (SUBMIT_SM, {"esm_class": b"x"}),
        (SUBMIT_SM, {"short_message": b"x" * 255}),
        (SUBMIT_SM, {"no_such_field": 1}),
        (SUBMIT_MULTI, {"dest_addresses": [Sme(1, 1, b"1" * 21)]}),
        (SUBMIT_MULTI, {"dest_addresses": [b"1"]}),
        (SUBMIT_MULTI, {"dest_addresses": [DistributionList(b"x")] * 256}),
        (0x110, {}),
    ],
)
def test_values_that_do_not_fit_raise_local_error(command_id: int, fields: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        encode_body(command_id, fields)


def test_pdus_without_a_body_take_no_tlvs() -> None:
    with pytest.raises(LocalError):
        encode(Pdu(CANCEL_SM_RESP, tlvs=[(1, b"")]))


def test_a_header_out_of_range_raises_local_error() -> None:
    with pytest.raises(LocalError):
        encode(Pdu(QUERY_SM, 0, 2**32, {"message_id": b"1"}))


def test_an_unknown_dest_flag_is_refused() -> None:
    body = b"\0\0\0\0" + b"\x01\x03x\0"
    with pytest.raises(PeerError) as caught:
        decode(HEADER.pack(16 + len(body), SUBMIT_MULTI, 0, 5) + body)
    assert caught.value.status == CommandStatus.ESME_RINVDESTFLAG


def test_fewer_destinations_than_announced() -> None:
    body = b"\0\0\0\0" + b"\x02\x02list\0"
    with pytest.raises(PeerError) as caught:
        decode(HEADER.pack(16 + len(body), SUBMIT_MULTI, 0, 5) + body)
    assert caught.value.status == CommandStatus.ESME_RINVNUMDESTS


def test_fewer_octets_than_a_header_raise_peer_error() -> None:
    with pytest.raises(PeerError) as caught:
        decode(b"\0" * 15)
    assert (caught.value.status, caught.value.sequence) == (CommandStatus.ESME_RINVCMDLEN, 0)


def test_a_peer_without_tlvs_gets_none() -> None:
    body = encode_sm(b"1", b"2", b"hi", tlvs=encode_tlv(tlv.MESSAGE_STATE, b"\2"))
    assert without_tlvs(DELIVER_SM, body) == encode_sm(b"1", b"2", b"hi")
    with pytest.raises(LocalError):
        without_tlvs(DELIVER_SM, encode_sm(b"1", b"2", b"", tlvs=encode_tlv(tlv.MESSAGE_PAYLOAD, b"x")))
    with pytest.raises(LocalError):
        without_tlvs(DELIVER_SM, b"\0")


def test_a_repr_shows_no_field() -> None:
    pdu = Pdu(BIND_TRANSCEIVER, 0, 7, {"password": b"secret"})
    assert repr(pdu) == "<Pdu bind_transceiver status=0 sequence=7>"
    assert pdu != "something else"


def test_tlvs_of_a_pdu() -> None:
    pdu = Pdu(SUBMIT_SM_RESP, tlvs=[(1, b"a"), (1, b"b")])
    assert pdu.tlv(1) == b"a"
    assert pdu.tlv(2) is None


def test_every_request_has_its_layout_and_a_name() -> None:
    assert len(LAYOUTS) == 27
    assert len({layout.name for layout in LAYOUTS.values()}) == 27
    assert command_name(SUBMIT_SM_RESP) == "submit_sm_resp"
    assert command_name(0x110) == "0x00000110"
    assert all(field.size > 0 for layout in LAYOUTS.values() for field in layout.fields)
    assert LAYOUTS[QUERY_SM].fields[0] == PduField("message_id", FieldKind.CSTRING, 65)


def test_integer_reads_a_value_of_any_size() -> None:
    assert tlv.integer(b"\x01\x00") == 256
    assert tlv.integer(b"") is None
    assert tlv.integer(None) is None

    def test_a_tag_or_a_length_out_of_range(self) -> None:
        with pytest.raises(LocalError):
            encode_tlv(0x10000, b"")
        with pytest.raises(LocalError):
            encode_tlv(1, b"x" * 65536)


def test_every_error_is_an_smpp_error() -> None:
    assert issubclass(PeerError, SmppError)
    assert issubclass(LocalError, SmppError)
