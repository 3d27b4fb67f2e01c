"""Optional parameters (TLVs) of SMPP 3.4, section 5.3.2, and congestion_state of 5.0.

Decoding accepts any tag and any size, since carriers send unknown tags and wrong sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Literal

from gateway.smpp.errors import LocalError

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
