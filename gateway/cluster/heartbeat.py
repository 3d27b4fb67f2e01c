"""This worker's place among the others: its heartbeat, and what it takes over from those that died.

A worker whose own last heartbeat is too old must not write: somebody else may be resending what it holds.

Of one name one incarnation works. A start that finds another one beating is refused; one that stands still before our
eyes is dead, and what it held is taken back. And one that stood still for so long that it was taken for dead (its
process was paused) finds its successor when it goes on: then it takes and writes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.store.errors import NameTaken, StoreError
from gateway.store.owner import DEAD_AFTER, LeaseOwner
from gateway.store.requests import OwnerSeen, ReclaimResult

BEAT_EVERY = 2.0
STOP_WRITING = 8.0
"""Seconds without a heartbeat of our own after which nothing is written any more."""

SURELY_STOPPED = STOP_WRITING + 0.5
"""Seconds without a heartbeat after which a former incarnation of ours, dead or paused, writes nothing any more."""

LOOK_EVERY = 5.0

TRY_AGAIN = 0.25
"""Seconds after a heartbeat that failed until the next: a store that is back is to know of us at once."""

OTHERS_MAY = 9.0
"""Seconds without a heartbeat after which others may use our shares of the limits (``scripts/share.lua``)."""

WATCH_EVERY = 0.5
STANDS_STILL = 2.5 * BEAT_EVERY
"""Seconds without a heartbeat before our eyes after which a former incarnation of ours is dead."""

log = structlog.get_logger(__name__)


class HeartbeatStore(Protocol):
    """What the heart needs of the store."""

    async def beat(self, owner: LeaseOwner) -> None: ...
    async def owners(self) -> list[OwnerSeen]: ...
    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult: ...


class Heartbeat:
    """Beats while ``run`` runs. ``start`` must have succeeded before anything is taken."""

    def __init__(self, store: HeartbeatStore, owner: LeaseOwner, *, sole: bool = False) -> None:
        """``sole``: a lock proves that no other incarnation of our name is alive."""
        self.owner = owner
        self._store = store
        self._sole = sole
        self._last = float("-inf")
        self._beats: dict[str, tuple[int, float]] = {}  # of every owner, and since when we have seen no other
        self._waiting = False  # a former incarnation of ours is dead for us, and not yet long enough to be sure of it
        self._known = {owner}  # incarnations of our name that were there when we came
        self._seen = 0, 0.0  # of our successor: its last beat, and since when we know no later one
        self.successor = ""
        """The start of a later incarnation of our name that works, while we stood still: nothing is ours any more."""
        self.alone = True
        """Whether no other worker was alive on this store when we last looked."""
        self.on_lapse: Callable[[], None] | None = None
        """Called when we beat again after so long that others may have taken over what was ours."""

    def __repr__(self) -> str:
        return f"<Heartbeat of {self.owner.name}{f', succeeded by {self.successor}' if self.successor else ''}>"

    def fresh(self, now: float) -> bool:
        """Whether our leases are certainly still ours (``now`` is the event loop's time)."""
        return now - self._last < STOP_WRITING and not self.successor

    def age(self, now: float) -> float:
        """Seconds since the last heartbeat of ours; infinite before the first."""
        return now - self._last

    async def start(self) -> None:
        """First beat, then take back what a former incarnation of this worker held.

        Raises NameTaken when one of our name is alive, and StoreError.
        """
        await self._beat()
        if not self._sole:
            await self._watch()
        await self._look(only_ours=True)

    async def run(self) -> None:
        """Beat every two seconds, and now and then look for others that have died."""
        loop = asyncio.get_running_loop()
        looked, away = loop.time(), False
        while True:
            await asyncio.sleep(TRY_AGAIN if away else BEAT_EVERY)
            try:
                if not await self._succeeded():
                    await self._beat()
                away = False
                if (loop.time() - looked >= LOOK_EVERY or self._waiting) and not self.successor:
                    looked = loop.time()
                    await self._look(only_ours=False)
            except StoreError as error:
                if not away:
                    log.warning("no heartbeat", error=str(error))
                away = True

    async def leave(self) -> None:
        """After the last write: take our heartbeat away, and give up what we hold, so that nobody has to wait for it.

        What cannot be told to the store is found out by the others in ten seconds.
        """
        if self.successor or self._last == float("-inf"):
            return
        self._last = float("-inf")
        try:
            await self._store.reclaim(self.owner, LeaseOwner(self.owner.node, ""))
        except StoreError as error:
            log.info("our heartbeat stays until it is old", error=str(error))

    async def _watch(self) -> None:
        """Wait while a former incarnation of ours might be alive. Raises NameTaken when it is."""
        loop = asyncio.get_running_loop()
        first = await self._formers()
        self._known = set(first)
        until = loop.time() + STANDS_STILL
        while self._young(first) and loop.time() < until:
            await asyncio.sleep(WATCH_EVERY)
            await self._beat()  # also the store's clock
            now = await self._formers()
            for one, beat in now.items():
                if one != self.owner and beat > first.get(one, 0):
                    await self.leave()
                    raise NameTaken(
                        f'a gateway with the name "{self.owner.node}" is alive on this store (start {one.start}): '
                        "give this one another name (node = … in the configuration), or stop that one"
                    )

    async def _formers(self) -> dict[LeaseOwner, int]:
        """The heartbeats of all incarnations of our name, ours included."""
        return {one.owner: one.beat for one in await self._store.owners() if one.owner.node == self.owner.node}

    def _young(self, beats: Mapping[LeaseOwner, int]) -> bool:
        """Whether another of these may be alive by the store's clock."""
        mine = beats.get(self.owner, 0)
        return any(beat > mine - DEAD_AFTER * 1000 for one, beat in beats.items() if one != self.owner)

    async def _succeeded(self) -> bool:
        """Whether one of our name has taken over while we stood still; to be asked before a beat that is late."""
        now = asyncio.get_running_loop().time()
        if self._sole or (now - self._last < STANDS_STILL and not self.successor):
            return False
        later = {one.start: beat for one, beat in (await self._formers()).items() if one not in self._known}
        youngest = max(later.values(), default=0)
        if later and not self.successor:
            self.successor, self._seen = max(later, key=later.__getitem__), (youngest, now)
            log.error(
                "this gateway stood still, and another of its name has taken over: nothing is sent here any more",
                node=self.owner.node,
                successor=self.successor,
                remedy="stop this one; two gateways on one store need two names (node)",
            )
        elif youngest != self._seen[0]:
            self._seen = youngest, now
        if self.successor and (not later or now - self._seen[1] >= DEAD_AFTER):
            log.warning("the gateway that had taken over is gone: this one goes on", node=self.owner.node)
            self.successor = ""
        return bool(self.successor)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()  # the store stamps it later than this, never earlier
        await self._store.beat(self.owner)
        if loop.time() - self._last >= OTHERS_MAY and self.on_lapse is not None:
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
        mine = next((one.beat for one in seen if one.owner == self.owner), youngest)
        self._waiting = False
        for one in seen:
            if one.owner == self.owner:
                continue
            ours = one.owner.node == self.owner.node
            silent = silence[one.owner.name]
            # Two witnesses: the store's clock may have been set, so a beat must stand still before our eyes as well.
            dead = silent > 0 and (one.beat <= young or silent >= DEAD_AFTER)
            if ours and not dead:
                # It stood still for as long as we watched. Until it must have stopped writing it may have been paused.
                dead = self._sole or one.beat <= mine - SURELY_STOPPED * 1000
                self._waiting |= not dead
            if dead and (ours or not only_ours):
                await self._take_over(one.owner)

    async def _take_over(self, dead: LeaseOwner) -> None:
        done = await self._store.reclaim(dead, self.owner)
        if not done.alive:
            level = log.warning if done.unknown or done.queued or done.canceled else log.info
            level(
                "took over from a dead worker",
                dead=dead.name,
                unknown=done.unknown,
                queued=done.queued,
                canceled=done.canceled,
            )
