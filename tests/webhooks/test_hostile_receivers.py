"""Servers whose responses have no end: each costs a bounded amount of work, and others are served in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.config.addresses import AddressGuard
from gateway.webhooks import http_connection
from gateway.webhooks.poster import Poster, PostOutcome
from tests.certificates import Authority
from tests.webhooks.hostile import ENDLESS, UNENDING, hostile
from tests.webhooks.receivers import Inbox, inbox

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
HERE = ["127.0.0.0/8"]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both kinds of loop hand over what arrives, and close, in their own way."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as built:
        yield built


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    built = Poster(AddressGuard(HERE), agent="test", total=10.0)
    yield built
    await built.close()


async def _post(poster: Poster, port: int) -> PostOutcome:
    return await poster.post(f"http://127.0.0.1:{port}/", {"content-type": "application/json"}, b"[{}]")


async def _until(poster: Poster, state: str) -> None:
    async with asyncio.timeout(5):
        while state not in repr(poster):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


SLOW = [kind for kind, response in ENDLESS.items() if response.pause]
FAST = [kind for kind in ENDLESS if kind not in SLOW]


@pytest.mark.parametrize("kind", FAST)
async def test_a_flood_without_a_status_fails_long_before_the_timeout(poster: Poster, kind: str) -> None:
    with hostile(ENDLESS[kind]) as port:
        outcome = await _post(poster, port)
    assert outcome.status == 0
    assert outcome.fault
    assert "timed out" not in outcome.fault
    await _until(poster, "0 connections")


@pytest.mark.parametrize("kind", SLOW)
async def test_slow_octets_do_not_postpone_the_timeout(kind: str) -> None:
    poster = Poster(AddressGuard(HERE), total=0.5)
    with hostile(ENDLESS[kind]) as port:
        outcome = await _post(poster, port)
    assert outcome == PostOutcome(0, "timed out")
    await _until(poster, "0 connections")
    await poster.close()


@pytest.mark.parametrize("kind", UNENDING)
async def test_a_status_counts_and_an_endless_rest_is_cut_off(
    poster: Poster, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes slowly after a moment, what comes fast after so many octets."""
    monkeypatch.setattr(http_connection, "BODY_SECONDS", 0.3 if UNENDING[kind].pause else 60.0)
    begun = time.monotonic()
    with hostile(UNENDING[kind]) as port:
        outcome = await _post(poster, port)
    assert outcome == PostOutcome(200)
    assert time.monotonic() - begun < 8.0  # of the ten that a post may take
    await _until(poster, "0 connections")


async def test_informational_responses_are_skipped_up_to_their_bound(poster: Poster) -> None:
    said = [b"HTTP/1.1 103 Early Hints\r\nretry-after: 9\r\n\r\n"] * http_connection.INFORMATIONAL

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(said) + b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await _post(poster, port) == PostOutcome(503)
        said *= 2
        assert "informational" in (await _post(poster, port)).fault


async def test_endless_responses_are_cut_inside_tls_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    poster = Poster(AddressGuard(HERE), total=5.0)
    for response, status in ((ENDLESS["informational"], 0), (UNENDING["chunks"], 200)):
        with hostile(response, context) as port:
            outcome = await poster.post(f"https://127.0.0.1:{port}/", {}, b"[{}]")
        assert outcome.status == status
        assert "timed out" not in outcome.fault
        assert "Certificate" not in outcome.fault
    await poster.close()


async def test_hostile_servers_do_not_delay_a_healthy_one(box: Inbox) -> None:
    """A healthy receiver is posted to while every kind of endless answer arrives, and again and again."""
    poster = Poster(AddressGuard(HERE), total=1.0)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(hostile(response)) for response in (ENDLESS | UNENDING).values()]
        stop = False

        async def attack(port: int) -> None:
            while not stop:
                await _post(poster, port)

        attacks = [asyncio.create_task(attack(port)) for port in ports]
        waits = []
        async with asyncio.timeout(60):
            for _ in range(30):
                begun = time.monotonic()
                assert (await _post(poster, box.port)).ok
                waits.append(time.monotonic() - begun)
                await asyncio.sleep(0.02)
            stop = True
            await asyncio.gather(*attacks)
    assert sorted(waits)[15] < 0.5, waits  # half of them; a machine may be slow now and then
    assert len(box.posts) == 30
    await poster.close()


async def test_connections_are_reused_and_a_kept_one_that_was_closed_is_no_failure(poster: Poster) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):  # it answers twice and hangs up without a word
            await reader.readuntil(b"[{}]")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert [(await _post(poster, port)).status for _ in range(5)] == [200] * 5
    assert connections == 3


async def test_unsolicited_octets_end_a_kept_connection(poster: Poster) -> None:
    """Else they would be taken for the answer to the next post."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"[{}]")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(1)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await _post(poster, port) == PostOutcome(200)
        await _until(poster, "0 connections")
        assert await _post(poster, port) == PostOutcome(200)


async def test_a_cancelled_post_leaves_no_connection_behind(poster: Poster) -> None:
    with hostile(ENDLESS["silence"]) as port:
        task = asyncio.create_task(_post(poster, port))
        await _until(poster, "1 connections")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await _until(poster, "0 connections")


async def test_a_response_is_the_same_in_any_chunking(poster: Poster) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\n{}"
    for size in (1, 2, 3, 7, 20, 60, len(whole)):

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int = size) -> None:
            await reader.readuntil(b"[{}]")
            for at in range(0, len(whole), size):
                writer.write(whole[at : at + size])
                await asyncio.sleep(0)
            await reader.read(1)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            assert await _post(poster, server.sockets[0].getsockname()[1]) == PostOutcome(429, "", 7.0)


class _Octets(bytearray):
    """Bytes that a weak reference may point to."""


class _NoTransport(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass


async def test_what_a_refused_response_sent_is_freed_at_once() -> None:
    """Full garbage collections are rare: what waits for one grows with each response of a hostile server."""
    connection = http_connection.HttpConnection(lambda _: None)
    connection.connection_made(_NoTransport())
    response = connection.send(b"", asyncio.get_running_loop().time() + 1)
    received = _Octets(ENDLESS["informational"].again)
    kept = weakref.ref(received)
    gc.disable()
    try:
        connection.data_received(received)  # type: ignore[arg-type]
        del received
        assert "informational" in (await response).fault
        assert kept() is None
    finally:
        gc.enable()
