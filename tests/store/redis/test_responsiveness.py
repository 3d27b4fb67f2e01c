from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from gateway.store.errors import StoreUnavailable, StoreUnconfirmed
from gateway.store.redis.connection import StoreConnection
from gateway.store.redis.responsiveness import QUIET_LOOKS, Responsiveness
from tests.api.test_with_store import open_link
from tests.servers import Server


async def _nothing() -> None:
    """It says a word."""


def hearing() -> Responsiveness:
    one = Responsiveness("store", _nothing, lambda: None)
    one._timer = asyncio.get_running_loop().call_later(3600, lambda: None)  # looks are ours
    return one


async def test_calls_without_a_reply_cause_a_ping() -> None:
    one = hearing()
    one.begun()
    assert [one.look() for _ in range(QUIET_LOOKS + 1)] == [False] * QUIET_LOOKS + [True]
    one.close()


async def test_any_reply_between_two_looks_shows_that_the_server_responds() -> None:
    one = hearing()
    one.begun()
    for _ in range(20):
        one.begun()
        assert not one.look()
        one.answered()
        one.ended()
    one.close()


async def test_a_server_without_calls_is_not_silent() -> None:
    one = hearing()
    assert not any(one.look() for _ in range(20))
    one.close()


async def test_one_call_that_the_server_delays_does_not_make_it_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """WAITAOF waits for a replica, and the server answers others meanwhile."""
    monkeypatch.setattr("gateway.store.redis.responsiveness.LOOK_EVERY", 0.005)
    words = 0

    async def word() -> None:
        nonlocal words
        words += 1

    one = Responsiveness("store", word, lambda: None)
    one.begun()
    async with asyncio.timeout(5):
        while words < 3:
            assert not one.silent
            await asyncio.sleep(0.002)
    one.ended()
    one.close()


@pytest.fixture
async def link_and_server() -> AsyncIterator[tuple[StoreConnection, Server]]:
    server = Server()
    link = await open_link(server.url)
    yield link, server
    os.kill(server.process.pid, signal.SIGCONT)
    await link.close()
    server.stop()


async def test_calls_to_a_hanging_store_fail_at_once_and_succeed_when_it_is_back(
    link_and_server: tuple[StoreConnection, Server],
) -> None:
    link, server = link_and_server
    await link.command(0, b"PING")
    os.kill(server.process.pid, signal.SIGSTOP)
    sent = asyncio.create_task(link.command(0, b"INCR", link.tags[0] + b"sent"))
    waiting = [asyncio.create_task(link.command(0, b"PING")) for _ in range(40)]  # more than there are connections
    failed = (await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED))[0]
    assert failed, "those that could not be sent need not wait any more"
    assert all(type(task.exception()) is StoreUnavailable for task in failed)
    begun = time.perf_counter()
    for _ in range(20):
        with pytest.raises(StoreUnavailable) as said:
            await link.command(0, b"INCR", link.tags[0] + b"sent")
        assert not isinstance(said.value, StoreUnconfirmed), "it was certainly not sent"
    assert (time.perf_counter() - begun) / 20 < 0.1
    os.kill(server.process.pid, signal.SIGCONT)
    assert await asyncio.wait_for(sent, 5) == 1, "what was sent is waited for"
    async with asyncio.timeout(5):
        while True:
            try:
                assert await link.command(0, b"INCR", link.tags[0] + b"sent") == 2
                break
            except StoreUnavailable:
                await asyncio.sleep(0.01)
    await asyncio.gather(*waiting, return_exceptions=True)
