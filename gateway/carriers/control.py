"""Operators' control of a carrier at work: pause, drain, resume, reconnect; all of it or a single bind.

Everything takes effect at once and loses nothing: a bind that is to end takes no more messages, waits until all it sent
is answered (or unknown after the response timeout), and only then unbinds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import structlog

from gateway.carriers.mode import CarrierMode

if TYPE_CHECKING:
    from gateway.carriers.dispatcher import Dispatcher
    from gateway.carriers.pool import BindPool, BindSlot

UP_WITHIN = 5.0
"""Seconds that a reconnect of a whole carrier waits for one bind to be up again before it ends the next."""

log = structlog.get_logger(__name__)


class CarrierControls:
    """Controls one carrier. Every method returns at once; ``mode`` is the mode that operators set."""

    def __init__(self, pool: BindPool, dispatcher: Dispatcher) -> None:
        self.mode = CarrierMode.RUNNING
        self._pool = pool
        self._dispatcher = dispatcher
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<CarrierControls {self._pool.carrier.name} {self.mode.name.lower()}, {len(self._tasks)} at work>"

    def set_mode(self, mode: CarrierMode) -> None:
        """Set the mode of the whole carrier."""
        if mode is not self.mode:
            log.warning("carrier mode set", carrier=self._pool.carrier.name, mode=mode.name.lower())
            self.mode = mode
            if mode is CarrierMode.RUNNING:
                for slot in self._pool.slots:
                    slot.mode = CarrierMode.RUNNING
            self._apply(self._pool.slots)

    def set_bind(self, slot: BindSlot, mode: CarrierMode) -> None:
        """Set the mode of one bind; it is known to this worker alone, and lost when the worker ends."""
        log.warning("bind mode set", bind=slot.name, mode=mode.name.lower())
        slot.mode = mode
        self._apply([slot])

    def slot(self, name: str) -> BindSlot | None:
        """Return a bind by its name or number, ``north/2`` or ``2``; None when there is none."""
        wanted = name if "/" in name else f"{self._pool.carrier.name}/{name}"
        return next((slot for slot in self._pool.slots if slot.name == wanted), None)

    def set_share(self, count: int) -> None:
        """Hold ``count`` of the configured binds; the others end in order, for other gateways to have."""
        ours = [unit for unit in self._pool.units if not unit[0].elsewhere]
        others = [unit for unit in self._pool.units if unit[0].elsewhere]
        changed: list[BindSlot] = []
        if count < len(ours):
            ours.reverse()
            leaving = sorted(ours, key=_up)[: len(ours) - count]  # what is down, then the last
            changed = [slot for unit in leaving for slot in unit]
        elif count > len(ours):
            more = count - len(ours)
            coming = sorted(others, key=_up, reverse=True)[:more]  # what has not ended yet, then the first
            changed = [slot for unit in coming for slot in unit]
        for slot in changed:
            slot.elsewhere = not slot.elsewhere
            slot.failures = 0  # earlier tries say nothing about now
        if changed:
            log.info(
                "share of the binds changed", carrier=self._pool.carrier.name, held=count, of=len(self._pool.units)
            )
            self._apply(changed)

    def reconnect(self, slots: Iterable[BindSlot] | None = None) -> None:
        """Bind again, one after the other; a bind that waits for its next try has it now."""
        self._start(self._reconnect(list(self._pool.slots if slots is None else slots)))

    def state(self, slot: BindSlot) -> str:
        """Return running, paused, draining (awaits responses), drained, reconnecting, or elsewhere (not held here)."""
        mode = self._mode(slot)
        if mode is CarrierMode.DRAINED and slot.bind is not None:
            return "draining"
        if slot.elsewhere:
            return "elsewhere"
        if mode is CarrierMode.RUNNING and slot.suspended:
            return "reconnecting"
        return mode.name.lower()

    def stop(self) -> None:
        """Cancel what is under way: ``BindPool.finish`` ends the binds."""
        for task in self._tasks:
            task.cancel()

    def _mode(self, slot: BindSlot) -> CarrierMode:
        return CarrierMode.DRAINED if slot.elsewhere else max(self.mode, slot.mode)

    def _apply(self, slots: Iterable[BindSlot]) -> None:
        for slot in slots:
            mode = self._mode(slot)
            slot.suspended, slot.kept_down = mode is not CarrierMode.RUNNING, mode is CarrierMode.DRAINED
            if slot.kept_down:
                self._start(self._leave(slot))
            else:
                slot.wake.set()
        self._dispatcher.wake()

    async def _leave(self, slot: BindSlot) -> None:
        """End the bind of a slot that takes no more messages, once all it sent is answered."""
        bind = slot.bind
        if bind is None:
            return
        while bind.session.outstanding and not bind.closed.is_set():  # bounded by the response timeout
            await asyncio.sleep(0.02)
            if not slot.suspended:
                return  # resumed meanwhile
        if bind.closed.is_set():
            return
        slot.ended_on_request = True
        await bind.finish()

    async def _reconnect(self, slots: list[BindSlot]) -> None:
        for slot in slots:
            if self._mode(slot) is CarrierMode.DRAINED:
                continue
            slot.suspended, old = True, slot.bind
            await self._leave(slot)
            slot.failures, slot.next_try = 0, 0.0
            slot.wake.set()
            while old is not None and slot.bind is old:  # noqa: ASYNC110  # until the pool has dropped it
                await asyncio.sleep(0.005)
            slot.suspended = self._mode(slot) is not CarrierMode.RUNNING
            if len(slots) > 1:
                await self._wait_until_up(slot)
        self._dispatcher.wake()

    @staticmethod
    async def _wait_until_up(slot: BindSlot) -> None:
        deadline = asyncio.get_running_loop().time() + UP_WITHIN
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
