from __future__ import annotations

import pytest

from gateway.policy.pace import Pace
from gateway.policy.senders import HORIZON, NOW, SenderLimits, Turn
from gateway.policy.share import LimitShare, RateDemand


def test_before_the_first_grant_the_whole_limit_counts() -> None:
    share = LimitShare(100.0)
    assert (share.held, share.asked, repr(share)) == (100.0, False, "<LimitShare 100 of 100, 1 members>")
    share.set_limit(300.0)
    assert share.held == 300.0


def test_a_lower_limit_lowers_the_share_at_once_and_a_higher_one_waits_for_the_next_grant() -> None:
    share = LimitShare(100.0)
    share.grant(50.0, 2, 100.0)
    share.set_limit(20.0)
    assert (share.held, share.fair) == (10.0, 10.0)
    share.set_limit(200.0)
    assert (share.held, share.fair) == (10.0, 100.0)


def test_a_grant_that_was_asked_for_under_a_higher_limit_shrinks_with_it() -> None:
    share = LimitShare(100.0)
    share.close()
    share.set_limit(50.0)
    share.grant(80.0, 1, 100.0)
    assert share.held == 40.0


def test_a_demand_rises_at_once_and_falls_slowly() -> None:
    demand = RateDemand(0.0)
    assert demand.wanted(100.0, 0.0) == 100.0, "before the first measurement everything is wanted"
    for second in range(1, 10):
        before = demand.wanted(100.0, float(second))
    assert before == pytest.approx(1.0, abs=0.01), "… and nothing but a trace when nothing comes"
    demand.add(60)
    assert demand.wanted(100.0, 10.0) == pytest.approx(64.0)
    assert 10 < demand.wanted(100.0, 11.0) < 30
    assert demand.wanted(100.0, 12.0, least=50.0) == pytest.approx(53.5)
    demand.add(1)
    assert demand.wanted(100.0, 12.01) == pytest.approx(53.5), "one request in ten milliseconds is no flood"


def test_a_pace_keeps_to_its_share_and_sends_nothing_without_one() -> None:
    pace = Pace(1000, 0.0)
    pace.grant(200.0, 5, 1000.0, 0.0)
    assert sum(pace.take(1000, tick / 100) for tick in range(1, 1001)) == pytest.approx(2000, abs=2)
    pace.share.close()
    assert (pace.closed, pace.available(11.0), pace.take(5, 11.0)) == (True, 0, 0)
    pace.grant(1000.0, 1, 1000.0, 12.0)
    assert (pace.slowed, pace.bucket.rate) == (False, 1000.0)


def test_a_learned_rate_outlasts_a_small_share() -> None:
    pace = Pace(1000, 0.0)
    pace.answered(30, 5, 0.5)
    taught = pace.bucket.rate
    assert pace.slowed
    pace.grant(taught / 2, 2, 1000.0, 1.0)
    assert (pace.slowed, pace.bucket.rate) == (False, taught / 2)
    pace.grant(1000.0, 1, 1000.0, 2.0)
    assert (pace.slowed, pace.bucket.rate) == (True, taught)


def test_a_pace_demands_everything_when_permits_were_the_bottleneck_and_else_what_it_used() -> None:
    pace = Pace(100, 0.0)
    pace.grant(50.0, 2, 100.0, 0.0)
    for second in range(1, 8):
        pace.take(1000, second - 0.5)
        assert pace.wanted(float(second)) == 100.0
    for second in range(8, 20):
        taken = pace.take(100, second - 0.5)
        pace.give_back(taken)
        wanted = pace.wanted(float(second))
    assert wanted == pytest.approx(1.0, abs=0.1)


def test_senders_keep_to_their_share_of_a_rate() -> None:
    senders = SenderLimits({"SHOP": 10, "1069*": 4})
    (shop, codes) = senders.patterns
    senders.grant(shop, 5.0, 2, 10.0, 0.0)
    assert [senders.turn("SHOP", 1, 0.0).wait for n in range(3)] == pytest.approx([0.0, 0.2, 0.4])
    senders.grant(shop, 10.0, 1, 10.0, 0.0)
    assert senders.turn("SHOP", 1, 0.0).wait == pytest.approx(0.5)
    codes.share.close()
    assert senders.turn("10691", 1, 0.0) == Turn(HORIZON, False), "no share: to ask again"
    assert senders.turn("OTHER", 1, 0.0) is NOW
    assert (shop.wanted(1.0), codes.wanted(1.0)) == (10.0, 4.0)
