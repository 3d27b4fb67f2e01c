"""The addresses of endpoints' host names, resolved by the system in threads of our own.

A name whose servers do not answer holds a thread for many seconds; in the shared thread pool a few such names would
delay every other lookup. A result is cached for ten seconds, and concurrent lookups of one name share it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

FRESH = 10.0
"""Seconds that a result is cached."""

THREADS = 16
MAX_CACHED = 4096


class _Lookup(NamedTuple):
    until: float  # of the loop's time
    addresses: asyncio.Future[list[str]]


class Resolver:
    """Resolves host names in threads of its own; ``close`` it at the end."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "names")
        self._closed = False
        self._cache: OrderedDict[str, _Lookup] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Resolver {len(self._cache)} cached>"

    async def addresses(self, name: str) -> list[str]:
        """Return addresses in the order in which to try them. Raises OSError when unknown, or after ``close``."""
        if self._closed:
            raise OSError("the resolver is closed")
        loop = asyncio.get_running_loop()
        cached = self._cache.get(name)
        if cached is None or cached.until < loop.time() or _failed(cached.addresses):
            lookup = loop.run_in_executor(self._threads, look_up, name)
            lookup.add_done_callback(_failed)  # retrieves its exception: by then its callers may be cancelled
            cached = self._cache[name] = _Lookup(loop.time() + FRESH, lookup)
            self._cache.move_to_end(name)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return await asyncio.shield(cached.addresses)

    def close(self) -> None:
        """Stop; lookups under way are abandoned."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def _failed(lookup: asyncio.Future[list[str]]) -> bool:
    return lookup.done() and (lookup.cancelled() or lookup.exception() is not None)


def look_up(name: str) -> list[str]:
    """Ask the system; blocks. Raises OSError, ValueError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
