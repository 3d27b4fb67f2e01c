"""Pace per sender, with time as an argument."""

from __future__ import annotations

import pytest

from gateway.policy.senders import HORIZON, Senders


def test_the_exact_name_counts_before_the_longest_beginning() -> None:
    senders = Senders({"SHOP": 5, "SH*": 7, "SHOPS*": 9, "*": 1})
    rates = {name: senders.rate(name) for name in ("SHOP", "SHIP", "SHOPS2", "ELSE")}
    assert rates == {"SHOP": 5, "SHIP": 7, "SHOPS2": 9, "ELSE": 1}
    assert Senders({"SHOP": 5}).rate("shop") == 0
    assert (bool(senders), bool(Senders({}))) == (True, False)


def test_without_a_rate_nobody_waits() -> None:
    senders = Senders({"SHOP": 1})
    assert [senders.wait("BANK", 1, b"%d" % n, 0.0) for n in range(100)] == [0.0] * 100


def test_each_gets_its_turn_and_is_let_through_when_it_comes() -> None:
    senders = Senders({"SHOP": 10})
    waits = [senders.wait("SHOP", 1, b"%d" % n, 100.0) for n in range(5)]
    assert waits == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert senders.wait("SHOP", 1, b"new", 100.1) == pytest.approx(0.4)  # behind those that have a turn
    assert [senders.wait("SHOP", 1, b"%d" % n, 100.0 + waits[n]) for n in range(1, 5)] == [0] * 4
    assert senders.wait("OTHER", 1, b"x", 100.0) == 0


def test_senders_of_a_pattern_have_a_rate_each() -> None:
    senders = Senders({"1069*": 1})
    assert [senders.wait(name, 1, name.encode(), 5.0) for name in ("10691", "10692", "10693")] == [0, 0, 0]
    assert senders.wait("10691", 1, b"y", 5.0) == pytest.approx(1)


def test_parts_count() -> None:
    senders = Senders({"SHOP": 10})
    assert senders.wait("SHOP", 4, b"long", 50.0) == 0
    assert senders.wait("SHOP", 1, b"next", 50.0) == pytest.approx(0.4)


def test_a_backlog_is_spread_and_a_code_does_not_queue_behind_it() -> None:
    senders = Senders({"SHOP": 2})
    waits = [senders.wait("SHOP", 1, b"%d" % n, 0.0) for n in range(1000)]
    near = [wait for wait in waits if wait <= HORIZON]
    assert len(near) == 1 + HORIZON * 2 + 1  # now, the turns given, and the first to ask again
    assert waits[-1] == pytest.approx((1000 - len(near)) / 2 + HORIZON)
    assert senders.wait("SHOP", 1, b"code", 0.0, urgent=True) == pytest.approx(HORIZON + 0.5)


def test_the_rate_holds_over_a_long_backlog() -> None:
    senders = Senders({"SHOP": 50})
    waiting = [(0.0, b"%d" % number) for number in range(1000)]
    written: list[float] = []
    asked = 0
    while waiting:
        waiting.sort()
        at, message = waiting.pop(0)
        asked += 1
        wait = senders.wait("SHOP", 1, message, at)
        if wait:
            waiting.append((at + wait, message))
        else:
            written.append(at)
    assert written[-1] == pytest.approx(1000 / 50, rel=0.05)
    assert all(sum(1 for at in written if start <= at < start + 1) <= 50 * 1.05 + 2 for start in range(20))
    assert asked <= 3 * 1000
