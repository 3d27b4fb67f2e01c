"""The listener on real sockets: what a client may cost before it has shown a key."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from gateway.doors.listener import Limits, Listener, Message, Receive, Scope, Send

LIMITS = Limits(headers=4096, header_seconds=0.3, body_seconds=0.6, idle_seconds=1.0)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    octets = 0
    while True:
        message: Message = await receive()
        octets += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if message["type"] == "http.disconnect":
        return
    body = b"%d" % octets
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]},
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener(app, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    yield listener
    await listener.stop(1)


async def exchange(listener: Listener, *pieces: bytes, wait: float = 0.0) -> bytes:
    """Everything the server says until it hangs up."""
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(wait)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_port_zero_gives_the_real_address(listener: Listener) -> None:
    assert listener.port > 0
    assert listener.url == f"http://127.0.0.1:{listener.port}"
    assert repr(listener) == f"<Listener {listener.url} open>"


async def test_keep_alive_and_pipelining(listener: Listener) -> None:
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    last = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab"
    answer = await exchange(listener, one + one + last)
    assert answer.count(b"200 OK") == 3
    assert answer.endswith(b"2")
    assert b"server:" not in answer


async def test_headers_are_bounded(listener: Listener) -> None:
    many = b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 100) for i in range(60)) + b"\r\n"
    answer = await exchange(listener, many)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b'"code":"headers_too_large"' in answer
    assert b"4096 octets" in answer


async def test_an_unfinished_header_is_bounded(listener: Listener) -> None:
    answer = await exchange(listener, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 1000] * 5, wait=0.01)
    assert answer.startswith(b"HTTP/1.1 431")


async def test_a_long_url_is_bounded(listener: Listener) -> None:
    assert (await exchange(listener, b"GET /" + b"y" * 5000 + b" HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 431")


async def test_garbage_is_refused_as_a_problem(listener: Listener) -> None:
    answer = await exchange(listener, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


async def test_a_client_that_has_said_all_hears_the_answers() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await app(scope, receive, send)

    listener = Listener(slow, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc" * 2)
    writer.write_eof()
    async with asyncio.timeout(0.9):  # hung up on at once, not when the client has been idle for long
        assert (await reader.read()).count(b"200 OK") == 2
    writer.close()
    await listener.stop(1)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"POST / HTTP/1.1\r\nhost"],
        [b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc"],
    ],
    ids=["header", "body"],
)
async def test_a_slow_client_is_hung_up_on(listener: Listener, pieces: list[bytes]) -> None:
    assert (await exchange(listener, *pieces)).startswith(b"HTTP/1.1 408")


async def test_an_idle_client_is_hung_up_on(listener: Listener) -> None:
    answer = await exchange(listener, b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"408" not in answer


async def test_a_silent_client_is_hung_up_on(listener: Listener) -> None:
    assert (await exchange(listener)).startswith(b"HTTP/1.1 408")


async def test_a_crowd_is_turned_away() -> None:
    listener = Listener(app, "127.0.0.1:0", limits=LIMITS._replace(connections=2))
    await listener.start()
    writers = [(await asyncio.open_connection(listener.host, listener.port))[1] for _ in range(2)]
    await asyncio.sleep(0.05)
    assert listener.connections == 2
    with pytest.raises(ConnectionResetError):
        assert await exchange(listener, b"GET / HTTP/1.1\r\n\r\n") == b""
        raise ConnectionResetError  # an orderly end is as good
    for writer in writers:
        writer.close()
    await listener.stop(1)


async def test_a_taken_address_is_named(listener: Listener) -> None:
    second = Listener(app, f"127.0.0.1:{listener.port}")
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{listener.port}"):
        await second.start()


async def test_signals_stay_ours() -> None:
    before = signal.getsignal(signal.SIGINT)
    listener = Listener(app, "127.0.0.1:0")
    await listener.start()
    assert signal.getsignal(signal.SIGINT) is before
    await listener.stop(1)


async def test_what_runs_may_finish() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go.wait()
        await app(scope, receive, send)

    listener = Listener(slow, "127.0.0.1:0")
    await listener.start()
    answer = asyncio.create_task(exchange(listener, b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"))
    await entered.wait()
    stopping = asyncio.create_task(listener.stop(5))
    await asyncio.sleep(0.1)
    go.set()
    assert (await answer).endswith(b"3")
    await stopping
