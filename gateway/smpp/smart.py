"""Typographic characters and what says the same in the GSM 03.38 alphabet.

One curly quote makes a text of 160 characters three UCS-2 segments of 70. ``plain`` writes such a text in the default
alphabet when that is all that stands in the way; a text that needs another alphabet anyway stays as it is.
"""

from __future__ import annotations

from gateway.smpp import gsm

EQUIVALENTS: dict[str, str] = {
    **dict.fromkeys("“”„‟″«»❝❞＂", '"'),  # they are meant
    **dict.fromkeys("‘’‚‛′`´ʼ＇", "'"),
    **dict.fromkeys("‐‑‒–—―−－", "-"),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", ""),  # soft hyphens, no width, marks
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
"""Nothing of it changes what a text says; letters with accents do, and are not here."""

_TABLE = str.maketrans(EQUIVALENTS)


def plain(text: str) -> tuple[str, dict[str, str]]:
    """The text in GSM characters, and what was replaced by what; unchanged when it is so already or cannot be."""
    if gsm.septets(text) is not None:
        return text, {}
    replaced = text.translate(_TABLE)
    if not replaced or gsm.septets(replaced) is None:
        return text, {}
    return replaced, {char: EQUIVALENTS[char] for char in dict.fromkeys(text) if char in EQUIVALENTS}
