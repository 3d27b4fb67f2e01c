"""What a carrier said, on its way to the store: gathered, one call in flight, nothing ever dropped.

A quiet carrier's answers wait ``GAP`` seconds for company. Where calls follow each other closely, few items wait up to
``BUSY_GAP``, unless they hold up a good part of the windows; many gather by themselves while a call is out. Within a
call the store applies answers before receipts. While the store is away everything waits here: answers are bounded by
the windows, receipts by ``MAX_RECEIPTS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from gateway.model import Answer, Match, ReceiptFact
from gateway.store.errors import StoreError, StoreRefused
from gateway.store.owner import Owner

GAP, BUSY_GAP = 0.004, 0.012
ENOUGH = 200
"""Items that leave without waiting for the gap."""

MOST = 2000
"""Answers, and as many receipts, in one call (the store cuts it into slices)."""

MAX_RECEIPTS = 20_000
RETRY_FIRST, RETRY_MOST = 0.05, 1.0

log = structlog.get_logger(__name__)

Done = Callable[[list[Answer], list[Match], list[Any]], None]


class ProgressStore(Protocol):
    """What reporting needs of the store."""

    async def progress(
        self, owner: Owner, answers: Sequence[Answer], receipts: Sequence[ReceiptFact] = ()
    ) -> list[Match]: ...


class Reporter:
    """The queue of one carrier towards ``store.progress``.

    ``done(answers, matches, tickets)`` is called after the store holds a batch; a ticket is whatever came with each
    receipt (who wants its acknowledgement).
    """

    def __init__(self, store: ProgressStore, owner: Owner, done: Done, *, window: int = 0) -> None:
        """``window``: submits that may be open at this carrier; a quarter of it is not kept waiting for company."""
        self._store = store
        self._owner = owner
        self._done = done
        self._few = min(ENOUGH, window // 4)
        self._wanted = ENOUGH  # what is waited for
        self._stored = 0.0  # when the last call was back
        self._answers: list[Answer] = []
        self._facts: list[ReceiptFact] = []
        self._tickets: list[Any] = []
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.calls = 0
        self.away_since: float | None = None  # since when the store does not take it

    def __repr__(self) -> str:
        away = " store away" if self.away_since is not None else ""
        return f"<Reporter {len(self._answers)} answers, {len(self._facts)} receipts waiting{away}>"

    @property
    def room(self) -> int:
        """How many more receipts may be left here."""
        return MAX_RECEIPTS - len(self._facts)

    def answers(self, answers: list[Answer]) -> None:
        """Leave answers to be stored."""
        self._answers += answers
        self._notify()

    def receipts(self, facts: list[ReceiptFact], tickets: list[Any]) -> None:
        """Leave receipts to be stored, a ticket for each."""
        self._facts += facts
        self._tickets += tickets
        self._notify()

    async def run(self) -> None:
        """Store what is left here, for ever."""
        wait = RETRY_FIRST
        while True:
            await self._wake.wait()
            await self._company()
            if await self._flush():
                wait = RETRY_FIRST
            else:
                await asyncio.sleep(wait)
                wait = min(RETRY_MOST, 2 * wait)

    async def drained(self) -> None:
        """Wait until everything left here is stored (``run`` must be running)."""
        await self._idle.wait()

    def _notify(self) -> None:
        self._wake.set()
        self._idle.clear()
        if len(self._answers) + len(self._facts) >= self._wanted:
            self._enough.set()

    async def _company(self) -> None:
        """Wait until there is enough, or no longer."""
        busy = asyncio.get_running_loop().time() - self._stored < BUSY_GAP
        await self._until(ENOUGH, GAP)
        if busy:
            await self._until(self._few, BUSY_GAP - GAP)

    async def _until(self, wanted: int, seconds: float) -> None:
        """Wait for so many, so long at most."""
        if len(self._answers) + len(self._facts) >= wanted:
            return
        self._wanted = wanted
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._enough.set)
        await self._enough.wait()
        timer.cancel()

    async def _flush(self) -> bool:
        """One call; False when the store did not take it."""
        answers, facts = self._answers[:MOST], self._facts[:MOST]
        self.calls += 1
        try:
            matches = await self._store.progress(self._owner, answers, facts)
        except StoreError as error:
            if self.away_since is None or isinstance(error, StoreRefused):
                log.warning("answers and receipts wait for the store", error=str(error), reporter=repr(self))
            if self.away_since is None:
                self.away_since = asyncio.get_running_loop().time()
            return False
        self.away_since, self._stored = None, asyncio.get_running_loop().time()
        tickets = self._tickets[: len(facts)]
        del self._answers[: len(answers)], self._facts[: len(facts)], self._tickets[: len(facts)]
        if not self._answers and not self._facts:
            self._wake.clear()
            self._idle.set()
        self._done(answers, matches, tickets)
        return True
