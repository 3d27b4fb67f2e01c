from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.partition_scheduler import SLICE, PartitionRequest, PartitionScheduler


def test_little_room_asks_one_partition_for_all_of_it() -> None:
    scheduler = PartitionScheduler(8)
    assert scheduler.pick(10, 10) == [PartitionRequest(0, 10, 0)]
    assert scheduler.pick(10, 10) == [PartitionRequest(1, 10, 0)]


def test_much_room_is_cut_in_slices() -> None:
    asks = PartitionScheduler(8).pick(3 * SLICE + 1, 3 * SLICE + 1)
    assert [ask.partition for ask in asks] == [0, 1, 2]
    assert sum(ask.limit for ask in asks) == 3 * SLICE + 1


def test_all_are_asked_at_once_while_they_hold_little() -> None:
    scheduler = PartitionScheduler(8)
    for partition in range(8):
        scheduler.answered(partition, found=2, more=False, next_due=0)
    assert [ask.partition for ask in scheduler.pick(40, 40)] == list(range(8))
    scheduler.answered(0, found=5, more=True, next_due=0)
    scheduler.work_available(range(8))
    assert [ask.partition for ask in scheduler.pick(40, 40)] == [0]
    assert [ask.partition for ask in scheduler.pick(5, 5)] == [1, 2]


def test_what_left_something_behind_comes_again_last() -> None:
    scheduler = PartitionScheduler(3)
    (first,) = scheduler.pick(1, 1)
    scheduler.answered(first.partition, found=1, more=True, next_due=0)
    assert [scheduler.pick(1, 1)[0].partition for _ in range(3)] == [1, 2, 0]
    assert not scheduler


def test_urgent_ones_go_first() -> None:
    scheduler = PartitionScheduler(8)
    scheduler.work_available([5], urgent=True)
    assert scheduler.pick(1, 1)[0].partition == 5
    assert scheduler.pick(1, 1)[0].partition == 0


def test_the_reserve_is_for_one_time_passwords_alone() -> None:
    scheduler = PartitionScheduler(2)
    assert scheduler.pick(10, 0) == []
    scheduler.work_available([1], urgent=True)
    assert scheduler.pick(10, 0) == [PartitionRequest(1, 10, 10)]
    assert scheduler.pick(10, 4) == [PartitionRequest(0, 10, 6)]
    assert scheduler.pick(10, 4) == [
        PartitionRequest(1, 10, 6)
    ]  # the ordinary ones of partition 1 have not had their turn yet


def test_partitions_wake_when_something_is_due() -> None:
    scheduler = PartitionScheduler(2)
    scheduler.pick(1, 1)
    scheduler.pick(1, 1)
    scheduler.answered(0, found=0, more=False, next_due=500)
    assert scheduler.next_due() == 500
    scheduler.wake(499)
    assert not scheduler
    scheduler.wake(500)
    assert scheduler.pick(1, 1)[0].partition == 0


@given(st.integers(1, 32), st.integers(0, 5000), st.integers(0, 5000), st.sets(st.integers(0, 31)))
def test_never_asks_for_more_than_there_is(partitions: int, budget: int, ordinary: int, urgent: set[int]) -> None:
    scheduler = PartitionScheduler(partitions)
    scheduler.work_available([p for p in urgent if p < partitions], urgent=True)
    asks = scheduler.pick(budget, ordinary)
    assert sum(ask.limit for ask in asks) <= budget
    assert sum(ask.limit - ask.reserved for ask in asks) <= ordinary
    assert all(0 <= ask.reserved <= ask.limit for ask in asks)
    assert len({ask.partition for ask in asks}) == len(asks)
