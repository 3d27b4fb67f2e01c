from __future__ import annotations

import asyncio

import pytest

from gateway.intake.batcher import Batcher
from gateway.store.errors import StoreUnavailable


class Flush:
    """Answers each item with its square, when told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        await self.go.wait()
        if self.error:
            raise self.error
        return [item * item for item in items]


async def test_items_that_arrive_together_go_together() -> None:
    flush = Flush()
    batcher = Batcher(flush, gap=0.001)
    futures = [batcher.put([item]) for item in range(5)]
    assert repr(batcher) == "<Batcher 5 waiting>"
    flush.go.set()
    assert await asyncio.gather(*futures) == [[0], [1], [4], [9], [16]]
    assert flush.batches == [[0, 1, 2, 3, 4]]


async def test_one_call_is_in_flight_and_repeated_requests_join_the_next() -> None:
    flush = Flush()
    batcher = Batcher(flush, gap=0.001)
    first = batcher.put([1])
    await asyncio.sleep(0.01)
    others = [batcher.put([item]) for item in (2, 3)]
    await asyncio.sleep(0.01)
    assert flush.batches == [[1]]
    assert repr(batcher) == "<Batcher 2 waiting, one call in flight>"
    flush.go.set()
    assert await first == [1]
    again = batcher.put([4])
    assert await asyncio.gather(*others, again) == [[4], [9], [16]]
    assert flush.batches == [[1], [2, 3, 4]]


async def test_a_lone_item_waits_for_nothing() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=60.0)
    assert await asyncio.wait_for(batcher.put([3]), 5) == [9]


async def test_after_a_lone_item_others_gather_until_there_are_enough() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=60.0, longest=60.0, enough=3)
    await batcher.put([1])
    futures = [batcher.put([item]) for item in (2, 3)]
    await asyncio.sleep(0.01)
    assert flush.batches == [[1]]
    futures.append(batcher.put([4]))
    assert await asyncio.wait_for(asyncio.gather(*futures), 5) == [[4], [9], [16]]
    assert flush.batches == [[1], [2, 3, 4]]


async def test_items_that_follow_each_other_are_held_for_the_longest_time_only() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=0.2, longest=0.3, enough=1000)
    await batcher.put([1])
    futures = []
    while len(flush.batches) < 2:  # never a gap, never enough
        futures.append(batcher.put([2]))
        await asyncio.sleep(0.01)
        assert len(futures) < 1000
    await asyncio.gather(*futures)


async def test_items_wait_on_while_others_come_within_the_gap() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=0.3, longest=60.0)
    await batcher.put([1])
    futures = []
    for item in range(2, 8):
        futures.append(batcher.put([item]))
        await asyncio.sleep(0.1)
    await asyncio.gather(*futures)
    assert flush.batches == [[1], [2, 3, 4, 5, 6, 7]]


async def test_a_batch_has_a_limit() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=0.001, limit=2)
    assert await asyncio.gather(*(batcher.put([item]) for item in range(5))) == [[0], [1], [4], [9], [16]]
    assert flush.batches == [[0, 1], [2, 3], [4]]


async def test_a_failure_reaches_every_caller_and_the_next_batch_succeeds() -> None:
    flush = Flush()
    flush.error = ValueError("away")
    flush.go.set()
    batcher = Batcher(flush, gap=0.001)
    futures = [batcher.put([item]) for item in range(2)]
    for future in futures:
        with pytest.raises(ValueError, match="away"):
            await future
    flush.error = None
    assert await batcher.put([3]) == [9]


async def test_a_cancelled_request_does_not_fail_the_others() -> None:
    flush = Flush()
    batcher = Batcher(flush, gap=0.001)
    gone, stays = batcher.put([1]), batcher.put([2])
    await asyncio.sleep(0.01)
    gone.cancel()
    flush.go.set()
    assert await stays == [4]


async def test_the_items_of_one_caller_stay_together() -> None:
    flush = Flush()
    flush.go.set()
    batcher = Batcher(flush, gap=0, limit=4)
    futures = [batcher.put(items) for items in ([1, 2, 3], [4, 5], [6], [1, 2, 3, 4, 5], [7])]
    assert await asyncio.gather(*futures) == [[1, 4, 9], [16, 25], [36], [1, 4, 9, 16, 25], [49]]
    assert flush.batches == [[1, 2, 3], [4, 5, 6], [1, 2, 3, 4, 5], [7]]


async def test_a_late_call_is_not_waited_for_and_what_waits_behind_it_is_never_sent() -> None:
    flush = Flush()
    batcher = Batcher(
        flush, gap=0, timeout=0.05, timed_out=lambda: ValueError("lost"), not_sent=lambda: ValueError("kept")
    )
    first = batcher.put([1])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    behind = batcher.put([2])
    for future, said in ((first, "lost"), (behind, "kept"), (batcher.put([3]), "kept")):
        with pytest.raises(ValueError, match=said):
            await asyncio.wait_for(future, 5)
    assert flush.batches == [[1]]
    flush.go.set()
    await asyncio.sleep(0.01)
    assert await batcher.put([4]) == [16]
    assert flush.batches == [[1], [4]]


class Picky:
    """Fails on a batch with 13 in it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.batches: list[list[int]] = []

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        await asyncio.sleep(0)
        if 13 in items:
            raise self.error
        return [item * item for item in items]


async def test_the_items_of_one_caller_do_not_fail_the_others() -> None:
    flush = Picky(OverflowError("too large"))
    batcher = Batcher(flush, gap=0.001, divide=True)
    futures = [batcher.put([item]) for item in range(32)]
    said = await asyncio.gather(*futures, return_exceptions=True)
    assert [one for one in said if isinstance(one, Exception)] == [flush.error]
    assert [one for one in said if not isinstance(one, BaseException)] == [[n * n] for n in range(32) if n != 13]
    assert len(flush.batches) < 20
    assert await asyncio.gather(*[batcher.put([item]) for item in range(5)]) == [[0], [1], [4], [9], [16]]


async def test_a_batch_is_not_divided_while_the_store_is_unavailable() -> None:
    flush = Picky(StoreUnavailable("away"))
    batcher = Batcher(flush, gap=0.001, divide=True)
    said = await asyncio.gather(*[batcher.put([item]) for item in range(10, 20)], return_exceptions=True)
    assert said == [flush.error] * 10
    assert len(flush.batches) == 1
