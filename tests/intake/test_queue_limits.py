"""How many messages may wait: by the store's count, what is on its way and what has come in since."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.intake import queue_limits
from gateway.intake.queue_limits import QueueLimits
from gateway.model import State
from gateway.store.errors import StoreUnavailable
from gateway.store.requests import LaneDepth, QueueDepths
from tests.intake.fakes import OTHER, SHOP, FakeStore

SMALL = msgspec.structs.replace(SHOP, max_queued=3)


def room(limits: QueueLimits, most: int = 10) -> int:
    """Return how many more messages of the small account get in."""
    entered = 0
    with limits.entry() as entry:
        while entered < most and limits.problem(SMALL) is None:
            entry.add(SMALL.name)
            entered += 1
    return entered


async def test_every_waiting_state_counts_and_other_accounts_do_not() -> None:
    store = FakeStore()
    store.waiting = {"shop": {State.SCHEDULED: 1, State.QUEUED: 1}, "other": {State.HELD: 50}}
    limits = QueueLimits(store, 100)
    await limits.refresh()
    assert room(limits) == 1
    assert limits.problem(OTHER) is None


async def test_a_message_removed_from_its_entry_takes_no_room() -> None:
    limits = QueueLimits(FakeStore(), 100)
    await limits.refresh()
    for _ in range(5):
        with limits.entry() as entry:
            entry.add("shop")
            entry.remove("shop")
    assert room(limits) == 3


async def test_messages_on_their_way_count_at_a_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the store may have been made before the message was stored, or while another came in."""
    monkeypatch.setattr(queue_limits, "FRESH", 0.0)
    gate = asyncio.Event()

    class Slow(FakeStore):
        async def depths(self) -> QueueDepths:
            await gate.wait()
            return await super().depths()

    limits = QueueLimits(Slow(), 100)
    with limits.entry() as first, limits.entry() as second:
        first.add("shop")
        refreshing = asyncio.ensure_future(limits.refresh())
        await asyncio.sleep(0)
        second.add("shop")
    gate.set()
    await refreshing
    assert room(limits) == 1
    await limits.refresh()
    assert room(limits) == 3  # the fake store knows of none, and nothing is on its way any more


async def test_all_accounts_together_have_a_limit() -> None:
    store = FakeStore()
    store.ready, store.delayed, store.held = [LaneDepth("+46#0:1", "other", 2)], {"+46#0:1": 3}, 4
    limits = QueueLimits(store, 10)
    await limits.refresh()
    assert room(limits) == 1
    problem = limits.problem(OTHER)
    assert problem is not None
    assert (problem.code, problem.detail) == ("queue_full", "10 messages are waiting in this gateway already")


async def test_a_request_that_fails_is_no_longer_on_its_way() -> None:
    limits = QueueLimits(FakeStore(), 100)
    with pytest.raises(StoreUnavailable), limits.entry() as entry:
        entry.add("shop")
        assert repr(limits) == "<QueueLimits 99 of 100 free, 1 arriving>"
        raise StoreUnavailable("away")
    assert repr(limits) == "<QueueLimits 99 of 100 free, 0 arriving>"
    await limits.refresh()
    assert repr(limits) == "<QueueLimits 100 of 100 free, 0 arriving>"
