"""Optional parameters (TLVs) of SMPP 3.4, section 5.3.2, by name and by tag, plus congestion_state of 5.0.

Decoding accepts any tag and any size, since carriers send unknown tags and wrong sizes. Encoding by name is strict.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from struct import Struct
from typing import Literal, NamedTuple

from gateway.smpp.errors import LocalError


class TlvKind(Enum):
    """The type of a value."""

    INTEGER = "integer"  # big endian, of exactly ``most`` octets
    CSTRING = "cstring"  # ends with a NUL, which counts in the sizes
    OCTETS = "octets"


class TlvSpec(NamedTuple):
    """One optional parameter: sizes are octets of the value."""

    name: str
    tag: int
    kind: TlvKind
    least: int
    most: int


def _integer(name: str, tag: int, size: int) -> TlvSpec:
    return TlvSpec(name, tag, TlvKind.INTEGER, size, size)


def _octets(name: str, tag: int, least: int, most: int) -> TlvSpec:
    return TlvSpec(name, tag, TlvKind.OCTETS, least, most)


def _string(name: str, tag: int, most: int) -> TlvSpec:
    return TlvSpec(name, tag, TlvKind.CSTRING, 1, most)


TABLE: tuple[TlvSpec, ...] = (
    _integer("dest_addr_subunit", 0x0005, 1),
    _integer("dest_network_type", 0x0006, 1),
    _integer("dest_bearer_type", 0x0007, 1),
    _integer("dest_telematics_id", 0x0008, 2),
    _integer("source_addr_subunit", 0x000D, 1),
    _integer("source_network_type", 0x000E, 1),
    _integer("source_bearer_type", 0x000F, 1),
    _integer("source_telematics_id", 0x0010, 1),
    _integer("qos_time_to_live", 0x0017, 4),
    _integer("payload_type", 0x0019, 1),
    _string("additional_status_info_text", 0x001D, 256),
    _string("receipted_message_id", 0x001E, 65),
    _integer("ms_msg_wait_facilities", 0x0030, 1),
    _integer("privacy_indicator", 0x0201, 1),
    _octets("source_subaddress", 0x0202, 2, 23),
    _octets("dest_subaddress", 0x0203, 2, 23),
    _integer("user_message_reference", 0x0204, 2),
    _integer("user_response_code", 0x0205, 1),
    _integer("source_port", 0x020A, 2),
    _integer("destination_port", 0x020B, 2),
    _integer("sar_msg_ref_num", 0x020C, 2),
    _integer("language_indicator", 0x020D, 1),
    _integer("sar_total_segments", 0x020E, 1),
    _integer("sar_segment_seqnum", 0x020F, 1),
    _integer("sc_interface_version", 0x0210, 1),
    _integer("callback_num_pres_ind", 0x0302, 1),
    _octets("callback_num_atag", 0x0303, 0, 65),
    _integer("number_of_messages", 0x0304, 1),
    _octets("callback_num", 0x0381, 4, 19),
    _integer("dpf_result", 0x0420, 1),
    _integer("set_dpf", 0x0421, 1),
    _integer("ms_availability_status", 0x0422, 1),
    _octets("network_error_code", 0x0423, 3, 3),
    _octets("message_payload", 0x0424, 0, 0xFFFF),
    _integer("delivery_failure_reason", 0x0425, 1),
    _integer("more_messages_to_send", 0x0426, 1),
    _integer("message_state", 0x0427, 1),
    _integer("congestion_state", 0x0428, 1),  # 5.0, in responses: 0 idle … 99 congested
    _octets("ussd_service_op", 0x0501, 1, 1),
    _integer("display_time", 0x1201, 1),
    _integer("sms_signal", 0x1203, 2),
    _integer("ms_validity", 0x1204, 1),
    _octets("alert_on_message_delivery", 0x130C, 0, 0),
    _integer("its_reply_type", 0x1380, 1),
    _octets("its_session_info", 0x1383, 2, 2),
)

BY_NAME: dict[str, TlvSpec] = {row.name: row for row in TABLE}
BY_TAG: dict[int, TlvSpec] = {row.tag: row for row in TABLE}

RECEIPTED_MESSAGE_ID = 0x001E
USER_MESSAGE_REFERENCE = 0x0204
SAR_MSG_REF_NUM = 0x020C
SAR_TOTAL_SEGMENTS = 0x020E
SAR_SEGMENT_SEQNUM = 0x020F
SC_INTERFACE_VERSION = 0x0210
NETWORK_ERROR_CODE = 0x0423
MESSAGE_PAYLOAD = 0x0424
MESSAGE_STATE = 0x0427
CONGESTION_STATE = 0x0428

_HEAD = Struct(">HH")
_pack_head = _HEAD.pack
_unpack_head = _HEAD.unpack_from


def encode_tlv(tag: int, value: bytes) -> bytes:
    """Return one TLV as on the wire, its value unchecked. LocalError beyond 65535 octets."""
    if len(value) > 0xFFFF or not 0 <= tag <= 0xFFFF:
        raise LocalError(f"TLV 0x{tag:04X} of {len(value)} octets cannot be encoded")
    return _pack_head(tag, len(value)) + value


def encode_named(name: str, value: int | bytes) -> bytes:
    """Return one TLV of the table by name: an int for INTEGER, else octets (a CSTRING without its NUL).

    LocalError for an unknown name, or a value of the wrong type or size.
    """
    row = BY_NAME.get(name)
    if row is None:
        raise LocalError(f"no TLV is called {name!r}")
    if (row.kind is TlvKind.INTEGER) != isinstance(value, int):
        raise LocalError(f"TLV {name} is of kind {row.kind.value}, not {type(value).__name__}")
    if isinstance(value, int):
        if not 0 <= value < 1 << 8 * row.most:
            raise LocalError(f"TLV {name}: {value} does not fit in {row.most} octets")
        return encode_tlv(row.tag, value.to_bytes(row.most, "big"))
    if row.kind is TlvKind.CSTRING:
        value += b"\0"
    if not row.least <= len(value) <= row.most or (row.kind is TlvKind.CSTRING and value.find(0) != len(value) - 1):
        raise LocalError(f"TLV {name} takes {row.least} to {row.most} octets, not {len(value)}")
    return encode_tlv(row.tag, value)


def encode_tlvs(tlvs: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the TLVs as on the wire, in order."""
    return b"".join([encode_tlv(tag, value) for tag, value in tlvs])


def scan(data: bytes, start: int, end: int) -> tuple[list[tuple[int, bytes]], bool]:
    """Return the complete TLVs in ``data[start:end]``, in order with duplicates, and whether they fill it exactly."""
    found: list[tuple[int, bytes]] = []
    while start + 4 <= end:
        tag, length = _unpack_head(data, start)
        stop = start + 4 + length
        if stop > end:
            return found, False
        found.append((tag, data[start + 4 : stop]))
        start = stop
    return found, start == end


def integer(value: bytes | None) -> int | None:
    """Return a TLV's value of any size as a number, None when it is absent or empty."""
    return int.from_bytes(value, "big") if value else None


# ---- values given as text, in a configuration or a message's metadata

TlvType = Literal["string", "cstring", "int8", "int16", "int32", "hex"]

_SIZES = {"int8": 1, "int16": 2, "int32": 4}
MAX_TEXT_VALUE = 1024
"""Octets of one configured value: carriers ask for ids and names, and the PDU must hold them beside the text."""


def tlv_value(kind: TlvType, text: str) -> bytes:
    """Return the octets of a value given as text: UTF-8 (``cstring``: with a NUL), big-endian number or hexadecimal.

    Raise ValueError that says what is wrong with ``text`` and what is allowed.
    """
    octets = _text_octets(kind, text)
    if len(octets) > MAX_TEXT_VALUE:
        raise ValueError(f"has {len(octets)} octets; at most {MAX_TEXT_VALUE} are allowed")
    return octets


def _text_octets(kind: TlvType, text: str) -> bytes:
    size = _SIZES.get(kind)
    if size:
        return _number(text, size)
    if kind == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError('must be pairs of hexadecimal digits, such as "0a1b"') from None
    if "\0" in text:
        raise ValueError("contains a NUL, which ends a string")
    try:
        octets = text.encode()
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate (half a character)") from None
    return octets + b"\0" if kind == "cstring" else octets


def _number(text: str, size: int) -> bytes:
    most = (1 << 8 * size) - 1
    try:
        value = int(text, 0) if len(text) <= 12 else -1
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise ValueError(f"must be a whole number from 0 to {most}")
    return value.to_bytes(size, "big")
