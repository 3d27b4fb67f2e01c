"""Hints between the gateways of a store: messages wait in these partitions, and a gateway that can may take them now.

Sharded channels, one per partition, so that on a cluster a hint stays on the node of its partitions; one message on one
of them names all partitions of that node. A lost hint costs a quarter of a second: the next sweep finds the messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection
from gateway.store.redis.node import StoreNode

CHANNEL = b"hint"
_URGENT, _ORDINARY = b"!", b"."

OnHint = Callable[[list[int], bool], None]
"""Called with the partitions, and whether a one-time password waits there."""


class WorkChannel:
    """Publishes hints to the other gateways and listens to theirs."""

    def __init__(self, link: StoreConnection, owner: LeaseOwner) -> None:
        self._link = link
        self._name = owner.name.encode()

    async def publish(self, partitions: Iterable[int], *, urgent: bool) -> None:
        """Publish one message per node. Raises StoreError."""
        by_node = {node: partitions_of & wanted for node, partitions_of in self._nodes() if (wanted := set(partitions))}
        await self._link.commands(
            [
                (min(some), (b"SPUBLISH", self._channel(min(some)), encode(some, self._name, urgent=urgent)))
                for some in by_node.values()
                if some
            ]
        )

    async def listen(self, on_hint: OnHint) -> None:
        """Call ``on_hint`` for every hint of another gateway, until that fails. Raises StoreError."""
        async with asyncio.TaskGroup() as group:
            for node, partitions in self._nodes():
                group.create_task(self._listen(node, partitions, on_hint))

    async def _listen(self, node: StoreNode, partitions: Iterable[int], on_hint: OnHint) -> None:
        async for data in node.published([self._channel(partition) for partition in partitions]):
            sender, some, urgent = decode(data)
            if sender != self._name:
                on_hint([partition for partition in some if partition < self._link.partitions], urgent)

    def _nodes(self) -> list[tuple[StoreNode, set[int]]]:
        return [(node, set(partitions)) for node, partitions in self._link.partitions_by_node.items()]

    def _channel(self, partition: int) -> bytes:
        return self._link.tags[partition] + CHANNEL


def encode(partitions: Iterable[int], sender: bytes, *, urgent: bool) -> bytes:
    """Return ``!`` (urgent) or ``.``, the number of partitions (2 octets), each (2), and the sender."""
    numbers = sorted(partitions)
    packed = b"".join(number.to_bytes(2, "big") for number in numbers)
    return (_URGENT if urgent else _ORDINARY) + len(numbers).to_bytes(2, "big") + packed + sender


def decode(data: bytes) -> tuple[bytes, list[int], bool]:
    """Return sender, partitions, and whether it is urgent. Truncated data has fewer partitions, never wrong ones."""
    end = 3 + 2 * int.from_bytes(data[1:3], "big")
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(3, min(end, len(data) - 1), 2)]
    return data[end:], numbers, data[:1] == _URGENT
