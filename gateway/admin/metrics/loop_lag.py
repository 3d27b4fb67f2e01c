"""Event loop lag: how late a timer fires. Everything else on the loop is delayed by as much."""

from __future__ import annotations

import asyncio

from gateway.histogram import Histogram

EVERY = 0.1
"""Seconds between two samples."""

KEPT = 600
"""Samples (a minute of them) of which ``worst`` is the maximum."""


class LoopLag:
    """Samples the lag until cancelled. ``seconds``: all samples since the start; ``worst``: maximum of a minute."""

    def __init__(self) -> None:
        self.seconds = Histogram()
        self._recent = [0.0] * KEPT
        self._next = 0

    def __repr__(self) -> str:
        return f"<LoopLag at most {self.worst * 1000:.0f} ms in the last minute>"

    @property
    def worst(self) -> float:
        """The greatest lag of the last minute, in seconds."""
        return max(self._recent)

    async def run(self) -> None:
        """Take ten samples a second."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            late = max(0.0, loop.time() - due)
            self.seconds.observe(late)
            self._recent[self._next] = late
            self._next = (self._next + 1) % KEPT
