"""What was handed in for a range of numbers is counted in the store: for all gateways, and over restarts."""

from __future__ import annotations

import asyncio

import pytest

from gateway.policy.velocity import VelocityLimit
from gateway.store import keys
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.velocity_counts import VelocityCounts, VelocityGrant, VelocityWant
from tests.servers import Server

NOW = 1_795_262_400_000
LIMIT = VelocityLimit("225", 10, 60_000)


async def link_to(url: str) -> StoreConnection:
    return await connect(url, tags=keys.tags(8), library=build_library(), durability="everysec")


async def test_gateways_together_take_no_more_than_the_limit_also_after_a_restart(store_url: str) -> None:
    first, second = await link_to(store_url), await link_to(store_url)
    lets = await asyncio.gather(
        *[VelocityCounts(link).take([VelocityWant("shop", LIMIT, 3)], NOW) for link in (first, second) * 3]
    )
    assert sum(let.count for (let,) in lets) == 10
    await first.close()
    third = await link_to(store_url)
    (let,) = await VelocityCounts(third).take([VelocityWant("shop", LIMIT, 3)], NOW + 1)
    assert (let.count, let.room_at) == (0, NOW + 70_000)
    (let,) = await VelocityCounts(third).take([VelocityWant("shop", LIMIT, 3)], let.room_at)
    assert let == VelocityGrant(3, 0)
    await second.close()
    await third.close()


async def test_what_was_refused_counts_for_nothing(store_url: str) -> None:
    link = await link_to(store_url)
    counts = VelocityCounts(link)
    (let,) = await counts.take([VelocityWant("shop", LIMIT, 25)], NOW)
    assert let.count == 10
    for _ in range(5):
        await counts.take([VelocityWant("shop", LIMIT, 25)], NOW)
    (let,) = await counts.take([VelocityWant("shop", LIMIT, 1)], NOW + 70_000)
    assert let.count == 1
    await link.close()


async def test_earlier_slots_of_the_window_count_and_what_was_refused_in_them_does_not(store_url: str) -> None:
    link = await link_to(store_url)
    counts = VelocityCounts(link)
    for after, wanted, granted in ((0, 10, 10), (45_000, 5, 0), (70_000, 10, 10)):
        (let,) = await counts.take([VelocityWant("shop", LIMIT, wanted)], NOW + after)
        assert let.count == granted, after
    await link.close()


async def test_accounts_and_ranges_are_counted_apart_and_forgotten(store_url: str, single_server: Server) -> None:
    link = await link_to(store_url)
    other = VelocityLimit("46", 10, 60_000)
    wants = [VelocityWant("shop", LIMIT, 10), VelocityWant("shop", other, 10), VelocityWant("bank", LIMIT, 10)]
    assert [let.count for let in await VelocityCounts(link).take(wants, NOW)] == [10, 10, 10]
    for key in single_server.client.keys("*v:*"):
        assert 0 < single_server.client.pttl(key) <= 121_000
    await link.close()


@pytest.mark.parametrize("count", [1, 10, 11])
async def test_on_a_cluster_too(cluster_url: str, count: int) -> None:
    link = await link_to(cluster_url)
    (let,) = await VelocityCounts(link).take([VelocityWant(f"shop{count}", LIMIT, count)], NOW)
    assert let.count == min(count, 10)
    await link.close()
