"""A store that lost its data is not taken for one in which nothing waits."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.errors import StoreRefused, StoreUnavailable
from gateway.store.keys import tags
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection, connect
from tests.servers import Cluster, Server

LOST = "has lost the data of partition"


async def link_to(url: str) -> StoreConnection:
    return await connect(url, tags=tags(4), library=build_library(), durability="everysec", timeout=3.0)


async def soon(link: StoreConnection) -> None:
    """Ready, once old connections were found to be dead."""
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await link.probe()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


async def test_a_server_that_comes_back_empty_is_refused_until_its_data_is_back(server: Server, tmp_path: Path) -> None:
    link = await link_to(server.url)
    await link.call(0, "opts", b"r" * 16)
    server.kill()
    shutil.move(server.folder / "appendonlydir", tmp_path)
    with pytest.raises(StoreUnavailable):
        await link.probe()
    server.start()
    for _ in range(2):
        with pytest.raises(StoreRefused, match=LOST):
            await link.call(0, "opts", b"r" * 16)
        with pytest.raises(StoreRefused, match=LOST):
            await link.probe()
    other = await link_to(server.url)  # another gateway begins anew; this one is none the wiser for it
    with pytest.raises(StoreRefused, match=LOST):
        await link.probe()
    await other.close()
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.move(tmp_path / "appendonlydir", server.folder)
    server.start()
    await soon(link)
    await link.call(0, "opts", b"r" * 16)
    await link.close()


async def test_a_server_that_was_emptied_is_not_ready(server: Server) -> None:
    link = await link_to(server.url)
    server.flush()
    with pytest.raises(StoreRefused, match=LOST):
        await link.probe()
    await link.close()


async def test_a_gateway_does_not_start_on_what_is_left(cluster_url: str, cluster_servers: Cluster) -> None:
    await (await link_to(cluster_url)).close()
    lost = cluster_servers.nodes[1].client.keys("*made")[0]
    cluster_servers.nodes[1].client.delete(lost)
    with pytest.raises(StoreRefused, match=f"{LOST} {tags(4).index(lost[:-4])}: .*HDEL gateway:meta id"):
        await link_to(cluster_url)
    for node in cluster_servers.nodes:
        if node.client.keys("gateway:meta"):
            node.client.hdel("gateway:meta", "id")
    await (await link_to(cluster_url)).close()
    await (await link_to(cluster_url)).close()
