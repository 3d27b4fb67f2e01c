"""Everything that serves one carrier, put together: binds, pace, dispatcher, receipts, progress; started and stopped in
order.

What happens at a bind goes to the dispatcher (responses, lost submits) or to the receipt handler; both leave what the
store must know with the progress writer, which calls them back when the store holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.carriers.connection import BindListeners
from gateway.carriers.control import CarrierControls
from gateway.carriers.dispatcher import Dispatcher
from gateway.carriers.pool import BindPool
from gateway.carriers.progress import ProgressListeners, ProgressStore, ProgressWriter
from gateway.carriers.receipts import ReceiptHandler
from gateway.carriers.receipts_by_id import ProgressById
from gateway.policy.pace import Pace
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.lanes import CarrierHealth, CarrierLanes
    from gateway.carriers.read_budget import ReadCredit
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.model import Redecide
    from gateway.store.keys import Hasher
    from gateway.store.messages import MessageStore
    from gateway.store.receipt_index import ReceiptIndex

STORE_WAIT = 10.0
"""Seconds that a stop waits for the last results to be stored."""


class CarrierService:
    """One carrier at work. ``run`` serves it until ``stop``, which loses no response, or until cancelled."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        store: MessageStore,
        heartbeat: Heartbeat,
        lanes: CarrierLanes,
        health: CarrierHealth,
        hasher: Hasher,
        redecide: Callable[[list[Redecide]], None],
        forms: ReceiptIdForms,
        offer_to_others: Callable[[Sequence[int]], None] = lambda partitions: None,
        index: ReceiptIndex | None = None,
        first_sequence: int = 1,
        supervision: Supervision | None = None,
        shared_credit: ReadCredit | None = None,
    ) -> None:
        """``offer_to_others``: see ``Dispatcher``. ``shared_credit``: see ``BindPool``.

        Raises ValueError when ``receipt_key`` is "id" and there is no ``index``.
        """
        self.carrier = carrier
        self._supervision = supervision = supervision or Supervision()
        progress: ProgressStore = store
        if carrier.receipt_key == "id":
            if index is None:
                raise ValueError('receipt_key = "id" needs an index of ids')
            progress = ProgressById(store, index, carrier.name)
        self.pool = BindPool(
            carrier, first_sequence=first_sequence, supervision=supervision, shared_credit=shared_credit
        )
        self.progress_writer = ProgressWriter(
            progress, heartbeat.owner, window=carrier.binds * carrier.window, supervision=supervision
        )
        self.receipts = ReceiptHandler(carrier, hasher, self.progress_writer, forms, supervision=supervision)
        self.dispatcher = Dispatcher(
            carrier,
            store=store,
            heartbeat=heartbeat,
            lanes=lanes,
            health=health,
            pace=Pace(carrier.rate, asyncio.get_running_loop().time()),
            pool=self.pool,
            progress_writer=self.progress_writer,
            redecide=redecide,
            offer_to_others=offer_to_others,
            excerpt=hasher.excerpt,
            supervision=supervision,
        )
        self.controls = CarrierControls(self.pool, self.dispatcher)
        self._stopped = asyncio.Event()
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<CarrierService {self.pool!r} {self.dispatcher!r} {self.progress_writer!r}>"

    def adjust(self, carrier: Carrier) -> None:
        """Apply settings that need no new binds (``config.changes.ADJUSTABLE``); certificates are read again."""
        self.carrier = carrier
        self.dispatcher.adjust(carrier, asyncio.get_running_loop().time())
        self.receipts.adjust(carrier)
        self.pool.adjust(carrier)

    async def run(self) -> None:
        """Serve the carrier until ``stop`` is done. A component that fails is restarted alone."""
        binds = partial(self.pool.run, BindListeners(self.dispatcher, self.receipts))
        progress = partial(self.progress_writer.run, ProgressListeners(self.dispatcher, self.receipts))

        def keep(component: str, run: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
            return self._supervision.keep_running(f"{self.carrier.name}: {component}", run, self._stopping)

        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(keep("binds", binds)),
                group.create_task(keep("progress", progress)),
            ]
            taking = group.create_task(keep("dispatcher", self.dispatcher.run))
            await self._stopped.wait()
            await asyncio.wait([taking], timeout=STORE_WAIT)
            for task in (*background, taking):
                task.cancel()

    async def stop(self) -> None:
        """Take nothing more, wait for open windows, unbind, store the last results."""
        self._stopping.set()
        self.controls.stop()
        self.dispatcher.stop()
        await self.pool.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(STORE_WAIT):
                await self.progress_writer.drained()
        self._stopped.set()
