"""Printing tables, or JSON for scripts."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def console() -> Console:
    """Where tables go. What is read by a program is not broken at 80 columns."""
    from gateway.commands.output import SafeConsole

    width = None if sys.stdout.isatty() else max(200, shutil.get_terminal_size().columns)
    return SafeConsole(highlight=False, width=width)


def show(thing: RenderableType) -> None:
    """Print it."""
    console().print(thing)
