"""The addresses of receivers' names, asked of the system in threads of our own.

A name whose servers do not answer holds a thread for many seconds; in the threads that everybody shares a few such
names would hold up whoever else resolves one. What was found is known for ten seconds, and asked once for all who want
it at the same time.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

FRESH = 10.0
THREADS = 16
MOST_KNOWN = 4096


class _Resolved(NamedTuple):
    until: float  # of the loop's time
    addresses: asyncio.Future[list[str]]


class Resolver:
    """``addresses`` of one name; ``close`` at the end."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "names")
        self._closed = False
        self._known: OrderedDict[str, _Resolved] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Resolver {len(self._known)} known>"

    async def addresses(self, name: str) -> list[str]:
        """In the order in which they should be tried. Raises OSError when the name is not known, or after ``close``."""
        if self._closed:
            raise OSError("names are not looked up any more")
        loop = asyncio.get_running_loop()
        known = self._known.get(name)
        if known is None or known.until < loop.time() or _failed(known.addresses):
            asked = loop.run_in_executor(self._threads, look_up, name)
            asked.add_done_callback(_failed)  # nobody may wait for it any longer
            known = self._known[name] = _Resolved(loop.time() + FRESH, asked)
            self._known.move_to_end(name)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return await asyncio.shield(known.addresses)

    def close(self) -> None:
        """What is being looked up is no longer waited for."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def _failed(asked: asyncio.Future[list[str]]) -> bool:
    return asked.done() and (asked.cancelled() or asked.exception() is not None)


def look_up(name: str) -> list[str]:
    """Ask the system; takes its time. Raises OSError, ValueError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
