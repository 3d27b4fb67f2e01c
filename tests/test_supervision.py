from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import structlog
from structlog.testing import LogCapture

from gateway import supervision as module
from gateway.config import ConfigError
from gateway.config.problems import ConfigProblem
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.supervision import TRIES, FailureCounts, Supervision, isolate_failures


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.001)
    monkeypatch.setattr(module, "MOST", 0.004)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """What supervision logs, however logging was configured before."""
    capture = LogCapture()
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture


async def test_a_component_that_fails_is_restarted_and_counted() -> None:
    supervision, runs = Supervision(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise OverflowError("byte must be in range(0, 256)")

    await supervision.keep_running("sweeper", run)
    assert (runs, supervision.restarts["sweeper"]) == (4, 3)


async def test_other_components_keep_running_while_one_fails() -> None:
    supervision, turns = Supervision(), 0

    async def failing() -> None:
        raise KeyError("x")

    async def well() -> None:
        nonlocal turns
        while turns < 20:
            await asyncio.sleep(0.001)
            turns += 1

    async with asyncio.TaskGroup() as group:
        bad = group.create_task(supervision.keep_running("bad", failing))
        await group.create_task(supervision.keep_running("good", well))
        bad.cancel()
    assert turns == 20
    assert (supervision.restarts["bad"] > 1, supervision.restarts["good"]) == (True, 0)


async def test_cancelling_a_component_ends_it_without_a_restart() -> None:
    supervision = Supervision()
    task = asyncio.create_task(supervision.keep_running("heartbeat", asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert supervision.restarts["heartbeat"] == 0


async def test_a_component_whose_awaited_future_is_cancelled_is_restarted() -> None:
    supervision, runs = Supervision(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    await supervision.keep_running("webhooks", run)
    assert runs == 2


@pytest.mark.parametrize(
    "end", [ConfigError([ConfigProblem("gateway.toml", "node", "is wrong", "")]), SystemExit(3), KeyboardInterrupt()]
)
async def test_configuration_errors_exits_and_interrupts_are_raised(end: BaseException) -> None:
    async def run() -> None:
        raise end

    with pytest.raises(type(end)):
        coroutine = Supervision().keep_running("heartbeat", run)
        coroutine.send(None)


async def test_stopping_cuts_the_restart_delay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 0.001)
    supervision, stopping, runs = Supervision(), asyncio.Event(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if not stopping.is_set():
            monkeypatch.setattr(module, "MOST", 3600.0)
            monkeypatch.setattr(module, "FIRST", 0.001)
            raise ValueError("x")

    task = asyncio.create_task(supervision.keep_running("dispatcher", run, stopping))
    await asyncio.sleep(0.05)
    stopping.set()
    await asyncio.wait_for(task, 5)
    assert runs > 1


async def test_a_repeated_failure_is_logged_once_a_minute(logged: LogCapture) -> None:
    supervision = Supervision()
    for _ in range(1000):
        supervision.failed("receipt", ValueError("the same"))
    supervision.failed("receipt", KeyError("another"))
    events = [entry["event"] for entry in logged.entries]
    assert events == ["unexpected error, other work continues"] * 2
    assert supervision.failures["receipt"] == 1001


async def test_items_set_aside_are_kept_and_logged_within_bounds(logged: LogCapture) -> None:
    supervision = Supervision()
    for number in range(3 * module.KEPT):
        supervision.set_aside("receipt", f"north: {number}", OverflowError("too long"))
    assert len(supervision.latest) == module.KEPT
    assert supervision.latest[-1][1:] == ("receipt", f"north: {3 * module.KEPT - 1}", "OverflowError: too long")
    assert supervision.set_aside_counts["receipt"] == 3 * module.KEPT
    assert [entry["event"] for entry in logged.entries] == ["item set aside"] * module.LINES


async def test_errors_in_callbacks_of_the_loop_are_counted() -> None:
    supervision, loop = Supervision(), asyncio.get_running_loop()
    supervision.watch(loop)
    loop.call_soon(int, "no number")
    await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    assert supervision.failures["callback"] == 1


def test_failures_are_counted_by_item_and_the_oldest_are_dropped() -> None:
    tries = FailureCounts()
    assert [tries.add("a") for _ in range(TRIES)] == [1, 2, 3]
    for number in range(2 * module.KEPT):
        tries.add(number)
    assert tries.add("a") == 1


class NumberProcessor:
    """Processes numbers; any of the ``bad`` ones makes a call fail."""

    def __init__(self, *bad: int, error: Exception) -> None:
        self.bad = set(bad)
        self.error = error
        self.done: list[int] = []
        self.failed: list[int] = []
        self.calls = 0

    async def process(self, some: Sequence[int]) -> None:
        self.calls += 1
        if self.bad & set(some):
            raise self.error
        self.done += some

    async def on_failure(self, one: int, error: Exception) -> None:
        self.failed.append(one)


async def test_items_that_fail_are_isolated_and_all_others_are_processed() -> None:
    processor = NumberProcessor(17, 400, error=StoreError("malformed: argument 7"))
    await isolate_failures(range(512), processor.process, processor.on_failure)
    assert sorted(processor.done) == [one for one in range(512) if one not in {17, 400}]
    assert (processor.failed, processor.calls < 50) == ([17, 400], True)


async def test_a_store_that_is_away_is_no_fault_of_an_item() -> None:
    processor = NumberProcessor(3, error=StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await isolate_failures(range(8), processor.process, processor.on_failure)
    assert (processor.failed, processor.calls) == ([], 1)
