from __future__ import annotations

from gateway.gathering import GatherWindow


def window() -> GatherWindow:
    return GatherWindow(idle=2.0, longest=8.0, enough=4)


def test_what_comes_while_it_is_quiet_goes_at_once() -> None:
    one = window()
    one.arrived(100.0)
    assert one.due(1, 100.0) == 100.0
    one.close()
    one.arrived(102.5)  # later than idle: at this rate nothing would join it
    assert one.due(1, 102.5) == 102.5


def test_items_wait_while_others_follow_but_not_for_ever() -> None:
    one = window()
    one.arrived(100.0)
    one.close()
    one.arrived(101.0)
    assert one.due(1, 101.0) == 103.0
    one.arrived(102.5)
    assert one.due(2, 103.0) == 104.5
    one.arrived(104.0)
    assert one.due(3, 104.5) == 106.0
    one.arrived(108.0)
    assert one.due(3, 108.0) == 109.0, "eight seconds after the first"
    assert one.due(3, 111.0) == 111.0, "never in the past"


def test_enough_items_wait_for_no_more() -> None:
    one = window()
    one.arrived(100.0)
    one.close()
    one.arrived(101.0)
    assert one.due(3, 101.0) == 103.0
    assert one.due(4, 101.0) == 101.0


def test_after_an_answer_the_gap_begins_anew_for_those_who_ask_again() -> None:
    one = window()
    one.arrived(100.0)
    one.close()
    one.answered(105.0, waiting=False)
    one.arrived(106.0)  # the one before came six seconds ago, but was answered just now
    assert one.due(1, 106.0) == 108.0
    one.close()
    one.answered(110.0, waiting=True)
    assert one.due(2, 110.0) == 112.0, "what came during the call does not go without them"


def test_repr() -> None:
    one = window()
    assert repr(one) == "<GatherWindow closed, 2.0 to 8.0 s>"
    one.arrived(1.0)
    assert repr(one) == "<GatherWindow open, 2.0 to 8.0 s>"
