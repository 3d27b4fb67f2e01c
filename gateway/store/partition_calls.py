"""What all operations share: a batch is sorted by partition, cut into slices and called as one pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gateway.store.crypto import Vault
from gateway.store.ids import partition_of
from gateway.store.keys import Hasher, tags
from gateway.store.layout import SETTINGS
from gateway.store.requests import Retention

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

SLICE = 500
"""Most items in one call: 500 block a partition's server for some 10 ms, and longer slices are not cheaper."""

_DEFAULT_RETENTION = Retention()


class PartitionCalls:
    """Base of the operations. ``set_retention`` changes what later calls keep."""

    def __init__(
        self,
        link: StoreConnection,
        hasher: Hasher,
        vault: Vault,
        *,
        partitions: int,
        retention: Retention = _DEFAULT_RETENTION,
    ) -> None:
        self.partitions = partitions
        self.hasher = hasher
        self.retention = retention
        self._link = link
        self._vault = vault
        self._settings = SETTINGS.pack(*retention)
        self._rules_keys = [tag + b"r" for tag in tags(partitions)]

    def set_retention(self, retention: Retention) -> None:
        """Use these times from now on. What has its deadline already keeps it."""
        self.retention = retention
        self._settings = SETTINGS.pack(*retention)

    def _everywhere(self, function: str, *args: Any) -> list[tuple[int, str, Sequence[Any]]]:
        """Return the same call for every partition."""
        return [(partition, function, args) for partition in range(self.partitions)]

    async def _by_id(
        self, function: str, ids: Sequence[bytes], items: Sequence[tuple[Any, ...]], *, settings: bool = True
    ) -> list[Any]:
        """Call ``_each`` for items in the partitions of these ids."""
        return await self._each(function, [partition_of(one) for one in ids], items, settings=settings)

    async def _each(
        self, function: str, partitions: Sequence[int], items: Sequence[tuple[Any, ...]], *, settings: bool
    ) -> list[Any]:
        """Call a function that replies one value per item; return the values in the order of the items."""
        calls, orders = [], []
        for partition, indices in slices(partitions):
            args: list[Any] = [self._settings] if settings else []
            for index in indices:
                args += items[index]
            calls.append((partition, function, args))
            orders.append(indices)
        out: list[Any] = [None] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, value in zip(order, reply, strict=True):
                out[index] = value
        return out


def per_partition(partitions: Sequence[int]) -> dict[int, list[int]]:
    """Return partition -> indices of its items, in order."""
    out: dict[int, list[int]] = {}
    for index, partition in enumerate(partitions):
        members = out.get(partition)
        if members is None:
            out[partition] = [index]
        else:
            members.append(index)
    return out


def slices(partitions: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield (partition, indices of at most ``SLICE`` of its items)."""
    for partition, indices in per_partition(partitions).items():
        for start in range(0, len(indices), SLICE):
            yield partition, indices[start : start + SLICE]
