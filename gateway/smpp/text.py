"""Texts: choosing an alphabet, encoding, decoding, counting, and the way to the parts of a long message.

``data_coding`` values are those of SMPP 3.4, 5.2.19. Splitting lives in ``segments``, joining in ``joiner``; both are
exported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.smpp import gsm, segments
from gateway.smpp.joiner import Joined, Joiner
from gateway.smpp.segments import Alphabet, Long, Segment, Segments, TextError, alphabet_of, split_octets

__all__ = [
    "DATA_CODING",
    "Alphabet",
    "Joined",
    "Joiner",
    "Long",
    "Segment",
    "SegmentCount",
    "Segments",
    "TextError",
    "alphabet_of",
    "choose",
    "count",
    "decode",
    "encode",
    "split",
    "split_octets",
]

DATA_CODING = {Alphabet.GSM7: 0, Alphabet.LATIN1: 3, Alphabet.BINARY: 4, Alphabet.UCS2: 8}
USUAL = (Alphabet.GSM7, Alphabet.UCS2)

_GSM7 = Alphabet.GSM7  # reading a member off its enum costs 60 ns
_new_tuple = tuple.__new__

_PYTHON_CODECS = {1: "ascii", 5: "shift_jis", 6: "iso8859_5", 7: "iso8859_8", 10: "iso2022_jp", 14: "euc_kr"}


class SegmentCount(NamedTuple):
    """What a text costs: its alphabet, how many parts, how many units in all (septets, UTF-16 units or octets)."""

    alphabet: Alphabet
    segments: int
    units: int


def choose(text: str, allowed: Sequence[Alphabet] = USUAL) -> Alphabet:
    """The first of ``allowed`` that can express ``text``. Raises TextError when none can."""
    return _encode_first(text, allowed)[0]


def encode(text: str, alphabet: Alphabet) -> bytes:
    """The octets of ``text``; BINARY takes U+0000 to U+00FF as octets. Raises TextError when it does not fit."""
    octets = _try_encode(text, alphabet)
    if octets is None:
        raise TextError(f"the text has characters that {alphabet} cannot express")
    return octets


def decode(data: bytes, data_coding: int, default: Alphabet = Alphabet.GSM7) -> str:
    """The text of a short message without its user data header. Never raises: what cannot be decoded becomes U+FFFD.

    ``default`` is what the carrier means by ``data_coding`` 0. Binary codings give one character per octet.
    """
    codec = _PYTHON_CODECS.get(data_coding)
    if codec is not None:
        return data.decode(codec, "replace")
    alphabet = alphabet_of(data_coding, default)
    if alphabet is Alphabet.GSM7:
        return gsm.decode(data)
    return data.decode("utf-16-be" if alphabet is Alphabet.UCS2 else "latin-1", "replace")


def count(
    text: str,
    alphabet: Alphabet | None = None,
    long: Long = Long.UDH8,
    allowed: Sequence[Alphabet] = USUAL,
) -> SegmentCount:
    """Alphabet, parts and units of ``text`` when it is cut for ``long``, as ``split`` does it.

    Raises TextError when it does not fit.
    """
    if (alphabet or allowed[0]) is _GSM7:
        units = gsm.septets(text)
        if units is not None and units <= segments.SINGLE_SEPTETS:
            return _new_tuple(SegmentCount, (_GSM7, 1, units))
    chosen, octets = _encode_first(text, allowed if alphabet is None else (alphabet,))
    units = len(octets) >> 1 if chosen is Alphabet.UCS2 else len(octets)
    return SegmentCount(chosen, segments.parts_needed(octets, chosen, long), units)


def split(
    text: str,
    *,
    reference: int,
    long: Long = Long.UDH8,
    alphabet: Alphabet | None = None,
    allowed: Sequence[Alphabet] = USUAL,
) -> Segments:
    """``text`` as the parts to submit: in ``alphabet``, else in the first of ``allowed`` that fits.

    ``reference`` is the concatenation number, cut to the width that ``long`` has. A part never ends inside an escape
    sequence or a surrogate pair. Raises TextError when the text does not fit the alphabet or 255 parts.
    """
    if alphabet is None:
        alphabet, octets = _encode_first(text, allowed)
    else:
        octets = encode(text, alphabet)
    return segments.cut(octets, alphabet, DATA_CODING[alphabet], reference, long)


def _encode_first(text: str, allowed: Sequence[Alphabet]) -> tuple[Alphabet, bytes]:
    for alphabet in allowed:
        octets = _try_encode(text, alphabet)
        if octets is not None:
            return alphabet, octets
    raise TextError(f"the text has characters that {' or '.join(allowed)} cannot express")


def _try_encode(text: str, alphabet: Alphabet) -> bytes | None:
    if alphabet is Alphabet.GSM7:
        return gsm.encode(text)
    try:
        return text.encode("utf-16-be" if alphabet is Alphabet.UCS2 else "latin-1")
    except UnicodeEncodeError:  # beyond Latin-1, or a lone surrogate
        return None
