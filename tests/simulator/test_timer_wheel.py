from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.timer_wheel import TimerWheel


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 110)))
def test_nothing_comes_early_and_all_of_it_in_time(dues: list[float], looks: list[float]) -> None:
    wheel: TimerWheel[float] = TimerWheel(grain=0.01)
    for due in dues:
        wheel.add(due, due)
    left = sorted(dues)
    for now in [*sorted(looks), 200.0]:
        found = wheel.due(now)
        assert all(due <= now for due in found)
        for due in found:
            left.remove(due)
        assert all(due > now - 0.011 for due in left)
        assert len(wheel) == len(left)
    assert left == [] and wheel.next == inf


def test_items_of_one_slot_keep_their_order() -> None:
    wheel: TimerWheel[int] = TimerWheel()
    for number in range(5):
        wheel.add(1.0, number)
    assert wheel.next > 1.0
    assert wheel.due(wheel.next) == [0, 1, 2, 3, 4]
