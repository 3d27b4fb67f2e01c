from __future__ import annotations

import asyncio

import pytest

from gateway.intake.slice_order import SliceOrder
from gateway.store.errors import StoreUnavailable


class Slices:
    """Slices that log their steps; ``go`` lets a step end."""

    def __init__(self, count: int) -> None:
        self.order = SliceOrder()
        self.log: list[str] = []
        self.go: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.tasks = [asyncio.create_task(self.run(number)) for number in range(count)]

    async def run(self, number: int) -> None:
        async with self.order.preparing(number):
            await self.step(f"prepare {number}")
        async with self.order.storing(number):
            await self.step(f"store {number}")

    async def step(self, name: str) -> None:
        self.log.append(name)
        await self.go.setdefault(name, asyncio.Event()).wait()
        if name in self.errors:
            raise self.errors[name]

    async def end(self, *names: str) -> None:
        for name in names:
            self.go.setdefault(name, asyncio.Event()).set()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_while_one_slice_is_stored_the_next_is_prepared_and_nothing_overtakes() -> None:
    slices = Slices(3)
    await slices.end()
    assert slices.log == ["prepare 0"]
    await slices.end("prepare 0")
    assert slices.log == ["prepare 0", "store 0", "prepare 1"]
    await slices.end("prepare 1", "prepare 2")
    assert slices.log == ["prepare 0", "store 0", "prepare 1", "prepare 2"], "one write at a time"
    await slices.end("store 0", "store 2")
    assert slices.log[4:] == ["store 1"]
    await slices.end("store 1")
    assert slices.log[4:] == ["store 1", "store 2"]
    await asyncio.gather(*slices.tasks)
    assert repr(slices.order) == "<SliceOrder open>"


@pytest.mark.parametrize("error", [StoreUnavailable("away"), KeyError("a fault of ours")], ids=["store", "own"])
@pytest.mark.parametrize("step", ["prepare 1", "store 1"])
async def test_nothing_behind_a_slice_that_failed_is_stored_and_everything_before_it_is(
    step: str, error: Exception
) -> None:
    slices = Slices(4)
    slices.errors[step] = error
    await slices.end("prepare 0", "prepare 1", "prepare 2", "prepare 3", "store 1", "store 2", "store 3")
    await slices.end("store 0")
    ended = await asyncio.gather(*slices.tasks, return_exceptions=True)
    assert ended == [None, *[slices.errors[step]] * 3]
    assert "store 2" not in slices.log
    assert repr(slices.order) == "<SliceOrder failed at 1>"


async def test_what_waits_to_be_stored_is_stored_although_the_slice_behind_it_fails() -> None:
    slices = Slices(3)
    slices.errors["prepare 2"] = StoreUnavailable("away")
    await slices.end("prepare 0", "prepare 1", "prepare 2", "store 1")
    assert "store 1" not in slices.log
    await slices.end("store 0")
    ended = await asyncio.gather(*slices.tasks, return_exceptions=True)
    assert ended == [None, None, slices.errors["prepare 2"]]
