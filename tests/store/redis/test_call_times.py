"""What is timed of the store's calls, and what is counted as an error."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.store.errors import StoreBusy, StoreUnavailable
from gateway.store.redis.call_times import CallTimes


async def answered(*replies: Any) -> list[Any]:
    return list(replies)


async def failed(error: Exception) -> list[Any]:
    raise error


async def test_a_round_trip_is_one_observation_of_its_function() -> None:
    times = CallTimes()
    assert await times.observe("take", answered(1, 2)) == [1, 2]
    await times.observe("take", answered())
    await times.observe("accept", answered(b"x"))
    assert {name: histogram.count for name, histogram in times.seconds.items()} == {"take": 2, "accept": 1}
    assert not times.errors


async def test_errors_are_counted_by_kind_whether_raised_or_among_the_replies() -> None:
    times = CallTimes()
    with pytest.raises(StoreBusy):
        await times.observe("take", failed(StoreBusy("x")))
    await times.observe("accept", answered(1, StoreUnavailable("x"), StoreUnavailable("y")))
    assert times.errors == {("take", "StoreBusy"): 1, ("accept", "StoreUnavailable"): 2}
    assert times.seconds["take"].count == 1
