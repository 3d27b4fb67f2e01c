"""What a carrier said, on its way to the store: gathered, one call in flight, nothing ever dropped.

A quiet carrier's answers wait ``GAP`` seconds for company. Where calls follow each other closely, few items wait up to
``BUSY_GAP``, unless they hold up a good part of the windows; many gather by themselves while a call is out. Within a
call the store applies answers before receipts. While the store is away everything waits here: answers are bounded by
the windows, receipts by ``MAX_RECEIPTS``.

An item that makes the call fail does not hold up the others: calls get smaller until it is alone, and larger again
behind it. It is tried three times, an answer the last time without what a carrier may have written into it (its ids
are lost then, the outcome is not); then it is set aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from gateway.model import ReceiptFact, ReceiptMatch, SubmitResult
from gateway.store.errors import StoreError, StoreRefused, of_an_item
from gateway.store.owner import LeaseOwner
from gateway.supervision import TRIES, Supervision

GAP, BUSY_GAP = 0.004, 0.012
ENOUGH = 200
"""Items that leave without waiting for the gap."""

MOST = 2000
"""Answers, and as many receipts, in one call (the store cuts it into slices)."""

FEW = 64
"""Receipts in one call while most of them are about no message of ours. They cost the store the most, and would hold up
what others ask of it; with every call that brings some that are ours it may be twice as many."""

MAX_RECEIPTS = 20_000
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
ONCE_MORE = 0.5
"""Seconds, times the tries so far, until an item that fails alone is tried again."""

BLAMED = 60.0
"""Seconds for which the store may refuse an item while it takes no other either, until it is the item's fault."""

log = structlog.get_logger(__name__)

Done = Callable[[list[SubmitResult], list[ReceiptMatch], list[Any]], None]
Aside = Callable[[list[SubmitResult], list[Any]], None]


class _Suspect(NamedTuple):
    """An item that failed alone: an answer, or a receipt with its ticket."""

    answer: SubmitResult | None
    fact: ReceiptFact | None
    ticket: Any
    tries: int
    since: float  # when it failed first


class ProgressStore(Protocol):
    """What reporting needs of the store."""

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]: ...


class ProgressWriter:
    """The queue of one carrier towards ``store.progress``.

    ``done(answers, matches, tickets)`` is called after the store holds a batch; a ticket is whatever came with each
    receipt (who wants its acknowledgement). ``aside(answers, tickets)`` hears of those that the store will never hold.
    """

    def __init__(
        self,
        store: ProgressStore,
        owner: LeaseOwner,
        done: Done,
        *,
        window: int = 0,
        aside: Aside = lambda answers, tickets: None,
        supervision: Supervision | None = None,
    ) -> None:
        """``window``: submits that may be open at this carrier; a quarter of it is not kept waiting for company."""
        self._aside = aside
        self._supervision = supervision or Supervision()
        self._most = 2 * MOST  # answers and receipts in a call; fewer while one that makes it fail is looked for
        self._suspects: dict[int, _Suspect] = {}  # by ``id``; each is in the queues or waits to be put there again
        self._store = store
        self._owner = owner
        self._done = done
        self._few = min(ENOUGH, window // 4)
        self._wanted = ENOUGH  # what is waited for
        self._most_facts = FEW  # receipts in the next call
        self._stored = 0.0  # when the last call was back
        self._answers: list[SubmitResult] = []
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
        return f"<ProgressWriter {len(self._answers)} answers, {len(self._facts)} receipts waiting{away}>"

    @property
    def room(self) -> int:
        """How many more receipts may be left here."""
        return MAX_RECEIPTS - len(self._facts)

    def answers(self, answers: list[SubmitResult]) -> None:
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

    def _next(self) -> tuple[list[SubmitResult], list[ReceiptFact]]:
        answers = self._answers[: min(MOST, self._most)]
        return answers, self._facts[: min(self._most_facts, self._most - len(answers))]

    async def _flush(self) -> bool:
        """One call; False when the store did not take it."""
        answers, facts = self._next()
        self.calls += 1
        try:
            matches = await self._store.progress(self._owner, answers, facts)
        except StoreError as error:
            if of_an_item(error):
                return self._divide(answers, facts, error)
            if self.away_since is None or isinstance(error, StoreRefused):
                log.warning("answers and receipts wait for the store", error=str(error), progress_writer=repr(self))
            if self.away_since is None:
                self.away_since = asyncio.get_running_loop().time()
            return False
        except Exception as error:  # noqa: BLE001 - what came off the wire and cannot be packed harms itself alone
            return self._divide(answers, facts, error)
        self._most = min(2 * MOST, 2 * self._most)
        if facts:
            ours = matches.count(ReceiptMatch.APPLIED) * 4 >= len(facts)
            self._most_facts = min(MOST, 2 * self._most_facts) if ours else max(FEW, self._most_facts // 2)
        self._stored = asyncio.get_running_loop().time()
        tickets = self._taken_off(answers, facts)
        self._done(answers, matches, tickets)
        return True

    def _taken_off(
        self, answers: Sequence[SubmitResult], facts: Sequence[ReceiptFact], *, kept: bool = False
    ) -> list[Any]:
        """These need not wait any more, unless they are ``kept`` to be tried again; the tickets of the receipts."""
        self.away_since = None
        tickets = self._tickets[: len(facts)]
        del self._answers[: len(answers)], self._facts[: len(facts)], self._tickets[: len(facts)]
        if self._suspects and not kept:
            for item in (*answers, *facts):
                self._suspects.pop(id(item), None)
        if not self._answers and not self._facts:
            self._wake.clear()
            if not self._suspects:
                self._idle.set()
        return tickets

    # ---- what makes a call fail

    def _divide(self, answers: Sequence[SubmitResult], facts: Sequence[ReceiptFact], error: Exception) -> bool:
        """Make the next call with fewer items; the one that fails alone waits for its next try, or is set aside."""
        count = len(answers) + len(facts)
        if count > 1:
            self._most = count // 2
            return True
        answer, fact = (answers[0], None) if answers else (None, facts[0])
        item: Any = answer or fact
        now = asyncio.get_running_loop().time()
        known = self._suspects.pop(id(item), None)
        tries, since = (known.tries + 1, known.since) if known else (1, now)
        certain = not isinstance(error, StoreError)
        if tries >= TRIES:
            if certain or self._stored > since or now - since >= BLAMED:
                self._give_up(answer, fact, error)
                return True
            tries = TRIES - 1
        if tries == TRIES - 1 and answer is not None:
            item = answer = _plain(answer)
        suspect = self._suspects[id(item)] = _Suspect(answer, fact, self._tickets[0] if fact else None, tries, since)
        self._taken_off(answers, facts, kept=True)
        asyncio.get_running_loop().call_later(ONCE_MORE * tries, self._once_more, suspect)
        return certain

    def _once_more(self, suspect: _Suspect) -> None:
        if suspect.answer is not None:
            self.answers([suspect.answer])
        if suspect.fact is not None:
            self.receipts([suspect.fact], [suspect.ticket])

    def _give_up(self, answer: SubmitResult | None, fact: ReceiptFact | None, error: Exception) -> None:
        if answer is not None:
            self._supervision.set_aside("answer", answer.id.hex(), error)
            self._taken_off([answer], ())
            self._aside([answer], [])
        elif fact is not None:
            name = b" ".join(fact.ids).decode("latin-1")
            self._supervision.set_aside("receipt", f"{fact.carrier}: {name}", error)
            self._aside([], self._taken_off((), [fact]))


def _plain(answer: SubmitResult) -> SubmitResult:
    """The same answer without what a carrier may have written into it."""
    parts = [part._replace(carrier_id=b"", status=part.status & 0xFFFFFFFF) for part in answer.parts]
    return msgspec.structs.replace(answer, parts=parts, mark=b"", host="")
