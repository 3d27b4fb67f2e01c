from __future__ import annotations

import pytest

from bench.measure import Cost, Latency, compare, quantile


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100), (0.001, 1)])
def test_quantile_is_the_nearest_rank(share: float, value: int) -> None:
    assert quantile(list(range(1, 101)), share) == value


def test_latency_of_nothing_is_zero() -> None:
    assert Latency.of([]) == Latency(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert Latency.of([3.0, 1.0, 2.0]) == Latency(3, 2.0, 3.0, 3.0, 3.0, 3.0)


def test_compare_counts_losses_and_copies() -> None:
    assert compare(5, {0: 1, 1: 2, 2: 1, 4: 3}) == (4, 1, 2)


def test_cost_is_microseconds_a_message() -> None:
    assert Cost.of(1.5, 20_000).per_message == 75.0
    assert Cost.of(1.5, 0).per_message == 0.0
