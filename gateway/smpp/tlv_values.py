"""Values of optional parameters (TLVs) from text, as a configuration or a message's metadata gives them."""

from __future__ import annotations

from typing import Literal

TlvType = Literal["string", "cstring", "int8", "int16", "int32", "hex"]

_SIZES = {"int8": 1, "int16": 2, "int32": 4}
MOST = 1024
"""Octets of one value: what carriers ask for are ids and names, and a PDU has to hold them beside the text."""


def tlv_value(kind: TlvType, text: str) -> bytes:
    """The octets of a value: UTF-8 (``cstring``: with its NUL), a big-endian number, or what hexadecimal digits say.

    Raises ValueError that says what is wrong with ``text`` and what fits.
    """
    octets = _octets(kind, text)
    if len(octets) > MOST:
        raise ValueError(f"has {len(octets)} octets; {MOST} are the most")
    return octets


def _octets(kind: TlvType, text: str) -> bytes:
    size = _SIZES.get(kind)
    if size:
        return _number(text, size)
    if kind == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError('is not pairs of hexadecimal digits, like "0a1b"') from None
    if "\0" in text:
        raise ValueError("holds a NUL, which ends a text")
    try:
        octets = text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate)") from None
    return octets + b"\0" if kind == "cstring" else octets


def _number(text: str, size: int) -> bytes:
    most = (1 << 8 * size) - 1
    try:
        value = int(text, 0) if len(text) <= 12 else -1
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise ValueError(f"is no whole number from 0 to {most}")
    return value.to_bytes(size, "big")
