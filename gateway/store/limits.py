"""Limits that gateways on a store share: how much each of them may use now (``scripts/share.lua``).

A resource (an account's rate, a carrier's rate, its binds) lies in the partition of the hash of its name.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.store.layout import ASK, GRANT
from gateway.store.owner import LeaseOwner

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

SLICE = 250
"""Most resources in one call."""


class ShareRequest(NamedTuple):
    """What a gateway reports of one resource. ``limit`` 0: it does not use it any more."""

    name: str
    limit: float
    held: float  # the most that it uses from now until it has the reply
    wanted: float  # what it could use
    up: int = 0  # binds that are bound, for the others to see
    whole: bool = False  # only whole numbers make sense


class ShareGrant(NamedTuple):
    """What it may use from now on. When that is below ``held`` it lowers its use, then reports that by another call."""

    share: float
    target: float  # its fair share, which it reaches in the end
    members: int  # gateways that use the resource, this one included
    before: int = 0  # sum of the fair shares of members whose names sort before this one's
    up: int = 0  # sum of the others' ``up``


class LimitStore:
    """Shares of this gateway in the store. Raises StoreError.

    The owner must have heartbeats (``MessageStore.beat``): its shares end 9 s after the last.
    """

    def __init__(self, link: StoreConnection, owner: LeaseOwner, partitions: int) -> None:
        self._link = link
        self._owner = owner
        self._partitions = partitions
        self._round = 0

    async def share(self, asks: Sequence[ShareRequest]) -> list[ShareGrant]:
        """Return the grants in the order of the requests. One call at a time, else a reply may be outdated."""
        self._round += 1
        by_partition: dict[int, list[int]] = {}
        for index, ask in enumerate(asks):
            by_partition.setdefault(self.partition(ask.name), []).append(index)
        calls, orders = [], []
        for partition, indices in by_partition.items():
            for start in range(0, len(indices), SLICE):
                orders.append(indices[start : start + SLICE])
                calls.append((partition, "share", self._args([asks[index] for index in orders[-1]])))
        out = [ShareGrant(0.0, 0.0, 0)] * len(asks)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, packed in zip(order, reply, strict=True):
                out[index] = ShareGrant(*GRANT.unpack(packed))
        return out

    def partition(self, name: str) -> int:
        """Return the partition of a resource: the same for every gateway."""
        return zlib.crc32(name.encode()) % self._partitions

    def _args(self, asks: Sequence[ShareRequest]) -> list[Any]:
        args: list[Any] = [self._owner.name, self._round]
        for ask in asks:
            args += (ask.name, ASK.pack(ask.whole, ask.limit, ask.held, ask.wanted, ask.up))
        return args
