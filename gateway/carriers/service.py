"""Everything that serves one carrier, put together: binds, pace, dispatcher, receipts, reporter; started and ended in
order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from gateway.carriers.connection import Bind
from gateway.carriers.control import CarrierControls
from gateway.carriers.dispatcher import Dispatcher, TakeStore
from gateway.carriers.pool import BindPool
from gateway.carriers.progress import ProgressStore, ProgressWriter
from gateway.carriers.read_budget import ReadCredit
from gateway.carriers.receipts import ReceiptHandler, RecipientNames
from gateway.carriers.receipts_by_id import Index, ProgressById
from gateway.model import ReceiptMatch, Redecide, SubmitResult
from gateway.policy.pace import Pace
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.lanes import CarrierHealth, CarrierLanes
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.smpp.events import Answered
    from gateway.smpp.short_message import ShortMessage

REPORT_WAIT = 10.0
"""Seconds that a stop waits for the last answers to be stored."""


class CarrierStore(TakeStore, ProgressStore, Protocol):
    """What serving a carrier needs of the store."""


class CarrierService:
    """One carrier at work. ``run`` until cancelled or stopped; ``stop`` ends it without losing an answer."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        store: CarrierStore,
        heartbeat: Heartbeat,
        lanes: CarrierLanes,
        health: CarrierHealth,
        numbers: RecipientNames,
        redecide: Callable[[list[Redecide]], None],
        forms: ReceiptIdForms,
        left: Callable[[Sequence[int]], None] = lambda partitions: None,
        index: Index | None = None,
        first_sequence: int = 1,
        supervision: Supervision | None = None,
        spare: ReadCredit | None = None,
    ) -> None:
        """``left``: see ``Dispatcher``. ``spare``: see ``BindPool``. ``index``: a carrier with ``receipt_key = "id"``
        needs it, else ValueError."""
        self.carrier = carrier
        self._supervision = supervision = supervision or Supervision()
        progress: ProgressStore = store
        if carrier.receipt_key == "id":
            if index is None:
                raise ValueError("receipt_key = id needs an index of ids")
            progress = ProgressById(store, index, carrier.name)
        self.progress_writer = ProgressWriter(
            progress,
            heartbeat.owner,
            self._stored,
            window=carrier.binds * carrier.window,
            aside=self._not_to_be_stored,
            supervision=supervision,
        )
        self.receipts = ReceiptHandler(carrier, numbers, self.progress_writer, forms, supervision=supervision)
        self.dispatcher = Dispatcher(
            carrier,
            store=store,
            heartbeat=heartbeat,
            lanes=lanes,
            health=health,
            pace=Pace(carrier.rate, asyncio.get_running_loop().time()),
            progress_writer=self.progress_writer,
            redecide=redecide,
            left=left,
            mark=numbers.excerpt,
            supervision=supervision,
        )
        self.pool = BindPool(carrier, self, first_sequence=first_sequence, supervision=supervision, spare=spare)
        self.dispatcher.binds = self.pool
        self.controls = CarrierControls(self.pool, self.dispatcher)
        self._stopped = asyncio.Event()
        self._ending = asyncio.Event()

    def __repr__(self) -> str:
        return f"<CarrierService {self.pool!r} {self.dispatcher!r} {self.progress_writer!r}>"

    def hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Something was accepted into these partitions; ``urgent``: a one-time password is among it."""
        self.dispatcher.hint(partitions, urgent=urgent)

    def adjust(self, carrier: Carrier) -> None:
        """Take over settings that ask for no new binds (``config.changes.ADJUSTED``); certificates are read again."""
        self.carrier = carrier
        self.dispatcher.adjust(carrier, asyncio.get_running_loop().time())
        self.receipts.adjust(carrier)
        self.pool.adjust(carrier)

    async def run(self) -> None:
        """Serve the carrier until ``stop`` has done its work. What fails of it is begun anew alone."""
        name, over = self.carrier.name, self._ending

        def keep(what: str, run: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
            return self._supervision.keep(f"{name}: {what}", run, over)

        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(keep("binds", self.pool.run)),
                group.create_task(keep("reporter", self.progress_writer.run)),
            ]
            taking = group.create_task(keep("dispatcher", self.dispatcher.run))
            await self._stopped.wait()
            await asyncio.wait([taking], timeout=REPORT_WAIT)
            for task in (*background, taking):
                task.cancel()

    async def stop(self) -> None:
        """Take nothing more, wait for open windows, unbind, store the last answers."""
        self._ending.set()
        self.controls.stop()
        self.dispatcher.stop()
        await self.pool.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_WAIT):
                await self.progress_writer.drained()
        self._stopped.set()

    def _stored(self, answers: list[SubmitResult], matches: list[ReceiptMatch], tickets: list[Any]) -> None:
        try:
            self.receipts.stored(matches, tickets)
        finally:
            self.dispatcher.reported(answers)

    def _not_to_be_stored(self, answers: list[SubmitResult], tickets: list[Any]) -> None:
        self.receipts.set_aside(tickets)
        self.dispatcher.set_aside(answers)

    # ---- what binds tell (see ``bind.Listener``)

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        """Answers to submits."""
        self.dispatcher.answered(bind, answers, now)

    def received(self, bind: Bind, messages: list[ShortMessage], now: float) -> None:
        """Receipts, and what else carriers deliver."""
        self.receipts.received(bind, messages, now)

    def timed_out(self, bind: Bind, contexts: Sequence[Any], now: float) -> None:
        """Submits without an answer."""
        self.dispatcher.timed_out(bind, contexts, now)

    def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        """The end of a bind."""
        self.dispatcher.lost(bind, unknown, unwritten, now)

    def room(self, bind: Bind) -> None:
        """A bind can take work."""
        self.dispatcher.room(bind)
