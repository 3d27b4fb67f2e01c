"""The listener on real sockets: what a client may cost before it has shown a key."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api.listener import ConnectionLimits, HttpListener, JoinedWrites, Message, Receive, Scope, Send

LIMITS = ConnectionLimits(headers=4096, header_seconds=0.3, body_seconds=0.6, idle_seconds=1.0, write_seconds=0.6)


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
async def listener() -> AsyncIterator[HttpListener]:
    listener = HttpListener(app, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    yield listener
    await listener.stop(1)


async def exchange(listener: HttpListener, *pieces: bytes, wait: float = 0.0) -> bytes:
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


async def test_port_zero_gives_the_real_address(listener: HttpListener) -> None:
    assert listener.port > 0
    assert listener.url == f"http://127.0.0.1:{listener.port}"
    assert repr(listener) == f"<HttpListener {listener.url} open>"


async def test_keep_alive_and_pipelining(listener: HttpListener) -> None:
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    last = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab"
    answer = await exchange(listener, one + one + last)
    assert answer.count(b"200 OK") == 3
    assert answer.endswith(b"2")
    assert b"server:" not in answer


async def test_headers_are_bounded(listener: HttpListener) -> None:
    many = b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 100) for i in range(60)) + b"\r\n"
    answer = await exchange(listener, many)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b'"code":"headers_too_large"' in answer
    assert b"4096 bytes" in answer


async def test_an_unfinished_header_is_bounded(listener: HttpListener) -> None:
    answer = await exchange(listener, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 1000] * 5, wait=0.01)
    assert answer.startswith(b"HTTP/1.1 431")


async def test_a_long_url_is_bounded(listener: HttpListener) -> None:
    assert (await exchange(listener, b"GET /" + b"y" * 5000 + b" HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 431")


async def test_garbage_is_refused_as_a_problem(listener: HttpListener) -> None:
    answer = await exchange(listener, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


async def test_a_half_closed_connection_gets_its_responses() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await app(scope, receive, send)

    listener = HttpListener(slow, "127.0.0.1:0", limits=LIMITS)
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
async def test_a_slow_client_is_disconnected(listener: HttpListener, pieces: list[bytes]) -> None:
    assert (await exchange(listener, *pieces)).startswith(b"HTTP/1.1 408")


async def test_an_idle_client_is_disconnected(listener: HttpListener) -> None:
    answer = await exchange(listener, b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"408" not in answer


async def test_a_client_that_sends_nothing_is_disconnected(listener: HttpListener) -> None:
    assert (await exchange(listener)).startswith(b"HTTP/1.1 408")


async def test_connections_from_one_address_are_limited() -> None:
    listener = HttpListener(app, "127.0.0.1:0", limits=LIMITS._replace(connections=2))
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


async def test_a_taken_address_is_named(listener: HttpListener) -> None:
    second = HttpListener(app, f"127.0.0.1:{listener.port}")
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{listener.port}"):
        await second.start()


async def test_signal_handlers_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    listener = HttpListener(app, "127.0.0.1:0")
    await listener.start()
    assert signal.getsignal(signal.SIGINT) is before
    await listener.stop(1)


async def test_running_requests_may_finish() -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go.wait()
        await app(scope, receive, send)

    listener = HttpListener(slow, "127.0.0.1:0")
    await listener.start()
    answer = asyncio.create_task(exchange(listener, b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"))
    await entered.wait()
    stopping = asyncio.create_task(listener.stop(5))
    await asyncio.sleep(0.1)
    go.set()
    assert (await answer).endswith(b"3")
    await stopping


ONE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def closed(listener: HttpListener, count: int = 0) -> None:
    """Until so many are connected."""
    async with asyncio.timeout(10):
        while listener.connections > count:  # noqa: ASYNC110 - it has nobody to tell
            await asyncio.sleep(0.05)


async def large(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with more than the buffers of the system hold."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(200):
        await send({"type": "http.response.body", "body": bytes(1 << 17), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_clients_that_never_read_their_responses_are_cut_off_and_free_their_connections() -> None:
    listener = HttpListener(large, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    writers = []
    for _ in range(50):
        reader, writer = await asyncio.open_connection(listener.host, listener.port, limit=1)
        writers.append((reader, writer))
        writer.write(ONE)
    await asyncio.sleep(0.1)
    assert listener.connections == 50
    await closed(listener)
    for _, writer in writers:
        writer.close()
    await listener.stop(1)


async def test_a_client_that_reads_its_large_answer_slowly_gets_all_of_it() -> None:
    async def whole(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(200 << 17)})

    listener = HttpListener(whole, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    reader, writer = await asyncio.open_connection(listener.host, listener.port, limit=1 << 16)
    writer.write(ONE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    octets, begun = 0, asyncio.get_running_loop().time()
    async with asyncio.timeout(30):
        while some := await reader.read(1 << 17):
            octets += len(some)
            await asyncio.sleep(0.01)
    assert octets > 200 << 17
    assert asyncio.get_running_loop().time() - begun > LIMITS.write_seconds
    writer.close()
    await listener.stop(1)


async def test_a_client_that_does_not_read_the_last_response_is_cut_off() -> None:
    """Its last answers lie in the buffers, so an ordinary close would wait for ever."""

    async def chatty(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": bytes(32 << 20)})

    other = HttpListener(chatty, "127.0.0.1:0", limits=LIMITS)
    await other.start()
    _, writer = await asyncio.open_connection(other.host, other.port, limit=1)
    writer.write(ONE)
    await asyncio.sleep(0.1)
    assert other.connections == 1
    await closed(other)
    writer.close()
    await other.stop(1)


async def test_every_request_of_a_pipelined_flood_is_answered_and_few_are_held_at_a_time() -> None:
    most = 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most
        (connection,) = listener._server.server_state.connections  # type: ignore[union-attr]
        most = max(most, len(connection.pipeline))  # type: ignore[union-attr]
        await asyncio.sleep(0)
        await app(scope, receive, send)

    listener = HttpListener(counting, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    count = 5000
    body = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    writer.write((ONE + body) * (count // 2))
    answers = b""
    async with asyncio.timeout(30):
        while answers.count(b"HTTP/1.1 200") < count:
            answers += await reader.read(1 << 20)
    assert most < 400
    assert answers.count(b"\r\n\r\n3") == count // 2
    writer.write(ONE)  # and it goes on
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await listener.stop(1)


async def test_a_client_that_pipelines_and_half_closes_gets_every_response(listener: HttpListener) -> None:
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(ONE * 1000)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1000
    writer.close()


async def test_a_client_that_pipelines_without_reading_is_cut_off(listener: HttpListener) -> None:
    _, writer = await asyncio.open_connection(listener.host, listener.port, limit=1)
    writer.write(ONE * 200_000)
    await asyncio.sleep(0.1)
    assert listener.connections == 1
    await closed(listener)
    writer.close()


async def test_a_request_is_told_of_the_disconnect_despite_pipelined_ones() -> None:
    heard: list[str] = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append("begun")
        await receive()
        heard.append((await receive())["type"])

    listener = HttpListener(waiting, "127.0.0.1:0", limits=LIMITS)
    await listener.start()
    _, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(ONE * 3)
    async with asyncio.timeout(5):
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (connection,) = listener._server.server_state.connections  # type: ignore[union-attr]
        connection.transport.abort()
        while len(heard) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert heard == ["begun", "http.disconnect"]
    writer.close()
    await listener.stop(1)


async def test_the_extension_of_a_chunk_is_bounded(listener: HttpListener) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = await exchange(listener, head, b"3;", *[b"x" * 1000] * 5, wait=0.01)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"more than 4096 bytes" in answer
    small = b"3;a=b\r\nabc\r\n" * 1000 + b"0\r\n\r\n"
    assert (await exchange(listener, head + small)).endswith(b"3000")


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        self.written: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.written


async def test_head_and_body_of_a_response_are_one_write() -> None:
    transport = RecordingTransport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
    assert transport.written == []
    joined.write(b"{}")
    joined.write(b"more")
    assert transport.written == [b"HTTP/1.1 202 Accepted\r\n\r\n{}", b"more"]
    await asyncio.sleep(0)
    assert len(transport.written) == 2


async def test_a_head_waits_for_one_turn_only_and_the_interim_response_for_none() -> None:
    transport = RecordingTransport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(transport.written) == 1
    joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(0)
    assert transport.written[1:] == [b"HTTP/1.1 200 OK\r\n\r\n"]
    joined.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    joined.close()
    assert transport.written[2:] == [b"HTTP/1.1 204 No Content\r\n\r\n", "closed"]
    assert joined.is_closing()


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    transport = RecordingTransport()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    large = bytes(100_000)
    joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
    joined.write(large)
    assert transport.written == [b"HTTP/1.1 200 OK\r\n\r\n", large]


async def test_the_listener_joins_writes(listener: HttpListener, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = JoinedWrites.write

    def spy(self: JoinedWrites, data: bytes) -> None:
        written.append(data)
        write(self, data)

    monkeypatch.setattr(JoinedWrites, "write", spy)
    await exchange(listener, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert written[0][:9] == b"HTTP/1.1 "


async def test_a_head_without_a_body_arrives_although_the_client_has_closed_its_side(listener: HttpListener) -> None:
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
