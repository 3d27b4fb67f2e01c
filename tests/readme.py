"""The examples in the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parent.parent / "README.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\A# ([\w.-]+\.\w+)\n")


class Block(NamedTuple):
    """A fenced block; ``name`` is set if its first line is a comment with a file name."""

    language: str
    text: str
    name: str


def blocks(title: str) -> list[Block]:
    """Return the fenced blocks of a section, in order. Raises KeyError if the section does not exist or has none."""
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL))
    found = []
    for language, text in _FENCE.findall(sections[title]):
        name = _NAME.match(text)
        found.append(Block(language, text, name[1] if name else ""))
    if not found:
        raise KeyError(f"no example under {title!r}")
    return found
