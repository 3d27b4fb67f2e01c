"""The servers that receivers live on: what is known of each, and how many posts may be under way at once. Pure but for
the waiting.

Three pools per account keep the good away from the bad: servers that took their last post, those nobody has tried yet,
and those that failed last. So a healthy receiver never waits behind dead ones, however many URLs an account's messages
name; and of the posts to one server that is not known to be well only a few are under way at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from urllib.parse import urlsplit

ServerPlace = tuple[int, bytes]
"""Partition and queue."""

MOST_KNOWN = 10_000
SCOUTS = 4
"""Posts under way to one server that is not known to be well."""


MOST_POSTS = 64
"""Posts of one account that are under way at once, to servers of one kind."""


class ServerTrust(Enum):
    """What is known of a server."""

    PROVEN = "proven"  # it took its last post
    NEW = "new"
    FAILING = "failing"


class ServerHealth:
    """One server of one account."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trust = ServerTrust.NEW
        self.asks = True  # whether it answers when it is asked (see ``receiver``)
        self.waiting: set[ServerPlace] = set()  # queues that wait for their next try
        self.scouts = asyncio.Semaphore(SCOUTS)

    def __repr__(self) -> str:
        return f"<ServerHealth {self.name} {self.trust.value}, {len(self.waiting)} queues wait>"

    @property
    def proven(self) -> bool:
        """It took its last post."""
        return self.trust is ServerTrust.PROVEN


class EndpointHealth:
    """All of one worker."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], ServerHealth] = OrderedDict()
        self._pools: dict[tuple[str, ServerTrust], asyncio.Semaphore] = {}

    def of(self, account: str, url: str) -> ServerHealth:
        """The server behind a URL, the same for all queues of an account that lead to it."""
        parts = urlsplit(url)
        key = account, f"{parts.scheme}://{parts.netloc}"
        server = self._known.get(key)
        if server is None:
            server = self._known[key] = ServerHealth(key[1])
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return server

    @asynccontextmanager
    async def slot(self, account: str, server: ServerHealth) -> AsyncIterator[None]:
        """To be held during a post."""
        if server.proven:
            async with self._pool(account, ServerTrust.PROVEN):
                yield
            return
        async with server.scouts, self._pool(account, server.trust):
            yield

    def _pool(self, account: str, trust: ServerTrust) -> asyncio.Semaphore:
        pool = self._pools.get((account, trust))
        if pool is None:
            pool = self._pools[account, trust] = asyncio.Semaphore(MOST_POSTS)
        return pool
