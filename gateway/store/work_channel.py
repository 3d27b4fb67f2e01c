"""Hints between the gateways of one store: something waits in these partitions, and whoever can may take it now.

Sharded channels, one a partition, so that on a cluster a hint stays on the node of its partitions; one message on one
of them tells of all partitions of that node. A hint that is lost costs a quarter of a second: the next sweep finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection
from gateway.store.redis.node import StoreNode

CHANNEL = b"hint"
_URGENT, _ORDINARY = b"!", b"."

Heard = Callable[[list[int], bool], None]
"""Partitions, and whether a one-time password is among what waits there."""


class WorkChannel:
    """``publish`` to the others; ``listen`` to them."""

    def __init__(self, link: StoreConnection, owner: LeaseOwner) -> None:
        self._link = link
        self._name = owner.name.encode()

    async def publish(self, partitions: Iterable[int], *, urgent: bool) -> None:
        """One message per node. Raises StoreError."""
        by_node = {node: partitions_of & wanted for node, partitions_of in self._homes() if (wanted := set(partitions))}
        await self._link.commands(
            [
                (min(some), (b"SPUBLISH", self._channel(min(some)), encode(some, self._name, urgent=urgent)))
                for some in by_node.values()
                if some
            ]
        )

    async def listen(self, heard: Heard) -> None:
        """Until it fails. Raises StoreError."""
        async with asyncio.TaskGroup() as group:
            for node, partitions in self._homes():
                group.create_task(self._listen(node, partitions, heard))

    async def _listen(self, node: StoreNode, partitions: Iterable[int], heard: Heard) -> None:
        async for data in node.published([self._channel(partition) for partition in partitions]):
            who, some, urgent = decode(data)
            if who != self._name:
                heard([partition for partition in some if partition < self._link.partitions], urgent)

    def _homes(self) -> list[tuple[StoreNode, set[int]]]:
        return [(node, set(partitions)) for node, partitions in self._link.homes.items()]

    def _channel(self, partition: int) -> bytes:
        return self._link.tags[partition] + CHANNEL


def encode(partitions: Iterable[int], who: bytes, *, urgent: bool) -> bytes:
    """``!`` or ``.``, the number of partitions (2 octets), each (2), and who says it."""
    numbers = sorted(partitions)
    packed = b"".join(number.to_bytes(2, "big") for number in numbers)
    return (_URGENT if urgent else _ORDINARY) + len(numbers).to_bytes(2, "big") + packed + who


def decode(data: bytes) -> tuple[bytes, list[int], bool]:
    """Who says it, partitions, whether it is urgent. What is too short says less, never anything else."""
    end = 3 + 2 * int.from_bytes(data[1:3], "big")
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(3, min(end, len(data) - 1), 2)]
    return data[end:], numbers, data[:1] == _URGENT
