from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import retry_delay
from gateway.webhooks.retry_delay import wait

outages = st.floats(0, 7 * 86400)
chances = st.floats(0, 1)


@given(outages, chances, st.floats(0, 1e6))
def test_waits_are_bounded(outage: float, chance: float, asked: float) -> None:
    seconds = wait(outage, chance, asked)
    assert retry_delay.SHORTEST * 0.75 <= seconds <= max(retry_delay.LONGEST * 1.25, retry_delay.LONGEST_ASKED)
    assert seconds >= min(asked, retry_delay.LONGEST_ASKED)


@given(outages, outages, chances)
def test_the_longer_the_outage_the_longer_the_wait(one: float, other: float, chance: float) -> None:
    shorter, longer = sorted((one, other))
    assert wait(shorter, chance) <= wait(longer, chance)


@given(st.floats(2.5, 9000), chances)
def test_who_comes_back_is_found_within_an_eighth_of_the_outage(outage: float, chance: float) -> None:
    assert wait(outage, chance) <= outage / 8 + 1e-9


@given(st.lists(chances, min_size=300, max_size=300))
def test_a_day_takes_less_than_three_hundred_tries(chances_: list[float]) -> None:
    outage, tries = 0.0, 0
    for chance in chances_:
        if outage >= 86400:
            break
        outage += wait(outage, chance)
        tries += 1
    assert outage >= 86400
    assert tries >= 100


@given(chances, chances)
def test_jitter_spreads(one: float, other: float) -> None:
    assert (wait(100, one) == wait(100, other)) == (abs(wait(100, one) - wait(100, other)) == 0)
    assert wait(100, 0) == 7.5
    assert wait(100, 1) == 12.5
