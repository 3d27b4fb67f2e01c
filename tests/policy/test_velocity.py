"""Limits by destination: which one holds, and that no stretch of a window ever has more than it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.velocity import SLOTS, VelocityLimit, VelocityTable, nearest

WEST_AFRICA = VelocityLimit("225", 100, 60_000)


def test_the_longest_prefix_counts_and_the_account_s_own_before_everybody_s():
    general = VelocityTable({"+225": (100, 60), "+22507": (10, 60), "*": (1000, 3600)})
    own = VelocityTable({"+225": (5, 60)})
    none = VelocityTable()
    assert nearest(none, general, "2250112345678") == WEST_AFRICA
    assert nearest(none, general, "2250712345678") == VelocityLimit("22507", 10, 60_000)
    assert nearest(none, general, "46701740605") == VelocityLimit("", 1000, 3_600_000)
    assert nearest(own, general, "2250112345678") == VelocityLimit("225", 5, 60_000)
    assert nearest(own, general, "2250712345678") == VelocityLimit("22507", 10, 60_000)
    assert nearest(own, none, "46701740605") is None


def test_there_is_room_again_when_enough_of_the_oldest_has_left():
    limit = VelocityLimit("225", 10, 60_000)
    now = 1_000_005_000
    counts = [4, 0, 0, 0, 3, 0, 3]  # the current slot first
    at = limit.room_at(now, counts)
    assert at == (now // 10_000 + 1) * 10_000  # the oldest leaves with the next slot
    assert limit.room_at(now, [0, 0, 0, 0, 0, 0, 9]) == now
    assert limit.room_at(now, [10, 0, 0, 0, 0, 0, 0]) == (now // 10_000 + SLOTS + 1) * 10_000


@settings(deadline=None)
@given(
    limit=st.integers(1, 6),
    window=st.integers(6, 600),
    steps=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 4)), max_size=60),
)
def test_no_period_of_the_windows_length_exceeds_the_limit(limit: int, window: int, steps: list[tuple[int, int]]):
    velocity = VelocityLimit("1", limit, window)
    slots: dict[int, int] = {}
    taken: list[int] = []
    now = 1_000_000
    for pause, wanted in steps:
        now += pause
        counts = [slots.get(slot, 0) for slot in velocity.slots(now)]
        count = max(0, min(wanted, limit - sum(counts)))
        slots[velocity.slots(now)[0]] = counts[0] + count
        taken += [now] * count
        counts[0] += count
        room = velocity.room_at(now, counts)
        assert (room == now) == (sum(counts) < limit)
        if room > now:
            assert sum(slots.get(slot, 0) for slot in velocity.slots(room)) < limit
            assert sum(slots.get(slot, 0) for slot in velocity.slots(room - 1)) >= limit
    for start in taken:
        assert sum(start <= at < start + window for at in taken) <= limit
