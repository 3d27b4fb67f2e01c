"""Cutting a long message into parts: user data header (3GPP TS 23.040, 9.2.3.24.1), SAR TLVs or message_payload
(SMPP 3.4, 5.3.2.22 to 5.3.2.32).

A short message holds 140 octets on the air: 160 septets, 70 UTF-16 units or 140 octets, less its user data header.
"""

from __future__ import annotations

from enum import StrEnum
from struct import Struct
from typing import NamedTuple

UDHI = 0x40
"""esm_class bit: the short message starts with a user data header."""

AIR_OCTETS = 140
SINGLE_SEPTETS = 160
MAX_PARTS = 255
MAX_PAYLOAD = 0xFFFF

_CONCAT8 = 0x00
_CONCAT16 = 0x08
_SAR = Struct(">HHHHHBHHB")  # sar_msg_ref_num, sar_total_segments, sar_segment_seqnum as whole TLVs
_TLV = Struct(">HH")
_MESSAGE_PAYLOAD = 0x0424


class TextError(ValueError):
    """A text or its octets cannot be sent this way: not in the alphabet, too long, or a broken user data header."""


class Alphabet(StrEnum):
    """How the octets of a message are to be read, and so where it may be cut."""

    GSM7 = "gsm7"  # one octet per septet
    LATIN1 = "latin1"
    UCS2 = "ucs2"  # in truth UTF-16, big-endian
    BINARY = "binary"


class Long(StrEnum):
    """How a long message travels."""

    UDH8 = "udh8"  # user data header with an 8-bit reference: understood everywhere
    UDH16 = "udh16"  # 16-bit reference: for more than 255 long messages to one number in ten minutes
    SAR = "sar"  # the three sar_* TLVs; the carrier makes the header
    PAYLOAD = "payload"  # whole in message_payload; the carrier cuts


class Segment(NamedTuple):
    """One part: the short_message field and its TLVs, encoded."""

    short_message: bytes
    tlvs: bytes = b""


class Segments(NamedTuple):
    """A message ready to be submitted: what all parts share, and the parts in order."""

    alphabet: Alphabet
    data_coding: int
    esm_class: int
    parts: tuple[Segment, ...]


_HEADER_SIZE = {Long.UDH8: 6, Long.UDH16: 7, Long.SAR: 6, Long.PAYLOAD: 0}
"""Octets of user data header in each part on the air. With SAR the carrier writes it; the reference is kept to 8 bits
so that the short header, and with it 153 septets, always suffices."""


_BY_DATA_CODING = {2: Alphabet.BINARY, 3: Alphabet.LATIN1, 4: Alphabet.BINARY, 8: Alphabet.UCS2}


def alphabet_of(data_coding: int, default: Alphabet = Alphabet.GSM7) -> Alphabet:
    """The alphabet that decides how a message of this ``data_coding`` may be cut; one-octet sets count as LATIN1.

    Above 0x0F the values are GSM data coding schemes (3GPP TS 23.038, 4), as the field uses them for flash messages.
    """
    if data_coding == 0:
        return default
    if data_coding < 0x10:
        return _BY_DATA_CODING.get(data_coding, Alphabet.LATIN1)
    group = data_coding >> 4
    if group < 0x8:
        return (Alphabet.GSM7, Alphabet.BINARY, Alphabet.UCS2, Alphabet.LATIN1)[data_coding >> 2 & 3]
    if group == 0xE:
        return Alphabet.UCS2
    if group == 0xF and data_coding & 4:
        return Alphabet.BINARY
    return Alphabet.GSM7 if group >= 0xC else Alphabet.LATIN1


def capacity(alphabet: Alphabet, header: int) -> int:
    """Octets of message that fit beside a user data header of ``header`` octets, a whole number of units."""
    octets = AIR_OCTETS - header
    if alphabet is Alphabet.GSM7:
        return octets * 8 // 7
    return octets & ~1 if alphabet is Alphabet.UCS2 else octets


def parts_needed(octets: bytes, alphabet: Alphabet, long: Long) -> int:
    """Into how many parts ``cut`` would cut. Raises TextError when there are more than the method can number."""
    if len(octets) <= capacity(alphabet, 0) or long is Long.PAYLOAD:
        return 1
    return len(_slices(octets, alphabet, capacity(alphabet, _HEADER_SIZE[long])))


def cut(
    octets: bytes, alphabet: Alphabet, data_coding: int, reference: int, long: Long, *, esm_class: int = 0
) -> Segments:
    """``octets`` (without a user data header) as parts. Raises TextError when they are too many or too long."""
    if len(octets) <= AIR_OCTETS or len(octets) <= capacity(alphabet, 0):  # so few octets fit in any alphabet
        return Segments(alphabet, data_coding, esm_class, (Segment(octets),))
    if long is Long.PAYLOAD:
        return Segments(alphabet, data_coding, esm_class, (_in_payload(octets),))
    bodies = _slices(octets, alphabet, capacity(alphabet, _HEADER_SIZE[long]))
    total = len(bodies)
    if long is Long.SAR:
        sar = tuple(Segment(body, _sar(reference, total, n)) for n, body in enumerate(bodies, 1))
        return Segments(alphabet, data_coding, esm_class, sar)
    parts = tuple(Segment(_udh(long, reference, total, n) + body) for n, body in enumerate(bodies, 1))
    return Segments(alphabet, data_coding, esm_class | UDHI, parts)


def split_octets(
    data: bytes,
    esm_class: int,
    data_coding: int,
    *,
    reference: int,
    long: Long = Long.UDH8,
    alphabet: Alphabet | None = None,
) -> Segments:
    """Ready-made octets as parts; ``alphabet`` says where they may be cut, else ``data_coding`` does.

    With the UDHI bit in ``esm_class``, ``data`` starts with a user data header: what fits one message stays as it is,
    a longer one repeats the header's elements in every part beside the concatenation element (TS 23.040, 9.2.3.24),
    by UDH even when SAR is asked for, since carriers refuse both together. Raises TextError when the header is broken
    or already says that this is a part.
    """
    alphabet = alphabet or alphabet_of(data_coding)
    if not esm_class & UDHI:
        return cut(data, alphabet, data_coding, reference, long, esm_class=esm_class)
    elements, body = split_header(data)
    if len(body) <= capacity(alphabet, len(data) - len(body)):
        return Segments(alphabet, data_coding, esm_class, (Segment(data),))
    if concatenation(elements) is not None:
        raise TextError("the data is longer than one message and its user data header says that it is a part already")
    if long is Long.PAYLOAD:
        return Segments(alphabet, data_coding, esm_class, (_in_payload(data),))
    width = Long.UDH16 if long is Long.UDH16 else Long.UDH8
    size = capacity(alphabet, _HEADER_SIZE[width] + len(elements))
    if size < 2:
        raise TextError("the user data header leaves no room for the message")
    bodies = _slices(body, alphabet, size)
    parts = tuple(
        Segment(_udh(width, reference, len(bodies), n, elements) + piece) for n, piece in enumerate(bodies, 1)
    )
    return Segments(alphabet, data_coding, esm_class, parts)


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """The elements of the user data header (without its length octet) and the message after it.

    Raises TextError when the header reaches beyond the data.
    """
    if not data or data[0] >= len(data):
        raise TextError("the user data header reaches beyond the message")
    end = 1 + data[0]
    return data[1:end], data[end:]


def concatenation(elements: bytes) -> tuple[int, int, int] | None:
    """``(reference, total, number)`` from the elements of a user data header, or None when it is no part.

    A 16-bit reference comes back with 0x10000 added, since the two widths are apart. Numbers that make no sense
    (part 0, or beyond the total) count as no part at all (TS 23.040, 9.2.3.24.1).
    """
    at = 0
    while at + 2 <= len(elements):
        kind, size = elements[at], elements[at + 1]
        value = elements[at + 2 : at + 2 + size]
        at += 2 + size
        if kind == _CONCAT8 and len(value) == 3:
            reference, total, number = value[0], value[1], value[2]
        elif kind == _CONCAT16 and len(value) == 4:
            reference, total, number = 0x10000 | value[0] << 8 | value[1], value[2], value[3]
        else:
            continue
        return (reference, total, number) if 1 <= number <= total else None
    return None


def _slices(octets: bytes, alphabet: Alphabet, size: int) -> list[bytes]:
    """``octets`` in slices of at most ``size``, none of them ending inside an escape sequence or a surrogate pair."""
    found: list[bytes] = []
    start, length = 0, len(octets)
    while length - start > size:
        end = start + size
        if alphabet is Alphabet.GSM7:
            end -= _escapes_before(octets, start, end) & 1
        elif alphabet is Alphabet.UCS2 and octets[end - 2] & 0xFC == 0xD8:
            end -= 2
        found.append(octets[start:end])
        start = end
    found.append(octets[start:])
    if len(found) > MAX_PARTS:
        raise TextError(f"the message needs {len(found)} parts, and no more than {MAX_PARTS} can be numbered")
    return found


def _escapes_before(octets: bytes, start: int, end: int) -> int:
    """The length of the run of escapes that ends at ``end``: an odd one would be cut from its character."""
    return end - start - len(octets[start:end].rstrip(b"\x1b"))


def _udh(long: Long, reference: int, total: int, number: int, elements: bytes = b"") -> bytes:
    if long is Long.UDH16:
        mark = bytes((_CONCAT16, 4, reference >> 8 & 0xFF, reference & 0xFF, total, number))
    else:
        mark = bytes((_CONCAT8, 3, reference & 0xFF, total, number))
    return bytes((len(mark) + len(elements),)) + mark + elements


def _sar(reference: int, total: int, number: int) -> bytes:
    return _SAR.pack(0x020C, 2, reference & 0xFF, 0x020E, 1, total, 0x020F, 1, number)


def _in_payload(octets: bytes) -> Segment:
    if len(octets) > MAX_PAYLOAD:
        raise TextError(f"the message has {len(octets)} octets, and message_payload holds {MAX_PAYLOAD}")
    return Segment(b"", _TLV.pack(_MESSAGE_PAYLOAD, len(octets)) + octets)
