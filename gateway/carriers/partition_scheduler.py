"""Decides which partitions to ask next, and for how many parts: pure.

A call to the store has a fixed price, and a round trip another, so a take asks few partitions for much rather than all
for little, but all at once when little is expected of each. A partition is worth asking when work was announced for it,
when its last take left something behind, when something in it comes due, or when the sweep comes by. Partitions with a
one-time password go first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SLICE = 64
"""Parts that a partition is expected to hold at most: so many are asked of it before a second one is asked as well."""


class PartitionRequest(NamedTuple):
    """How many parts to ask of a partition, and how many of them are reserved for one-time passwords."""

    partition: int
    limit: int
    reserved: int


class PartitionScheduler:
    """The partitions that may hold work for one carrier, in the order in which they are asked."""

    __slots__ = ("_due", "_expected", "_partitions", "_urgent", "_waiting")

    def __init__(self, partitions: int) -> None:
        self._partitions = range(partitions)
        self._waiting: dict[int, None] = dict.fromkeys(self._partitions)  # insertion order is the order of asking
        self._urgent: dict[int, None] = {}
        self._due: dict[int, int] = {}  # partition -> when its next delayed message is due (ms)
        self._expected = dict.fromkeys(self._partitions, SLICE)  # parts: what the last take brought

    def __bool__(self) -> bool:
        return bool(self._waiting or self._urgent)

    def __repr__(self) -> str:
        return (
            f"<PartitionScheduler {len(self._urgent)} urgent, {len(self._waiting)} waiting of {len(self._partitions)}>"
        )

    @property
    def urgent(self) -> bool:
        """Whether a one-time password may be waiting."""
        return bool(self._urgent)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Partitions that have not been asked yet."""
        return tuple(self._waiting)

    def work_available(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Queue partitions that may hold work; ``urgent``: a one-time password."""
        into = self._urgent if urgent else self._waiting
        for partition in partitions:
            into[partition] = None

    def sweep(self) -> None:
        """Queue every partition, behind those that wait already."""
        self.work_available(self._partitions)

    def wake(self, now: int) -> None:
        """Queue the partitions in which something delayed is due by ``now`` (ms)."""
        due = [partition for partition, at in self._due.items() if at <= now]
        for partition in due:
            del self._due[partition]
        self.work_available(due)

    def delayed(self, partition: int, due: int) -> None:
        """Note that something in ``partition`` is due at ``due`` (ms), perhaps before everything known so far."""
        self._due[partition] = min(due, self._due.get(partition, due))

    def next_due(self) -> int:
        """Return when the next partition is due (ms); 0 = none known."""
        return min(self._due.values(), default=0)

    def pick(self, budget: int, ordinary: int) -> list[PartitionRequest]:
        """Return what to ask now and remove it from the queue.

        ``budget``: parts in all, of which ``ordinary`` may be anything but one-time passwords. With nothing ordinary
        left only partitions with a one-time password are asked.
        """
        ordinary = min(ordinary, budget)
        waiting = [*self._urgent, *(p for p in self._waiting if ordinary and p not in self._urgent)]
        if not waiting or budget < 1:
            return []
        count = self._count_for(waiting, budget)
        requests = []
        for index, partition in enumerate(waiting[:count]):
            limit = budget // count + (index < budget % count)
            share = ordinary // count + (index < ordinary % count)
            requests.append(PartitionRequest(partition, limit, limit - min(limit, share)))
            self._urgent.pop(partition, None)
            if share:
                self._waiting.pop(partition, None)
        return requests

    def _count_for(self, waiting: Iterable[int], budget: int) -> int:
        """Return how many partitions are expected to use the budget up, at least one."""
        expected = 0
        for count, partition in enumerate(waiting):
            expected += self._expected[partition]
            if expected > budget and count:
                return count
        return count + 1

    def answered(self, partition: int, *, found: int, more: bool, next_due: int) -> None:
        """Learn from a take of ``partition``: how many parts it brought, and whether it left some behind."""
        self._expected[partition] = SLICE if more else min(SLICE, max(1, found))
        if more:
            self._waiting[partition] = None
        if next_due:
            self._due[partition] = next_due
        else:
            self._due.pop(partition, None)
