"""Detects servers that do not respond: one that hangs must cost each caller an instant, not a time-out.

While calls are under way and no reply arrives, the server gets a PING on a connection of its own. When that is not
answered either, it is silent: calls fail at once until it sends anything. A call that the server delays itself (waiting
for a replica, or a long function) does not make it silent. Nor does a pause of this process: looks are counted, and a
reply that has arrived is read between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

LOOK_EVERY = 0.35
QUIET_LOOKS = 2
"""Looks in a row with calls under way and no reply, after which the server gets a PING."""

PING_TIMEOUT = 0.5
"""Seconds it has to answer that."""

PING_EVERY = 0.25
"""Seconds between two PINGs to a silent server."""

log = structlog.get_logger(__name__)


class Responsiveness:
    """Of one server. Every call is ``begun`` and ``ended``; ``answered`` is called when its reply arrives."""

    __slots__ = (
        "_answers",
        "_calls",
        "_ping",
        "_pinging",
        "_seen",
        "_strikes",
        "_timer",
        "name",
        "on_silence",
        "silent",
    )

    def __init__(self, name: str, ping: Callable[[], Awaitable[None]], on_silence: Callable[[], None]) -> None:
        """``ping`` returns when the server has replied, raises or hangs when it does not; ``on_silence`` is called when
        the server becomes silent."""
        self.name = name
        self.silent = False
        self.on_silence = on_silence
        self._ping = ping
        self._calls = self._answers = self._strikes = 0
        self._seen = 0, 0  # calls and answers at the last look
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Responsiveness {self.name} {'silent' if self.silent else 'responsive'}, {self._calls} calls>"

    def begun(self) -> None:
        """Note that a call is under way."""
        self._calls += 1
        if self._timer is None and self._pinging is None:
            self._plan()

    def ended(self) -> None:
        """Note that a call is over, answered or not."""
        self._calls -= 1

    def answered(self) -> None:
        """Note that the server has sent something."""
        self._answers += 1
        if self.silent:
            self.silent = False
            log.info("store responds again", server=self.name)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def look(self) -> bool:
        """Count replies since the last look; return whether the server should get a PING."""
        calls, answers = self._seen
        self._seen = self._calls, self._answers
        self._strikes = self._strikes + 1 if calls and self._calls and answers == self._answers else 0
        return self._strikes >= QUIET_LOOKS

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.look():
            self._strikes = 0
            self._pinging = asyncio.get_running_loop().create_task(
                self._ping_until_answered(), name=f"ping {self.name}"
            )
        elif self._calls:
            self._plan()

    async def _ping_until_answered(self) -> None:
        """Send PINGs until the server replies; it is silent from the first one that it leaves unanswered."""
        try:
            while not await self._replied():
                if not self.silent:
                    self.silent = True
                    log.warning("store does not respond: calls fail at once", server=self.name)
                    self.on_silence()
                await asyncio.sleep(PING_EVERY)
        finally:
            self._pinging = None
            if self._calls:
                self._plan()

    async def _replied(self) -> bool:
        """Send a PING; return whether the server has replied to it or to any call since."""
        before = self._answers
        with suppress(Exception):  # whatever went wrong, it was no reply
            async with asyncio.timeout(PING_TIMEOUT):
                await self._ping()
                self.answered()
        return self._answers != before
