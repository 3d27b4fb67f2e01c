"""A store that is stopped, not dead: the api_client answers in time, and what it says of each message is true."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.api.test_with_store import Gateway, open_link
from tests.intake.fakes import NOON
from tests.servers import Server


@pytest.fixture
async def stopped_gateway() -> AsyncIterator[tuple[Gateway, Server]]:
    server = Server()
    link = await open_link(server.url)
    gateway = Gateway(link)
    await gateway.at(NOON)
    await gateway.listener.start()
    yield gateway, server
    os.kill(server.process.pid, signal.SIGCONT)
    await gateway.listener.stop(1)
    await link.close()
    server.stop()


async def _post(gateway: Gateway, number: int, key: str = "") -> tuple[float, int, Any]:
    begun = time.monotonic()
    headers = {"Authorization": "Bearer shop-key"} | ({"Idempotency-Key": key} if key else {})
    message = {"to": f"+4670{number:07}", "text": "x"}
    async with (
        aiohttp.ClientSession(gateway.listener.url, headers=headers) as http,
        http.post("/v1/messages", json=message) as response,
    ):
        body = await response.json(content_type=None)
    return time.monotonic() - begun, response.status, body


async def _until_taken(gateway: Gateway, number: int, key: str) -> Any:
    async with asyncio.timeout(30):
        while True:
            _, status, body = await _post(gateway, number, key)
            if status == 202:
                return body
            await asyncio.sleep(0.05)


async def test_every_response_comes_in_time_and_is_true(stopped_gateway: tuple[Gateway, Server]) -> None:
    gateway, server = stopped_gateway
    assert (await _post(gateway, 0))[1] == 202  # connections are there
    slow = asyncio.create_task(_post(gateway, 1))
    await asyncio.sleep(0.003)
    os.kill(server.process.pid, signal.SIGSTOP)
    answers = [await slow] + await asyncio.gather(*[_post(gateway, number) for number in range(2, 12)])
    late = await _post(gateway, 12)
    assert all(took < 4.0 for took, *_ in answers), answers  # a busy machine's two seconds; the store's own are ten
    assert late[0] < 4.0
    os.kill(server.process.pid, signal.SIGCONT)
    await _until_taken(gateway, 99, "key")
    waiting = sum((await gateway.store.depths()).waiting["shop"].values())
    told = [(status, body.get("code")) for _, status, body in [*answers, late]]
    sure = 2 + sum(status == 202 for status, _ in told)
    perhaps = sum(code == "write_unconfirmed" for _, code in told)
    assert sure <= waiting <= sure + perhaps
    for _, status, body in answers:
        if body.get("code") == "write_unconfirmed":
            assert (await gateway("GET", f"/v1/messages/{body['id']}"))[0] in {200, 404}
        else:
            assert status == 202 or body["code"] == "store_unavailable"


async def test_a_request_under_a_key_that_was_cut_off_is_accepted_once(stopped_gateway: tuple[Gateway, Server]) -> None:
    """The store is stopped at some moment of the request, whatever that is; the repeat settles it."""
    gateway, server = stopped_gateway
    for number, pause in enumerate((0.0, 0.002, 0.003, 0.004, 0.005), 1):
        request = asyncio.create_task(_post(gateway, number, f"key-{number}"))
        await asyncio.sleep(pause)
        os.kill(server.process.pid, signal.SIGSTOP)
        await request
        os.kill(server.process.pid, signal.SIGCONT)
        taken = await _until_taken(gateway, number, f"key-{number}")
        assert (await gateway("GET", f"/v1/messages/{taken['id']}"))[0] == 200
    assert sum((await gateway.store.depths()).waiting["shop"].values()) == 5
