# ruff: noqa: SIM117  # who serves whom reads better nested
"""Binds that gateways share: how many are ours grows and shrinks while messages go, and loses none."""

from __future__ import annotations

import asyncio

from gateway.carriers.manager import CarrierManager
from gateway.carriers.pool import UNREACHABLE_AFTER, UNREACHABLE_FOR
from gateway.carriers.shared_limits import BindShare, CarrierRate, SenderRate
from gateway.carriers.views import carrier_view
from gateway.model import State
from gateway.simulator import Faults, Simulator
from gateway.store.limits import ShareGrant
from tests.carriers.test_keys import serving
from tests.carriers.test_service import until
from tests.carriers.test_with_store import opened, submit, until_states


def binds_of(carrier_manager: CarrierManager) -> BindShare:
    share = next(iter(carrier_manager.shared()))
    assert isinstance(share, BindShare)
    return share


def grant(share: BindShare, count: float, *, before: int = 0, up: int = 0) -> None:
    share.grant(ShareGrant(count, count, 2, before, up), share.ask(0.0), 0.0)


async def test_what_is_shared_has_a_name_for_all_gateways(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as simulator:
        async with serving(store, simulator, rate=5, binds=3, sender_rates={"SHOP": 1}) as carrier_manager:
            shared = list(carrier_manager.shared())
            assert [(type(one), one.name, one.limit) for one in shared] == [
                (BindShare, "binds/north", 3),
                (CarrierRate, "carrier/north", 5.0),
                (SenderRate, "sender/north/SHOP", 1.0),
            ]
            assert [one.held for one in shared] == [3, 5.0, 1.0]
        async with serving(store, simulator, rate=0) as carrier_manager:
            assert [one.name for one in carrier_manager.shared()] == ["binds/north"]


async def test_binds_grow_and_shrink_under_load_and_lose_nothing(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(latency_ms=30), ledger=True) as simulator:
        ids = await submit(store, 300)
        async with serving(store, simulator, binds=4, window=10) as carrier_manager:
            share, (service,) = binds_of(carrier_manager), carrier_manager.services
            await until(lambda: simulator.stats.bound == 4)
            for count in (0, 2):
                grant(share, count)
                await until(lambda count=count: share.held == count and simulator.stats.bound == count)  # type: ignore[misc]
            await until(lambda: carrier_view(service, 0.0).up == 2)  # the carrier knows first
            view = carrier_view(service, 0.0)
            assert (view.up, len(view.binds), view.binds_of, view.gateways) == (2, 2, 4, 2)
            await until_states(store, ids, State.DELIVERED)
        assert len(simulator.ledger) == 300
        assert simulator.stats.cut == 0


async def test_a_bind_that_is_to_go_counts_as_ours_until_its_window_is_empty(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(latency_ms=300)) as simulator:
        await submit(store, 5)
        async with serving(store, simulator, binds=1) as carrier_manager:
            share, (service,) = binds_of(carrier_manager), carrier_manager.services
            await until(lambda: service.dispatcher.submitted == 5)
            grant(share, 0)
            assert (share.held, service.pool.binds) == (1, [])
            assert service.controls.state(service.pool.slots[0]) == "draining"
            await until(lambda: share.held == 0)
            assert service.controls.state(service.pool.slots[0]) == "elsewhere"
            tally = service.dispatcher.tally
            assert (tally.accepted, tally.lost) == (5, 0)


async def test_a_pair_of_transmitter_and_receiver_is_one(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as simulator:
        async with serving(store, simulator, binds=2, bind="transmitter+receiver") as carrier_manager:
            share = binds_of(carrier_manager)
            await until(lambda: simulator.stats.bound == 4)
            assert (share.held, share.ask(0.0).up) == (2, 2)
            grant(share, 1)
            await until(lambda: simulator.stats.bound == 2 and share.held == 1)
            kinds = {slot.command_id for slot in carrier_manager.services[0].pool.slots if slot.bind is not None}
            assert len(kinds) == 2


async def test_gateways_go_through_the_hosts_from_different_places(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as one, Simulator() as two:
        hosts = (f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}")
        async with serving(store, one, binds=2, hosts=hosts) as carrier_manager:
            grant(binds_of(carrier_manager), 1, before=1)
            await until(lambda: two.stats.bound == 1 and one.stats.bound == 0)


async def test_a_carrier_that_others_have_up_is_not_down(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as simulator:
        async with serving(store, simulator, binds=1) as carrier_manager:
            share, health = binds_of(carrier_manager), carrier_manager._health
            await until(lambda: simulator.stats.bound == 1)
            grant(share, 0, up=1)
            await until(lambda: simulator.stats.bound == 0)
            await asyncio.sleep(0.3)
            later = asyncio.get_running_loop().time() + 60
            assert not health.down("north", later)
            grant(share, 0, up=0)
            await until(lambda: health.down("north", later))


async def test_nothing_is_bound_before_the_share_is_known_and_binds_stay_after_a_lapse(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as simulator:
        async with serving(store, simulator, binds=2) as carrier_manager:
            share = binds_of(carrier_manager)
            share.close(0.0)
            await asyncio.sleep(0.1)
            assert share.held == 0
            grant(share, 2)
            await until(lambda: simulator.stats.bound == 2)
            share.close(0.0)
            await asyncio.sleep(0.1)
            assert (share.held, simulator.stats.bound) == (2, 2)


async def test_a_senders_turn_holds_at_every_gateway(store_url: str) -> None:
    """Two gateways with half of the rate each send at the whole of it: a turn that one gives the other keeps."""
    words = {"sender_rates": {"sh*": 40}, "binds": 1}
    async with opened(store_url) as store, Simulator(ledger=True) as simulator:
        async with serving(store, simulator, **words) as one, serving(store, simulator, **words) as two:
            for carrier_manager in (one, two):
                (rate,) = (share for share in carrier_manager.shared() if isinstance(share, SenderRate))
                rate.grant(ShareGrant(20.0, 20.0, 2), rate.ask(0.0), 0.0)
            await until(lambda: simulator.stats.bound == 2)
            ids = await submit(store, 60)
            start = asyncio.get_running_loop().time()
            await until(lambda: simulator.stats.submits >= 40)
            took = asyncio.get_running_loop().time() - start
            assert 0.8 < took < 4.0, "a second; many if turns went with the one that gave them"
            await until_states(store, ids, State.DELIVERED)


async def test_a_gateway_that_cannot_reach_the_carrier_leaves_its_binds_to_others(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(refuse_connections=True)) as simulator:
        async with serving(store, simulator, binds=1) as carrier_manager:
            share, (slot,) = binds_of(carrier_manager), carrier_manager.services[0].pool.slots
            assert share.ask(0.0).wanted == 1
            slot.failures = UNREACHABLE_AFTER
            assert share.ask(1.0).wanted == 0
            grant(share, 0)
            assert share.ask(1.0 + UNREACHABLE_FOR).wanted == 1
            grant(share, 1)
            assert (slot.failures, share.ask(2.0 + UNREACHABLE_FOR).wanted) == (0, 1)
            slot.failures = UNREACHABLE_AFTER
            assert share.ask(2.0 + UNREACHABLE_FOR).wanted == 0
            simulator.faults = Faults()
            slot.next_try = 0.0
            slot.wake.set()
            await until(lambda: simulator.stats.bound == 1)
            assert share.ask(3.0 + UNREACHABLE_FOR).wanted == 1, "it has come through"
