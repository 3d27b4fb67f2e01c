"""Which partitions to ask next, and how much of each: pure.

A call to the store has a fixed price, and a round trip another, so a take asks few partitions for much rather than all
for little, but all at once when little is to be expected of each. A partition is worth asking when somebody hinted at
it, when its last take left something behind, when something in it wakes, or when the sweep comes by. Those with a
one-time password go first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SLICE = 64
"""Parts that a partition is expected to hold at most: so many are asked of it before a second one is asked as well."""


class PartitionAsk(NamedTuple):
    """How many parts to ask of a partition, and how many of them only one-time passwords may use."""

    partition: int
    limit: int
    keep: int


class PartitionScheduler:
    """The partitions that may hold work for one carrier, in the order in which they get their turn."""

    __slots__ = ("_due", "_found", "_partitions", "_urgent", "_waiting")

    def __init__(self, partitions: int) -> None:
        self._partitions = range(partitions)
        self._waiting: dict[int, None] = dict.fromkeys(self._partitions)  # insertion order is turn order
        self._urgent: dict[int, None] = {}
        self._due: dict[int, int] = {}  # partition -> when its next delayed message wakes (ms)
        self._found = dict.fromkeys(self._partitions, SLICE)  # what is to be expected: what the last take brought

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

    def hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """There is something in these partitions; ``urgent``: a one-time password."""
        into = self._urgent if urgent else self._waiting
        for partition in partitions:
            into[partition] = None

    @property
    def waiting(self) -> tuple[int, ...]:
        """Partitions that have not had their turn."""
        return tuple(self._waiting)

    def sweep(self) -> None:
        """Every partition gets a turn, after those that wait already."""
        self.hint(self._partitions)

    def wake(self, now: int) -> None:
        """Partitions in which something delayed wakes by ``now`` (ms) get a turn."""
        due = [partition for partition, at in self._due.items() if at <= now]
        for partition in due:
            del self._due[partition]
        self.hint(due)

    def delayed(self, partition: int, due: int) -> None:
        """Something in ``partition`` wakes at ``due`` (ms), perhaps before all that is known."""
        self._due[partition] = min(due, self._due.get(partition, due))

    def next_due(self) -> int:
        """When the next partition wakes (ms); 0 = none known."""
        return min(self._due.values(), default=0)

    def pick(self, budget: int, ordinary: int) -> list[PartitionAsk]:
        """Who is asked now. ``budget``: parts in all, of which ``ordinary`` may be anything but one-time passwords.

        With nothing ordinary left only partitions with a one-time password are asked.
        """
        ordinary = min(ordinary, budget)
        waiting = [*self._urgent, *(p for p in self._waiting if ordinary and p not in self._urgent)]
        if not waiting or budget < 1:
            return []
        count = self._enough(waiting, budget)
        asks = []
        for place, partition in enumerate(waiting[:count]):
            limit = budget // count + (place < budget % count)
            share = ordinary // count + (place < ordinary % count)
            asks.append(PartitionAsk(partition, limit, limit - min(limit, share)))
            self._urgent.pop(partition, None)
            if share:
                self._waiting.pop(partition, None)
        return asks

    def _enough(self, waiting: Iterable[int], budget: int) -> int:
        """How many of them are expected to use the budget up, at least one."""
        expected = 0
        for count, partition in enumerate(waiting):
            expected += self._found[partition]
            if expected > budget and count:
                return count
        return count + 1

    def answered(self, partition: int, *, found: int, more: bool, next_due: int) -> None:
        """What a take of ``partition`` said: so many parts, and whether it left some behind."""
        self._found[partition] = SLICE if more else min(SLICE, max(1, found))
        if more:
            self._waiting[partition] = None
        if next_due:
            self._due[partition] = next_due
        else:
            self._due.pop(partition, None)
