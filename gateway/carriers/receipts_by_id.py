"""Progress for a carrier with ``receipt_key = "id"``: it rewrites numbers, so its receipts are matched by ids alone.

Stands between a ``ProgressWriter`` and the store: ids are indexed before the responses that brought them are stored,
receipts are located before they are stored with their messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.progress import ProgressStore
from gateway.cluster.periodic import PeriodicTask
from gateway.model import PartState, ReceiptFact, ReceiptMatch, SubmitResult
from gateway.store.owner import LeaseOwner
from gateway.store.receipt_index import IndexedId, named
from gateway.supervision import TRIES, FailureCounts, Supervision, isolate_failures

if TYPE_CHECKING:
    from gateway.store.receipt_index import ReceiptIndex

LOOK_EVERY = 15.0

log = structlog.get_logger(__name__)


class ProgressById:
    """A ``ProgressStore`` for one carrier."""

    def __init__(self, store: ProgressStore, index: ReceiptIndex, carrier: str) -> None:
        self._store = store
        self._index = index
        self._carrier = carrier

    def __repr__(self) -> str:
        return f"<ProgressById {self._carrier}>"

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        """Do as ``MessageStore.progress``; the recipients of ``receipts`` are not used."""
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
            if fact is not None and len(receipt.ids) > 1:  # it was parked under the forms that are not known
                name = named(fact.carrier, fact.host)
                done += [(name, one) for one in receipt.ids if one != fact.ids[0]]
        if done:
            await self._index.unpark(done)
        return out

    async def _locate(self, receipts: Sequence[ReceiptFact]) -> list[ReceiptFact | None]:
        """Return each with its recipient, None where its id is not known. Ids of different hosts are kept apart."""
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
    """Stores parked receipts left behind by a gateway that died. ``run`` until cancelled."""

    def __init__(
        self, store: ProgressStore, index: ReceiptIndex, owner: LeaseOwner, supervision: Supervision | None = None
    ) -> None:
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._store = store
        self._index = index
        self._owner = owner
        self.orphans = self.found = 0
        self._periodic = PeriodicTask(self.look, LOOK_EVERY, "cannot store parked receipts")

    def __repr__(self) -> str:
        return f"<ParkedReceiptRelocator {self.found} found, {self.orphans} orphans>"

    async def run(self) -> None:
        """Look every 15 seconds."""
        await self._periodic.run()

    async def look(self) -> None:
        """Store the receipts whose messages are known by now. Raises StoreError."""
        facts, orphans, dropped = await self._index.relocate()
        self.orphans += orphans
        if dropped:
            log.warning("too many receipts with unknown ids: the oldest were dropped", dropped=dropped)
        if facts:
            await isolate_failures(facts, self._store_found, self._reject)

    async def _store_found(self, facts: Sequence[ReceiptFact]) -> None:
        await self._store.progress(self._owner, [], facts)
        await self._index.unpark([(named(fact.carrier, fact.host), fact.ids[0]) for fact in facts])
        self.found += len(facts)

    async def _reject(self, fact: ReceiptFact, error: Exception) -> None:
        """Count a receipt that the store cannot take: it is tried until it is too old, and logged at the third time."""
        self._supervision.failed("receipt", error)
        if self._tries.add((fact.carrier, fact.ids)) == TRIES:
            self._supervision.set_aside("receipt", f"{fact.carrier}: {b' '.join(fact.ids).decode('latin-1')}", error)
