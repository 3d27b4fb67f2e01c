"""The servers that endpoints live on: the health of each, and how many posts may be under way at once.

Three pools per account keep good servers apart from bad ones: those that took their last post, those not tried yet, and
those that failed last. So a healthy endpoint never waits behind dead ones, however many URLs an account's messages
name. Of the posts to one server that is not known to be healthy only a few are under way at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from gateway.store.webhook_queues import QueueAddress

QueueKey = tuple[int, bytes]
"""Partition and name of a queue."""

MAX_KNOWN = 10_000
"""Servers, and endpoints that are gone, remembered at most."""

MAX_PROBING = 4
"""Posts under way to one server that is not known to be healthy."""

MAX_POSTS = 64
"""Posts of one account under way at once, to servers of one status."""

GONE_FOR = 3600.0
"""Seconds in which nothing is posted to an endpoint that answered 410 (Gone)."""


class HealthStatus(Enum):
    """What is known of a server."""

    HEALTHY = "healthy"  # it took its last post
    UNTRIED = "untried"
    FAILING = "failing"


PoolKey = tuple[str, HealthStatus]
"""An account's servers of one status: failing ones do not take the places of the others."""


class ServerHealth:
    """One server of one account."""

    def __init__(self, account: str, origin: str) -> None:
        self.account = account
        self.origin = origin
        self.status = HealthStatus.UNTRIED
        self.answers_probes = True  # OPTIONS requests (see ``endpoint_queue``)
        self.parked: set[QueueKey] = set()  # queues that wait for their next try
        self.probing = asyncio.Semaphore(MAX_PROBING)

    def __repr__(self) -> str:
        return f"<ServerHealth {self.origin} {self.status.value}, {len(self.parked)} queues wait>"

    @property
    def healthy(self) -> bool:
        """Whether it took its last post."""
        return self.status is HealthStatus.HEALTHY

    @property
    def pool(self) -> PoolKey:
        """The pool that its posts are counted in."""
        return self.account, self.status


class ServerTable:
    """All servers that this worker posts to, and the endpoints that are gone."""

    def __init__(self) -> None:
        self._servers: OrderedDict[tuple[str, str], ServerHealth] = OrderedDict()
        self._pools: dict[PoolKey, asyncio.Semaphore] = {}
        self._gone: OrderedDict[QueueAddress, float] = OrderedDict()  # until, of the loop's time

    def __repr__(self) -> str:
        return f"<ServerTable {len(self._servers)} servers, {len(self._gone)} endpoints gone>"

    def server(self, account: str, url: str) -> ServerHealth:
        """Return the server behind a URL, the same for all queues of an account that lead to it."""
        parts = urlsplit(url)
        key = account, f"{parts.scheme}://{parts.netloc}"
        server = self._servers.get(key)
        if server is None:
            server = self._servers[key] = ServerHealth(*key)
            if len(self._servers) > MAX_KNOWN:
                self._servers.popitem(last=False)
        return server

    @asynccontextmanager
    async def slot(self, server: ServerHealth) -> AsyncIterator[None]:
        """Hold one of the posts that may be under way at once."""
        if server.healthy:
            async with self._pool(server.pool):
                yield
            return
        async with server.probing, self._pool(server.pool):
            yield

    def _pool(self, key: PoolKey) -> asyncio.Semaphore:
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = asyncio.Semaphore(MAX_POSTS)
        return pool

    # -- endpoints that are gone

    def set_gone(self, address: QueueAddress) -> None:
        """Post nothing to this endpoint for ``GONE_FOR`` seconds."""
        self._gone[address] = asyncio.get_running_loop().time() + GONE_FOR
        if len(self._gone) > MAX_KNOWN:
            self._gone.popitem(last=False)

    def is_gone(self, address: QueueAddress) -> bool:
        """Whether it answered 410 within the last ``GONE_FOR`` seconds."""
        return asyncio.get_running_loop().time() < self._gone.get(address, 0.0)

    def forget_gone(self, address: QueueAddress | None = None) -> None:
        """Post again to this endpoint, or to all."""
        if address is None:
            self._gone.clear()
        else:
            self._gone.pop(address, None)
