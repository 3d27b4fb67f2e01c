"""Two gateways of one name on one store: one works, the other says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cli import Exit
from gateway.client import Unreachable
from gateway.simulator import Faults, Simulator
from tests.running_gateway import Message, RunningGateway, extra, missing, until
from tests.servers import Server
from tests.test_serve import refused

SHARED = """durability = "everysec"
partitions = 4
[privacy]
hashing_secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
encryption_keys = {1 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    """Two gateways that are not started, each with a folder of its own, on one store, with one carrier."""
    server = Server()
    carrier = Simulator(Faults(latency_ms=20), ledger=True)
    await carrier.start()
    gateways = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        store = f'url = "unix://{server.socket}"\n{SHARED}'
        gateways.append(RunningGateway(folder, {"north": carrier}, "window = 20", store=store, node="same"))
    yield gateways[0], gateways[1]
    for one in gateways:
        if one.process is not None:
            with contextlib.suppress(ProcessLookupError):
                one.process.process.send_signal(signal.SIGCONT)
        await one.stop()
    await carrier.stop()
    server.stop()


def batch(first: int, count: int = 200) -> list[dict[str, str]]:
    return [{"to": f"+46700{first + i:06}", "text": f"Hello {first + i}"} for i in range(count)]


async def test_a_second_gateway_of_a_name_in_use_is_refused(
    pair: tuple[RunningGateway, RunningGateway],
) -> None:
    first, second = pair
    await first.start()
    accepted: list[Message] = []
    refusal = asyncio.Event()

    async def work() -> None:
        number = 0
        while not refusal.is_set():
            accepted.extend(await first.post(batch(number * 1000)))
            number += 1
            await asyncio.sleep(0.1)

    working = asyncio.create_task(work())
    code, said = await asyncio.to_thread(refused, second.file)
    refusal.set()
    assert code == Exit.USAGE, said
    assert 'the name "same" is alive on this store' in said
    assert "node = " in said
    assert "Traceback" not in said
    await working
    await until(lambda: not missing(accepted, first.copies()), 30)
    assert extra(first.copies()) == 0, "nobody took over what was not left"
    await first.stop()
    await second.start()  # the name is free at once
    assert (await second.status())["node"].startswith("same/")


async def test_a_paused_gateway_that_finds_a_successor_sends_nothing_more(
    pair: tuple[RunningGateway, RunningGateway],
) -> None:
    first, second = pair
    await first.start()
    accepted = await first.post(batch(0, 2000))
    await until(lambda: len(first.copies()) > 100, 10)
    assert first.process is not None
    first.process.process.send_signal(signal.SIGSTOP)
    await second.start()
    accepted += await second.post(batch(10_000, 500))
    await until(lambda: not missing(accepted, second.copies()), 40)
    first.process.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(20):
        while "another of its name has taken over" not in (first.folder / "gateway.log").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    accepted += await second.post(batch(20_000, 1000))
    await until(lambda: not missing(accepted, second.copies()), 30)
    with contextlib.suppress(Unreachable):  # it answers that it takes nothing
        answer = await asyncio.to_thread(first.http.post, "/v1/messages", batch(30_000, 1)[0])
        assert answer.status == 503
    assert extra(second.copies()) <= 2 * 20, "at most what was on its way when it was paused"
    assert "Traceback" not in (first.folder / "gateway.log").read_text()
