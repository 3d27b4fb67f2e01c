"""Writes what a carrier answered and reported to the store: gathered, one call at a time, nothing ever dropped.

A quiet carrier's items wait ``GAP`` seconds for others. Where calls follow each other closely they wait for
``LONGEST``, as long as that brings more: a call costs each partition as much as a dozen items, and only the room in the
windows waits for them. What holds a good part of the windows goes after ``GAP``; many gather by themselves while a call
is out. Within a call the store applies results before receipts. While the store is away everything waits here: results
are bounded by the windows, receipts by ``MAX_RECEIPTS``.

An item that makes the call fail does not hold up the others: calls get smaller until it is alone, and larger again
after it. It is tried three times, a result the last time without anything that came from the carrier (its ids are lost
then, the outcome is not); then it is set aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from gateway.model import ReceiptFact, ReceiptMatch, SubmitResult
from gateway.store.errors import StoreError, StoreRefused, of_an_item
from gateway.store.owner import LeaseOwner
from gateway.supervision import TRIES, Supervision

GAP, LONGEST = 0.004, 0.02
BUSY = 0.012
"""Seconds since the last call within which the next items count as following closely."""

JOINED = 4
"""Items that must join between ``GAP`` and ``LONGEST``, or waiting so long is left for ``IN_VAIN`` seconds: a carrier
may send further receipts only when the first ones are acknowledged."""

IN_VAIN = 0.5
ENOUGH = 200
"""Items that leave without waiting for the gap."""

MOST = 2000
"""Results, and as many receipts, in one call (the store cuts it into slices)."""

FEW = 64
"""Receipts in one call while most of them match no message. They cost the store the most, and would hold up what others
ask of it; after every call in which a quarter matches it may be twice as many."""

MAX_RECEIPTS = 20_000
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
ITEM_RETRY_AFTER = 0.5
"""Seconds, times the tries so far, until an item that fails alone is tried again."""

REFUSED_FOR = 60.0
"""Seconds for which the store must refuse an item, while it takes no other either, before the item counts as faulty."""

log = structlog.get_logger(__name__)


class ProgressStore(Protocol):
    """Stores results and receipts: ``store.messages.MessageStore``, or ``receipts_by_id.ProgressById``."""

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]: ...


class ResultListener(Protocol):
    """Learns what became of results (``carriers.dispatcher.Dispatcher``)."""

    def stored(self, results: Sequence[SubmitResult]) -> None:
        """Learn that the store holds these results."""

    def set_aside(self, results: Sequence[SubmitResult]) -> None:
        """Learn that the store will never hold these results."""


class ReceiptListener(Protocol):
    """Learns what became of receipts, by the tickets left with them (``carriers.receipts.ReceiptHandler``)."""

    def stored(self, matches: Sequence[ReceiptMatch], tickets: Sequence[Any]) -> None:
        """Learn that the store holds these receipts."""

    def set_aside(self, tickets: Sequence[Any]) -> None:
        """Learn that the store will never hold these receipts."""


class ProgressListeners(NamedTuple):
    """Who learns what became of results and of receipts."""

    results: ResultListener
    receipts: ReceiptListener


class _Suspect(NamedTuple):
    """An item that failed alone: a result, or a receipt with its ticket."""

    result: SubmitResult | None
    fact: ReceiptFact | None
    ticket: Any
    tries: int
    since: float  # when it failed first


def call_due(began: float, *, items: int, crowded: bool, patient: bool) -> float:
    """Return when a call with the ``items`` that have come since ``began`` is to be made. Times in seconds.

    ``crowded``: they hold a good part of the windows; ``patient``: a long wait is likely to bring more.
    """
    if items >= ENOUGH:
        return began
    return began + (LONGEST if patient and not crowded else GAP)


class ProgressWriter:
    """The queue of one carrier towards ``store.progress``."""

    def __init__(
        self,
        store: ProgressStore,
        owner: LeaseOwner,
        *,
        window: int = 0,
        supervision: Supervision | None = None,
    ) -> None:
        """``window``: submits that may be open at this carrier; as many results, or receipts, as a quarter of it
        wait for ``GAP`` only."""
        self._supervision = supervision or Supervision()
        self._most = 2 * MOST  # items in a call; fewer while one that makes it fail is looked for
        self._suspects: dict[int, _Suspect] = {}  # by ``id``; each is in the queues or waits to be put there again
        self._store = store
        self._owner = owner
        self._few = max(1, window // 4) if window else ENOUGH
        self._crowded = False  # as many results, or receipts, wait
        self._patient_from = 0.0  # when a long wait may bring more again
        self._most_facts = FEW  # receipts in the next call
        self._stored_at = 0.0  # when the last call returned
        self._results: list[SubmitResult] = []
        self._facts: list[ReceiptFact] = []
        self._tickets: list[Any] = []
        self._wake = asyncio.Event()
        self._look = asyncio.Event()  # whether it is time for the call
        self._idle = asyncio.Event()
        self._idle.set()
        self.calls = 0
        self.away_since: float | None = None  # loop time since which the store takes nothing

    def __repr__(self) -> str:
        away = " store away" if self.away_since is not None else ""
        return f"<ProgressWriter {len(self._results)} answers, {len(self._facts)} receipts waiting{away}>"

    @property
    def room(self) -> int:
        """How many more receipts may be added."""
        return MAX_RECEIPTS - len(self._facts)

    def add_results(self, results: list[SubmitResult]) -> None:
        """Queue results to be stored."""
        self._results += results
        self._notify()

    def add_receipts(self, facts: list[ReceiptFact], tickets: list[Any]) -> None:
        """Queue receipts to be stored, with a ticket for each: ``ReceiptListener`` gets it back."""
        self._facts += facts
        self._tickets += tickets
        self._notify()

    async def run(self, listeners: ProgressListeners) -> None:
        """Store what is queued, until cancelled."""
        wait = RETRY_FIRST
        while True:
            await self._wake.wait()
            await self._gather()
            if await self._flush(listeners):
                wait = RETRY_FIRST
            else:
                await asyncio.sleep(wait)
                wait = min(RETRY_MOST, 2 * wait)

    async def drained(self) -> None:
        """Wait until everything queued is stored (``run`` must be running)."""
        await self._idle.wait()

    def _notify(self) -> None:
        self._wake.set()
        self._idle.clear()
        results, facts = len(self._results), len(self._facts)
        if results + facts >= ENOUGH or (max(results, facts) >= self._few and not self._crowded):
            self._look.set()

    async def _gather(self) -> None:
        """Wait until there are enough items, or for as long as they may wait."""
        loop = asyncio.get_running_loop()
        began = now = loop.time()
        patient = began - self._stored_at < BUSY and began >= self._patient_from
        early = -1  # items that came within GAP
        while True:
            results, facts = len(self._results), len(self._facts)
            self._crowded = max(results, facts) >= self._few
            due = call_due(began, items=results + facts, crowded=self._crowded, patient=patient)
            if due <= now:
                break
            if early < 0 and now >= began + GAP:
                early = results + facts
            await self._sleep(due if early >= 0 else began + GAP)
            now = loop.time()
        if early >= 0 and results + facts - early < JOINED:
            self._patient_from = now + IN_VAIN

    async def _sleep(self, until: float) -> None:
        """Sleep until then, or until ``_notify`` says that the call may be due."""
        self._look.clear()
        timer = asyncio.get_running_loop().call_at(until, self._look.set)
        await self._look.wait()
        timer.cancel()

    def _next(self) -> tuple[list[SubmitResult], list[ReceiptFact]]:
        results = self._results[: min(MOST, self._most)]
        return results, self._facts[: min(self._most_facts, self._most - len(results))]

    async def _flush(self, listeners: ProgressListeners) -> bool:
        """Make one call; return False when the store did not take it."""
        results, facts = self._next()
        self.calls += 1
        try:
            matches = await self._store.progress(self._owner, results, facts)
        except StoreError as error:
            if of_an_item(error):
                return self._divide(results, facts, error, listeners)
            if self.away_since is None or isinstance(error, StoreRefused):
                log.warning("answers and receipts wait for the store", error=str(error), progress_writer=repr(self))
            if self.away_since is None:
                self.away_since = asyncio.get_running_loop().time()
            return False
        except Exception as error:  # noqa: BLE001 - what came off the wire and cannot be packed harms itself alone
            return self._divide(results, facts, error, listeners)
        self._most = min(2 * MOST, 2 * self._most)
        if facts:
            ours = matches.count(ReceiptMatch.APPLIED) * 4 >= len(facts)
            self._most_facts = min(MOST, 2 * self._most_facts) if ours else max(FEW, self._most_facts // 2)
        self._stored_at = asyncio.get_running_loop().time()
        tickets = self._remove(results, facts)
        try:
            listeners.receipts.stored(matches, tickets)
        finally:
            listeners.results.stored(results)
        return True

    def _remove(
        self, results: Sequence[SubmitResult], facts: Sequence[ReceiptFact], *, kept: bool = False
    ) -> list[Any]:
        """Remove these from the head of the queues and return the receipts' tickets.

        ``kept``: they are to be tried again, and stay suspects.
        """
        self.away_since = None
        tickets = self._tickets[: len(facts)]
        del self._results[: len(results)], self._facts[: len(facts)], self._tickets[: len(facts)]
        if self._suspects and not kept:
            for item in (*results, *facts):
                self._suspects.pop(id(item), None)
        if not self._results and not self._facts:
            self._wake.clear()
            if not self._suspects:
                self._idle.set()
        return tickets

    # ---- items that make a call fail

    def _divide(
        self,
        results: Sequence[SubmitResult],
        facts: Sequence[ReceiptFact],
        error: Exception,
        listeners: ProgressListeners,
    ) -> bool:
        """Make the next call with fewer items; the one that fails alone waits for its next try, or is set aside."""
        count = len(results) + len(facts)
        if count > 1:
            self._most = count // 2
            return True
        result, fact = (results[0], None) if results else (None, facts[0])
        item: Any = result or fact
        now = asyncio.get_running_loop().time()
        known = self._suspects.pop(id(item), None)
        tries, since = (known.tries + 1, known.since) if known else (1, now)
        certain = not isinstance(error, StoreError)
        if tries >= TRIES:
            if certain or self._stored_at > since or now - since >= REFUSED_FOR:
                self._set_aside(result, fact, error, listeners)
                return True
            tries = TRIES - 1
        if tries == TRIES - 1 and result is not None:
            item = result = _without_carrier_data(result)
        suspect = self._suspects[id(item)] = _Suspect(result, fact, self._tickets[0] if fact else None, tries, since)
        self._remove(results, facts, kept=True)
        asyncio.get_running_loop().call_later(ITEM_RETRY_AFTER * tries, self._requeue, suspect)
        return certain

    def _requeue(self, suspect: _Suspect) -> None:
        if suspect.result is not None:
            self.add_results([suspect.result])
        if suspect.fact is not None:
            self.add_receipts([suspect.fact], [suspect.ticket])

    def _set_aside(
        self, result: SubmitResult | None, fact: ReceiptFact | None, error: Exception, listeners: ProgressListeners
    ) -> None:
        if result is not None:
            self._supervision.set_aside("answer", result.id.hex(), error)
            self._remove([result], ())
            listeners.results.set_aside([result])
        elif fact is not None:
            name = b" ".join(fact.ids).decode("latin-1")
            self._supervision.set_aside("receipt", f"{fact.carrier}: {name}", error)
            listeners.receipts.set_aside(self._remove((), [fact]))


def _without_carrier_data(result: SubmitResult) -> SubmitResult:
    """Return the same result without anything that came from the carrier."""
    parts = [part._replace(carrier_id=b"", status=part.status & 0xFFFFFFFF) for part in result.parts]
    return msgspec.structs.replace(result, parts=parts, excerpt=b"", host="")
