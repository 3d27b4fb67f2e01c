"""The id of a store, by which one that came back without its data is recognised.

At its first start a store gets an id, in ``gateway:meta`` and in every partition. A server that lost its data has lost
its functions too, and before they are loaded again each of its partitions must have that id. So a store that came back
empty is never taken for one in which no messages wait.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from gateway.store.errors import StoreRefused

if TYPE_CHECKING:
    from gateway.store.redis.node import StoreNode

MARK = b"made"
"""Name of the key, after the partition's tag."""

_FIELD = b"id"
_LOOKS = 50  # 50 ms apart, for what another gateway that starts at the same time is about to write

log = structlog.get_logger(__name__)


Command = tuple[int, Sequence[Any]]
"""A partition, and a command for its node."""


class StoreIdentity:
    """The id of the store that was opened."""

    def __init__(self, tags: Sequence[bytes], commands: Callable[[Sequence[Command]], Awaitable[list[Any]]]) -> None:
        """``tags``: of the partitions; ``commands``: ``StoreConnection.commands``."""
        self._id = b""
        self._tags = tags
        self._commands = commands

    async def learn(self, node: StoreNode, meta: bytes) -> None:
        """Read the id, or make it. Raises StoreRefused when a partition does not have it, StoreError."""
        fresh = secrets.token_hex(8).encode()
        made = await node.command(b"HSETNX", meta, _FIELD, fresh)
        self._id = await node.command(b"HGET", meta, _FIELD)
        everywhere = range(len(self._tags))
        if made:
            marks = await self._commands([(p, (b"SET", self._tags[p] + MARK, self._id, b"GET")) for p in everywhere])
            if any(marks):
                log.warning("the node with gateway:meta has lost its data")
            return
        for _ in range(_LOOKS):
            if not (lost := await self._without(everywhere)):
                return
            await asyncio.sleep(0.05)
        raise StoreRefused(
            f"the store has lost the data of {_listed(lost)}: restore it, or, to go on without it, run "
            f"HDEL {meta.decode()} {_FIELD.decode()} in the store and start again"
        )

    async def check(self, partitions: Iterable[int]) -> None:
        """Raise StoreRefused when one of these partitions does not have the id. Raises StoreError."""
        if lost := await self._without(partitions):
            raise StoreRefused(
                f"the store has lost the data of {_listed(lost)} since this gateway started: nothing is accepted or "
                "sent until it is back; to go on without it, restart the gateway"
            )

    async def _without(self, partitions: Iterable[int]) -> list[int]:
        asked = list(partitions)
        marks = await self._commands([(p, (b"GET", self._tags[p] + MARK)) for p in asked])
        return [p for p, mark in zip(asked, marks, strict=True) if mark != self._id]


def _listed(partitions: Sequence[int]) -> str:
    numbers = ", ".join(map(str, partitions))
    return f"partition{'s' * (len(partitions) > 1)} {numbers}"
