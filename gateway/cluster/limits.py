"""This gateway's shares of the limits that all gateways on the store have together: requested about once a second.

Nothing is requested per message: every limit is counted here within its share. A share that shrinks is lowered here
first, and then reported to the store; one that grows is granted first. So together the gateways never exceed a limit.
The share of a gateway that is silent (dead, or cut off) is unused at first: its missing heartbeat ends its own
use after 8 seconds, and after 9 the share is free for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.cluster.periodic import PeriodicTask
from gateway.store.errors import StoreError
from gateway.store.limits import LimitStore, ShareGrant, ShareRequest

if TYPE_CHECKING:
    from gateway.cluster.heartbeat import Heartbeat

EVERY = 1.0
PROMPT = 0.25
"""Seconds between two rounds while others still hold part of our share."""

MANY = 64
"""With more shares than this, those that do not change are requested in every third round only."""

SETTLE = 3.0
"""Seconds that a start waits for others to release our part; a gateway that has died holds its part for ten."""

log = structlog.get_logger(__name__)


class SharedLimit(Protocol):
    """A limit that holds for all gateways together; each of them knows it by the same name."""

    name: str

    @property
    def share_known(self) -> bool:
        """Whether the share is known. Until then no other gateway is known, and the whole limit may be used."""

    @property
    def limit(self) -> float:
        """For all gateways together."""

    @property
    def held(self) -> float:
        """The most that this gateway uses now."""

    def ask(self, now: float) -> ShareRequest:
        """Return the request for the store; ``now`` is loop time (s)."""

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        """Use so much from now on: rates at once, connections as soon as they can be closed in order."""

    def close(self, now: float) -> None:
        """Use nothing until the next grant, since others may have all of it. Connections may stay open, idle."""


class LimitCoordinator:
    """Requests and applies this gateway's shares: ``start`` before the first use, ``leave`` after the last.

    Call ``changed`` when the ``sources`` have a new limit.
    """

    def __init__(self, store: LimitStore, heartbeat: Heartbeat, sources: Callable[[], Iterable[SharedLimit]]) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._sources = sources
        self._names: set[str] = set()  # of shares that the store counts as ours
        self._last: dict[str, ShareRequest] = {}  # the latest request for each
        self._rounds = 0
        self._closings = 0
        self._periodic = PeriodicTask(
            self._round, lambda: PROMPT if self.waiting else EVERY, "cannot request shares of the limits"
        )
        self.members = 1
        """Gateways that share limits, this one included."""
        self.waiting = False
        """Others still hold part of our share."""
        heartbeat.on_lapse(self.close)

    def __repr__(self) -> str:
        waiting = ", waiting for others" if self.waiting else ""
        return f"<LimitCoordinator of {len(self._names)} shares, {self.members} gateways{waiting}>"

    async def start(self) -> None:
        """Get the first shares, giving others time to release them. Needs a fresh heartbeat. Raises StoreError."""
        self.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE
        await self._round()
        while self.waiting and loop.time() < deadline:
            await asyncio.sleep(PROMPT)
            await self._round()

    async def run(self) -> None:
        """Request shares about once a second, until cancelled."""
        await self._periodic.run()

    def changed(self) -> None:
        """Close every limit that is new until its share is known, and request the shares at once."""
        now = asyncio.get_running_loop().time()
        for limit in self._sources():
            if not limit.share_known:
                limit.close(now)
        self._periodic.wake()

    def close(self) -> None:
        """Use nothing, since without a heartbeat others may have all of it by now; request shares again at once."""
        self._closings += 1
        self._periodic.wake()
        now = asyncio.get_running_loop().time()
        for limit in self._sources():
            limit.close(now)

    async def leave(self) -> None:
        """Give all shares back; call it after the last use."""
        names, self._names = self._names, set()
        try:
            await self._store.share([_gone(name) for name in names])
        except StoreError as error:
            log.info("cannot give back shares of the limits: others get them after 9 s", error=str(error))

    # ---- inside

    async def _round(self) -> None:
        """Report and request, apply what is granted, and report again what was lowered. Raises StoreError."""
        loop = asyncio.get_running_loop()
        now, closings = loop.time(), self._closings
        if not self._heartbeat.fresh(now):
            return  # the next heartbeat closes everything held here
        everything = [(limit, limit.ask(now)) for limit in self._sources()]
        names = {request.name for _, request in everything}
        limits, requests = self._changing(everything)
        grants = await self._store.share([*requests, *(_gone(name) for name in self._names - names)])
        self._names, self._last = names, {request.name: request for _, request in everything}
        if closings != self._closings:
            return  # granted for what was closed meanwhile
        self.members = max((grant.members for grant in grants), default=self.members)
        self.waiting = any(grant.share < grant.target * 0.99 for grant in grants)
        lowered = self._apply(limits, requests, grants)
        if lowered:
            again = [request._replace(held=limit.held) for limit, request in lowered]
            freed = await self._store.share(again)
            if closings == self._closings:
                self._apply([limit for limit, _ in lowered], again, freed)

    def _changing(
        self, everything: list[tuple[SharedLimit, ShareRequest]]
    ) -> tuple[list[SharedLimit], list[ShareRequest]]:
        """Return what to request in this round."""
        self._rounds += 1
        if len(everything) > MANY and self._rounds % 3 and not self.waiting:
            everything = [
                (limit, request)
                for limit, request in everything
                if request.whole or self._last.get(request.name) != request
            ]
        return [limit for limit, _ in everything], [request for _, request in everything]

    def _apply(
        self, limits: Sequence[SharedLimit], requests: Sequence[ShareRequest], grants: Sequence[ShareGrant]
    ) -> list[tuple[SharedLimit, ShareRequest]]:
        """Apply the grants; return the limits that use less than before."""
        now = asyncio.get_running_loop().time()
        lowered: list[tuple[SharedLimit, ShareRequest]] = []
        for limit, request, grant in zip(limits, requests, grants, strict=False):
            limit.grant(grant, request, now)
            if limit.held < request.held:
                lowered.append((limit, request))
        return lowered


def _gone(name: str) -> ShareRequest:
    return ShareRequest(name, 0.0, 0.0, 0.0)
