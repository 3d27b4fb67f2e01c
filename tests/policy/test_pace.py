from __future__ import annotations

from collections import deque
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.pace import FLOOR, Pace, TokenBucket


def test_starts_empty_and_fills_to_a_twentieth_of_a_second() -> None:
    bucket = TokenBucket(1000, 0.0)
    assert bucket.available(0.0) == 0
    assert bucket.take(100, 0.01) == 10
    assert bucket.available(10.0) == 50
    assert bucket.take(100, 10.0) == 50
    assert bucket.take(100, 10.0) == 0


def test_no_rate_is_no_limit() -> None:
    assert TokenBucket(0, 0.0).take(12345, 0.0) == 12345
    assert TokenBucket(0, 0.0).available(0.0) == inf


def test_slow_rates_still_give_one_at_a_time() -> None:
    bucket = TokenBucket(0.5, 0.0)
    assert [bucket.take(5, float(second)) for second in range(9)] == [0, 0, 1, 0, 1, 0, 1, 0, 1]


def test_fractions_are_not_lost_when_the_rate_changes() -> None:
    bucket = TokenBucket(100, 0.0)
    got = 0
    for step in range(1, 1001):
        bucket.set_rate(100 + step % 2, step * 0.001)
        got += bucket.take(10, step * 0.001)
    assert 99 <= got <= 102


def test_wait_says_when() -> None:
    bucket = TokenBucket(100, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(0.01)
    assert bucket.take(1, bucket.wait(1, 0.0)) == 1


def test_debt_delays_later_takes() -> None:
    bucket = TokenBucket(100, 0.0)
    bucket.spend(10, 0.0)
    assert bucket.take(5, 0.1) == 0
    assert bucket.take(5, 0.12) == 2


def test_a_pause_saves_nothing_up() -> None:
    bucket = TokenBucket(100, 0.0)
    bucket.pause(5.0)
    assert bucket.take(5, 5.0) == 0
    assert bucket.take(5, 5.02) == 2


@given(
    rate=st.floats(0.5, 20000),
    steps=st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 2000)), min_size=1, max_size=60),
)
def test_any_window_is_exact(rate: float, steps: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(rate, 0.0)
    now = 0.0
    taken: list[tuple[float, int]] = []
    for gap, want in steps:
        now += gap
        taken.append((now, bucket.take(want, now)))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            sent = sum(count for _, count in taken[first : last + 1])
            span = taken[last][0] - taken[first][0]
            assert sent <= rate * span + bucket.burst + 1e-3
    assert sum(count for _, count in taken) <= rate * now + 1e-3


# --- the adaptive part: carriers that allow 200 a second, each counting in its own way


class TokenCarrier:
    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, 0.0

    def accepts(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class WindowCarrier:
    """At most ``limit`` in any second gone by."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen: deque[float] = deque()

    def accepts(self, now: float) -> bool:
        while self.seen and self.seen[0] <= now - 1:
            self.seen.popleft()
        if len(self.seen) >= self.limit:
            return False
        self.seen.append(now)
        return True


def drain(carrier, ceiling: float, *, total: int = 6000, offered: float = 1000, rtt: float = 0.002, window: int = 200):  # type: ignore[no-untyped-def]
    """6,000 messages offered at 1,000/s; what is throttled is offered again. Answers (seconds, submits, throttled)."""
    pace = Pace(ceiling, 0.0)
    now, waiting, arrived, done, submits, throttled = 0.0, 0, 0, 0, 0, 0
    flight: deque[tuple[float, bool]] = deque()
    while done < total:
        now += 0.002
        assert now < 300
        arrived, waiting = (fresh := min(total, int(now * offered))), waiting + fresh - arrived
        good = bad = 0
        while flight and flight[0][0] <= now:
            if flight.popleft()[1]:
                good += 1
            else:
                bad += 1
        done, throttled, waiting = done + good, throttled + bad, waiting + bad
        if good or bad:
            pace.answered(good, bad, now, rtt)
        for _ in range(pace.take(min(waiting, window - len(flight)), now)):
            submits, waiting = submits + 1, waiting - 1
            flight.append((now + rtt, carrier.accepts(now + rtt / 2)))
    return now, submits, throttled


@pytest.mark.parametrize("rtt", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("ceiling", [1000, 0])
def test_finds_the_rate_of_a_carrier_with_a_token_bucket(ceiling: float, rtt: float) -> None:
    seconds, submits, throttled = drain(TokenCarrier(200, 50), ceiling, rtt=rtt)
    assert throttled <= 0.10 * submits
    assert 6000 / seconds >= 0.85 * 200
    assert seconds <= 36


@pytest.mark.parametrize("rtt", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("ceiling", [1000, 0])
def test_finds_the_rate_of_a_carrier_with_a_hard_window(ceiling: float, rtt: float) -> None:
    seconds, submits, throttled = drain(WindowCarrier(200), ceiling, rtt=rtt)
    assert throttled <= 0.10 * submits
    assert 6000 / seconds >= 0.85 * 200


def test_a_clean_carrier_is_never_slowed() -> None:
    seconds, submits, throttled = drain(TokenCarrier(5000, 5000), 500)
    assert (submits, throttled) == (6000, 0)
    assert seconds == pytest.approx(12, rel=0.02)


def test_comes_back_to_the_ceiling_when_the_carrier_recovers() -> None:
    pace = Pace(1000, 0.0)
    pace.answered(20, 5, 0.1)
    assert pace.bucket.rate <= 700
    assert pace.slowed
    now = 0.1
    while pace.slowed:
        now += 0.01
        pace.answered(pace.take(1000, now), 0, now)
        assert now < 60
    assert pace.bucket.rate == 1000


def test_comes_back_from_the_floor_with_long_messages_while_others_ask() -> None:
    """A take of one permit sends three parts; hundreds of looks a second find nothing to take."""
    pace = Pace(0, 0.0)
    for step in range(40):
        pace.answered(0, 10, 1 + step * 0.5)
    assert pace.bucket.rate == FLOOR
    now = 30.0
    while pace.bucket.rate < 200:
        now += 0.003
        if pace.available(now) >= 1 and pace.take(100, now):
            pace.spend(2, now)
            pace.answered(3, 0, now)
        assert now < 90


def test_occasional_throttled_responses_do_not_slow_the_bind() -> None:
    pace, now, sent = Pace(400, 0.0), 0.0, 0
    while now < 60:
        now += 0.01
        got = pace.take(100, now)
        bad = (sent + got) // 100 - sent // 100
        sent += got
        if got:
            pace.answered(got - bad, bad, now)
    assert sent > 0.9 * 400 * 60


def test_idle_time_proves_nothing() -> None:
    pace = Pace(1000, 0.0)
    pace.answered(100, 5, 0.5)
    slow = pace.bucket.rate
    assert pace.take(1, 3600.0) == 1
    assert pace.take(1, 7200.0) == 1
    assert pace.bucket.rate == slow


def test_one_decrease_per_response_time() -> None:
    pace = Pace(1000, 0.0)
    for step in range(100):
        pace.answered(0, 10, 1 + step * 0.001, response_time=0.5)
    assert pace.decreases == 1


def test_repr_is_a_status_line() -> None:
    assert repr(Pace(0, 0.0)) == "<Pace unlimited of 0/s, 0 decreases>"
    assert repr(Pace(500, 0.0)) == "<Pace 500/s of 500/s, 0 decreases>"
    assert repr(TokenBucket(100, 0.0)) == "<TokenBucket 100.0/s burst 5.0>"
