"""Generates ``sync_methods.py`` from ``async_methods.py``: ``python -m tests.client.unasync``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "gateway" / "client"
SOURCE, TARGET = FOLDER / "async_methods.py", FOLDER / "sync_methods.py"

HEADER = """\
# Generated from async_methods.py by `python -m tests.client.unasync`. Do not edit.
# ruff: noqa: C416 - the comprehension is asynchronous in the source
"""

REPLACEMENTS = (
    ("import asyncio\n", ""),
    ("AsyncIterator, Iterable", "Iterable, Iterator"),  # as isort wants it
    ("AsyncIterator", "Iterator"),
    ("AsyncMethods", "SyncMethods"),
    ("asyncio.sleep", "time.sleep"),
    ("async def ", "def "),
    ("async for ", "for "),
    ("await ", ""),
)


def sync_source() -> str:
    """Return the blocking form of the source, not formatted."""
    text = SOURCE.read_text()
    for old, new in REPLACEMENTS:
        assert old in text, f"{old!r} is no longer in {SOURCE.name}"
        text = text.replace(old, new)
    return HEADER + text


if __name__ == "__main__":
    TARGET.write_text(sync_source())
    subprocess.run([sys.executable, "-m", "ruff", "format", str(TARGET)], check=True)
