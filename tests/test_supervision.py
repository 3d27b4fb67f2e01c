from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway import supervision as module
from gateway.config import ConfigError
from gateway.config.problems import ConfigProblem
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.supervision import TRIES, FailureCounts, Supervision, sift


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.001)
    monkeypatch.setattr(module, "MOST", 0.004)


async def test_a_part_that_fails_is_started_anew_and_counted() -> None:
    parts, runs = Supervision(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise OverflowError("byte must be in range(0, 256)")

    await parts.keep("sweeper", run)
    assert (runs, parts.restarts["sweeper"]) == (4, 3)


async def test_the_neighbours_of_a_part_that_fails_go_on() -> None:
    parts, turns = Supervision(), 0

    async def failing() -> None:
        raise KeyError("x")

    async def well() -> None:
        nonlocal turns
        while turns < 20:
            await asyncio.sleep(0.001)
            turns += 1

    async with asyncio.TaskGroup() as group:
        bad = group.create_task(parts.keep("bad", failing))
        await group.create_task(parts.keep("good", well))
        bad.cancel()
    assert turns == 20
    assert (parts.restarts["bad"] > 1, parts.restarts["good"]) == (True, 0)


async def test_a_part_is_cancelled_as_anything_else() -> None:
    parts = Supervision()
    task = asyncio.create_task(parts.keep("heart", asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parts.restarts["heart"] == 0


async def test_a_part_that_meets_somebody_elses_cancellation_goes_on() -> None:
    parts, runs = Supervision(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    await parts.keep("webhooks", run)
    assert runs == 2


@pytest.mark.parametrize(
    "end", [ConfigError([ConfigProblem("gateway.toml", "node", "is wrong", "")]), SystemExit(3), KeyboardInterrupt()]
)
async def test_what_must_end_the_process_does(end: BaseException) -> None:
    async def run() -> None:
        raise end

    with pytest.raises(type(end)):
        coroutine = Supervision().keep("heart", run)
        coroutine.send(None)


async def test_an_end_does_not_wait_for_a_part_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.001)
    parts, over, runs = Supervision(), asyncio.Event(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if not over.is_set():
            monkeypatch.setattr(module, "MOST", 3600.0)
            monkeypatch.setattr(module, "FIRST", 0.001)
            raise ValueError("x")

    task = asyncio.create_task(parts.keep("dispatcher", run, over))
    await asyncio.sleep(0.05)
    over.set()
    await asyncio.wait_for(task, 5)
    assert runs > 1


async def test_a_fault_that_comes_again_and_again_is_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    parts = Supervision()
    for _ in range(1000):
        parts.failed("receipt", ValueError("the same"))
    parts.failed("receipt", KeyError("another"))
    out = capsys.readouterr().out
    assert out.count("everything else goes on") == 2
    assert parts.failures["receipt"] == 1001


async def test_what_is_set_aside_is_kept_for_operators_within_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    parts = Supervision()
    for number in range(3 * module.KEPT):
        parts.set_aside("receipt", f"north: {number}", OverflowError("too long"))
    assert len(parts.latest) == module.KEPT
    assert parts.latest[-1][1:] == ("receipt", f"north: {3 * module.KEPT - 1}", "OverflowError: too long")
    assert parts.aside["receipt"] == 3 * module.KEPT
    assert capsys.readouterr().out.count("set aside") == module.LINES


async def test_errors_in_callbacks_of_the_loop_are_counted() -> None:
    parts, loop = Supervision(), asyncio.get_running_loop()
    parts.watch(loop)
    loop.call_soon(int, "no number")
    await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    assert parts.failures["callback"] == 1


def test_tries_are_counted_by_item_and_forgotten_within_bounds() -> None:
    tries = FailureCounts()
    assert [tries.add("a") for _ in range(TRIES)] == [1, 2, 3]
    for number in range(2 * module.KEPT):
        tries.add(number)
    assert tries.add("a") == 1


class Bench:
    """Deals with numbers; ``bad`` ones make it fail."""

    def __init__(self, *bad: int, error: Exception) -> None:
        self.bad = set(bad)
        self.error = error
        self.done: list[int] = []
        self.alone: list[int] = []
        self.calls = 0

    async def deal(self, some: Sequence[int]) -> None:
        self.calls += 1
        if self.bad & set(some):
            raise self.error
        self.done += some

    async def by_itself(self, one: int, error: Exception) -> None:
        self.alone.append(one)


async def test_the_one_that_makes_a_batch_fail_is_found_and_all_others_are_dealt_with() -> None:
    bench = Bench(17, 400, error=StoreError("malformed: argument 7"))
    await sift(range(512), bench.deal, bench.by_itself)
    assert sorted(bench.done) == [one for one in range(512) if one not in {17, 400}]
    assert (bench.alone, bench.calls < 50) == ([17, 400], True)


async def test_for_a_store_that_is_away_nobody_is_blamed() -> None:
    bench = Bench(3, error=StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await sift(range(8), bench.deal, bench.by_itself)
    assert (bench.alone, bench.calls) == ([], 1)
