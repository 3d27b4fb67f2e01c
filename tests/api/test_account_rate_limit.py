from __future__ import annotations

import pytest

from gateway.api.account_rate_limit import AccountRateLimit


def test_a_rate_limit_is_the_rate_with_a_short_burst() -> None:
    rate_limit = AccountRateLimit(100, now=0.0)
    assert sum(rate_limit.take(1, 0.0) == 0.0 for _ in range(100)) == 25
    assert 0 < rate_limit.take(1, 0.0) <= 0.01
    assert rate_limit.take(1, 0.02) == 0.0


def test_a_batch_larger_than_the_rate_is_admitted_and_paid_back() -> None:
    rate_limit = AccountRateLimit(100, now=0.0)
    assert rate_limit.take(500, 0.0) == 0.0
    assert rate_limit.take(1, 1.0) == pytest.approx(3.75)
    assert rate_limit.take(1, 4.76) == 0.0


def test_over_time_the_rate_is_exact() -> None:
    rate_limit = AccountRateLimit(100, now=0.0)
    let_in = sum(rate_limit.take(1, tick / 1000) == 0.0 for tick in range(20_000))
    assert let_in == pytest.approx(2025, abs=2)  # twenty seconds and the burst


def test_no_rate_means_no_limit() -> None:
    rate_limit = AccountRateLimit(0, now=0.0)
    assert all(rate_limit.take(1000, 0.0) == 0.0 for _ in range(100))


@pytest.mark.parametrize(("rate", "size"), [(50, 1), (1000, 1), (1000, 500), (20, 100)])
def test_an_offer_of_three_times_the_rate_gets_the_rate(rate: float, size: int) -> None:
    """Within 5 % over half a minute, whether single or in batches."""
    rate_limit, taken, now = AccountRateLimit(rate, 0.0), 0, 0.0
    while now < 30.0:
        wait = rate_limit.take(size, now)
        taken += 0 if wait else size
        now += size / rate / 3
    assert taken == pytest.approx(30 * rate, rel=0.05, abs=size)


@pytest.mark.parametrize("size", [1, 10, 100, 500])
def test_a_client_that_honours_retry_after_gets_the_rate(size: int) -> None:
    """Retry-After counts whole seconds: a client that waits by it loses nothing."""
    rate_limit, taken, now = AccountRateLimit(100, 0.0), 0, 0.0
    while now < 60.0:
        wait = rate_limit.take(size, now)
        taken += 0 if wait else size
        now += max(1.0, -(-wait // 1)) if wait else 0.001
    assert taken == pytest.approx(6000, rel=0.05, abs=size)


def test_shares_together_let_in_the_rate_and_one_burst() -> None:
    shares = [AccountRateLimit(300, 0.0) for _ in range(3)]
    for one in shares:
        one.close(0.0)
        one.grant(100.0, 3, 300.0, 0.0)
    taken = 0
    for tick in range(30_000):
        now = tick / 1000
        if tick % 1000 == 0:  # shares go round all the time, as demand does
            parts = [250.0, 40.0, 10.0]
            for number, one in enumerate(shares):
                if parts[(number + tick // 1000) % 3] < one.share.held:
                    one.grant(parts[(number + tick // 1000) % 3], 3, 300.0, now)
            for number, one in enumerate(shares):
                one.grant(parts[(number + tick // 1000) % 3], 3, 300.0, now)
        taken += sum(one.take(1, now) == 0.0 for one in shares)
    assert 300 * 29 < taken <= 300 * 31 + 3


def test_without_a_share_the_wait_is_that_for_a_fair_share() -> None:
    rate_limit = AccountRateLimit(100, 0.0)
    rate_limit.close(0.0)
    assert rate_limit.take(1, 0.0) == 1.0
    rate_limit.grant(0.5, 4, 100.0, 1.0)
    assert rate_limit.take(20, 1.0) == 0.0
    assert rate_limit.take(1, 1.0) == pytest.approx(20 / 25 + 1, abs=0.1), "a quarter is ours when we want it"
    assert repr(rate_limit) == "<AccountRateLimit 0.5 of 100/s>"


def test_a_debt_counts_as_demand() -> None:
    rate_limit = AccountRateLimit(100, 0.0)
    rate_limit.close(0.0)
    rate_limit.grant(1.0, 2, 100.0, 0.0)
    rate_limit.take(5000, 1.0)
    assert [rate_limit.wanted(second) for second in (2.0, 3.0, 20.0)] == [100.0] * 3


def test_another_rate_keeps_the_share() -> None:
    former = AccountRateLimit(100, 0.0)
    former.grant(50.0, 2, 100.0, 0.0)
    assert AccountRateLimit(10, 1.0, former.share).share.held == 5.0
