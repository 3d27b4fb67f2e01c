"""What a changed configuration leaves behind is looked after: lanes that no carrier serves any more are emptied.

At the start, after a reload, and every few seconds besides: what was leased, held or on its way through the door while
the configuration changed may still arrive in such a lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.model import Redecide
from gateway.store.errors import StoreError
from gateway.store.lane_rescue import RescueResult

LOOK_EVERY = 5.0

log = structlog.get_logger(__name__)


class ServedLanes(Protocol):
    """What is served now (``gateway.carriers.manager.CarrierManager``)."""

    def served(self) -> Collection[str]: ...
    def routes_by_carrier(self) -> Mapping[str, str]: ...


class StrandedLanes(Protocol):
    """Who finds and empties lanes (``gateway.store.lane_rescue.LaneRescue``)."""

    async def stranded(self, served: Collection[str]) -> list[str]: ...
    async def rescue(self, lanes: Sequence[str], routes: Mapping[str, str]) -> RescueResult: ...


class Janitor:
    """``run`` until cancelled; ``wake`` when the configuration has changed."""

    def __init__(self, salvage: StrandedLanes, lanes: ServedLanes, redecide: Callable[[list[Redecide]], None]) -> None:
        self._salvage = salvage
        self._lanes = lanes
        self._redecide = redecide
        self._wake = asyncio.Event()
        self.rescued = 0

    def __repr__(self) -> str:
        return f"<Janitor {self.rescued} rescued>"

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Look at the start, when woken, and every five seconds."""
        while True:
            self._wake.clear()
            try:
                await self.look()
            except StoreError as error:
                log.warning("cannot look after lanes", error=str(error))
            timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._wake.set)
            await self._wake.wait()
            timer.cancel()

    async def look(self) -> None:
        """Empty what is stranded. Raises StoreError."""
        lanes = await self._salvage.stranded(self._lanes.served())
        if not lanes:
            return
        count = moved = failed = 0
        more = True
        while more:
            done = await self._salvage.rescue(lanes, self._lanes.routes_by_carrier())
            more = done.more
            count, moved, failed = count + len(done.redecide), moved + done.moved, failed + done.failed
            if done.redecide:
                self._redecide(done.redecide)
            await asyncio.sleep(0)
        self.rescued += count + moved
        if count or moved or failed:
            log.info("lanes without a carrier emptied", lanes=lanes, redecided=count, moved=moved, failed=failed)
