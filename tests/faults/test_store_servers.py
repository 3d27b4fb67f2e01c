"""A store of one's own that restarts, loses its data, fills up or takes no writes: the gateway says so and goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.simulator import Faults
from tests.running_gateway import Message, RunningGateway, extra, missing, running_gateway, until
from tests.servers import Server, free_ports


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(port=free_ports(1)[0])
    yield server
    server.stop()


def at(server: Server) -> str:
    """Settings of a gateway that uses it."""
    return f'url = "redis://127.0.0.1:{server.port}"\ndurability = "everysec"\npartitions = 4'


def some(first: int, count: int = 50) -> list[dict[str, str]]:
    return [{"to": f"+46700{first + i:06}", "text": f"Hello {first + i}"} for i in range(count)]


async def refused(gateway: RunningGateway, number: int) -> str:
    """What is answered to a message that cannot be stored, as apps see it: 503 and when to come again."""
    answer = await asyncio.to_thread(gateway.http.post, "/v1/messages", some(number, 1)[0])
    assert (answer.status, answer.body["retryable"]) == (503, True)
    return str(answer.body["detail"])


async def unready(gateway: RunningGateway, word: str) -> None:
    """/readyz reports it, and only the log says why: /readyz needs no key."""
    log = gateway.folder / "gateway.log"
    async with asyncio.timeout(10):
        while True:
            answer = await asyncio.to_thread(gateway.admin.get, "/readyz")
            if answer.status == 503 and any("not ready" in line and word in line for line in log.open()):
                return
            await asyncio.sleep(0.05)


async def ready(gateway: RunningGateway) -> None:
    async with asyncio.timeout(15):
        while not (await asyncio.to_thread(gateway.admin.get, "/readyz")).ok:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


def no_tracebacks(gateway: RunningGateway) -> None:
    log = (gateway.folder / "gateway.log").read_text()
    assert "Traceback" not in log, log[-3000:]


async def all_sent_once(gateway: RunningGateway, accepted: list[Message]) -> None:
    await until(lambda: not missing(accepted, gateway.copies()), 20)
    assert extra(gateway.copies()) == 0
    assert len(gateway.copies()) == len(accepted)
    no_tracebacks(gateway)


async def test_a_restarted_store_server_is_used_again_and_an_empty_one_refused(tmp_path: Path, server: Server) -> None:
    async with running_gateway(tmp_path, ["north"], store=at(server), settings="on_unknown = 'never'") as gateway:
        accepted = await gateway.post(some(0))
        await until(lambda: not missing(accepted, gateway.copies()), 10)
        server.kill()
        shutil.move(server.folder / "appendonlydir", tmp_path)
        await unready(gateway, "is it running")
        server.start()
        await unready(gateway, "has lost the data")
        await refused(gateway, 9_001)
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.move(tmp_path / "appendonlydir", server.folder)
        server.start()
        await ready(gateway)
        accepted += await gateway.post(some(200))
        await all_sent_once(gateway, accepted)


async def test_a_store_server_without_room_refuses_writes_or_messages(tmp_path: Path, server: Server) -> None:
    faults = Faults(receipt_delay_ms=50)
    async with running_gateway(tmp_path, ["north"], store=at(server), faults=faults) as gateway:
        accepted = await gateway.post(some(0))
        await until(lambda: not missing(accepted, gateway.copies()), 10)

        server.run("CONFIG", "SET", "maxmemory", "1")  # full: everything but messages goes on
        assert "full" in await refused(gateway, 9_000)
        stop = {"scope": "all", "reason": "x"}
        word = await asyncio.to_thread(gateway.http.put, "/v1/suppressions/+46700000001", stop)
        assert word.ok, word
        await until(lambda: gateway.carriers["north"].stats.receipts_acknowledged == len(accepted), 10)
        server.run("CONFIG", "SET", "maxmemory", "0")
        accepted += await gateway.post(some(100))

        server.run("REPLICAOF", "127.0.0.1", 1)  # it is a replica now
        await unready(gateway, "failing over")
        await refused(gateway, 9_001)
        server.run("REPLICAOF", "NO", "ONE")
        await ready(gateway)
        accepted += await gateway.post(some(200))

        (server.folder / "dump.rdb").mkdir()  # its snapshots fail
        server.run("CONFIG", "SET", "save", "1 1")
        await unready(gateway, "disk")
        await refused(gateway, 9_002)
        server.run("CONFIG", "SET", "save", "")
        (server.folder / "dump.rdb").rmdir()
        server.run("BGSAVE")
        await ready(gateway)
        accepted += await gateway.post(some(300))
        await all_sent_once(gateway, accepted)
