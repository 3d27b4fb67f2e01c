"""Background work that repeats: at an interval, at once when woken, and through outages of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.cluster.periodic import PeriodicTask
from gateway.store.errors import StoreUnavailable

LONG = 3600.0


class Work:
    """Counts its runs; ``away``: so many of the next ones fail."""

    def __init__(self, away: int = 0) -> None:
        self.runs = 0
        self.away = away

    async def __call__(self) -> None:
        self.runs += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")


@contextmanager
def running(task: PeriodicTask) -> Iterator[None]:
    background = asyncio.create_task(task.run())
    try:
        yield
    finally:
        background.cancel()


async def test_the_first_run_waits_for_the_interval_or_comes_at_once() -> None:
    later, now = Work(), Work()
    with running(PeriodicTask(later, LONG, "fails")), running(PeriodicTask(now, LONG, "fails", at_once=True)):
        await asyncio.sleep(0.01)
    assert (later.runs, now.runs) == (0, 1)


async def test_the_interval_may_change_between_runs() -> None:
    work = Work()
    with running(PeriodicTask(work, lambda: 0.001 if work.runs < 3 else LONG, "fails")):
        await asyncio.sleep(0.05)
    assert work.runs == 3


async def test_a_wake_during_a_run_causes_another_one() -> None:
    work = Work()

    async def work_and_wake() -> None:
        await work()
        if work.runs == 1:
            task.wake()

    task = PeriodicTask(work_and_wake, LONG, "fails")
    with running(task):
        task.wake()
        await asyncio.sleep(0.01)
    assert work.runs == 2


async def test_an_outage_of_the_store_is_logged_once_and_retried_sooner(capsys: pytest.CaptureFixture[str]) -> None:
    work = Work(away=3)
    task = PeriodicTask(work, LONG, "cannot do it", retry_after=0.001, at_once=True)
    with running(task):
        await asyncio.sleep(0.05)
        assert (work.runs, task.failing) == (4, False)
        work.away = 1
        task.wake()
        await asyncio.sleep(0.05)
    assert capsys.readouterr().out.count("cannot do it") == 2, "once for each outage"


async def test_other_errors_end_it() -> None:
    async def fails() -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        await PeriodicTask(fails, LONG, "fails", at_once=True).run()
