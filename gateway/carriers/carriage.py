"""Everything that serves one carrier, put together: binds, pace, dispatcher, receipts, reporter; started and ended in
order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from gateway.carriers.allowance import Credit
from gateway.carriers.bind import Bind
from gateway.carriers.control import Controls
from gateway.carriers.pool import Pool
from gateway.model import Answer, Match, Redecide
from gateway.pipeline.by_id import ById, Index
from gateway.pipeline.dispatch import Dispatcher, TakeStore
from gateway.pipeline.parts import Parts
from gateway.pipeline.receipts import Numbers, Receipts
from gateway.pipeline.report import ProgressStore, Reporter
from gateway.policy.pace import Pace

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.pipeline.heart import Heart
    from gateway.pipeline.id_forms import Forms
    from gateway.pipeline.lanes import Board, Lanes
    from gateway.smpp.events import Answered
    from gateway.smpp.messages import Message

REPORT_WAIT = 10.0
"""Seconds that a stop waits for the last answers to be stored."""


class CarriageStore(TakeStore, ProgressStore, Protocol):
    """What serving a carrier needs of the store."""


class Carriage:
    """One carrier at work. ``run`` until cancelled or stopped; ``stop`` ends it without losing an answer."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        store: CarriageStore,
        heart: Heart,
        lanes: Lanes,
        board: Board,
        numbers: Numbers,
        redecide: Callable[[list[Redecide]], None],
        forms: Forms,
        left: Callable[[Sequence[int]], None] = lambda partitions: None,
        index: Index | None = None,
        first_sequence: int = 1,
        parts: Parts | None = None,
        spare: Credit | None = None,
    ) -> None:
        """``left``: see ``Dispatcher``. ``spare``: see ``Pool``. ``index``: a carrier with ``receipt_key = "id"`` needs
        it, else ValueError."""
        self.carrier = carrier
        self._parts = parts = parts or Parts()
        progress: ProgressStore = store
        if carrier.receipt_key == "id":
            if index is None:
                raise ValueError("receipt_key = id needs an index of ids")
            progress = ById(store, index, carrier.name)
        self.reporter = Reporter(
            progress,
            heart.owner,
            self._stored,
            window=carrier.binds * carrier.window,
            aside=self._not_to_be_stored,
            parts=parts,
        )
        self.receipts = Receipts(carrier, numbers, self.reporter, forms, parts=parts)
        self.dispatcher = Dispatcher(
            carrier,
            store=store,
            heart=heart,
            lanes=lanes,
            board=board,
            pace=Pace(carrier.rate, asyncio.get_running_loop().time()),
            reporter=self.reporter,
            redecide=redecide,
            left=left,
            mark=numbers.excerpt,
            parts=parts,
        )
        self.pool = Pool(carrier, self, first_sequence=first_sequence, parts=parts, spare=spare)
        self.dispatcher.binds = self.pool
        self.controls = Controls(self.pool, self.dispatcher)
        self._stopped = asyncio.Event()
        self._ending = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Carriage {self.pool!r} {self.dispatcher!r} {self.reporter!r}>"

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
            return self._parts.keep(f"{name}: {what}", run, over)

        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(keep("binds", self.pool.run)),
                group.create_task(keep("reporter", self.reporter.run)),
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
                await self.reporter.drained()
        self._stopped.set()

    def _stored(self, answers: list[Answer], matches: list[Match], tickets: list[Any]) -> None:
        try:
            self.receipts.stored(matches, tickets)
        finally:
            self.dispatcher.reported(answers)

    def _not_to_be_stored(self, answers: list[Answer], tickets: list[Any]) -> None:
        self.receipts.set_aside(tickets)
        self.dispatcher.set_aside(answers)

    # ---- what binds tell (see ``bind.Listener``)

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        """Answers to submits."""
        self.dispatcher.answered(bind, answers, now)

    def received(self, bind: Bind, messages: list[Message], now: float) -> None:
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
