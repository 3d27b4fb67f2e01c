from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.model import Answer, Fate, Match, PartState, Reason, ReceiptFact
from gateway.pipeline.report import ENOUGH, MOST, Reporter
from gateway.store.errors import StoreUnavailable
from gateway.store.owner import Owner
from tests.pipeline.memory_store import HASHER


class Ledger:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.failures = 0
        self.running = 0

    async def progress(
        self, owner: Owner, answers: Sequence[Answer], receipts: Sequence[ReceiptFact] = ()
    ) -> list[Match]:
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0.005)
        self.running -= 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        self.batches.append((len(answers), len(receipts)))
        return [Match.APPLIED] * len(receipts)


ANSWER = Answer(bytes(16), 1, "north", Fate.SENT, Reason.NONE, 0, 0, 1, [])
FACT = ReceiptFact("north", (b"1",), HASHER.recipient("46700000001"), PartState.DELIVERED)


@asynccontextmanager
async def reporting(ledger: Ledger, **settings: Any) -> AsyncIterator[tuple[Reporter, list[Any]]]:
    done: list[Any] = []
    reporter = Reporter(
        ledger, Owner("test", "1"), lambda answers, matches, tickets: done.extend((*answers, *tickets)), **settings
    )
    running = asyncio.create_task(reporter.run())
    try:
        yield reporter, done
    finally:
        running.cancel()


async def test_what_arrives_together_goes_in_one_call() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (reporter, done):
        for _ in range(10):
            reporter.answers([ANSWER])
        reporter.receipts([FACT, FACT], ["one", "two"])
        await reporter.drained()
    assert ledger.batches == [(10, 2)]
    assert done[-2:] == ["one", "two"]


async def test_what_arrives_during_a_call_is_the_next_batch() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (reporter, _):
        reporter.answers([ANSWER] * ENOUGH)
        await asyncio.sleep(0.002)
        reporter.answers([ANSWER] * 7)
        await reporter.drained()
    assert ledger.batches == [(ENOUGH, 0), (7, 0)]


async def test_a_call_is_bounded() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (reporter, _):
        reporter.answers([ANSWER] * (MOST + 5))
        await reporter.drained()
    assert ledger.batches == [(MOST, 0), (5, 0)]


async def test_nothing_is_dropped_while_the_store_is_away() -> None:
    ledger = Ledger()
    ledger.failures = 3
    async with reporting(ledger) as (reporter, done):
        reporter.answers([ANSWER])
        reporter.receipts([FACT], ["one"])
        await asyncio.sleep(0.04)
        assert reporter.away_since is not None
        assert repr(reporter) == "<Reporter 1 answers, 1 receipts waiting store away>"
        assert done == []
        await asyncio.wait_for(reporter.drained(), 2)
        assert reporter.away_since is None
    assert ledger.batches == [(1, 1)]
    assert done == [ANSWER, "one"]
