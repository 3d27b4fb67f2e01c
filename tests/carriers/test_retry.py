from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.retry import (
    QUEUE_FULL_LIMIT,
    RETRY_LIMIT,
    SPREAD,
    STEP_ASIDE_LIMIT,
    RetryDecision,
    blamed,
    decide,
    tries,
)
from gateway.model import Reason, Resolution
from gateway.smpp.status import CommandStatus, RetryClass

ANY = st.integers(1, 0xFFFFFFFF) | st.sampled_from([int(status) for status in CommandStatus if status])


@pytest.mark.parametrize(
    ("status", "attempts", "last", "resolution", "reason"),
    [
        (0x58, 9, True, Resolution.BACK, Reason.THROTTLED),
        (0x58, 9, False, Resolution.BACK, Reason.THROTTLED),
        (0x04, 9, False, Resolution.BACK, Reason.BIND_LOST),
        (0x14, 9, True, Resolution.RETRY, Reason.CARRIER_RETRY),
        (0x08, 0, True, Resolution.RETRY, Reason.CARRIER_RETRY),
        (0x08, 1, True, Resolution.RETRY, Reason.CARRIER_RETRY),
        (0x08, 2, True, Resolution.FAILED, Reason.RETRIES_EXHAUSTED),
        (0x08, 2, False, Resolution.NEXT, Reason.NEXT_CARRIER),
        (0x45, 1, False, Resolution.NEXT, Reason.NEXT_CARRIER),
        (0xFF, 1, True, Resolution.FAILED, Reason.RETRIES_EXHAUSTED),
        (0x411, 0, True, Resolution.RETRY, Reason.CARRIER_RETRY),
        (0x411, 1, False, Resolution.NEXT, Reason.NEXT_CARRIER),
        (0xFFFF, 1, True, Resolution.FAILED, Reason.RETRIES_EXHAUSTED),
        (0x02, 0, True, Resolution.RETRY, Reason.CARRIER_RETRY),
        (0x02, 1, True, Resolution.FAILED, Reason.RETRIES_EXHAUSTED),
        (0x0A, 0, False, Resolution.NEXT, Reason.NEXT_CARRIER),
        (0x0A, 0, True, Resolution.REJECTED, Reason.CARRIER_REFUSED),
        (0x0B, 0, False, Resolution.REJECTED, Reason.CARRIER_REFUSED),
        (0x0C, 0, False, Resolution.REJECTED, Reason.CARRIER_REFUSED),
    ],
)
def test_table(status: int, attempts: int, last: bool, resolution: Resolution, reason: Reason) -> None:
    word = decide([status], attempts=attempts, last_place=last)
    assert (word.resolution, word.reason, word.status) == (resolution, reason, status)
    assert (word.delay > 0) == (resolution is Resolution.RETRY)


@pytest.mark.parametrize(
    ("status", "kind", "times", "others", "attempts", "last", "resolution"),
    [
        (0x58, RetryClass.THROTTLE, 4, True, 0, True, Resolution.BACK),
        (0x58, RetryClass.THROTTLE, 5, True, 0, True, Resolution.RETRY),
        (0x58, RetryClass.THROTTLE, 99, True, 99, True, Resolution.RETRY),  # only its expiry ends it
        (0x58, RetryClass.THROTTLE, 99, False, 0, True, Resolution.BACK),  # everybody is throttled
        (0x04, RetryClass.SESSION, 2, True, 0, True, Resolution.BACK),
        (0x04, RetryClass.SESSION, 3, True, 0, True, Resolution.RETRY),
        (0x04, RetryClass.SESSION, 5, True, 2, False, Resolution.NEXT),
        (0x04, RetryClass.SESSION, 5, True, 2, True, Resolution.FAILED),
        (0x04, RetryClass.SESSION, 99, False, 99, True, Resolution.RETRY),  # nothing else gets through either
    ],
)
def test_what_one_message_brings_about_again_and_again_is_its_own_fault(
    status: int, kind: RetryClass, times: int, others: bool, attempts: int, last: bool, resolution: Resolution
) -> None:
    word = blamed(decide([status]), kind, times, attempts, last, others=others)
    assert (word.resolution, word.status) == (resolution, status)
    assert (word.delay > 0) == (resolution is Resolution.RETRY)
    assert word.delay <= STEP_ASIDE_LIMIT


def test_two_refusals_then_accepted_takes_less_than_a_minute() -> None:
    delays = [decide([0x08], attempts=attempts, random=0.999).delay for attempts in (0, 1)]
    assert delays[0] < delays[1]
    assert 5 <= delays[0] <= 30
    assert sum(delays) < 60


def test_queue_full_grows_to_five_minutes() -> None:
    delays = [decide([0x14], attempts=attempts).delay for attempts in range(8)]
    assert delays == [30, 60, 120, 240, 300, 300, 300, 300]


def test_unknown_outranks_every_refusal() -> None:
    assert decide([0x0B], unknown=True) == RetryDecision(Resolution.UNKNOWN, Reason.NO_ANSWER)


def test_the_worst_part_decides() -> None:
    assert decide([0x58, 0x08, 0x0B, 0x14]).resolution is Resolution.REJECTED
    assert decide([0x58, 0x08, 0x14]).status == 0x08
    assert decide([0x58, 0x04]).reason is Reason.THROTTLED


def test_unwritten_parts_bring_it_back() -> None:
    assert decide([], unwritten=True) == RetryDecision(Resolution.BACK, Reason.BIND_LOST)
    assert decide([]).resolution is Resolution.SENT


def test_a_carriers_own_table_wins() -> None:
    own = {0x411: RetryClass.THROTTLE, 0x0B: RetryClass.RETRY}
    assert decide([0x411], overrides=own).resolution is Resolution.BACK
    assert decide([0x0B], overrides=own).resolution is Resolution.RETRY
    assert tries(0x0B, own) == 3


@given(st.lists(ANY, min_size=1, max_size=5), st.integers(0, 50), st.booleans(), st.floats(0, 0.999))
def test_any_status_ends_somewhere(refused: list[int], attempts: int, last: bool, random: float) -> None:
    word = decide(refused, attempts=attempts, last_place=last, random=random)
    assert word.resolution is not Resolution.SENT
    assert word.status in refused
    assert 0 <= word.delay <= max(RETRY_LIMIT, QUEUE_FULL_LIMIT) * (1 + SPREAD)
    assert not (last and word.resolution is Resolution.NEXT)
