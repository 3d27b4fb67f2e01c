"""Several carriers on one store: which of them learns of accepted messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.carriers.lanes import SLACK
from gateway.carriers.manager import CarrierManager
from gateway.carriers.read_budget import IDLE_BURST, SHARED_BURST
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.config import Carrier, Config, Route
from gateway.model import State
from gateway.simulator import Faults, Simulator
from gateway.store.owner import LeaseOwner
from gateway.store.requests import TakeRequest, TakeResult
from tests.carriers.memory_store import HASHER, PARTITIONS, MemoryStore, beating
from tests.carriers.test_service import fill, until

EVERYWHERE = range(PARTITIONS)


@asynccontextmanager
async def carrier_manager(
    store: MemoryStore, north: Simulator, south: Simulator, **route: Any
) -> AsyncIterator[CarrierManager]:
    carriers = tuple(
        Carrier(
            name=name,
            hosts=(f"127.0.0.1:{simulator.port}",),
            system_id="gw",
            password="pw",
            binds=1,
            window=20,
            rate=0,
        )
        for name, simulator in (("north", north), ("south", south))
    )
    config = Config(carriers=carriers, routes=(Route(carriers=("north", "south"), **route),))
    one = CarrierManager(
        config,
        store=store.as_real(),
        heartbeat=await beating(store),
        hasher=HASHER,
        forms=ReceiptIdForms(store.as_real()),
        redecide=lambda items: None,
    )
    running = asyncio.create_task(one.run())
    try:
        await until(lambda: north.stats.bound == south.stats.bound == 1)
        await asyncio.sleep(0.05)
        yield one
        await one.stop()
        await asyncio.wait_for(running, 5)
    finally:
        running.cancel()


def asked(store: MemoryStore) -> set[tuple[str, int]]:
    return {(request.carrier, request.partition) for request in store.requests}


async def test_each_partition_goes_to_one_of_the_carriers_that_share_a_route() -> None:
    store = MemoryStore()
    async with Simulator() as north, Simulator() as south, carrier_manager(store, north, south, weights=(1, 1)) as one:
        await until(lambda: len(asked(store)) == 2 * PARTITIONS)  # the first sweep of both
        fill(store, 12)
        store.requests.clear()
        one.work_available(EVERYWHERE, route="*")
        await until(lambda: store.states()[State.DELIVERED] == 12)
        assert {("north", 0), ("south", 1)} <= asked(store)
        assert north.stats.accepted
        assert south.stats.accepted


async def test_all_carriers_share_the_credit_for_useless_pdus() -> None:
    async with Simulator() as north, Simulator() as south, carrier_manager(MemoryStore(), north, south) as one:
        for service in one.services:
            (bind,) = service.pool.binds
            bind.reading.turned(0.0, asyncio.get_running_loop().time(), int(IDLE_BURST + 0.75 * SHARED_BURST))
        assert ["resting" in repr(service.pool.binds[0].reading) for service in one.services] == [False, True]


async def test_only_the_first_carrier_in_order_is_notified() -> None:
    store = MemoryStore()
    async with Simulator() as north, Simulator() as south, carrier_manager(store, north, south) as one:
        fill(store, 12)
        one.work_available(EVERYWHERE, route="*")
        await until(lambda: store.states()[State.DELIVERED] == 12)
        assert (north.stats.accepted, south.stats.accepted) == (12, 0)


async def test_work_without_room_at_one_carrier_is_offered_to_the_other_at_once() -> None:
    store = MemoryStore()
    slow = Faults(latency_ms=900)
    async with (
        Simulator(slow) as north,
        Simulator() as south,
        carrier_manager(store, north, south, weights=(1, 1)) as one,
    ):
        fill(store, 40)
        one.work_available([0, 2], route="*")  # those of the first carrier, which can take no more than 18 of them
        await until(lambda: south.stats.accepted > 0)
        await until(lambda: store.states()[State.QUEUED] == 0, 1.0)


class PausedStore(MemoryStore):
    """Answers a take only while ``answering`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = asyncio.Event()
        self.answering.set()

    async def take(self, owner: LeaseOwner, requests: Sequence[TakeRequest]) -> list[TakeResult]:
        answers = await super().take(owner, requests)
        await self.answering.wait()
        return answers


async def test_what_one_was_told_of_before_it_had_its_share_the_other_hears_of_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = PausedStore()
    async with Simulator() as north, Simulator() as south, carrier_manager(store, north, south, weights=(1, 1)) as one:
        monkeypatch.setattr("gateway.carriers.take_planner.SWEEP_EVERY", 1e9)
        fill(store, 24)
        store.answering.clear()
        store.requests.clear()
        one.work_available([0], route="*")
        await until(lambda: ("north", 0) in asked(store))
        one.work_available([2], route="*")  # while its first take is on the way
        one._shares["*"].add("north", 2 * SLACK)
        store.answering.set()
        await until(lambda: ("south", 2) in asked(store))
        await until(lambda: not store.queues[0] and not store.queues[2])


async def test_what_a_carrier_is_told_of_while_it_has_had_its_share_it_takes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    async with Simulator() as north, Simulator() as south, carrier_manager(store, north, south, weights=(1, 1)) as one:
        await until(lambda: len(asked(store)) == 2 * PARTITIONS)  # the first sweep of both
        monkeypatch.setattr("gateway.carriers.take_planner.SWEEP_EVERY", 1e9)
        dispatcher = one.services[0].dispatcher
        await until(lambda: not dispatcher._scheduler)
        one._shares["*"].add("north", 2 * SLACK)
        store.requests.clear()
        fill(store, 12)
        dispatcher.work_available([0])
        await until(lambda: not dispatcher._wake.is_set())
        assert ("north", 0) not in asked(store)
        one._shares["*"].add("south", 2 * SLACK)
        dispatcher.wake()
        await until(lambda: ("north", 0) in asked(store))
