from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.backoff import BindFailure, delay, failure


@pytest.mark.parametrize(
    ("refused", "was_up", "proven", "kind"),
    [
        (0x0E, 0.0, False, BindFailure.FORBIDDEN),
        (0x0F, 0.0, False, BindFailure.FORBIDDEN),
        (0x53, 0.0, False, BindFailure.FORBIDDEN),
        (0x0D, 0.0, False, BindFailure.REFUSED),
        (0x05, 0.0, False, BindFailure.REFUSED),
        (0x411, 0.0, False, BindFailure.REFUSED),
        (None, 0.0, False, BindFailure.UNREACHABLE),
        (None, 1.0, False, BindFailure.UNREACHABLE),
        (None, 1.0, True, BindFailure.DROPPED),
        (None, 60.0, False, BindFailure.DROPPED),
    ],
)
def test_the_kind_of_a_bind_failure(refused: int | None, was_up: float, proven: bool, kind: BindFailure) -> None:
    assert failure(refused, was_up=was_up, proven=proven) is kind


def test_unreachable_spreads_from_half_a_second_to_thirty() -> None:
    assert [delay(BindFailure.UNREACHABLE, tries, 0.0) for tries in (1, 5, 50)] == [0.5, 0.5, 0.5]
    assert [round(delay(BindFailure.UNREACHABLE, tries, 1.0), 1) for tries in (1, 2, 3, 6, 50)] == [
        1.0,
        2.0,
        4.0,
        30.0,
        30.0,
    ]


def test_refused_doubles_to_a_minute() -> None:
    assert [delay(BindFailure.REFUSED, tries, 1.0) for tries in (1, 2, 3, 7, 50)] == [1, 2, 4, 60, 60]


@given(st.integers(1, 1000), st.floats(0, 0.999))
def test_a_wrong_password_waits_a_minute_to_a_quarter_of_an_hour(tries: int, random: float) -> None:
    assert 60 <= delay(BindFailure.FORBIDDEN, tries, random) <= 900


@given(st.sampled_from(BindFailure), st.integers(1, 10_000), st.floats(0, 0.999))
def test_never_at_once_for_ever_and_never_negative(kind: BindFailure, tries: int, random: float) -> None:
    assert 0 <= delay(kind, tries, random) <= 900
