"""Empties lanes that no carrier serves any more, after a change of the configuration.

At the start, after a reload, and every few seconds besides: what was leased, held or being accepted while the
configuration changed may still arrive in such a lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.cluster.periodic import PeriodicTask

if TYPE_CHECKING:
    from gateway.model import Redecide
    from gateway.store.lane_rescue import LaneRescue

LOOK_EVERY = 5.0

log = structlog.get_logger(__name__)


class ServedLanes(Protocol):
    """Knows the lanes that are served: ``carriers.manager.CarrierManager``, which stands above this package."""

    def served(self) -> Collection[str]: ...
    def routes_by_carrier(self) -> Mapping[str, str]: ...


class Janitor:
    """Empties unserved lanes until cancelled; ``wake`` it when the configuration has changed."""

    def __init__(self, rescue: LaneRescue, lanes: ServedLanes, redecide: Callable[[list[Redecide]], None]) -> None:
        self._rescue = rescue
        self._lanes = lanes
        self._redecide = redecide
        self._periodic = PeriodicTask(self.look, LOOK_EVERY, "cannot check for lanes without a carrier", at_once=True)
        self.rescued = 0

    def __repr__(self) -> str:
        return f"<Janitor {self.rescued} rescued>"

    def wake(self) -> None:
        """Look at once."""
        self._periodic.wake()

    async def run(self) -> None:
        """Look at the start, when woken, and every five seconds."""
        await self._periodic.run()

    async def look(self) -> None:
        """Empty the lanes that no carrier serves. Raises StoreError."""
        lanes = await self._rescue.stranded(self._lanes.served())
        if not lanes:
            return
        count = moved = failed = 0
        more = True
        while more:
            done = await self._rescue.rescue(lanes, self._lanes.routes_by_carrier())
            more = done.more
            count, moved, failed = count + len(done.redecide), moved + done.moved, failed + done.failed
            if done.redecide:
                self._redecide(done.redecide)
            await asyncio.sleep(0)
        self.rescued += count + moved
        if count or moved or failed:
            log.info("lanes without a carrier emptied", lanes=lanes, redecided=count, moved=moved, failed=failed)
