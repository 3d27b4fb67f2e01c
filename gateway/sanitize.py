"""Text from strangers as it may stand on a terminal: what would move the cursor or turn the line round is spelt out."""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # a tab and a new line are harmless; callers say whether they may stay
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # UAX 9: marks, embeddings, overrides, isolates
_OTHERS = "\u2028\u2029\ufff9-\ufffb\ud800-\udfff"  # line breaks of their own, interlinear marks, halves of characters
_HIDDEN = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_OTHERS}]")
_BREAKS = re.compile(f"[\t\n{_CONTROLS}{_DIRECTIONS}{_OTHERS}]")


def visible(text: str, *, one_line: bool = False) -> str:
    """``text`` with control characters, direction marks and half characters as ``\\x1b`` or ``\\u202e``.

    ``one_line``: tabs and new lines, too.
    """
    return (_BREAKS if one_line else _HIDDEN).sub(_spelt, text)


def visible_json(text: str) -> str:
    """The same for JSON, where ``\\u009b`` means what it stands for: no reader sees a difference."""
    return text if text.isascii() and "\x7f" not in text else _HIDDEN.sub(_escaped, text)


def _spelt(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
