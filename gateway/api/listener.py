"""uvicorn with httptools inside our own loop: a listener that leaves signals, logging and lifespan to the gateway.

It adds the limits that uvicorn lacks: the size of the headers, the time a client may take to send a request and to read
its response, how many requests it may pipeline, and the number of connections from one address. Time-outs are found by
one sweep over the connections every half second, never by a timer per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway import process
from gateway.api.problems import CONTENT_TYPE, problem
from gateway.config import split_address

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ConnectionLimits(NamedTuple):
    """The limits of a connection, which hold before a client has shown a key. Seconds and octets."""

    headers: int = 16 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 60.0
    write_seconds: float = 30.0
    connections: int = 10_000  # fewer where the system allows fewer open files
    connections_per_address: int = 200  # loopback is exempt: a proxy or a load test connects from there


LIMITS = ConnectionLimits()
UNIX = "unix:"
"""Prefix of the path of a Unix socket, in place of host:port."""

_PROGRESS = 64 * 1024  # octets within ``body_seconds`` or ``write_seconds``: such a client is slow, but not idle
_PIPELINED = 32  # requests that wait for earlier responses; beyond that, the connection is not read
_SLICE = 8 * 1024  # octets parsed at once: some 200 of the smallest requests
_JOINED = 64 * 1024  # octets of a body that are copied behind the head
_SWEEP_TICKS = 5  # uvicorn ticks ten times a second
_LOOPBACK = ("127.", "::1", "::ffff:127.")


class _Flow(FlowControl):
    """uvicorn's flow control, which does not resume reading while too many requests wait."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class JoinedWrites:
    """The transport as a response writes to it: the head is kept for the body that follows at once.

    So a short response is one write and one packet, where uvicorn makes two of each. A head that nothing follows within
    the turn of the loop leaves with the next.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write ``data`` behind what is kept, or keep it when it is a head."""
        if self._head:
            head, self._head = self._head, b""
            if len(data) > _JOINED:
                self._transport.write(head)
                self._transport.write(data)
            else:
                self._transport.write(head + data)
        elif data[:9] == b"HTTP/1.1 " and data[9:12] != b"100":
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write what is kept."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Write what is kept and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class _Connection(HttpToolsProtocol):
    """One connection. ``phase``: what it waits for (header, body, answer, idle), ``since``: since when."""

    limits = LIMITS
    connected: dict[str, int]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.phase, self.since, self.octets, self.buffered = "header", self.loop.time(), 0, 0
        self.at_eof, self.requests, self.pieces = False, 0, 0
        self.answering: RequestResponseCycle | None = None
        self.rest = b""  # read but not parsed, because too many requests wait
        self.unread, self.stalled = 0, 0.0  # octets of responses that the client has not read, and since when
        self.flow = self.own_flow = _Flow(transport)
        self.joined = JoinedWrites(transport, self.loop)
        self.address = self.client[0] if self.client else ""
        count = self.connected[self.address] = self.connected.get(self.address, 0) + 1
        too_many = count > self.limits.connections_per_address and not self.address.startswith(_LOOPBACK)
        if too_many or len(self.connections) > self.limits.connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answering is not None and not self.answering.response_complete:
            # uvicorn tells only the last request; pipelined ones come before it
            self.answering.disconnected = True
            self.answering.message_event.set()
        super().connection_lost(exc)
        count = self.connected.get(self.address, 0) - 1
        if count > 0:
            self.connected[self.address] = count
        else:
            self.connected.pop(self.address, None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.answering = cycle
        cycle.transport = self.joined  # type: ignore[assignment]  # it has all that a cycle uses
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.phase, self.since, self.octets = "header", self.loop.time(), 0
        self.requests += 1

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.phase, self.since, self.octets = "body", self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self.pieces += 1
        self.octets += len(body)
        if self.octets > _PROGRESS:  # a slow client is fine as long as it makes progress
            self.since, self.octets = self.loop.time(), 0

    def on_message_complete(self) -> None:
        self.phase = "answer"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.joined.flush()  # a head without a body, before anything else is written
        self.phase, self.since = "answer" if self.pipeline else "idle", self.loop.time()
        super().on_response_complete()
        if self.rest and len(self.pipeline) <= _PIPELINED // 2:
            self.loop.call_soon(self._parse_rest)
        if self.at_eof and self.phase == "idle":
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it: True keeps our side open
        """Keep the connection open until the last response: a client may close its side after its last request."""
        self.at_eof = self.phase == "answer"
        return self.at_eof

    def data_received(self, data: bytes) -> None:
        """Parse slice by slice until too many requests wait; then keep the rest and stop reading."""
        data = self.rest + data
        for at in range(0, len(data), _SLICE):
            if len(self.pipeline) >= _PIPELINED:
                self.rest, self.own_flow.full = data[at:], True
                self.flow.pause_reading()
                return
            self._parse(data[at : at + _SLICE])
            if self.transport.is_closing():
                break
        self.rest, self.own_flow.full = b"", False

    def _parse_rest(self) -> None:
        """Parse what was kept, now that fewer requests wait."""
        if self.rest and not self.transport.is_closing():
            self.data_received(b"")
            if not self.pipeline:
                self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        before = self.requests, self.pieces
        super().data_received(data)
        # httptools buffers an unfinished header, of a request or a chunk: that counts too
        in_header = self.phase in ("header", "body") and before == (self.requests, self.pieces)
        self.buffered = self.buffered + len(data) if in_header else 0
        if self.buffered > self.limits.headers and not self.transport.is_closing():
            if self.phase == "header":
                self.refuse("headers_too_large")
            else:
                self.refuse("malformed", f"more than {self.limits.headers} bytes between two chunks of the body")

    def pause_writing(self) -> None:
        """Note the time from which the client reads too slowly."""
        super().pause_writing()
        self.unread, self.stalled = self.transport.get_write_buffer_size(), self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stalled = 0.0

    def _count(self, octets: int) -> None:
        self.octets += octets
        if self.octets > self.limits.headers:
            raise httptools.HttpParserError("headers too large")

    def send_400_response(self, msg: str) -> None:
        if self.octets > self.limits.headers:
            self.refuse("headers_too_large")
        else:
            self.refuse("malformed", "not an HTTP/1 request")

    def refuse(self, code: str, detail: str = "") -> None:
        """Respond with a problem outside of any request, and close the connection."""
        if code == "headers_too_large":
            detail = f"request line and headers may have at most {self.limits.headers} bytes"
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # a problem in the middle of a response would be read as part of it
            return
        body = problem(code, detail)
        data = msgspec.json.encode(body)
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (CONTENT_TYPE, len(data))
        self.transport.write(STATUS_LINE[body.status] + head + data)
        self.transport.close()

    def sweep(self, now: float) -> None:
        """Close the connection of a client that takes too long to send or to read."""
        closing = self.transport.is_closing()  # and the client still has to read the end of the last response
        if not self.stalled and closing:
            self.unread, self.stalled = self.transport.get_write_buffer_size(), now
        if (closing or self.flow.write_paused) and self._unread_too_long(now):
            self.transport.abort()
            return
        if closing:
            return
        if self.flow.read_paused:
            self.since = now  # it is the gateway that does not read
        waited = now - self.since
        if self.phase == "idle" and waited > self.limits.idle_seconds:
            self.transport.close()
        elif (self.phase == "header" and waited > self.limits.header_seconds) or (
            self.phase == "body" and waited > self.limits.body_seconds
        ):
            self.refuse("timeout")

    def _unread_too_long(self, now: float) -> bool:
        """Return whether the client reads too slowly. While it sends a body it need not read (see ``ndjson``)."""
        left = self.transport.get_write_buffer_size()
        sends = self.phase == "body" and not self.pipeline and not self.transport.is_closing()
        if sends or self.unread - left > _PROGRESS:
            self.unread, self.stalled = left, now
        return now - self.stalled > self.limits.write_seconds


class _Server(uvicorn.Server):
    """uvicorn's server with a sweep, and without its signal handlers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                connection.sweep(now)  # type: ignore[union-attr]  # all of them are _Connection
        return await super().on_tick(counter)


class HttpListener:
    """Serve an ASGI application on one address: ``host:port`` (port 0 takes a free one) or ``unix:path``.

    With ``reuse_port`` other processes of this user may listen there too; the kernel distributes the connections.
    """

    def __init__(self, app: App, listen: str, *, limits: ConnectionLimits = LIMITS, reuse_port: bool = False) -> None:
        self._app, self._listen, self._limits, self._reuse_port = app, listen, limits, reuse_port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.host, self.port = ("", 0) if listen.startswith(UNIX) else split_address(listen)

    def __repr__(self) -> str:
        return f"<HttpListener {self.url} {'open' if self._task else 'closed'}>"

    @property
    def url(self) -> str:
        """The address with the actual port."""
        if self._listen.startswith(UNIX):
            return self._listen
        host = self.host or "127.0.0.1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._server.server_state.connections) if self._server else 0

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be bound."""
        sock = bind(self._listen, reuse_port=self._reuse_port)
        if sock.family != socket.AF_UNIX:
            self.port = sock.getsockname()[1]
        self._server = server = _Server(self._config())
        self._task = asyncio.create_task(server.serve(sockets=[sock]), name=f"http {self.url}")
        waiter = asyncio.create_task(server.listening.wait())
        await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self, grace: float = 10.0) -> None:
        """Take no new connections; requests may finish within ``grace`` seconds, then they are cut off."""
        if self._server is None or self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        await self._task
        self._server = self._task = None

    def _config(self) -> uvicorn.Config:
        limits = self._limits._replace(connections=min(self._limits.connections, process.max_clients()))
        protocol = type("Connection", (_Connection,), {"limits": limits, "connected": {}})
        return uvicorn.Config(
            self._app,
            http=protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=None,  # gateway.logs sets the levels of libraries
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=2048,
            timeout_keep_alive=int(self._limits.idle_seconds) + 5,  # the sweep closes idle connections first
        )


_REMEDIES = {
    errno.EADDRINUSE: "stop the process that listens there, or choose another port",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one",
    errno.EADDRNOTAVAIL: "this machine does not have this address",
}


def bind(listen: str, *, reuse_port: bool = False) -> socket.socket:
    """Return a socket bound to this address, not listening yet. Raises OSError that names the address."""
    try:
        if listen.startswith(UNIX):
            return _bind_unix(listen.removeprefix(UNIX))
        host, port = split_address(listen)
        family, kind, proto, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bound(socket.socket(family, kind, proto), address, reuse_port)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}{remedy and f'; {remedy}'}") from error


def _bind_unix(path: str) -> socket.socket:
    """Bind a Unix socket; one left behind by a process that died is replaced. Only this user may enter its folder."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return _bound(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path, reuse_port=False)


def _bound(sock: socket.socket, address: Any, reuse_port: bool) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
