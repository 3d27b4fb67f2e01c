"""The time wheel's hand: asks every partition about once a second to do what has come due."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.smpp.message_id import shape_of
from gateway.store.errors import StoreError
from gateway.store.requests import SweepResult
from gateway.supervision import Supervision

ROUND = 1.0
"""Seconds for one round over all partitions; they are spread evenly, so that the store sees no burst."""

TELL_EVERY = 60.0

log = structlog.get_logger(__name__)


class SweepStore(Protocol):
    """What sweeping needs of the store."""

    partitions: int

    async def sweep(self, partition: int, forms: Mapping[tuple[str, str], int]) -> SweepResult: ...


class Sweeper:
    """Expiry, hold and receipt time-outs, retention, parked receipts. ``run`` until it is cancelled."""

    def __init__(self, store: SweepStore, forms: ReceiptIdForms, supervision: Supervision | None = None) -> None:
        self._supervision = supervision or Supervision()
        self._store = store
        self._forms = forms
        self._told: dict[str, float] = {}  # carrier -> when its strangers were logged last
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Sweeper {dict(self.counts)}>"

    async def run(self) -> None:
        """Round and round. A store that is away is told of once, and tried again in the next round."""
        pause = ROUND / self._store.partitions
        away = False
        while True:
            for partition in range(self._store.partitions):
                await asyncio.sleep(pause)
                try:
                    await self._partition(partition)
                except StoreError as error:
                    if not away:
                        log.warning("cannot sweep", error=str(error))
                    away = True
                except Exception as error:  # noqa: BLE001 - one partition's fault, not that of the others
                    self._supervision.failed("sweep", error)
                else:
                    away = False
            await self._forms.keep_if_possible()

    async def _partition(self, partition: int) -> None:
        more = True
        while more:
            swept = await self._store.sweep(partition, self._forms.allowed())
            for name in ("expired", "ended", "deleted", "matched", "orphans", "overflowed"):
                self.counts[name] += getattr(swept, name)
            self._forms.guessed(swept.guesses)
            self._tell(swept.unmatched)
            more = swept.more

    def _tell(self, strangers: Sequence[tuple[str, bytes]]) -> None:
        """Receipts that belong to no message that we know of: one line a minute for each carrier."""
        now = asyncio.get_running_loop().time()
        for carrier, one in strangers:
            if now - self._told.get(carrier, float("-inf")) >= TELL_EVERY:
                self._told[carrier] = now
                log.warning(
                    "receipts match no message: if they are ours, look at id_form, receipt_key and the numbers in them",
                    carrier=carrier,
                    id_shape=shape_of(one),
                    orphans=self.counts["orphans"],
                )
