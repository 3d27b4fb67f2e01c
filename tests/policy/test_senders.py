"""Pace per sender, with time as an argument."""

from __future__ import annotations

import pytest

from gateway.policy.senders import HORIZON, NOW, SenderLimits


def test_the_exact_name_counts_before_the_longest_beginning() -> None:
    senders = SenderLimits({"SHOP": 5, "SH*": 7, "SHOPS*": 9, "*": 1})
    rates = {name: senders.rate(name) for name in ("SHOP", "SHIP", "SHOPS2", "ELSE")}
    assert rates == {"SHOP": 5, "SHIP": 7, "SHOPS2": 9, "ELSE": 1}
    assert SenderLimits({"SHOP": 5}).rate("shop") == 0
    assert (bool(senders), bool(SenderLimits({}))) == (True, False)


def test_without_a_rate_there_is_no_wait() -> None:
    senders = SenderLimits({"SHOP": 1})
    assert [senders.turn("BANK", 1, 0.0).wait for n in range(100)] == [0.0] * 100


def test_each_gets_its_turn_and_is_let_through_when_it_comes() -> None:
    senders = SenderLimits({"SHOP": 10})
    waits = [senders.turn("SHOP", 1, 100.0).wait for n in range(5)]
    assert waits == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert senders.turn("SHOP", 1, 100.1).wait == pytest.approx(0.4)  # behind those that have a turn
    assert senders.turn("OTHER", 1, 100.0).wait == 0


def test_senders_of_a_pattern_have_a_rate_each() -> None:
    senders = SenderLimits({"1069*": 1})
    assert [senders.turn(name, 1, 5.0).wait for name in ("10691", "10692", "10693")] == [0, 0, 0]
    assert senders.turn("10691", 1, 5.0).wait == pytest.approx(1)


def test_parts_count() -> None:
    senders = SenderLimits({"SHOP": 10})
    assert senders.turn("SHOP", 4, 50.0).wait == 0
    assert senders.turn("SHOP", 1, 50.0).wait == pytest.approx(0.4)


def test_a_backlog_is_spread_and_a_one_time_password_does_not_queue_behind_it() -> None:
    senders = SenderLimits({"SHOP": 2})
    waits = [senders.turn("SHOP", 1, 0.0).wait for n in range(1000)]
    near = [wait for wait in waits if wait <= HORIZON]
    assert len(near) == 1 + HORIZON * 2 + 1  # now, the turns given, and the first to ask again
    assert waits[-1] == pytest.approx((1000 - len(near)) / 2 + HORIZON)
    assert senders.turn("SHOP", 1, 0.0, urgent=True).wait == pytest.approx(HORIZON + 0.5)


def test_the_rate_holds_over_a_long_backlog() -> None:
    senders = SenderLimits({"SHOP": 50})
    waiting = [(0.0, number, False) for number in range(1000)]
    written: list[float] = []
    asked = 0
    while waiting:
        waiting.sort()
        at, message, kept = waiting.pop(0)
        asked += 1
        turn = NOW if kept else senders.turn("SHOP", 1, at)
        if turn.wait:
            waiting.append((at + turn.wait, message, turn.kept))
        else:
            written.append(at)
    assert written[-1] == pytest.approx(1000 / 50, rel=0.05)
    assert all(sum(1 for at in written if start <= at < start + 1) <= 50 * 1.05 + 2 for start in range(20))
    assert asked <= 3 * 1000
