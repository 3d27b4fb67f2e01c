"""What an account may have waiting: by the store's count, what is on its way and what has come in since."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.intake import queue_limits
from gateway.intake.queue_limits import QueueLimits
from gateway.model import State
from gateway.store.requests import LaneDepth, QueueDepths
from tests.intake.fakes import OTHER, SHOP, FakeStore

SMALL = msgspec.structs.replace(SHOP, max_queued=3)


def room(bound: QueueLimits, most: int = 10) -> int:
    """How many more of the small account get in."""
    entered = 0
    while entered < most and bound.fault(SMALL) is None:
        bound.enter(SMALL.name)
        entered += 1
    return entered


async def test_every_waiting_state_counts_and_other_accounts_do_not() -> None:
    store = FakeStore()
    store.waiting = {"shop": {State.SCHEDULED: 1, State.QUEUED: 1}, "other": {State.HELD: 50}}
    bound = QueueLimits(store, 100)
    await bound.refresh()
    assert room(bound) == 1
    assert bound.fault(OTHER) is None


async def test_what_policy_refuses_takes_no_room() -> None:
    bound = QueueLimits(FakeStore(), 100)
    await bound.refresh()
    for _ in range(5):
        bound.enter("shop")
        bound.leaves(["shop"])
        bound.arrived(["shop"], refused=["shop"])
    assert room(bound) == 3


async def test_what_is_on_its_way_counts_when_the_store_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the store may have been made before the message was stored, or while another came in."""
    monkeypatch.setattr(queue_limits, "FRESH", 0.0)
    gate = asyncio.Event()

    class Slow(FakeStore):
        async def depths(self) -> QueueDepths:
            await gate.wait()
            return await super().depths()

    bound = QueueLimits(Slow(), 100)
    bound.enter("shop")
    bound.leaves(["shop"])
    asking = asyncio.ensure_future(bound.refresh())
    await asyncio.sleep(0)
    bound.enter("shop")
    bound.leaves(["shop"])
    bound.arrived(["shop", "shop"])
    gate.set()
    await asking
    assert room(bound) == 1
    await bound.refresh()
    assert room(bound) == 3  # the fake store knows of none, and nothing is on its way any more


async def test_all_together_have_a_bound_of_their_own() -> None:
    store = FakeStore()
    store.ready, store.delayed, store.held = [LaneDepth("+46#0:1", "other", 2)], {"+46#0:1": 3}, 4
    bound = QueueLimits(store, 10)
    await bound.refresh()
    assert room(bound) == 1
    fault = bound.fault(OTHER)
    assert fault is not None
    assert (fault.code, fault.detail) == ("queue_full", "10 messages wait in this gateway already")
