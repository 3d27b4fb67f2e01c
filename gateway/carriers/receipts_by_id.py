"""Progress for a carrier with ``receipt_key = "id"``: it rewrites numbers, so its receipts are found by ids alone.

Stands between a ``ProgressWriter`` and the store: ids are indexed before the answers that brought them are stored,
receipts are located before they are stored with their messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from gateway.carriers.progress import ProgressStore
from gateway.model import PartState, ReceiptFact, ReceiptMatch, SubmitResult
from gateway.store.errors import StoreError
from gateway.store.owner import LeaseOwner
from gateway.store.receipt_index import IndexedId, named
from gateway.supervision import TRIES, FailureCounts, Supervision, sift

LOOK_EVERY = 15.0

log = structlog.get_logger(__name__)


class Index(Protocol):
    """Who knows ids (``gateway.store.receipt_index.ReceiptIndex``)."""

    async def index(self, carrier: str, items: Sequence[IndexedId]) -> list[ReceiptFact]: ...
    async def locate(self, carrier: str, receipts: Sequence[ReceiptFact]) -> list[ReceiptFact | None]: ...
    async def unpark(self, items: Iterable[tuple[str, bytes]]) -> None: ...
    async def relocate(self) -> tuple[list[ReceiptFact], int, int]: ...


class ProgressById:
    """A ``ProgressStore`` for one carrier."""

    def __init__(self, store: ProgressStore, index: Index, carrier: str) -> None:
        self._store = store
        self._index = index
        self._carrier = carrier

    def __repr__(self) -> str:
        return f"<ProgressById {self._carrier}>"

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        """As ``Store.progress``; the recipients of ``receipts`` are not looked at."""
        given: dict[str, list[IndexedId]] = {}
        for answer in answers:
            for part in answer.parts:
                if part.state is PartState.ACCEPTED and part.carrier_id:
                    one = IndexedId(part.carrier_id, answer.id, part.index, answer.recipient)
                    given.setdefault(named(self._carrier, answer.host), []).append(one)
        early = [fact for name, items in given.items() for fact in await self._index.index(name, items)]
        located = await self._locate(receipts)
        found = [fact for fact in located if fact is not None]
        matches = iter(await self._store.progress(owner, answers, [*found, *early]))
        out = [ReceiptMatch.PARKED if fact is None else next(matches) for fact in located]
        done = [(named(fact.carrier, fact.host), one) for fact in early for one in fact.ids]
        for receipt, fact in zip(receipts, located, strict=True):
            if fact is not None and len(receipt.ids) > 1:  # it was parked under the forms that nobody knows
                name = named(fact.carrier, fact.host)
                done += [(name, one) for one in receipt.ids if one != fact.ids[0]]
        if done:
            await self._index.unpark(done)
        return out

    async def _locate(self, receipts: Sequence[ReceiptFact]) -> list[ReceiptFact | None]:
        """Each with its recipient, None where its id is not known: the ids of each host apart."""
        hosts: dict[str, list[int]] = {}
        for number, receipt in enumerate(receipts):
            hosts.setdefault(receipt.host, []).append(number)
        out: list[ReceiptFact | None] = [None] * len(receipts)
        for host, numbers in hosts.items():
            found = await self._index.locate(named(self._carrier, host), [receipts[number] for number in numbers])
            for number, fact in zip(numbers, found, strict=True):
                out[number] = fact
        return out


class ParkedReceiptRelocator:
    """Looks after receipts that were parked when whoever should have taken them died. ``run`` until cancelled."""

    def __init__(
        self, store: ProgressStore, index: Index, owner: LeaseOwner, supervision: Supervision | None = None
    ) -> None:
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._store = store
        self._index = index
        self._owner = owner
        self.orphans = self.found = 0

    def __repr__(self) -> str:
        return f"<ParkedReceiptRelocator {self.found} found, {self.orphans} orphans>"

    async def run(self) -> None:
        """Look every quarter of a minute."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except StoreError as error:
                log.warning("cannot look after parked receipts", error=str(error))

    async def look(self) -> None:
        """Store what has been found by now. Raises StoreError."""
        facts, orphans, dropped = await self._index.relocate()
        self.orphans += orphans
        if dropped:
            log.warning("receipts of unknown ids are too many: the oldest were dropped", dropped=dropped)
        if facts:
            await sift(facts, self._found, self._unfit)

    async def _found(self, facts: Sequence[ReceiptFact]) -> None:
        await self._store.progress(self._owner, [], facts)
        await self._index.unpark([(named(fact.carrier, fact.host), fact.ids[0]) for fact in facts])
        self.found += len(facts)

    async def _unfit(self, fact: ReceiptFact, error: Exception) -> None:
        """One that the store cannot take: found again until it is too old, told of at the third time."""
        self._supervision.failed("receipt", error)
        if self._tries.add((fact.carrier, fact.ids)) == TRIES:
            self._supervision.set_aside("receipt", f"{fact.carrier}: {b' '.join(fact.ids).decode('latin-1')}", error)
