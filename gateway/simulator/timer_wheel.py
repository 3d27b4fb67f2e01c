"""A timer wheel: thousands of items due, one timer."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """Items by due time, in slots of ``grain`` seconds: never early, at most one grain late.

    Items of one slot are returned in the order in which they were added.
    """

    def __init__(self, grain: float = 0.002) -> None:
        self._grain = grain
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []  # heap of the slots in use
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, due: float, item: T) -> None:
        """Add ``item``, due at ``due``."""
        number = int(due / self._grain) + 1
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = slot = []
            heappush(self._order, number)
        slot.append(item)
        self._size += 1

    def due(self, now: float) -> list[T]:
        """Remove and return the items due by ``now``."""
        found: list[T] = []
        while self._order and self._order[0] * self._grain <= now:
            found += self._slots.pop(heappop(self._order))
        self._size -= len(found)
        return found

    def clear(self) -> None:
        """Remove every item."""
        self._slots.clear()
        self._order.clear()
        self._size = 0

    @property
    def next(self) -> float:
        """When the next item is due; infinity when the wheel is empty."""
        return self._order[0] * self._grain if self._order else inf
