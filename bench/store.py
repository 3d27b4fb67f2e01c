"""A run's own view of the store: memory, the server's process, and the events afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.config import load
from gateway.model import State, StreamEvent
from gateway.store.crypto import Vault
from gateway.store.embedded.acl import LAUNCHER, load_or_create_key
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.redis.connection import StoreConnection, connect

PAGE = 200  # entries of a stream read at once
REWRITE_EVERY = 0.2  # seconds


class StoreView:
    """A second connection to the store of a run."""

    def __init__(self, link: StoreConnection, pid: int, embedded: EmbeddedServer | None = None) -> None:
        self._link = link
        self._embedded = embedded
        # Reading events needs neither hashing nor decryption, so any secret will do.
        self._store = MessageStore(
            link, Hasher(bytes(32), link.partitions), Vault({1: bytes(32)}, 1), partitions=link.partitions
        )
        self._marks = ["0"] * link.partitions
        self.pid = pid

    @classmethod
    @asynccontextmanager
    async def open(cls, config_file: Path) -> AsyncIterator[StoreView]:
        """Connect to the store of a gateway with this configuration. Raises StoreError."""
        wanted = load(config_file).store
        embedded = EmbeddedServer(Path(wanted.data_dir)) if wanted.embedded else None
        url = wanted.url if embedded is None else embedded.url
        link = await connect(url, tags=tags(wanted.partitions), library=build_library(), durability=wanted.durability)
        try:
            (info, *_) = await link.everywhere(b"INFO", b"server")
            yield cls(link, int(_field(info, "process_id")), embedded)
        finally:
            await link.close()

    async def memory(self) -> int:
        """Return the octets of data in the store's primaries."""
        replies = await self._link.everywhere(b"INFO", b"memory")
        return sum(int(_field(reply, "used_memory_dataset")) for reply in replies)

    async def rewrites(self) -> int:
        """Return how often the append-only files have been rewritten."""
        replies = await self._link.everywhere(b"INFO", b"persistence")
        return sum(int(_field(reply, "aof_rewrites")) for reply in replies)

    async def keep_rewriting(self) -> None:
        """Have the embedded server rewrite its append-only file, again and again, until cancelled."""
        assert self._embedded is not None, "only the embedded store's server can be told to"
        key = load_or_create_key(self._embedded.data_dir)
        async with Redis(unix_socket_path=str(self._embedded.socket), username=LAUNCHER, password=key) as server:
            while True:
                with suppress(ResponseError):  # one is going on
                    await server.bgrewriteaof()
                await asyncio.sleep(REWRITE_EVERY)

    async def mark(self) -> None:
        """Skip the events so far."""
        for partition, tag in enumerate(self._link.tags):
            newest = await self._link.command(partition, b"XREVRANGE", tag + b"e", b"+", b"-", b"COUNT", 1)
            self._marks[partition] = newest[0][0].decode() if newest else "0"

    async def finals(self) -> tuple[dict[str, int], list[float]]:
        """Return, since the mark, messages by final state, and milliseconds from first to final event of each."""
        first: dict[bytes, int] = {}
        states: Counter[str] = Counter()
        waits: list[float] = []
        async for event in self._events():
            if event.sequence == 1:
                first[event.id] = event.at
            if event.final:
                states[State(event.state).name.lower()] += 1
                if event.id in first:
                    waits.append(float(event.at - first[event.id]))
        return dict(states), waits

    async def _events(self) -> AsyncIterator[StreamEvent]:
        for partition, mark in enumerate(self._marks):
            after = mark
            while entries := await self._store.events(partition, after, PAGE):
                for _, events in entries:
                    for event in events:
                        yield event
                after = entries[-1][0]


def _field(info: bytes | str | dict[str, object], name: str) -> str:
    """Return a value of an INFO reply."""
    text = info.decode() if isinstance(info, bytes) else str(info)
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2]
    return "0"
