"""The time wheel's hand: asks every partition about once a second to do what has come due."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

import structlog

from gateway.store.errors import StoreError
from gateway.store.requests import Swept

ROUND = 1.0
"""Seconds for one round over all partitions; they are spread evenly, so that the store sees no burst."""

log = structlog.get_logger(__name__)


class SweepStore(Protocol):
    """What sweeping needs of the store."""

    partitions: int

    async def sweep(self, partition: int) -> Swept: ...


class Sweeper:
    """Expiry, hold and receipt time-outs, retention, parked receipts. ``run`` until it is cancelled."""

    def __init__(self, store: SweepStore) -> None:
        self._store = store
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
                else:
                    away = False

    async def _partition(self, partition: int) -> None:
        more = True
        while more:
            swept = await self._store.sweep(partition)
            for name in ("expired", "ended", "deleted", "matched", "orphans"):
                self.counts[name] += getattr(swept, name)
            more = swept.more
