"""The GSM 7-bit default alphabet with its extension table (3GPP TS 23.038, 6.2.1 and 6.2.1.1), one octet per septet.

That is how SMPP carries it: ``data_coding`` 0, unpacked, an escape octet 0x1B before each character of the extension.
Everything runs in C: one charmap pass decides whether a text fits, and only texts with an ``@`` or an extension
character need a second look.
"""

from __future__ import annotations

import codecs
import re

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = {
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
ESCAPE = 0x1B

# Folded form: an octet below 0x80 is a basic character, one above is 0x80 plus its extension code. "@" is folded to
# 0x80, because the fast encoding map of the codecs module demands U+0000 at octet 0; that octet then marks a misfit.
_UNDEFINED = "\ufffe"
_FOLDED = (
    "\0"
    + BASIC[1:ESCAPE]
    + _UNDEFINED
    + BASIC[ESCAPE + 1 :]
    + "@"
    + "".join(EXTENSION.get(code, _UNDEFINED) for code in range(1, 128))
)
_MAP = codecs.charmap_build(_FOLDED)
_FOLDED_EXTENSION = bytes(0x80 | code for code in EXTENSION)
_UNFOLD = tuple((bytes((0x80 | code,)), bytes((ESCAPE, code))) for code in EXTENSION)

_PLAIN_ASCII = bytes(code for code in range(128) if chr(code) in BASIC and code != ESCAPE)

_DECODE = BASIC + "\ufffd" * 128
_AFTER_ESCAPE = {BASIC[code]: char for code, char in EXTENSION.items()} | {"\x1b": " "}
_ESCAPED = re.compile("\x1b(.?)", re.DOTALL)


def _fold(text: str) -> bytes | None:
    """The folded octets of ``text``, or None when a character is not in the alphabet."""
    try:
        folded = codecs.charmap_encode(text, "strict", _MAP)[0]
    except UnicodeEncodeError:
        return None
    return None if b"\0" in folded else folded


def encode(text: str) -> bytes | None:
    """One octet per septet, or None when the text does not fit the alphabet."""
    folded = _fold(text)
    if folded is None or folded.isascii():
        return folded
    octets = folded.replace(b"\x80", b"\0")
    if not octets.isascii():
        for high, pair in _UNFOLD:
            octets = octets.replace(high, pair)
    return octets


def septets(text: str) -> int | None:
    """How many septets ``text`` takes (an extension character counts two), or None when it does not fit."""
    if text.isascii() and not text.encode().translate(None, _PLAIN_ASCII):
        return len(text)  # most texts, in a third of the time
    folded = _fold(text)
    if folded is None:
        return None
    size = len(folded)
    if folded.isascii():
        return size
    return 2 * size - len(folded.translate(None, _FOLDED_EXTENSION))


def decode(octets: bytes) -> str:
    """The text of unpacked septets. Never raises: an octet above 0x7F becomes U+FFFD, an unknown extension code its
    basic character (as 23.038 asks of a receiver), a lone escape at the end nothing."""
    text = codecs.charmap_decode(octets, "strict", _DECODE)[0]
    return _ESCAPED.sub(_unescape, text) if ESCAPE in octets else text


def _unescape(match: re.Match[str]) -> str:
    char = match[1]
    return _AFTER_ESCAPE.get(char, char)
