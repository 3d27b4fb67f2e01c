"""Texts: alphabets, encoding, counting, splitting into segments, joining inbound segments.

``data_coding`` values are those of SMPP 3.4, 5.2.19. A short message holds 140 octets on the air: 160 septets, 70
UTF-16 code units or 140 octets, less its user data header. Long messages are sent with a user data header (3GPP TS
23.040, 9.2.3.24.1), SAR TLVs or message_payload (SMPP 3.4, 5.3.2.22 to 5.3.2.32).
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

from gateway.smpp.pdu import ESM_UDHI
from gateway.smpp.tlv import MESSAGE_PAYLOAD, SAR_MSG_REF_NUM, SAR_SEGMENT_SEQNUM, SAR_TOTAL_SEGMENTS, encode_tlv

AIR_OCTETS = 140
SINGLE_SEPTETS = 160
MAX_PARTS = 255
MAX_PAYLOAD = 0xFFFF

_CONCAT8 = 0x00
_CONCAT16 = 0x08
_SAR = Struct(">HHHHHBHHB")  # sar_msg_ref_num, sar_total_segments, sar_segment_seqnum as whole TLVs

_new_tuple = tuple.__new__


class TextError(ValueError):
    """A text that cannot be sent as asked: not in the alphabet, too long, or with a malformed user data header."""


class Alphabet(StrEnum):
    """How the octets of a message are read, and so where it may be cut."""

    GSM7 = "gsm7"  # one octet per septet
    LATIN1 = "latin1"
    UCS2 = "ucs2"  # sent as UTF-16, big-endian
    BINARY = "binary"


class SplitMethod(StrEnum):
    """How a long message is sent."""

    UDH8 = "udh8"  # user data header with an 8-bit reference: understood everywhere
    UDH16 = "udh16"  # 16-bit reference: for more than 255 long messages to one number in ten minutes
    SAR = "sar"  # the three sar_* TLVs; the carrier makes the header
    PAYLOAD = "payload"  # whole in message_payload; the carrier splits it


class Segment(NamedTuple):
    """One part: its short_message field and its encoded TLVs."""

    short_message: bytes
    tlvs: bytes = b""


class Segments(NamedTuple):
    """A message ready to be submitted: what all parts share, and the parts in order."""

    alphabet: Alphabet
    data_coding: int
    esm_class: int
    parts: tuple[Segment, ...]


class SegmentCount(NamedTuple):
    """The size of a text: its alphabet, parts, and units in all (septets, UTF-16 code units or octets)."""

    alphabet: Alphabet
    segments: int
    units: int


# ---- the GSM 7-bit default alphabet with its extension table (3GPP TS 23.038, 6.2.1 and 6.2.1.1)
#
# One octet per septet, as SMPP carries it: data_coding 0, unpacked, an escape octet 0x1B before each extension
# character. Everything runs in C: one charmap pass decides whether a text fits, and only texts with an "@" or an
# extension character need a second pass.

GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
GSM_ESCAPE = 0x1B

# Folded form: an octet below 0x80 is a basic character, one above is 0x80 plus its extension code. "@" is folded to
# 0x80, because the fast encoding map of the codecs module demands U+0000 at octet 0; that octet then marks a character
# outside the alphabet.
_UNDEFINED = "\ufffe"
_FOLDED = (
    "\0"
    + GSM_BASIC[1:GSM_ESCAPE]
    + _UNDEFINED
    + GSM_BASIC[GSM_ESCAPE + 1 :]
    + "@"
    + "".join(GSM_EXTENSION.get(code, _UNDEFINED) for code in range(1, 128))
)
_GSM_MAP = codecs.charmap_build(_FOLDED)
_FOLDED_EXTENSION = bytes(0x80 | code for code in GSM_EXTENSION)
_UNFOLD = tuple((bytes((0x80 | code,)), bytes((GSM_ESCAPE, code))) for code in GSM_EXTENSION)

_PLAIN_ASCII = bytes(code for code in range(128) if chr(code) in GSM_BASIC and code != GSM_ESCAPE)

_GSM_DECODE = GSM_BASIC + "\ufffd" * 128
_AFTER_ESCAPE = {GSM_BASIC[code]: char for code, char in GSM_EXTENSION.items()} | {"\x1b": " "}
_ESCAPED = re.compile("\x1b(.?)", re.DOTALL)


def _fold(text: str) -> bytes | None:
    """Return the folded octets of ``text``, None when a character is not in the alphabet."""
    try:
        folded = codecs.charmap_encode(text, "strict", _GSM_MAP)[0]
    except UnicodeEncodeError:
        return None
    return None if b"\0" in folded else folded


def gsm_encode(text: str) -> bytes | None:
    """Return ``text`` with one octet per septet, None when a character is not in the GSM alphabet."""
    folded = _fold(text)
    if folded is None or folded.isascii():
        return folded
    octets = folded.replace(b"\x80", b"\0")
    if not octets.isascii():
        for high, pair in _UNFOLD:
            octets = octets.replace(high, pair)
    return octets


def septets(text: str) -> int | None:
    """Return how many septets ``text`` takes (an extension character two), None when it is not in the GSM alphabet."""
    if text.isascii() and not text.encode().translate(None, _PLAIN_ASCII):
        return len(text)  # most texts end here, in a third of the time
    folded = _fold(text)
    if folded is None:
        return None
    size = len(folded)
    if folded.isascii():
        return size
    return 2 * size - len(folded.translate(None, _FOLDED_EXTENSION))


def gsm_decode(octets: bytes) -> str:
    """Return the text of unpacked septets. Never raises: an octet above 0x7F becomes U+FFFD, an unknown extension code
    its basic character (as 23.038 asks of a receiver), a lone escape at the end nothing."""
    text = codecs.charmap_decode(octets, "strict", _GSM_DECODE)[0]
    return _ESCAPED.sub(_unescape, text) if GSM_ESCAPE in octets else text


def _unescape(match: re.Match[str]) -> str:
    char = match[1]
    return _AFTER_ESCAPE.get(char, char)


# ---- typographic characters

GSM_EQUIVALENTS: dict[str, str] = {
    **dict.fromkeys("“”„‟″«»❝❞＂", '"'),
    **dict.fromkeys("‘’‚‛′`´ʼ＇", "'"),
    **dict.fromkeys("‐‑‒–—―−－", "-"),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", ""),  # soft hyphen, zero width, direction marks
    **dict.fromkeys("\u2028\u2029", "\n"),
    "…": "...",
    "‹": "<",
    "›": ">",
    "•": "*",
    "·": ".",
    "⁄": "/",
    "×": "x",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
    "©": "(c)",
    "®": "(r)",
    "™": "(tm)",
    "№": "No.",
    "ﬁ": "fi",
    "ﬂ": "fl",
}
"""Typographic characters and their equals in the GSM alphabet. Accented letters are absent: they change the text."""

_EQUIVALENT_TABLE = str.maketrans(GSM_EQUIVALENTS)


def replace_typographic(text: str) -> tuple[str, dict[str, str]]:
    """Return ``text`` in GSM characters and the replacements made; unchanged when it fits already or cannot be made to.

    One curly quote turns a text of 160 characters into three UCS-2 segments of 70.
    """
    if septets(text) is not None:
        return text, {}
    replaced = text.translate(_EQUIVALENT_TABLE)
    if not replaced or septets(replaced) is None:
        return text, {}
    return replaced, {char: GSM_EQUIVALENTS[char] for char in dict.fromkeys(text) if char in GSM_EQUIVALENTS}


# ---- encoding, counting, splitting

DATA_CODING = {Alphabet.GSM7: 0, Alphabet.LATIN1: 3, Alphabet.BINARY: 4, Alphabet.UCS2: 8}
USUAL = (Alphabet.GSM7, Alphabet.UCS2)

_GSM7 = Alphabet.GSM7  # reading a member off its enum costs 60 ns

_PYTHON_CODECS = {1: "ascii", 5: "shift_jis", 6: "iso8859_5", 7: "iso8859_8", 10: "iso2022_jp", 14: "euc_kr"}


def encode(text: str, alphabet: Alphabet) -> bytes:
    """Return ``text`` as octets; BINARY takes U+0000 to U+00FF. Raise TextError when a character does not fit."""
    octets = _try_encode(text, alphabet)
    if octets is None:
        raise TextError(f"the text has characters that {alphabet} cannot express")
    return octets


def decode(data: bytes, data_coding: int, default: Alphabet = Alphabet.GSM7) -> str:
    """Return the text of a short message without its user data header. Never raises: what is invalid becomes U+FFFD.

    ``default`` is the carrier's alphabet for ``data_coding`` 0. Binary codings give one character per octet.
    """
    codec = _PYTHON_CODECS.get(data_coding)
    if codec is not None:
        return data.decode(codec, "replace")
    alphabet = alphabet_of(data_coding, default)
    if alphabet is Alphabet.GSM7:
        return gsm_decode(data)
    return data.decode("utf-16-be" if alphabet is Alphabet.UCS2 else "latin-1", "replace")


def count(
    text: str,
    alphabet: Alphabet | None = None,
    long: SplitMethod = SplitMethod.UDH8,
    allowed: Sequence[Alphabet] = USUAL,
) -> SegmentCount:
    """Return alphabet, parts and units of ``text`` as ``split`` would cut it. Raise TextError when it does not fit."""
    if (alphabet or allowed[0]) is _GSM7:
        units = septets(text)
        if units is not None and units <= SINGLE_SEPTETS:
            return _new_tuple(SegmentCount, (_GSM7, 1, units))
    chosen, octets = _encode_first(text, allowed if alphabet is None else (alphabet,))
    units = len(octets) >> 1 if chosen is Alphabet.UCS2 else len(octets)
    return SegmentCount(chosen, parts_needed(octets, chosen, long), units)


def split(
    text: str,
    *,
    reference: int,
    long: SplitMethod = SplitMethod.UDH8,
    alphabet: Alphabet | None = None,
    allowed: Sequence[Alphabet] = USUAL,
) -> Segments:
    """Return ``text`` as the parts to submit, in ``alphabet`` or else the first of ``allowed`` that fits.

    ``reference`` is the concatenation reference, cut to the width that ``long`` has. A part never ends inside an escape
    sequence or a surrogate pair. Raise TextError when the text fits neither the alphabet nor 255 parts.
    """
    if alphabet is None:
        alphabet, octets = _encode_first(text, allowed)
    else:
        octets = encode(text, alphabet)
    return cut(octets, alphabet, DATA_CODING[alphabet], reference, long)


def _encode_first(text: str, allowed: Sequence[Alphabet]) -> tuple[Alphabet, bytes]:
    for alphabet in allowed:
        octets = _try_encode(text, alphabet)
        if octets is not None:
            return alphabet, octets
    raise TextError(f"the text has characters that {' or '.join(allowed)} cannot express")


def _try_encode(text: str, alphabet: Alphabet) -> bytes | None:
    if alphabet is Alphabet.GSM7:
        return gsm_encode(text)
    try:
        return text.encode("utf-16-be" if alphabet is Alphabet.UCS2 else "latin-1")
    except UnicodeEncodeError:  # beyond Latin-1, or a lone surrogate
        return None


# ---- segments

_HEADER_SIZE = {SplitMethod.UDH8: 6, SplitMethod.UDH16: 7, SplitMethod.SAR: 6, SplitMethod.PAYLOAD: 0}
"""Octets of user data header in each part on the air. With SAR the carrier writes it; the reference is kept to 8 bits
so that the short header, and with it 153 septets, always suffices."""


_BY_DATA_CODING = {2: Alphabet.BINARY, 3: Alphabet.LATIN1, 4: Alphabet.BINARY, 8: Alphabet.UCS2}


def alphabet_of(data_coding: int, default: Alphabet = Alphabet.GSM7) -> Alphabet:
    """Return the alphabet that decides where a message of ``data_coding`` may be cut; other 8-bit sets are LATIN1.

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
    """Return the octets that fit beside a user data header of ``header`` octets, in whole units."""
    octets = AIR_OCTETS - header
    if alphabet is Alphabet.GSM7:
        return octets * 8 // 7
    return octets & ~1 if alphabet is Alphabet.UCS2 else octets


def parts_needed(octets: bytes, alphabet: Alphabet, long: SplitMethod) -> int:
    """Return the number of parts that ``cut`` would make. Raise TextError when they are more than 255."""
    if len(octets) <= capacity(alphabet, 0) or long is SplitMethod.PAYLOAD:
        return 1
    return len(_slices(octets, alphabet, capacity(alphabet, _HEADER_SIZE[long])))


def cut(
    octets: bytes, alphabet: Alphabet, data_coding: int, reference: int, long: SplitMethod, *, esm_class: int = 0
) -> Segments:
    """Return ``octets`` (without a user data header) as parts. Raise TextError when they are too many or too long."""
    if len(octets) <= AIR_OCTETS or len(octets) <= capacity(alphabet, 0):  # 140 octets fit in any alphabet
        return Segments(alphabet, data_coding, esm_class, (Segment(octets),))
    if long is SplitMethod.PAYLOAD:
        return Segments(alphabet, data_coding, esm_class, (_in_payload(octets),))
    bodies = _slices(octets, alphabet, capacity(alphabet, _HEADER_SIZE[long]))
    total = len(bodies)
    if long is SplitMethod.SAR:
        sar = tuple(Segment(body, _sar(reference, total, n)) for n, body in enumerate(bodies, 1))
        return Segments(alphabet, data_coding, esm_class, sar)
    parts = tuple(Segment(_udh(long, reference, total, n) + body) for n, body in enumerate(bodies, 1))
    return Segments(alphabet, data_coding, esm_class | ESM_UDHI, parts)


def split_octets(
    data: bytes,
    esm_class: int,
    data_coding: int,
    *,
    reference: int,
    long: SplitMethod = SplitMethod.UDH8,
    alphabet: Alphabet | None = None,
) -> Segments:
    """Return encoded octets as parts; ``alphabet``, or else ``data_coding``, decides where they may be cut.

    With the UDHI bit in ``esm_class``, ``data`` starts with a user data header: what fits one message stays as it is; a
    longer one repeats the header's elements in every part beside the concatenation element (TS 23.040, 9.2.3.24), by
    UDH even when SAR is asked for, since carriers refuse both together. Raise TextError when the header is malformed
    or already marks the data as a part.
    """
    alphabet = alphabet or alphabet_of(data_coding)
    if not esm_class & ESM_UDHI:
        return cut(data, alphabet, data_coding, reference, long, esm_class=esm_class)
    elements, body = split_header(data)
    if len(body) <= capacity(alphabet, len(data) - len(body)):
        return Segments(alphabet, data_coding, esm_class, (Segment(data),))
    if concatenation(elements) is not None:
        raise TextError("the data is longer than one message, but its user data header already marks it as a part")
    if long is SplitMethod.PAYLOAD:
        return Segments(alphabet, data_coding, esm_class, (_in_payload(data),))
    width = SplitMethod.UDH16 if long is SplitMethod.UDH16 else SplitMethod.UDH8
    size = capacity(alphabet, _HEADER_SIZE[width] + len(elements))
    if size < 2:
        raise TextError("the user data header leaves no room for the message")
    bodies = _slices(body, alphabet, size)
    parts = tuple(
        Segment(_udh(width, reference, len(bodies), n, elements) + piece) for n, piece in enumerate(bodies, 1)
    )
    return Segments(alphabet, data_coding, esm_class, parts)


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """Return the elements of the user data header (without its length octet) and the message after it.

    Raise TextError when the header reaches beyond the data.
    """
    if not data or data[0] >= len(data):
        raise TextError("the user data header reaches beyond the message")
    end = 1 + data[0]
    return data[1:end], data[end:]


def concatenation(elements: bytes) -> tuple[int, int, int] | None:
    """Return ``(reference, total, number)`` from the elements of a user data header, None when it is no part.

    A 16-bit reference is returned with 0x10000 added, since the two widths are separate number spaces. Impossible
    numbers (part 0, or beyond the total) make it no part at all (TS 23.040, 9.2.3.24.1).
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
    """Return slices of at most ``size`` octets, none ending inside an escape sequence or a surrogate pair."""
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
        raise TextError(f"the message needs {len(found)} parts; at most {MAX_PARTS} are possible")
    return found


def _escapes_before(octets: bytes, start: int, end: int) -> int:
    """Return the length of the run of escapes that ends at ``end``: an odd one would be cut from its character."""
    return end - start - len(octets[start:end].rstrip(b"\x1b"))


def _udh(long: SplitMethod, reference: int, total: int, number: int, elements: bytes = b"") -> bytes:
    if long is SplitMethod.UDH16:
        concat = bytes((_CONCAT16, 4, reference >> 8 & 0xFF, reference & 0xFF, total, number))
    else:
        concat = bytes((_CONCAT8, 3, reference & 0xFF, total, number))
    return bytes((len(concat) + len(elements),)) + concat + elements


def _sar(reference: int, total: int, number: int) -> bytes:
    return _SAR.pack(SAR_MSG_REF_NUM, 2, reference & 0xFF, SAR_TOTAL_SEGMENTS, 1, total, SAR_SEGMENT_SEQNUM, 1, number)


def _in_payload(octets: bytes) -> Segment:
    if len(octets) > MAX_PAYLOAD:
        raise TextError(f"the message has {len(octets)} octets; message_payload holds at most {MAX_PAYLOAD}")
    return Segment(b"", encode_tlv(MESSAGE_PAYLOAD, octets))


# ---- joining

_SAR_SPACE = 0x20000  # keeps SAR references apart from those of user data headers (see ``concatenation``)
_SAR_TAGS = (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)


class Joined(NamedTuple):
    """A joined message, or the parts of it that arrived.

    ``payload`` has no user data header; ``elements`` are the header elements of part 1 other than the concatenation
    (ports, for instance). ``missing`` counts the parts that never arrived: 0 for a whole message.
    """

    source: bytes
    dest: bytes
    data_coding: int
    payload: bytes
    elements: bytes = b""
    parts: int = 1
    missing: int = 0


class _Part(NamedTuple):
    payload: bytes
    elements: bytes
    data_coding: int


class _Partial:
    """The parts of one message received so far; once ``whole``, kept to recognise repeated parts."""

    __slots__ = ("parts", "since", "total", "whole")

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.since = now
        self.parts: dict[int, _Part] = {}
        self.whole = False


_Key = tuple[bytes, bytes, int, int]


class Joiner:
    """Joins inbound parts (user data headers of both widths, SAR TLVs) in any order, with bounded memory.

    Nothing is dropped: ``sweep`` returns what never becomes whole. An incomplete message is given up ``wait`` seconds
    after its first part. A whole one is remembered for ``remember`` seconds, so that a repeated part is recognised;
    later the same parts are a new message (some phones never change their reference). At most ``limit`` parts are
    kept: beyond it the oldest message is given up.
    """

    def __init__(self, wait: float = 300.0, remember: float = 60.0, limit: int = 10_000) -> None:
        self.wait = wait
        self.remember = remember
        self.limit = limit
        self._partials: dict[_Key, _Partial] = {}  # oldest first
        self._held = 0  # parts in _partials
        self._given_up: deque[Joined] = deque(maxlen=limit)

    def __repr__(self) -> str:
        return f"<Joiner {len(self._partials)} messages, {self._held} parts>"

    def add(  # noqa: PLR0917 - the fields of one message, in the order of the PDU
        self,
        source: bytes,
        dest: bytes,
        esm_class: int,
        data_coding: int,
        payload: bytes,
        tlvs: Mapping[int, bytes] | None,
        now: float,
    ) -> Joined | None:
        """Return the whole message when this is its last missing part or no part at all, else None.

        A repeated part changes nothing, even after the message was whole. Another text under the same reference and
        number starts a new message (references wrap around), and ``sweep`` returns the old one.
        """
        elements = b""
        position = None
        if esm_class & ESM_UDHI:
            try:
                elements, payload = split_header(payload)
            except TextError:
                return Joined(source, dest, data_coding, payload)  # passed on unchanged
            position = concatenation(elements)
        if position is None and tlvs:
            position = _sar_fields(tlvs)
        if position is None:
            return Joined(source=source, dest=dest, data_coding=data_coding, payload=payload, elements=elements)
        reference, total, number = position
        if total == 1:
            return Joined(
                source=source,
                dest=dest,
                data_coding=data_coding,
                payload=payload,
                elements=_without_concatenation(elements),
            )
        return self._add_part((source, dest, reference, total), number, _Part(payload, elements, data_coding), now)

    def sweep(self, now: float) -> list[Joined]:
        """Return what will never be whole: too old, beyond ``limit``, or replaced under the same reference."""
        too_old = now - self.wait
        for key, partial in list(self._partials.items()):
            if partial.since > too_old:
                break
            self._give_up(key)
        found = list(self._given_up)
        self._given_up.clear()
        return found

    def _add_part(self, key: _Key, number: int, part: _Part, now: float) -> Joined | None:
        partial = self._partials.get(key)
        if partial is not None and partial.whole and now - partial.since > self.remember:
            self._give_up(key)
            partial = None
        if partial is not None:
            before = partial.parts.get(number)
            if before == part:
                return None
            if before is not None or partial.whole:
                self._give_up(key)
                partial = None
        if partial is None:
            partial = self._partials[key] = _Partial(key[3], now)
        partial.parts[number] = part
        self._held += 1
        while self._held > self.limit and len(self._partials) > 1:
            self._give_up(next(iter(self._partials)))
        if len(partial.parts) < partial.total:
            return None
        partial.whole = True
        partial.since = now
        self._partials[key] = self._partials.pop(key)  # to the end: now the youngest
        return _assemble(key, partial)

    def _give_up(self, key: _Key) -> None:
        partial = self._partials.pop(key)
        self._held -= len(partial.parts)
        if not partial.whole:
            self._given_up.append(_assemble(key, partial))


def _sar_fields(tlvs: Mapping[int, bytes]) -> tuple[int, int, int] | None:
    reference, total, number = (int.from_bytes(tlvs.get(tag, b"")) for tag in _SAR_TAGS)
    return (_SAR_SPACE | reference, total, number) if 1 <= number <= total else None


def _assemble(key: _Key, partial: _Partial) -> Joined:
    source, dest, _, total = key
    ordered = [partial.parts[number] for number in sorted(partial.parts)]
    first = ordered[0]
    return Joined(
        source=source,
        dest=dest,
        data_coding=first.data_coding,
        payload=b"".join(part.payload for part in ordered),
        elements=_without_concatenation(first.elements),
        parts=total,
        missing=total - len(ordered),
    )


def _without_concatenation(elements: bytes) -> bytes:
    kept = []
    at = 0
    while at + 2 <= len(elements):
        end = at + 2 + elements[at + 1]
        if elements[at] not in {_CONCAT8, _CONCAT16}:
            kept.append(elements[at:end])
        at = end
    return b"".join(kept)
