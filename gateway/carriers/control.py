"""What operators do to a carrier while it works: pause, drain, resume, reconnect; the whole of it or a single bind.

Everything takes effect at once and loses nothing: a bind that is to go takes no more messages, waits until all it sent
is answered (or declared unknown after the response timeout), and only then unbinds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

import structlog

from gateway.carriers.mode import CarrierMode
from gateway.carriers.pool import BindPool, BindSlot

BACK_WITHIN = 5.0
"""Seconds that a reconnect of a whole carrier waits for one bind to be back before it turns to the next."""

log = structlog.get_logger(__name__)


class TakeSwitch(Protocol):
    """Who takes messages for the binds (``carriers.dispatcher.Dispatcher``)."""

    def wake(self) -> None: ...


class CarrierControls:
    """The operators' hand on one carrier. Every method returns at once; ``mode`` is what the carrier is told to do."""

    def __init__(self, pool: BindPool, taker: TakeSwitch) -> None:
        self.mode = CarrierMode.RUNNING
        self._pool = pool
        self._taker = taker
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<CarrierControls {self._pool.carrier.name} {self.mode.name.lower()}, {len(self._tasks)} at work>"

    def set_mode(self, mode: CarrierMode) -> None:
        """How the whole carrier is to stand from now on."""
        if mode is not self.mode:
            log.warning("carrier is told to stand so", carrier=self._pool.carrier.name, mode=mode.name.lower())
            self.mode = mode
            if mode is CarrierMode.RUNNING:
                for slot in self._pool.slots:
                    slot.mode = CarrierMode.RUNNING
            self._apply(self._pool.slots)

    def set_bind(self, slot: BindSlot, mode: CarrierMode) -> None:
        """How one bind is to stand; only this worker knows of it, and only until it ends."""
        log.warning("bind is told to stand so", bind=slot.name, mode=mode.name.lower())
        slot.mode = mode
        self._apply([slot])

    def slot(self, name: str) -> BindSlot | None:
        """A bind by its name or number: ``north/2`` or ``2``."""
        wanted = name if "/" in name else f"{self._pool.carrier.name}/{name}"
        return next((slot for slot in self._pool.slots if slot.name == wanted), None)

    def set_share(self, count: int) -> None:
        """So many of the configured binds are ours; the others end in order, for other gateways to have."""
        ours = [unit for unit in self._pool.units if not unit[0].spare]
        others = [unit for unit in self._pool.units if unit[0].spare]
        changed: list[BindSlot] = []
        if count < len(ours):
            ours.reverse()
            leaving = sorted(ours, key=_up)[: len(ours) - count]  # what is down, then the last
            changed = [slot for unit in leaving for slot in unit]
        elif count > len(ours):
            coming = sorted(others, key=_up, reverse=True)[
                : count - len(ours)
            ]  # what has not ended yet, then the first
            changed = [slot for unit in coming for slot in unit]
        for slot in changed:
            slot.spare = not slot.spare
            slot.failures = 0  # what was tried before says nothing about now
        if changed:
            log.info("our share of the binds", carrier=self._pool.carrier.name, ours=count, of=len(self._pool.units))
            self._apply(changed)

    def reconnect(self, slots: Iterable[BindSlot] | None = None) -> None:
        """Bind afresh, one after the other; a bind that waits for its next try has it now."""
        self._start(self._reconnect(list(self._pool.slots if slots is None else slots)))

    def state(self, slot: BindSlot) -> str:
        """running, paused, draining (still waits for answers), drained, reconnecting, or elsewhere (not ours)."""
        mode = self._mode(slot)
        if mode is CarrierMode.DRAINED and slot.bind is not None:
            return "draining"
        if slot.spare:
            return "elsewhere"
        if mode is CarrierMode.RUNNING and slot.still:
            return "reconnecting"
        return mode.name.lower()

    def stop(self) -> None:
        """Leave what is under way to the end of the pool."""
        for task in self._tasks:
            task.cancel()

    def _mode(self, slot: BindSlot) -> CarrierMode:
        return CarrierMode.DRAINED if slot.spare else max(self.mode, slot.mode)

    def _apply(self, slots: Iterable[BindSlot]) -> None:
        for slot in slots:
            mode = self._mode(slot)
            slot.still, slot.away = mode is not CarrierMode.RUNNING, mode is CarrierMode.DRAINED
            if slot.away:
                self._start(self._leave(slot))
            else:
                slot.wake.set()
        self._taker.wake()

    async def _leave(self, slot: BindSlot) -> None:
        """End the bind of a slot that takes no more messages, once all it sent is answered."""
        bind = slot.bind
        if bind is None:
            return
        while bind.session.outstanding and not bind.closed.is_set():  # bounded by the response timeout
            await asyncio.sleep(0.02)
            if not slot.still:
                return  # resumed meanwhile
        if bind.closed.is_set():
            return
        slot.asked = True
        await bind.finish()

    async def _reconnect(self, slots: list[BindSlot]) -> None:
        for slot in slots:
            if self._mode(slot) is CarrierMode.DRAINED:
                continue
            slot.still, old = True, slot.bind
            await self._leave(slot)
            slot.failures, slot.try_at = 0, 0.0
            slot.wake.set()
            while old is not None and slot.bind is old:  # noqa: ASYNC110  # until the pool has taken leave of it
                await asyncio.sleep(0.005)
            slot.still = self._mode(slot) is not CarrierMode.RUNNING
            if len(slots) > 1:
                await self._back(slot)
        self._taker.wake()

    @staticmethod
    async def _back(slot: BindSlot) -> None:
        deadline = asyncio.get_running_loop().time() + BACK_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            if slot.bind is not None and slot.bind.session.bound and not slot.bind.ended:
                return
            await asyncio.sleep(0.02)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _up(unit: list[BindSlot]) -> bool:
    return any(slot.bind is not None for slot in unit)
