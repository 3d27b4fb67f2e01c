"""When a plan is paused and a template pulled."""

from __future__ import annotations

import pytest

from gateway.policy.breakers import COMPLAINTS_A_MONTH, OPT_OUTS_A_DAY, Threshold, pulled, tripped


@pytest.mark.parametrize(
    ("events", "delivered", "threshold", "expected"),
    [
        (5, 1000, OPT_OUTS_A_DAY, False),  # 0.5 % is not over 0.5 %
        (6, 1000, OPT_OUTS_A_DAY, True),
        (199, 199, OPT_OUTS_A_DAY, False),  # too few to say anything
        (2, 200, OPT_OUTS_A_DAY, True),
        (3, 1000, COMPLAINTS_A_MONTH, False),
        (4, 1000, COMPLAINTS_A_MONTH, True),
        (0, 1000, Threshold(0.0), False),
    ],
)
def test_a_share_over_the_threshold_of_enough_deliveries(
    events: int, delivered: int, threshold: Threshold, expected: bool
):
    assert tripped(events, delivered, threshold) is expected


def test_a_template_survives_five_complaints():
    assert not pulled(5)
    assert pulled(6)
