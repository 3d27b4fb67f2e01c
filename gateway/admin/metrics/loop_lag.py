"""How late the event loop is: a timer looks at the clock when it fires. Everything waits for as long as it is late."""

from __future__ import annotations

import asyncio

from gateway.histogram import Histogram

EVERY = 0.1
KEPT = 600
"""The worst of so many looks (a minute) is shown."""


class LoopLag:
    """``run`` until cancelled. ``seconds``: all looks since the start; ``worst``: the latest of the last minute."""

    def __init__(self) -> None:
        self.seconds = Histogram()
        self._recent = [0.0] * KEPT
        self._at = 0

    def __repr__(self) -> str:
        return f"<LoopLag at most {self.worst * 1000:.0f} ms in the last minute>"

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self._recent)

    async def run(self) -> None:
        """Look ten times a second."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            late = max(0.0, loop.time() - due)
            self.seconds.observe(late)
            self._recent[self._at] = late
            self._at = (self._at + 1) % KEPT
