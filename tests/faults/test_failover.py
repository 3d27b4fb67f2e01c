"""A cluster with replicas under load: a primary is killed, a partition moves. Half a minute, so by hand:

make test ARGS="-m by_hand tests/faults/test_failover.py"
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot

from gateway.client import Unreachable
from gateway.simulator import Faults
from gateway.store.keys import tags
from tests.running_gateway import Message, RunningGateway, extra, missing, running_gateway, until
from tests.servers import Cluster, Server

pytestmark = pytest.mark.by_hand

BATCH, PAUSE = 50, 0.1
WINDOWS = 2 * 50  # binds × window
PARTITIONS = 24


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster("--appendfsync", "always", replicas=True)  # with everysec a replica confirms once a second
    yield cluster
    cluster.stop()


Load = tuple[RunningGateway, list[Message], asyncio.Task[None]]


@asynccontextmanager
async def under_load(
    folder: Path, cluster: Cluster, durability: str
) -> AsyncIterator[tuple[RunningGateway, list[Message], asyncio.Task[None]]]:
    """A gateway on the cluster, what it has accepted so far, and who posts 500 messages a second to it."""
    store = f'url = "{cluster.url}"\ndurability = "{durability}"\npartitions = {PARTITIONS}'
    faults = Faults(latency_ms=20, receipt_delay_ms=100)
    accepted: list[Message] = []
    async with running_gateway(
        folder, ["north"], faults=faults, settings="binds = 2\nwindow = 50", store=store
    ) as gateway:

        async def post() -> None:
            number = 46_700_000_000
            while True:
                batch = [{"to": f"+{number + i}", "text": f"Hello {number + i}"} for i in range(BATCH)]
                number += BATCH
                try:
                    answer = await asyncio.to_thread(gateway.http.post, "/v1/messages/batch", {"messages": batch})
                except Unreachable:
                    continue
                good = [result for result in answer.body.get("results", ()) if "id" in result]
                accepted.extend(Message(one["to"].lstrip("+"), one["id"], one["segments"]) for one in good)
                await asyncio.sleep(PAUSE)

        posting = asyncio.create_task(post())
        await until(lambda: len(accepted) >= 500, 30)
        try:
            yield gateway, accepted, posting
        finally:
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)


async def goes_on(accepted: list[Message], seconds: float = 40) -> None:
    """Messages for every partition are accepted again."""
    now = len(accepted)
    await until(lambda: len(accepted) >= now + 300, seconds)


async def settled(gateway: RunningGateway, accepted: list[Message], posting: asyncio.Task[None]) -> list[Message]:
    """No more is posted: accepted messages that no carrier has, once nothing has moved for some seconds."""
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    still, seen = 0, -1
    while still < 5 and missing(accepted, gateway.copies()):
        await asyncio.sleep(2)
        still = still + 1 if seen == len(gateway.copies()) else 0
        seen = len(gateway.copies())
    assert "Traceback" not in (gateway.folder / "gateway.log").read_text()
    return missing(accepted, gateway.copies())


def migrated(source: Server) -> bool:
    return "success" in str(source.run("CLUSTER", "GETSLOTMIGRATIONS"))


@pytest.mark.parametrize("durability", ["replicated", "everysec"])
async def test_a_killed_primary_fails_over_without_loss(tmp_path: Path, cluster: Cluster, durability: str) -> None:
    """With "replicated" nothing is lost. Otherwise at most what came in the moment before, which the replica lacks."""
    async with under_load(tmp_path, cluster, durability) as (gateway, accepted, posting):
        before = len(accepted)
        cluster.nodes[1].kill()
        replica = cluster.replicas[1]
        await until(lambda: replica.run("INFO", "replication")["role"] == "master", 20)
        cluster.nodes[1].start()  # as a replica of the one that took its place
        await goes_on(accepted)
        await goes_on(accepted)
        lost = await settled(gateway, accepted, posting)
    doubled = extra(gateway.copies())
    print(f"{durability}: {len(accepted)} accepted, {before} before; lost {len(lost)}, doubled {doubled}")
    assert doubled <= WINDOWS
    if durability == "replicated":
        assert lost == []
    else:
        recent = accepted[max(0, before - 500) : before + 500]
        assert set(lost) <= set(recent), "something older than a second was lost"


async def test_a_partition_may_move_to_another_node_under_load(tmp_path: Path, cluster: Cluster) -> None:
    """By Valkey's atomic slot migration, there and back: nothing is lost, nothing doubled."""
    async with under_load(tmp_path, cluster, "everysec") as (gateway, accepted, posting):
        slot = key_slot(tags(PARTITIONS)[0])
        for source, target in ((cluster.nodes[0], cluster.nodes[2]), (cluster.nodes[2], cluster.nodes[0])):
            source.run("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.run("CLUSTER", "MYID"))
            await until(partial(migrated, source), 20)
            await goes_on(accepted)
        assert await settled(gateway, accepted, posting) == []
    assert extra(gateway.copies()) == 0
