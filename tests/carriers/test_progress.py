from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.carriers.progress import ENOUGH, FEW, GAP, LONGEST, MOST, ProgressListeners, ProgressWriter, call_due
from gateway.model import PartAnswer, PartState, Reason, ReceiptFact, ReceiptMatch, Resolution, SubmitResult
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.owner import LeaseOwner
from gateway.supervision import Supervision
from tests.carriers.memory_store import HASHER
from tests.running_gateway import until


class Ledger:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.failures = 0
        self.match = ReceiptMatch.APPLIED
        self.running = 0

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0.005)
        self.running -= 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        self.batches.append((len(answers), len(receipts)))
        return [self.match] * len(receipts)


ANSWER = SubmitResult(bytes(16), 1, "north", Resolution.SENT, Reason.NONE, 0, 0, 1, [])
FACT = ReceiptFact("north", (b"1",), HASHER.recipient("46700000001"), PartState.DELIVERED)


class ResultList:
    def __init__(self, stored: list[Any], aside: list[Any]) -> None:
        self._stored, self._aside = stored, aside

    def stored(self, results: Sequence[SubmitResult]) -> None:
        self._stored += results

    def set_aside(self, results: Sequence[SubmitResult]) -> None:
        self._aside += results


class TicketList:
    def __init__(self, stored: list[Any], aside: list[Any]) -> None:
        self._stored, self._aside = stored, aside

    def stored(self, matches: Sequence[ReceiptMatch], tickets: Sequence[Any]) -> None:
        assert len(matches) == len(tickets)
        self._stored += tickets

    def set_aside(self, tickets: Sequence[Any]) -> None:
        self._aside += tickets


@asynccontextmanager
async def reporting(
    ledger: Ledger, aside: list[Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[ProgressWriter, list[Any]]]:
    done: list[Any] = []
    progress_writer = ProgressWriter(ledger, LeaseOwner("test", "1"), **settings)
    aside = [] if aside is None else aside
    listeners = ProgressListeners(ResultList(done, aside), TicketList(done, aside))
    running = asyncio.create_task(progress_writer.run(listeners))
    try:
        yield progress_writer, done
    finally:
        running.cancel()


async def test_what_arrives_together_goes_in_one_call() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (progress_writer, done):
        for _ in range(10):
            progress_writer.add_results([ANSWER])
        progress_writer.add_receipts([FACT, FACT], ["one", "two"])
        await progress_writer.drained()
    assert ledger.batches == [(10, 2)]
    assert done == ["one", "two", *[ANSWER] * 10]


def test_when_a_call_is_due() -> None:
    assert call_due(100.0, items=ENOUGH, crowded=False, patient=True) == 100.0
    assert call_due(100.0, items=1, crowded=False, patient=False) == 100.0 + GAP
    assert call_due(100.0, items=1, crowded=False, patient=True) == 100.0 + LONGEST
    assert call_due(100.0, items=1, crowded=True, patient=True) == 100.0 + GAP, "submits wait for the room"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that no machine takes for each other."""
    for name, seconds in (("GAP", 0.05), ("LONGEST", 60.0), ("BUSY", 60.0), ("IN_VAIN", 60.0)):
        monkeypatch.setattr(f"gateway.carriers.progress.{name}", seconds)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("receipts", [False, True])
async def test_what_follows_a_call_closely_waits_for_more_until_it_holds_a_quarter_of_the_windows(
    receipts: bool,
) -> None:
    ledger = Ledger()
    async with reporting(ledger, window=40) as (progress_writer, done):

        def add(count: int) -> None:
            if receipts:
                progress_writer.add_receipts([FACT] * count, [""] * count)
            else:
                progress_writer.add_results([ANSWER] * count)

        add(1)
        await until(lambda: len(done) == 1, 5)
        add(5)
        await asyncio.sleep(0.3)
        assert len(done) == 1
        add(5)
        await until(lambda: len(done) == 11, 5)
    assert [sum(one) for one in ledger.batches] == [1, 10]


@pytest.mark.usefixtures("slow")
async def test_a_single_result_holds_up_a_window_of_two() -> None:
    async with reporting(Ledger(), window=2) as (progress_writer, done):
        for number in (1, 2, 3):
            progress_writer.add_results([ANSWER])
            await until(lambda number=number: len(done) == number, 5)  # type: ignore[misc]


async def test_a_long_wait_that_brings_nothing_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A carrier that sends no further receipt before the first is acknowledged gains nothing by it."""
    for name, seconds in (("LONGEST", 1.0), ("BUSY", 60.0), ("IN_VAIN", 60.0)):
        monkeypatch.setattr(f"gateway.carriers.progress.{name}", seconds)
    ledger = Ledger()
    loop = asyncio.get_running_loop()
    async with reporting(ledger, window=400) as (progress_writer, done):
        for number in range(2):
            progress_writer.add_receipts([FACT], [number])
            await until(lambda number=number: len(done) == number + 1, 5)  # type: ignore[misc]
        began = loop.time()
        for number in range(2, 12):
            progress_writer.add_receipts([FACT], [number])
            await until(lambda number=number: len(done) == number + 1, 5)  # type: ignore[misc]
        assert loop.time() - began < 5, "ten long waits are ten seconds"


async def test_what_arrives_during_a_call_is_the_next_batch() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (progress_writer, _):
        progress_writer.add_results([ANSWER] * ENOUGH)
        await asyncio.sleep(0.002)
        progress_writer.add_results([ANSWER] * 7)
        await progress_writer.drained()
    assert ledger.batches == [(ENOUGH, 0), (7, 0)]


async def test_a_call_is_bounded() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (progress_writer, _):
        progress_writer.add_results([ANSWER] * (MOST + 5))
        await progress_writer.drained()
    assert ledger.batches == [(MOST, 0), (5, 0)]


async def test_nothing_is_dropped_while_the_store_is_away() -> None:
    ledger = Ledger()
    ledger.failures = 3
    async with reporting(ledger) as (progress_writer, done):
        progress_writer.add_results([ANSWER])
        progress_writer.add_receipts([FACT], ["one"])
        await asyncio.sleep(0.04)
        assert progress_writer.away_since is not None
        assert repr(progress_writer) == "<ProgressWriter 1 answers, 1 receipts waiting store away>"
        assert done == []
        await asyncio.wait_for(progress_writer.drained(), 2)
        assert progress_writer.away_since is None
    assert ledger.batches == [(1, 1)]
    assert done == ["one", ANSWER]


class Picky(Ledger):
    """Fails over whatever is ``bad``, a carrier's id or a message's; ``stored`` is what it holds."""

    def __init__(self, *bad: bytes, error: Exception) -> None:
        super().__init__()
        self.bad = set(bad)
        self.error = error
        self.stored: list[bytes] = []
        self.plain: list[SubmitResult] = []

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        await asyncio.sleep(0)
        ids = [part.carrier_id for answer in answers for part in answer.parts]
        ids += [answer.id for answer in answers] + [one for fact in receipts for one in fact.ids]
        if self.bad.intersection(ids):
            raise self.error
        self.stored += ids
        self.plain += [answer for answer in answers if not any(part.carrier_id for part in answer.parts)]
        return [ReceiptMatch.APPLIED] * len(receipts)


def answer(number: int) -> SubmitResult:
    part = PartAnswer(0, PartState.ACCEPTED, b"A%d" % number)
    return SubmitResult(number.to_bytes(16, "big"), 1, "north", Resolution.SENT, Reason.NONE, 0, 0, 1, [part])


def fact(number: int) -> ReceiptFact:
    return ReceiptFact("north", (b"R%d" % number,), HASHER.recipient("46700000001"), PartState.DELIVERED)


FAULTS = (OverflowError("int too large to convert"), StoreError("malformed: argument 7"))


@pytest.mark.parametrize("error", FAULTS)
async def test_a_receipt_that_cannot_be_stored_holds_up_no_other_and_is_set_aside(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.carriers.progress.ITEM_RETRY_AFTER", 0.01)
    ledger, parts, aside = Picky(b"R70", error=error), Supervision(), list[Any]()
    async with reporting(ledger, aside, supervision=parts) as (progress_writer, done):
        progress_writer.add_results([answer(number) for number in range(100)])
        progress_writer.add_receipts([fact(number) for number in range(100)], list(range(100)))
        await until(lambda: len(done) == 199, 5)
        if isinstance(error, StoreError):  # it counts as faulty once something else was stored meanwhile
            progress_writer.add_receipts([fact(100)], [100])
        await asyncio.wait_for(progress_writer.drained(), 10)
    assert aside == [70], "its carrier learns that it is not kept"
    assert 70 not in done
    assert [one[1:3] for one in parts.latest] == [("receipt", "north: R70")]


async def test_an_answer_that_cannot_be_stored_as_it_is_keeps_its_outcome_and_loses_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.carriers.progress.ITEM_RETRY_AFTER", 0.01)
    ledger, parts = Picky(b"A7", error=OverflowError("id")), Supervision()
    async with reporting(ledger, supervision=parts) as (progress_writer, done):
        progress_writer.add_results([answer(number) for number in range(50)])
        await asyncio.wait_for(progress_writer.drained(), 10)
    assert {one.id for one in done} == {number.to_bytes(16, "big") for number in range(50)}
    assert [(one.id, one.resolution, one.parts[0].state) for one in ledger.plain] == [
        ((7).to_bytes(16, "big"), Resolution.SENT, PartState.ACCEPTED)
    ]
    assert not parts.set_aside_counts


async def test_an_answer_that_can_never_be_stored_is_set_aside_and_its_room_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.carriers.progress.ITEM_RETRY_AFTER", 0.01)
    bad = (7).to_bytes(16, "big")
    ledger, parts, aside = Picky(bad, error=KeyError("x")), Supervision(), list[Any]()
    async with reporting(ledger, aside, supervision=parts) as (progress_writer, done):
        progress_writer.add_results([answer(number) for number in range(50)])
        await asyncio.wait_for(progress_writer.drained(), 10)
    assert len(done) == 49
    assert [one.id for one in aside] == [bad]
    assert [one[1:3] for one in parts.latest] == [("answer", bad.hex())]


async def test_a_store_that_refuses_everything_makes_no_item_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.carriers.progress.ITEM_RETRY_AFTER", 0.001)
    monkeypatch.setattr("gateway.carriers.progress.RETRY_MOST", 0.002)
    monkeypatch.setattr("gateway.carriers.progress.RETRY_FIRST", 0.001)
    bad = [(number).to_bytes(16, "big") for number in range(5)]
    ledger, parts = Picky(*bad, error=StoreError("ERR something new")), Supervision()
    async with reporting(ledger, supervision=parts) as (progress_writer, done):
        progress_writer.add_results([answer(number) for number in range(5)])
        await until(lambda: progress_writer.calls > 60, 10)
        assert (done, parts.set_aside_counts) == ([], {})
        ledger.bad.clear()
        await asyncio.wait_for(progress_writer.drained(), 10)
    assert len(done) == 5


async def test_unmatched_receipts_are_stored_few_at_a_time() -> None:
    ledger = Ledger()
    ledger.match = ReceiptMatch.PARKED
    async with reporting(ledger) as (progress_writer, _):
        progress_writer.add_receipts([FACT] * (3 * FEW), [""] * (3 * FEW))
        await progress_writer.drained()
    assert ledger.batches == [(0, FEW)] * 3


async def test_calls_grow_while_their_receipts_match_and_shrink_again() -> None:
    ledger = Ledger()
    async with reporting(ledger) as (progress_writer, _):
        progress_writer.add_receipts([FACT] * (2 * MOST), [""] * (2 * MOST))
        await progress_writer.drained()
        sizes = [size for _, size in ledger.batches]
        ledger.match = ReceiptMatch.REPEATED
        ledger.batches.clear()
        progress_writer.add_receipts([FACT] * (2 * MOST), [""] * (2 * MOST))
        await progress_writer.drained()
    assert sizes[:5] == [FEW * 2**n for n in range(5)]
    assert ledger.batches[-2][1] == FEW


async def test_results_are_not_held_up_by_unmatched_receipts() -> None:
    ledger = Ledger()
    ledger.match = ReceiptMatch.PARKED
    async with reporting(ledger) as (progress_writer, _):
        progress_writer.add_receipts([FACT] * (3 * FEW), [""] * (3 * FEW))
        progress_writer.add_results([ANSWER] * 500)
        await progress_writer.drained()
    assert ledger.batches[0] == (500, FEW)
