"""Whether a server answers: one that hangs (stopped, not dead) must cost each caller an instant, not a time-out.

While calls are under way and nothing comes back, the server is asked for a word on a connection of its own. When that
is not answered either, it is silent: calls from then on fail at once, until it says anything at all. A call that the
server itself holds back (a replica is waited for) or takes long over does not make it silent, nor does a pause of ours:
looks are counted, and a reply that lies in our buffers is read between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

LOOK_EVERY = 0.35
QUIET_LOOKS = 2
"""Looks in a row that find the same calls under way and nothing answered, until the server is asked for a word."""

WORD_WITHIN = 0.5
"""Seconds that it has for it."""

ASK_EVERY = 0.25
"""Seconds between two questions to a server that is silent."""

log = structlog.get_logger(__name__)


class Responsiveness:
    """Of one server. ``begun`` and ``answered`` go round every call; ``ended`` is for those that were not answered."""

    __slots__ = ("_answers", "_ask", "_asking", "_calls", "_seen", "_strikes", "_timer", "name", "on_silence", "silent")

    def __init__(self, name: str, ask: Callable[[], Awaitable[None]], on_silence: Callable[[], None]) -> None:
        """``ask``: returns when the server has said a word, raises or hangs when it does not; ``on_silence`` is called
        when nothing is to be expected of it any more."""
        self.name = name
        self.silent = False
        self.on_silence = on_silence
        self._ask = ask
        self._calls = self._answers = self._strikes = 0
        self._seen = 0, 0  # calls and answers at the last look
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Responsiveness {self.name} {'silent' if self.silent else 'well'}, {self._calls} calls under way>"

    def begun(self) -> None:
        """A call is under way."""
        self._calls += 1
        if self._timer is None and self._asking is None:
            self._plan()

    def ended(self) -> None:
        """A call is over, answered or not."""
        self._calls -= 1

    def answered(self) -> None:
        """The server has said something."""
        self._answers += 1
        if self.silent:
            self.silent = False
            log.info("the store answers again", server=self.name)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def look(self) -> bool:
        """Take note of what has happened since the last look; whether the server is to be asked for a word."""
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
            self._asking = asyncio.get_running_loop().create_task(self._listen(), name=f"hearing {self.name}")
        elif self._calls:
            self._plan()

    async def _listen(self) -> None:
        """Ask until the server says something; it is silent from the first question that it leaves unanswered."""
        try:
            while not await self._word():
                if not self.silent:
                    self.silent = True
                    log.warning("the store does not answer: it is not waited for", server=self.name)
                    self.on_silence()
                await asyncio.sleep(ASK_EVERY)
        finally:
            self._asking = None
            if self._calls:
                self._plan()

    async def _word(self) -> bool:
        """Whether it has said anything, here or elsewhere, since it was asked."""
        before = self._answers
        with suppress(Exception):  # whatever it is, it was no word
            async with asyncio.timeout(WORD_WITHIN):
                await self._ask()
                self.answered()
        return self._answers != before
