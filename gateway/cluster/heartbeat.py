"""This gateway's heartbeat, and the takeover of what dead gateways held.

A gateway whose own last heartbeat is too old must not write: another one may be resending what it holds.

Of one name only one process works. A start that finds another one beating is refused; one whose heartbeat does not
move while the start watches is dead, and its leases are taken back. A process that was paused for so long that it was
taken for dead finds its successor when it resumes: then it takes and writes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from gateway.cluster.periodic import PeriodicTask
from gateway.store.errors import NameTaken, StoreError
from gateway.store.owner import DEAD_AFTER, LeaseOwner

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore
    from gateway.store.requests import OwnerSeen

BEAT_EVERY = 2.0
STOP_WRITING = 8.0
"""Seconds since our own last heartbeat after which nothing is written any more."""

SURELY_STOPPED = STOP_WRITING + 0.5
"""Seconds without a heartbeat after which a former process of our name, dead or paused, writes nothing any more."""

LOOK_EVERY = 5.0

RETRY_AFTER = 0.25
"""Seconds from a failed heartbeat to the next: a store that is back must learn of us at once."""

SHARES_FREE_AFTER = 9.0
"""Seconds without a heartbeat after which others may use our shares of the limits (``scripts/share.lua``)."""

WATCH_EVERY = 0.5
STALLED_AFTER = 2.5 * BEAT_EVERY
"""Seconds that a start watches a former process of our name: without a heartbeat in them it is dead."""

log = structlog.get_logger(__name__)


class Heartbeat:
    """Sends heartbeats while ``run`` runs. ``start`` must have succeeded before anything is taken."""

    def __init__(self, store: MessageStore, owner: LeaseOwner, *, sole: bool = False) -> None:
        """``sole``: a lock proves that no other process of our name is alive."""
        self.owner = owner
        self._store = store
        self._sole = sole
        self._last = float("-inf")
        self._beats: dict[str, tuple[int, float]] = {}  # owner -> last beat, and loop time since it has not changed
        self._former_unsure = False  # a former process of our name has stopped, but not long enough ago to be sure
        self._known = {owner}  # processes of our name seen at the start
        self._successor_beat = 0, 0.0  # its last beat, and loop time since it has not changed
        self.successor = ""
        """Start of a later process of our name that took over while this one was paused: nothing is ours any more."""
        self.alone = True
        """Whether no other gateway was alive on this store at the last look."""
        self._on_lapse: list[Callable[[], None]] = []
        self._looked = 0.0
        self._periodic = PeriodicTask(self._beat_and_look, BEAT_EVERY, "no heartbeat", retry_after=RETRY_AFTER)

    def __repr__(self) -> str:
        return f"<Heartbeat of {self.owner.name}{f', succeeded by {self.successor}' if self.successor else ''}>"

    def on_lapse(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at a heartbeat that comes so late that others may use our shares of the limits."""
        self._on_lapse.append(callback)

    def fresh(self, now: float) -> bool:
        """Whether our leases are certainly still ours; ``now`` is loop time."""
        return now - self._last < STOP_WRITING and not self.successor

    def age(self, now: float) -> float:
        """Return the seconds since our last heartbeat; infinite before the first."""
        return now - self._last

    async def start(self) -> None:
        """Send the first heartbeat, then take back what a former process of our name held.

        Raises NameTaken when one of our name is alive, and StoreError.
        """
        await self._beat()
        if not self._sole:
            await self._watch()
        await self._look(only_ours=True)

    async def run(self) -> None:
        """Send a heartbeat every two seconds, and look every five for gateways that have died; until cancelled."""
        self._looked = asyncio.get_running_loop().time()
        await self._periodic.run()

    async def _beat_and_look(self) -> None:
        if not await self._succeeded():
            await self._beat()
        now = asyncio.get_running_loop().time()
        if (now - self._looked >= LOOK_EVERY or self._former_unsure) and not self.successor:
            self._looked = now
            await self._look(only_ours=False)

    async def leave(self) -> None:
        """Remove our heartbeat and give up our leases, so that others need not wait; call it after the last write.

        If the store is away, the others notice in ten seconds.
        """
        if self.successor or self._last == float("-inf"):
            return
        self._last = float("-inf")
        try:
            await self._store.reclaim(self.owner, LeaseOwner(self.owner.node, ""))
        except StoreError as error:
            log.info("cannot remove our heartbeat: it expires by itself", error=str(error))

    async def _watch(self) -> None:
        """Wait while a former process of our name might be alive. Raises NameTaken when it is."""
        loop = asyncio.get_running_loop()
        first = await self._formers()
        self._known = set(first)
        until = loop.time() + STALLED_AFTER
        while self._young(first) and loop.time() < until:
            await asyncio.sleep(WATCH_EVERY)
            await self._beat()  # shows the store's clock as well
            beats = await self._formers()
            for one, beat in beats.items():
                if one != self.owner and beat > first.get(one, 0):
                    await self.leave()
                    raise NameTaken(
                        f'a gateway with the name "{self.owner.node}" is alive on this store (start {one.start}): '
                        "give this one another name (node = … in the configuration), or stop that one"
                    )

    async def _formers(self) -> dict[LeaseOwner, int]:
        """Return the heartbeats of all processes of our name, ours included."""
        return {one.owner: one.beat for one in await self._store.owners() if one.owner.node == self.owner.node}

    def _young(self, beats: Mapping[LeaseOwner, int]) -> bool:
        """Whether another of these may be alive, by the store's clock."""
        mine = beats.get(self.owner, 0)
        return any(beat > mine - DEAD_AFTER * 1000 for one, beat in beats.items() if one != self.owner)

    async def _succeeded(self) -> bool:
        """Whether one of our name took over while this process was paused; checked before a heartbeat that is late."""
        now = asyncio.get_running_loop().time()
        if self._sole or (now - self._last < STALLED_AFTER and not self.successor):
            return False
        later = {one.start: beat for one, beat in (await self._formers()).items() if one not in self._known}
        youngest = max(later.values(), default=0)
        if later and not self.successor:
            self.successor, self._successor_beat = max(later, key=later.__getitem__), (youngest, now)
            log.error(
                "this gateway was paused, and another of its name has taken over: nothing is sent here any more",
                node=self.owner.node,
                successor=self.successor,
                remedy="stop this gateway; two gateways on one store need two names (node)",
            )
        elif youngest != self._successor_beat[0]:
            self._successor_beat = youngest, now
        if self.successor and (not later or now - self._successor_beat[1] >= DEAD_AFTER):
            log.warning("the gateway that had taken over is gone: this one resumes", node=self.owner.node)
            self.successor = ""
        return bool(self.successor)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()  # the store stamps it later than this, never earlier
        await self._store.beat(self.owner)
        if loop.time() - self._last >= SHARES_FREE_AFTER:
            for callback in self._on_lapse:
                callback()
        self._last = before

    def _silence(self, seen: Sequence[OwnerSeen]) -> dict[str, float]:
        """Return the seconds, by our clock, since each owner's heartbeat changed; 0 when it has since the last look."""
        now = asyncio.get_running_loop().time()
        former = self._beats
        self._beats = {one.owner.name: (one.beat, now) for one in seen}
        for name, (beat, _) in self._beats.items():
            if name in former and former[name][0] == beat:
                self._beats[name] = former[name]
        return {name: now - since for name, (_, since) in self._beats.items()}

    async def _look(self, *, only_ours: bool) -> None:
        seen = await self._store.owners()
        youngest = max((one.beat for one in seen), default=0)  # the store's clock, as far as it is known
        young = youngest - DEAD_AFTER * 1000
        silence = self._silence(seen)
        self.alone = not any(one.beat > young and one.owner.node != self.owner.node for one in seen)
        mine = next((one.beat for one in seen if one.owner == self.owner), youngest)
        self._former_unsure = False
        for one in seen:
            if one.owner == self.owner:
                continue
            ours = one.owner.node == self.owner.node
            silent = silence[one.owner.name]
            # The store's clock may have been set, so by our clock too the heartbeat must not have changed.
            dead = silent > 0 and (one.beat <= young or silent >= DEAD_AFTER)
            if ours and not dead:
                # Unchanged since we watch it. It may be paused, and write again, until its own limit has passed.
                dead = self._sole or one.beat <= mine - SURELY_STOPPED * 1000
                self._former_unsure |= not dead
            if dead and (ours or not only_ours):
                await self._take_over(one.owner)

    async def _take_over(self, dead: LeaseOwner) -> None:
        done = await self._store.reclaim(dead, self.owner)
        if not done.alive:
            level = log.warning if done.unknown or done.queued or done.canceled else log.info
            level(
                "took over from a dead gateway",
                dead=dead.name,
                unknown=done.unknown,
                queued=done.queued,
                canceled=done.canceled,
            )
