"""Cheap histograms: plain lists, filled once per batch.

One observation takes a third of a microsecond (three in prometheus-client, for its lock and child), and a batch needs
only a few: a sample stands for its neighbours by its weight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds (seconds) for durations of milliseconds."""

SLOW = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Bounds (seconds) for durations from milliseconds to hours."""

SAMPLES = 8
"""Most observations of one batch."""


class Histogram:
    """Counts by upper bound, and the sum of values. With a weight, one observation stands for several."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = FAST) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0.0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {self.count:g} observations, {self.sum:.3f} in all>"

    @property
    def count(self) -> float:
        """Number of observations."""
        return sum(self.counts)

    def observe(self, value: float, weight: float = 1.0) -> None:
        """Add ``weight`` observations of ``value``."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, cumulative count), as in the exposition format."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


def sample(batch: Sequence[T], most: int = SAMPLES) -> Iterator[tuple[T, float]]:
    """Yield members spread evenly over ``batch``, each with the number of members it stands for."""
    size = len(batch)
    if size <= most:
        for item in batch:
            yield item, 1.0
        return
    weight = size / most
    for index in range(most):
        yield batch[int((index + 0.5) * weight)], weight
