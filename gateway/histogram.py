"""Histograms that cost next to nothing: plain lists, filled a batch at a time, read when somebody asks.

One observation takes a third of a microsecond (prometheus-client's takes three, for its lock and its child), and a
batch needs only a few of them: a sample stands for its neighbours with a weight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds (seconds) for what should take milliseconds."""

SLOW = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Bounds (seconds) for what may take from milliseconds to a night."""

SAMPLES = 8
"""Observations made of one batch at most."""


class Histogram:
    """Counts by upper bound, and their sum. A weight lets one observation stand for several."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = FAST) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0.0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {self.count:g} observations, {self.sum:.3f} in all>"

    @property
    def count(self) -> float:
        """Observations so far."""
        return sum(self.counts)

    def observe(self, value: float, weight: float = 1.0) -> None:
        """One observation, or as many as ``weight`` says."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it), as the exposition format wants them."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


def sample(batch: Sequence[T], most: int = SAMPLES) -> Iterator[tuple[T, float]]:
    """Members spread evenly over a batch, each with the number of members it stands for."""
    size = len(batch)
    if size <= most:
        for item in batch:
            yield item, 1.0
        return
    weight = size / most
    for index in range(most):
        yield batch[int((index + 0.5) * weight)], weight
