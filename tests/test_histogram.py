from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.histogram import FAST, Histogram, sample


def test_a_histogram_counts_by_upper_bound() -> None:
    seen = Histogram((1.0, 2.0))
    for value, weight in ((0.5, 1), (1.0, 2), (1.5, 1), (9.0, 0.5)):
        seen.observe(value, weight)
    assert seen.buckets() == [("1", 3.0), ("2", 4.0), ("+Inf", 4.5)]
    assert (seen.count, seen.sum) == (4.5, 0.5 + 2.0 + 1.5 + 4.5)
    assert repr(seen) == "<Histogram 4.5 observations, 8.500 in all>"


@given(st.lists(st.floats(0, 100), max_size=50))
def test_buckets_grow_and_end_with_all(values: list[float]) -> None:
    seen = Histogram(FAST)
    for value in values:
        seen.observe(value)
    counts = [count for _, count in seen.buckets()]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)


@given(st.integers(0, 2000), st.integers(1, 20))
def test_a_sample_stands_for_the_whole_batch(size: int, most: int) -> None:
    found = list(sample(range(size), most))
    assert len(found) == min(size, most)
    assert sum(weight for _, weight in found) == pytest.approx(size)
    assert [item for item, _ in found] == sorted({item for item, _ in found})
