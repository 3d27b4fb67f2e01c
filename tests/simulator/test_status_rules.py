from __future__ import annotations

from random import Random

from gateway.simulator.faults import Faults, StatusRule
from gateway.simulator.status_rules import StatusRules, has_passed


def statuses(rules: list[StatusRule], dests: list[bytes]) -> list[int]:
    decider = StatusRules(Random(1))
    return [decider.status(rules, count, dest, b"text") for count, dest in enumerate(dests, 1)]


def test_each_condition_alone() -> None:
    assert statuses([StatusRule(8)], [b"1"] * 2) == [8, 8]
    assert statuses([StatusRule(8, every=3)], [b"1"] * 6) == [0, 0, 8, 0, 0, 8]
    assert statuses([StatusRule(8, dest="46")], [b"461", b"47", b"4"]) == [8, 0, 0]
    assert statuses([StatusRule(8, first=2)], [b"1", b"1", b"2", b"1"]) == [8, 8, 8, 0]
    assert 20 < statuses([StatusRule(8, prob=0.3)], [b"1"] * 100).count(8) < 40


def test_all_conditions_hold_together_and_the_first_rule_wins() -> None:
    rules = [StatusRule(8, dest="46", every=2), StatusRule(0x58, dest="4")]
    assert statuses(rules, [b"46", b"46", b"4", b"5"]) == [0x58, 8, 0x58, 0]


def test_the_rate_is_kept_over_any_second() -> None:
    rules, faults = StatusRules(Random(1)), Faults(rate=100, burst=10)
    accepted = [now for now in (count / 1000 for count in range(5000)) if not rules.throttled(faults, now)]
    assert len(accepted) == 10 + 499
    assert sum(now < 0.01 for now in accepted) == 10
    for start in (1.0, 2.0, 3.0):
        assert 99 <= sum(start <= now < start + 1 for now in accepted) <= 101


def test_without_a_burst_a_tenth_of_a_second_may_come_at_once() -> None:
    rules = StatusRules(Random(1))
    assert sum(not rules.throttled(Faults(rate=50), 7.0) for _ in range(100)) == 5


def test_validities_are_told_apart_by_their_form() -> None:
    decider = StatusRules(Random(1))
    forms = (b"", b"260701120000000+", b"260701120000022-", b"000000001000000R")
    for form, hits in (("any", 3), ("absolute", 2), ("relative", 1), ("", 4)):
        rules = [StatusRule(0x62, validity=form)]  # type: ignore[arg-type]
        assert sum(decider.status(rules, 1, b"46", b"x", each) == 0x62 for each in forms) == hits


def test_a_clock_that_ignores_the_offset() -> None:
    noon = 1_782_907_200  # 2026-07-01 12:00 UTC
    assert not has_passed(b"260701121000000+", 0, noon)
    assert has_passed(b"260701115959000+", 0, noon)
    assert has_passed(b"260701121000000+", 330, noon)
    assert not has_passed(b"260701174000022+", 330, noon)
    assert has_passed(b"999999999999000+", 0, noon)
    assert not has_passed(b"000000001000000R", 0, noon)
    assert not has_passed(b"", 0, noon)
