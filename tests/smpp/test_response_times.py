from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp.response_times import KEPT_FOR, LONGEST, MARGIN, STEP, ResponseTimes


def seen(configured: float, answers: list[float]) -> ResponseTimes:
    times = ResponseTimes(configured)
    times.count(len(answers))
    for seconds in answers:
        if seconds > times.slow:
            times.observe(seconds)
    return times


def test_the_configured_timeout_is_the_minimum() -> None:
    assert seen(30, []).timeout(0) == 30
    assert seen(30, [0.01] * 5000).timeout(0) == 30
    assert seen(30, [19.9] * 5000).timeout(0) == 30


@given(st.floats(0.1, 120), st.floats(0.001, 500))
def test_the_timeout_is_one_and_a_half_times_the_999th_permille_up_to_60_seconds(
    configured: float, seconds: float
) -> None:
    timeout = seen(configured, [seconds] * 10).timeout(0)
    wanted = max(configured, min(LONGEST, seconds * MARGIN))
    assert wanted <= timeout * 1.000001
    assert timeout <= max(wanted * STEP * 1.000001, configured)
    assert timeout <= max(LONGEST, configured)


def test_one_in_a_thousand_may_be_slower() -> None:
    assert seen(2, [0.1] * 998 + [9.0]).timeout(0) > 13
    assert seen(2, [0.1] * 1999 + [9.0]).timeout(0) == 2
    assert seen(2, [0.1] * 1998 + [9.0] * 3).timeout(0) > 13


def test_old_observations_are_forgotten() -> None:
    times = seen(2, [9.0])
    assert times.timeout(0) > 13
    assert times.timeout(KEPT_FOR) > 13
    assert times.timeout(2 * KEPT_FOR - 1) > 13
    assert times.timeout(2 * KEPT_FOR) == 2
    times.count(1)
    times.observe(9.0)
    assert times.timeout(100 * KEPT_FOR) == pytest.approx(2)


def test_repr_says_how_many_were_slow() -> None:
    assert repr(seen(3, [0.1, 0.2, 9])) == "<ResponseTimes 1 of 3 slower than 2 s>"
