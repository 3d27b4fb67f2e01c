"""Places of a text, ``{name}``, that the columns of a file fill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class BadPlaceholder(ValueError):
    """A text whose places cannot be filled; the text says which and why."""


class PlaceholderText:
    """A text with ``{name}`` in it; ``{{`` and ``}}`` are braces. Raises BadPlace for one that names nothing."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        for found in _BRACES.finditer(text):
            if found[0] in ("{{", "}}"):
                continue
            name = (found[1] or "").strip()
            if not name:
                raise BadPlaceholder(f"{found[0]} in the text names no column; write {{{{ or }}}} for a brace")
            if name not in self.names:
                self.names.append(name)

    def fill(self, given: Mapping[str, Any]) -> str:
        """The text for one row. Raises BadPlace when the row leaves a place empty: nobody gets a text with a hole."""

        def one(found: re.Match[str]) -> str:
            if found[0] in ("{{", "}}"):
                return found[0][0]
            name = found[1].strip()
            value = given.get(name)
            if value is None or not str(value).strip():
                raise BadPlaceholder(f"{{{name}}} of the text is empty in this row")
            return str(value).strip()

        return _BRACES.sub(one, self.text)


def unfilled(text: str, columns: Mapping[str, Any]) -> str:
    """The first ``{column}`` that stands in a row's own text, which nothing fills; "" when there is none."""
    return next((found[0] for found in _BRACES.finditer(text) if (found[1] or "").strip() in columns), "")
