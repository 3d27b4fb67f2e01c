"""Hints between gateways, on one server and on a cluster."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.errors import StoreError
from gateway.store.keys import tags
from gateway.store.library import build_library
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import connect
from gateway.store.work_channel import WorkChannel, decode, encode
from tests.servers import Server

PARTITIONS = 8


@given(st.sets(st.integers(0, 1023), max_size=50), st.booleans())
def test_a_hint_unpacks_to_what_was_packed(partitions: set[int], urgent: bool) -> None:
    assert decode(encode(partitions, b"host.1/ab", urgent=urgent)) == (b"host.1/ab", sorted(partitions), urgent)


@given(st.binary(max_size=40))
def test_any_published_data_is_decoded_without_an_error(data: bytes) -> None:
    _, partitions, _ = decode(data)
    assert all(0 <= partition < 65536 for partition in partitions)


@pytest.mark.parametrize("kind", ["store_url", "cluster_url"])
async def test_a_hint_reaches_the_other_gateways_and_not_its_sender(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(kind)
    wanted = {"tags": tags(PARTITIONS), "library": build_library(), "durability": "everysec"}
    one, other = await connect(url, **wanted), await connect(url, **wanted)
    ours, theirs = WorkChannel(one, LeaseOwner("a", "1")), WorkChannel(other, LeaseOwner("b", "1"))
    heard: list[tuple[list[int], bool]] = []
    ourselves: list[object] = []
    listening = [
        asyncio.create_task(theirs.listen(lambda *said: heard.append(said))),
        asyncio.create_task(ours.listen(lambda *said: ourselves.append(said))),
    ]
    try:
        async with asyncio.timeout(5):
            while not heard:  # until both are subscribed
                await ours.publish({0}, urgent=False)
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            heard.clear()
            await ours.publish(range(PARTITIONS), urgent=True)
            while {one for some, _ in heard for one in some} != set(range(PARTITIONS)):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert all(urgent for _, urgent in heard)
        assert len(heard) == len(one.primaries)
        assert ourselves == []
    finally:
        for task in listening:
            task.cancel()
        await one.close()
        await other.close()


async def test_listening_ends_with_an_error_when_the_store_does() -> None:
    server = Server()
    link = await connect(server.url, tags=tags(PARTITIONS), library=build_library(), durability="everysec")
    listening = asyncio.create_task(WorkChannel(link, LeaseOwner("a", "1")).listen(lambda *_: None))
    await asyncio.sleep(0.1)
    assert not listening.done()
    server.stop()
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(listening, 5)
    assert caught.group_contains(StoreError)
    await link.close()
