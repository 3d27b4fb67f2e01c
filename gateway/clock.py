"""The wall clock: instants are milliseconds since the Unix epoch (UTC). Waiting uses the event loop's own time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the current instant in ms UTC."""
    return time.time_ns() // 1_000_000
