"""Make untrusted text safe for a terminal: escape what moves the cursor or changes the writing direction."""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # tab and newline are harmless; callers decide about them
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # UAX 9: marks, embeddings, overrides, isolates
_OTHERS = "\u2028\u2029\ufff9-\ufffb\ud800-\udfff"  # line separators, interlinear marks, surrogates
_HIDDEN = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_OTHERS}]")
_BREAKS = re.compile(f"[\t\n{_CONTROLS}{_DIRECTIONS}{_OTHERS}]")


def visible(text: str, *, one_line: bool = False) -> str:
    """Return ``text`` with control characters, direction marks and surrogates as ``\\x1b`` or ``\\u202e``.

    ``one_line``: tabs and newlines as well.
    """
    return (_BREAKS if one_line else _HIDDEN).sub(_escaped, text)


def visible_json(text: str) -> str:
    """Return JSON text with the same characters as ``\\u009b``, which parse to the same values."""
    return text if text.isascii() and "\x7f" not in text else _HIDDEN.sub(_json_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _json_escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
