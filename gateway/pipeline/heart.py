"""This worker's place among the others: its heartbeat, and what it takes over from those that died.

A worker whose own last heartbeat is too old must not write: somebody else may be resending what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from gateway.store.errors import StoreError
from gateway.store.owner import Owner
from gateway.store.requests import OwnerSeen, Reclaimed

BEAT_EVERY = 2.0
STOP_WRITING = 8.0
"""Seconds without a heartbeat of our own after which nothing is written any more."""

DEAD_AFTER = 10.0
"""Seconds without a heartbeat after which anyone may reclaim an owner's leases."""

LOOK_EVERY = 5.0

log = structlog.get_logger(__name__)


class HeartStore(Protocol):
    """What the heart needs of the store."""

    async def beat(self, owner: Owner) -> None: ...
    async def owners(self) -> list[OwnerSeen]: ...
    async def reclaim(self, dead: Owner | str, by: Owner) -> Reclaimed: ...


class Heart:
    """Beats while ``run`` runs. ``start`` must have succeeded before anything is taken."""

    def __init__(self, store: HeartStore, owner: Owner) -> None:
        self.owner = owner
        self._store = store
        self._last = float("-inf")
        self.alone = True
        """Whether no other worker was alive on this store when we last looked."""
        self.on_lapse: Callable[[], None] | None = None
        """Called when we beat again after so long that others may have taken over what was ours."""

    def __repr__(self) -> str:
        return f"<Heart of {self.owner.name}>"

    def fresh(self, now: float) -> bool:
        """Whether our leases are certainly still ours (``now`` is the event loop's time)."""
        return now - self._last < STOP_WRITING

    def age(self, now: float) -> float:
        """Seconds since the last heartbeat of ours; infinite before the first."""
        return now - self._last

    async def start(self) -> None:
        """First beat, then take back what a former incarnation of this worker held. Raises StoreError."""
        await self._beat()
        await self._look(only_ours=True)

    async def run(self) -> None:
        """Beat every two seconds, and now and then look for others that have died."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            await asyncio.sleep(BEAT_EVERY)
            try:
                await self._beat()
                if loop.time() - looked >= LOOK_EVERY:
                    looked = loop.time()
                    await self._look(only_ours=False)
            except StoreError as error:
                log.warning("no heartbeat", error=str(error))

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()  # the store stamps it later than this, never earlier
        await self._store.beat(self.owner)
        if not self.fresh(loop.time()) and self.on_lapse is not None:
            self.on_lapse()
        self._last = before

    async def _look(self, *, only_ours: bool) -> None:
        seen = await self._store.owners()
        youngest = max((one.beat for one in seen), default=0)  # the store's clock, as far as we can know it
        young = youngest - DEAD_AFTER * 1000
        self.alone = not any(one.beat > young and one.owner.node != self.owner.node for one in seen)
        for one in seen:
            if one.owner == self.owner:
                continue
            ours = one.owner.node == self.owner.node
            if ours or (not only_ours and youngest - one.beat >= DEAD_AFTER * 1000):
                done = await self._store.reclaim(one.owner, self.owner)
                if not done.alive:
                    log.warning(
                        "took over from a dead worker",
                        dead=one.owner.name,
                        unknown=done.unknown,
                        queued=done.queued,
                        canceled=done.canceled,
                    )
