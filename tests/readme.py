"""The examples of the README, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parent.parent / "README.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\A# ([\w.-]+\.\w+)\n")


class Block(NamedTuple):
    """A fenced block; ``name`` when its first line is a comment that names a file."""

    language: str
    text: str
    name: str


def blocks(title: str) -> list[Block]:
    """The blocks of a section, in order. Raises KeyError when there is no such section, or none in it."""
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL))
    found = []
    for language, text in _FENCE.findall(sections[title]):
        name = _NAME.match(text)
        found.append(Block(language, text, name[1] if name else ""))
    if not found:
        raise KeyError(f"no example under {title!r}")
    return found
