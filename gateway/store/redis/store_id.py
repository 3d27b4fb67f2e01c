"""Whether the store is still the one we know, or came back without its data.

At its first start a store gets an id, kept beside what it was made with (``gateway:meta``), and in every partition. A
server that lost its data has lost its functions as well: before they are loaded again each of its partitions must show
that id. So a store that came back empty is never taken for one where nothing happened to wait.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import structlog

from gateway.store.errors import StoreRefused

MARK = b"made"
"""Name of the key, after the partition's tag."""

_FIELD = b"id"
_PATIENCE = 50  # looks, 50 ms apart, for what another gateway that starts at the same time is about to write

log = structlog.get_logger(__name__)


class IdentityConnection(Protocol):
    """What is needed of a connection (``gateway.store.redis.connection.StoreConnection``)."""

    @property
    def tags(self) -> Sequence[bytes]: ...
    async def commands(self, requests: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]: ...


class IdentityNode(Protocol):
    """The node that holds ``gateway:meta``."""

    async def command(self, *args: Any) -> Any: ...


class StoreIdentity:
    """The id of the store that was opened."""

    def __init__(self) -> None:
        self._id = b""

    async def learn(self, link: IdentityConnection, node: IdentityNode, meta: bytes) -> None:
        """Read it, or make it. Raises StoreRefused when a partition does not have it, StoreError."""
        fresh = secrets.token_hex(8).encode()
        made = await node.command(b"HSETNX", meta, _FIELD, fresh)
        self._id = await node.command(b"HGET", meta, _FIELD)
        everywhere = range(len(link.tags))
        if made:
            marks = await link.commands([(p, (b"SET", link.tags[p] + MARK, self._id, b"GET")) for p in everywhere])
            if any(marks):
                log.warning("a part of the store has lost its data: what it was made with was gone")
            return
        for _ in range(_PATIENCE):
            if not (lost := await self._without(link, everywhere)):
                return
            await asyncio.sleep(0.05)
        raise StoreRefused(
            f"the store has lost the data of {_listed(lost)}: bring it back, or, to go on without it, "
            f"HDEL {meta.decode()} {_FIELD.decode()} in the store and start again"
        )

    async def check(self, link: IdentityConnection, partitions: Iterable[int]) -> None:
        """Raises StoreRefused when one of these partitions is not the one we knew; StoreError."""
        if lost := await self._without(link, partitions):
            raise StoreRefused(
                f"the store has lost the data of {_listed(lost)} since this gateway started: nothing is accepted or "
                "sent until it is back; to begin anew without it, restart the gateway"
            )

    async def _without(self, link: IdentityConnection, partitions: Iterable[int]) -> list[int]:
        asked = list(partitions)
        marks = await link.commands([(p, (b"GET", link.tags[p] + MARK)) for p in asked])
        return [p for p, mark in zip(asked, marks, strict=True) if mark != self._id]


def _listed(partitions: Sequence[int]) -> str:
    words = ", ".join(map(str, partitions))
    return f"partition{'s' * (len(partitions) > 1)} {words}"
