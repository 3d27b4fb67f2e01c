from __future__ import annotations

import pytest

from gateway.carriers.read_budget import (
    BURST,
    IDLE_BURST,
    IDLE_RATE,
    LOOK_AGAIN,
    SHARE,
    SHARED_BURST,
    SHARED_RATE,
    ReadBudget,
    ReadCredit,
    shared_credit,
)
from gateway.carriers.read_control import INBOUND_WINDOW


def read(*carriers: ReadBudget, seconds: float, turn: int) -> int:
    """How many PDUs get read in so long of carriers that never stop sending what is of no use, a turn at a time."""
    looks, count = [0.0] * len(carriers), 0
    for millisecond in range(round(seconds * 1000)):
        now = millisecond / 1000
        for number, carrier in enumerate(carriers):
            if looks[number] <= now:
                rest = carrier.rest(now)
                looks[number] = now + rest
                if not rest:
                    carrier.charge(turn, now)
                    count += turn
    return count


class TestTime:
    def test_reading_takes_no_more_than_its_share(self) -> None:
        budget, clock, spent = ReadBudget(), 0.0, 0.0
        while clock < 10:
            rest = budget.spend(0.004, clock)
            spent += 0.004
            clock += 0.004 + rest
        assert spent <= 10 * SHARE + BURST + 0.004
        assert spent >= 10 * SHARE - 0.01

    def test_within_the_share_there_is_no_rest(self) -> None:
        budget = ReadBudget()
        assert [budget.spend(0.004, n * 0.01) for n in range(1000)] == [0] * 1000

    def test_a_pause_saves_up_no_more_than_the_burst(self) -> None:
        budget = ReadBudget()
        budget.spend(0, 0)
        assert budget.spend(BURST, 1000) == 0
        assert budget.spend(0.001, 1000) == pytest.approx(0.001 / SHARE)

    def test_repr_is_a_status_line(self) -> None:
        assert repr(ReadBudget()) == "<ReadBudget 10.0 ms, 1000 idle>"


class TestIdle:
    def test_what_is_of_no_use_is_read_at_the_rate_of_one_carrier_and_what_is_shared_by_all(self) -> None:
        count = read(ReadBudget(), seconds=10.0, turn=50)
        rate = IDLE_RATE + SHARED_RATE
        assert rate * 10 * 0.9 <= count <= IDLE_BURST + SHARED_BURST + rate * 10 + 50

    def test_what_is_ours_is_read_without_a_rest(self) -> None:
        budget = ReadBudget()
        for turn in range(1000):  # 160,000 receipts a second
            budget.charge(160, turn * 0.001)
            assert budget.rest(turn * 0.001) == 0.0
            budget.pay_back(160)

    def test_a_carrier_that_says_everything_three_times_is_not_slowed_down(self) -> None:
        """Of a message an intermediate state, the final one, and that again."""
        budget = ReadBudget()
        for turn in range(1000):
            budget.charge(150, turn * 0.001)
            assert budget.rest(turn * 0.001) == 0.0
            budget.pay_back(50)

    def test_receipts_that_come_before_their_answers_are_paid_for_by_these(self) -> None:
        """They are parked, and never reported as applied."""
        budget = ReadBudget(ReadCredit(0.0, 0.0))
        for turn in range(1000):
            now = turn * 0.001
            budget.charge(160, now)
            assert budget.rest(now) == 0.0
            budget.charge(-160, now)

    def test_answers_save_up_no_more_than_the_burst(self) -> None:
        budget = ReadBudget(ReadCredit(0.0, 0.0))
        budget.charge(-5000, 0.0)
        budget.charge(int(IDLE_BURST) + 1, 0.0)
        assert budget.rest(0.0) > 0

    def test_a_whole_inbound_window_is_read_before_any_of_it_is_known_to_be_of_use(self) -> None:
        budget = ReadBudget(ReadCredit(0.0, 0.0))
        budget.charge(INBOUND_WINDOW, 0.0)
        assert budget.rest(0.0) == 0.0

    def test_what_is_paid_back_ends_the_rest(self) -> None:
        budget = ReadBudget(ReadCredit(0.0, 0.0))
        budget.charge(5000, 0.0)
        assert 0 < budget.rest(0.0) <= LOOK_AGAIN, "one that waits is looked at again soon"
        budget.pay_back(5000)
        assert budget.rest(0.0) == 0.0

    def test_ten_floods_share_what_is_beyond_their_own_rates(self) -> None:
        shared = shared_credit()
        count = read(*(ReadBudget(shared) for _ in range(10)), seconds=10.0, turn=50)
        assert count <= 10 * (IDLE_BURST + IDLE_RATE * 10 + 50) + SHARED_BURST + SHARED_RATE * 10
        assert count >= 10 * IDLE_RATE * 10

    def test_a_flood_leaves_every_other_carrier_its_own_credit(self) -> None:
        shared = shared_credit()
        flood, other = ReadBudget(shared), ReadBudget(shared)
        read(flood, seconds=10.0, turn=500)
        other.charge(int(IDLE_BURST), 10.0)
        assert other.rest(10.0) == 0.0

    def test_little_is_read_at_a_time_once_most_of_the_credit_is_used_up(self) -> None:
        budget = ReadBudget()
        assert not budget.low
        budget.charge(int(IDLE_BURST * 0.8), 0.0)
        assert budget.low
        budget.pay_back(int(IDLE_BURST * 0.8))
        assert not budget.low

    def test_what_has_no_room_goes_to_what_all_share(self) -> None:
        shared = ReadCredit(0.0, 1000.0)
        budget = ReadBudget(shared)
        budget.charge(1500, 0.0)
        assert budget.rest(0.0) == 0.0
        assert shared.amount == 500.0
        budget.pay_back(1500)
        assert shared.amount == 1000.0
