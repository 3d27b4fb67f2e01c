"""Files of the embedded server beside its data: its log, kept short, and what a kill left half written."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

LOG = "server.log"
LOG_LIMIT = 1 << 20
"""Octets; a longer log becomes ``server.log.1`` (one is kept), and the server begins a new one by itself."""

_HALF_WRITTEN = ("temp-rewriteaof-*.aof", "temp-*.rdb")


def bound_log(data_dir: Path) -> None:
    """Rename a long log. The server opens its log for every line, so this may be done while it runs."""
    log = data_dir / LOG
    with contextlib.suppress(OSError):  # the store works without it
        if log.stat().st_size > LOG_LIMIT:
            log.replace(data_dir / f"{LOG}.1")


def remove_half_written(data_dir: Path) -> None:
    """Remove what a server was rewriting when it was killed: useless, and perhaps as large as the data.

    Only while no server runs on the folder.
    """
    for pattern in _HALF_WRITTEN:
        for file in data_dir.glob(pattern):
            with contextlib.suppress(OSError):  # it only takes space
                file.unlink()


def last_warning(data_dir: Path) -> str:
    """Return the last warning in the log, also when it has just been renamed."""
    try:
        lines = _tail(data_dir / LOG) or _tail(data_dir / f"{LOG}.1")
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    warnings = [line for line in lines if " # " in line and "overcommit" not in line] or lines
    words = [re.sub(r"^\d+:\w .{0,30} [#*] ", "", line) for line in warnings[-2:]]
    if not words:
        return "its log is empty"
    return (
        ": ".join(reversed(words)) if words[-1].endswith("Exiting...") else words[-1]
    )  # the line before has the reason


def _tail(log: Path) -> list[str]:
    """Return the last lines of a file, none when there is no file. Raises OSError."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            return file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
