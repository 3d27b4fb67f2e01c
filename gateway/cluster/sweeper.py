"""Asks every partition about once a second to do what has come due: expiry, timeouts, retention, parked receipts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.cluster.periodic import PeriodicTask
from gateway.smpp.message_id import shape_of
from gateway.store.errors import StoreError
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.store.messages import MessageStore

ROUND = 1.0
"""Seconds for one round over all partitions; they are spread evenly, so that the store sees no burst."""

LOG_EVERY = 60.0
"""Seconds between two log lines about one carrier."""

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps all partitions in turn until cancelled. ``counts``: what the sweeps did."""

    def __init__(self, store: MessageStore, forms: ReceiptIdForms, supervision: Supervision | None = None) -> None:
        self._supervision = supervision or Supervision()
        self._store = store
        self._forms = forms
        self._next = 0  # partition
        self._periodic = PeriodicTask(self._sweep_next, ROUND / store.partitions, "cannot sweep")
        self._logged: dict[str, float] = {}  # carrier -> when its unmatched receipts were logged last
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Sweeper {dict(self.counts)}>"

    async def run(self) -> None:
        """Sweep one partition after the other, round after round."""
        await self._periodic.run()

    async def _sweep_next(self) -> None:
        partition, self._next = self._next, (self._next + 1) % self._store.partitions
        try:
            await self._sweep(partition)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault over one partition must not keep the others
            self._supervision.failed("sweep", error)
        finally:
            if self._next == 0:
                await self._forms.try_to_save()

    async def _sweep(self, partition: int) -> None:
        more = True
        while more:
            swept = await self._store.sweep(partition, self._forms.allowed())
            for name in ("expired", "ended", "deleted", "matched", "orphans", "overflowed"):
                self.counts[name] += getattr(swept, name)
            self._forms.guessed(swept.guesses)
            self._log_unmatched(swept.unmatched)
            more = swept.more

    def _log_unmatched(self, receipts: Sequence[tuple[str, bytes]]) -> None:
        """Log receipts that match no message, once a minute for each carrier. ``receipts``: carrier and id."""
        now = asyncio.get_running_loop().time()
        for carrier, one in receipts:
            if now - self._logged.get(carrier, float("-inf")) >= LOG_EVERY:
                self._logged[carrier] = now
                log.warning(
                    "receipts match no message: if they should, check id_form, receipt_key and the numbers in them",
                    carrier=carrier,
                    id_shape=shape_of(one),
                    orphans=self.counts["orphans"],
                )
