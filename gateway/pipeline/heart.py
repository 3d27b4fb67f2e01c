"""This worker's place among the others: its heartbeat, and what it takes over from those that died.

A worker whose own last heartbeat is too old must not write: somebody else may be resending what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
        self._beats: dict[str, tuple[int, float]] = {}  # of every owner, and since when we have seen no other
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

    def _silence(self, seen: Sequence[OwnerSeen]) -> dict[str, float]:
        """For how many seconds of ours each owner has not beaten; 0 when it has since we looked last."""
        now = asyncio.get_running_loop().time()
        former = self._beats
        self._beats = {one.owner.name: (one.beat, now) for one in seen}
        for name, (beat, _) in self._beats.items():
            if name in former and former[name][0] == beat:
                self._beats[name] = former[name]
        return {name: now - since for name, (_, since) in self._beats.items()}

    async def _look(self, *, only_ours: bool) -> None:
        seen = await self._store.owners()
        youngest = max((one.beat for one in seen), default=0)  # the store's clock, as far as we can know it
        young = youngest - DEAD_AFTER * 1000
        silence = self._silence(seen)
        self.alone = not any(one.beat > young and one.owner.node != self.owner.node for one in seen)
        for one in seen:
            if one.owner == self.owner:
                continue
            ours = one.owner.node == self.owner.node
            silent = silence[one.owner.name]
            # Two witnesses: the store's clock may have been set, so a beat must stand still before our eyes as well.
            dead = silent > 0 and (one.beat <= young or silent >= DEAD_AFTER)
            if ours or (dead and not only_ours):
                done = await self._store.reclaim(one.owner, self.owner)
                if not done.alive:
                    log.warning(
                        "took over from a dead worker",
                        dead=one.owner.name,
                        unknown=done.unknown,
                        queued=done.queued,
                        canceled=done.canceled,
                    )
