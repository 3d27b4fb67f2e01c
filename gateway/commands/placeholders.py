"""Placeholders in a text, ``{name}``, that the columns of a file fill."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class BadPlaceholder(ValueError):
    """A text or row that cannot be used; the text says why."""


class PlaceholderText:
    """A text with ``{name}`` placeholders; ``{{`` and ``}}`` are braces. Raises BadPlaceholder for an empty name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        for found in _BRACES.finditer(text):
            if found[0] in ("{{", "}}"):
                continue
            name = (found[1] or "").strip()
            if not name:
                raise BadPlaceholder(
                    f"{found[0]} in the text does not name a column; write {{{{ or }}}} for a literal brace"
                )
            if name not in self.names:
                self.names.append(name)

    def fill(self, given: Mapping[str, Any]) -> str:
        """Return the text for one row. Raises BadPlaceholder when the row leaves a placeholder empty."""

        def replacement(found: re.Match[str]) -> str:
            if found[0] in ("{{", "}}"):
                return found[0][0]
            name = found[1].strip()
            value = given.get(name)
            if value is None or not str(value).strip():
                raise BadPlaceholder(f"{{{name}}} is empty in this row")
            return str(value).strip()

        return _BRACES.sub(replacement, self.text)


def unfilled(text: str, columns: Mapping[str, Any]) -> str:
    """Return the first ``{column}`` in a row's own text, which is not replaced; "" when there is none."""
    return next((found[0] for found in _BRACES.finditer(text) if (found[1] or "").strip() in columns), "")
