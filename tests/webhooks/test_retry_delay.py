"""The delay before the next try: bounded, growing with the outage, spread by jitter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.retry_delay import LONGEST, LONGEST_REQUESTED, SHORTEST, retry_delay

outages = st.floats(0, 7 * 86400)
chances = st.floats(0, 1)


@given(outages, chances, st.floats(0, 1e6))
def test_delays_are_bounded(outage: float, chance: float, requested: float) -> None:
    seconds = retry_delay(outage, chance, requested)
    assert SHORTEST * 0.75 <= seconds <= max(LONGEST * 1.25, LONGEST_REQUESTED)
    assert seconds >= min(requested, LONGEST_REQUESTED)


@given(outages, outages, chances)
def test_the_longer_the_outage_the_longer_the_delay(one: float, other: float, chance: float) -> None:
    shorter, longer = sorted((one, other))
    assert retry_delay(shorter, chance) <= retry_delay(longer, chance)


@given(st.floats(2.5, 9000), chances)
def test_an_endpoint_that_is_back_is_found_within_an_eighth_of_the_outage(outage: float, chance: float) -> None:
    assert retry_delay(outage, chance) <= outage / 8 + 1e-9


@given(st.lists(chances, min_size=300, max_size=300))
def test_a_day_takes_less_than_three_hundred_tries(chances_: list[float]) -> None:
    outage, tries = 0.0, 0
    for chance in chances_:
        if outage >= 86400:
            break
        outage += retry_delay(outage, chance)
        tries += 1
    assert outage >= 86400
    assert tries >= 100


@given(chances, chances)
def test_jitter_spreads(one: float, other: float) -> None:
    delay, other_delay = retry_delay(100, one), retry_delay(100, other)
    assert (delay == other_delay) == (abs(delay - other_delay) == 0)
    assert retry_delay(100, 0) == 7.5
    assert retry_delay(100, 1) == 12.5
