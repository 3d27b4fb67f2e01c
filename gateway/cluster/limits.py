"""Our shares of what all gateways on the store may do together: asked for about once a second, obeyed at once.

Nothing is asked per message: every limited thing counts for itself within its share. What is lowered is lowered here
first, and then the store is told; what is raised is granted first. So together the gateways never exceed a limit, and
while one of them is silent (it died, or is cut off) its share is nobody's: the heart stops its use after 8 seconds, and
after 9 it is free for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.store.errors import StoreError
from gateway.store.limits import ShareGrant, ShareRequest

if TYPE_CHECKING:
    from gateway.cluster.heartbeat import Heartbeat

EVERY = 1.0
PROMPT = 0.25
"""Seconds between two rounds while others still hold what is to be ours."""

MANY = 64
"""With more shares than this, those where nothing moves are asked for in every third round only."""

SETTLE = 3.0
"""Seconds that a start waits for others to let go of our part; one that has died holds on for ten."""

log = structlog.get_logger(__name__)


class SharedLimit(Protocol):
    """Something with a limit that holds for all gateways together, known by the same name to each of them."""

    name: str

    @property
    def asked(self) -> bool:
        """Whether the store has had a word on it: else it knows of no other gateway, and may use the whole limit."""

    @property
    def limit(self) -> float:
        """For all gateways together."""

    @property
    def held(self) -> float:
        """The most that is used here now."""

    def ask(self, now: float) -> ShareRequest:
        """What to say to the store, once a second; ``now`` is the loop's time."""

    def grant(self, granted: ShareGrant, asked: ShareRequest, now: float) -> None:
        """Use so much from now on: at once no more rate than this, and no more connections as soon as may be."""

    def close(self, now: float) -> None:
        """Use nothing until the next grant: others may have all of it. (Connections may stay, idle.)"""


class ShareStore(Protocol):
    """What the keeper needs of the store (``store.limits.LimitStore``)."""

    async def share(self, asks: Sequence[ShareRequest]) -> list[ShareGrant]: ...


class LimitCoordinator:
    """``start`` before anything limited is used, ``run`` while it is, ``leave`` after it.

    ``changed`` is to be called when there is something new among the ``sources``.
    """

    def __init__(self, store: ShareStore, heartbeat: Heartbeat, sources: Callable[[], Iterable[SharedLimit]]) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._sources = sources
        self._names: set[str] = set()  # known to the store as ours
        self._said: dict[str, ShareRequest] = {}  # what we said last
        self._rounds = 0
        self._wake = asyncio.Event()
        self._closings = 0
        self.members = 1
        """Gateways that share something with us, this one included."""
        self.waiting = False
        """Others still hold some of what is to be ours."""
        heartbeat.on_lapse = self.close

    def __repr__(self) -> str:
        waiting = ", waiting for others" if self.waiting else ""
        return f"<LimitCoordinator of {len(self._names)} shares, {self.members} gateways{waiting}>"

    async def start(self) -> None:
        """Get our first shares; others are given a while to let go of them. The heart must beat. Raises StoreError."""
        self.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE
        await self._round()
        while self.waiting and loop.time() < deadline:
            await asyncio.sleep(PROMPT)
            await self._round()

    async def run(self) -> None:
        """Ask about once a second, until cancelled."""
        away = False
        while True:
            await self._sleep(PROMPT if self.waiting else EVERY)
            try:
                await self._round()
                away = False
            except StoreError as error:
                if not away:
                    log.warning("cannot ask for our shares of the limits", error=str(error))
                away = True

    def changed(self) -> None:
        """Something limited is new: it waits for its share, which is asked for at once."""
        now = asyncio.get_running_loop().time()
        for one in self._sources():
            if not one.asked:
                one.close(now)
        self._wake.set()

    def close(self) -> None:
        """Use nothing: our heart has stood still for so long that others may have all of it. What is still to be had
        is asked for at once."""
        self._closings += 1
        self._wake.set()
        now = asyncio.get_running_loop().time()
        for one in self._sources():
            one.close(now)

    async def leave(self) -> None:
        """Give everything back; after the last use of it."""
        names, self._names = self._names, set()
        try:
            await self._store.share([_gone(name) for name in names])
        except StoreError as error:
            log.info("our shares of the limits are not given back: others have them in 9 s", error=str(error))

    # ---- inside

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        timer.cancel()

    async def _round(self) -> None:
        """Say what we hold and want, do as we are told, and say so where that was to use less. Raises StoreError."""
        loop = asyncio.get_running_loop()
        now, closings = loop.time(), self._closings
        if not self._heartbeat.fresh(now):
            return  # whatever we hold is closed with the next beat
        everything = [(one, one.ask(now)) for one in self._sources()]
        names = {ask.name for _, ask in everything}
        shared, asks = self._moving(everything)
        granted = await self._store.share([*asks, *(_gone(name) for name in self._names - names)])
        self._names, self._said = names, {ask.name: ask for _, ask in everything}
        if closings != self._closings:
            return  # granted to somebody who was given up meanwhile
        self.members = max((said.members for said in granted), default=self.members)
        self.waiting = any(said.share < said.target * 0.99 for said in granted)
        lowered = self._obey(shared, asks, granted)
        if lowered:
            again = [ask._replace(held=one.held) for one, ask in lowered]
            freed = await self._store.share(again)
            if closings == self._closings:
                self._obey([one for one, _ in lowered], again, freed)

    def _moving(
        self, everything: list[tuple[SharedLimit, ShareRequest]]
    ) -> tuple[list[SharedLimit], list[ShareRequest]]:
        """What to ask for in this round."""
        self._rounds += 1
        if len(everything) > MANY and self._rounds % 3 and not self.waiting:
            everything = [(one, ask) for one, ask in everything if ask.whole or self._said.get(ask.name) != ask]
        return [one for one, _ in everything], [ask for _, ask in everything]

    def _obey(
        self, shared: Sequence[SharedLimit], asks: Sequence[ShareRequest], granted: Sequence[ShareGrant]
    ) -> list[tuple[SharedLimit, ShareRequest]]:
        """Answers what is used less than before."""
        now = asyncio.get_running_loop().time()
        lowered: list[tuple[SharedLimit, ShareRequest]] = []
        for one, ask, said in zip(shared, asks, granted, strict=False):
            one.grant(said, ask, now)
            if one.held < ask.held:
                lowered.append((one, ask))
        return lowered


def _gone(name: str) -> ShareRequest:
    return ShareRequest(name, 0.0, 0.0, 0.0)
