"""Message templates: ``"Hello {name}, your code is {code}"``. ``{{`` and ``}}`` are literal braces."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]{0,31})\}|[{}]")


class MessageTemplate:
    """One template. Raise ValueError for unbalanced braces."""

    __slots__ = ("_pieces", "names")

    def __init__(self, text: str) -> None:
        pieces, names, at = [""], [], 0
        for found in _PIECE.finditer(text):
            token, name = found[0], found[1]
            if token in {"{", "}"}:
                raise ValueError(f"a stray {token} at character {found.start() + 1}: write {{name}}, or {token * 2}")
            pieces[-1] += text[at : found.start()]
            at = found.end()
            if name:
                names.append(name)
                pieces.append("")
            else:
                pieces[-1] += token[0]
        pieces[-1] += text[at:]
        self._pieces = pieces
        self.names = tuple(names)

    def __repr__(self) -> str:
        return f"<MessageTemplate of {', '.join(dict.fromkeys(self.names)) or 'nothing'}>"

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the text with ``values`` filled in. Raise KeyError for a missing one."""
        text = self._pieces[0]
        for name, piece in zip(self.names, self._pieces[1:], strict=True):
            text += str(values[name]) + piece
        return text
