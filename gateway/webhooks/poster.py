"""One request to a webhook endpoint, and its outcome.

A name is resolved once and the connection goes to an address that was checked, so a name that resolves differently a
moment later gains nothing. Redirects are not followed, there are no proxies and cookies, and what a response may cost
is bounded (see ``http_connection``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from gateway.config.addresses import AddressGuard, permits_port
from gateway.config.callbacks import split_callback_url
from gateway.webhooks.http_connection import HttpConnection, HttpResponse
from gateway.webhooks.resolver import Resolver

CONNECT_TIMEOUT = 5.0
"""Seconds for the connection: name, TCP, TLS."""

TOTAL_TIMEOUT = 10.0
"""Seconds for a whole request, the connection included."""

MAX_OPEN = 1000
"""Open connections beyond which idle ones are closed."""

MAX_DIALLED = 4
"""Addresses of one name that are tried, one after the other."""

_RETRIABLE = frozenset({408, 425, 429})
_PATH = "/%:@!$&'()*+,;=~"


class PostOutcome(NamedTuple):
    """The response of an endpoint. ``status`` 0: there was none, ``fault`` says why."""

    status: int
    fault: str = ""
    retry_after: float = 0.0  # seconds; 0: not given

    @property
    def ok(self) -> bool:
        """Whether the endpoint has taken the events."""
        return 200 <= self.status < 300

    @property
    def reachable(self) -> bool:
        """Whether the endpoint works, even if it does not support the request: 404 or 405 are as good as 200."""
        return (0 < self.status < 500 and self.status not in _RETRIABLE) or self.status == 501

    def __str__(self) -> str:
        return self.fault or f"HTTP {self.status}"


class AddressNotPermitted(OSError):
    """Nothing may be sent to the endpoint's address."""


class ServerAddress(NamedTuple):
    """Host, port and scheme of an endpoint's server."""

    host: str
    port: int
    plain: bool  # http, without TLS


class EndpointUrl(NamedTuple):
    """A URL taken apart. ``fault``: why nothing is sent to it, as far as the URL itself tells."""

    server: ServerAddress
    line: bytes  # the request line after its method, and the Host header
    fault: str = ""


class Poster:
    """Sends requests to endpoints. Create it in the loop that uses it or in a thread, and close it."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        agent: str = "smpp-gateway",
        connect: float = CONNECT_TIMEOUT,
        total: float = TOTAL_TIMEOUT,
    ) -> None:
        self._guard = guard
        self._connect = connect
        self._total = total
        self._common = f"user-agent: {agent}\r\naccept: */*\r\naccept-encoding: identity\r\n".encode()
        self._tls = ssl.create_default_context()
        self._names = Resolver()
        self._open: set[HttpConnection] = set()
        self._idle: dict[ServerAddress, list[HttpConnection]] = {}

    def __repr__(self) -> str:
        return f"<Poster {len(self._open)} connections, {sum(map(len, self._idle.values()))} idle>"

    async def close(self) -> None:
        """Cut every connection: posts under way fail."""
        self._names.close()
        self._idle.clear()
        for connection in list(self._open):
            connection.cut()
        await asyncio.sleep(0)  # lets their callbacks run

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> PostOutcome:
        """POST a body. Never raises for what an endpoint or the network does."""
        return await self._request(b"POST", url, headers, body)

    async def probe(self, url: str, headers: dict[str, str]) -> PostOutcome:
        """Send OPTIONS, to see whether the endpoint is reachable. Never raises, as ``post``."""
        return await self._request(b"OPTIONS", url, headers, b"")

    async def _request(self, method: bytes, url: str, headers: dict[str, str], body: bytes) -> PostOutcome:
        target = endpoint_url(url)
        if fault := target.fault or self._forbids(target.server):
            return PostOutcome(0, fault)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        rest = f"{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1")
        try:
            response = await self._exchange(target.server, b"".join((method, target.line, self._common, rest, body)))
        except TimeoutError:
            return PostOutcome(0, "timed out")
        except (OSError, ValueError) as error:
            return PostOutcome(0, _fault(error))
        retry_after = _seconds(response.retry_after) if response.retry_after else 0.0
        return PostOutcome(response.status, response.fault, retry_after)

    async def _exchange(self, server: ServerAddress, request: bytes) -> HttpResponse:
        """Return the response to a request. Raises OSError when there is no connection.

        The server may have closed a kept connection just now: then it has not read the request, which is sent again on
        a new one.
        """
        until = asyncio.get_running_loop().time() + self._total
        kept = self._kept(server)
        if kept is not None:
            response = await self._send(kept, server, request, until)
            if not response.closed_silently:
                return response
        return await self._send(await self._dial(server, until), server, request, until)

    async def _send(
        self, connection: HttpConnection, server: ServerAddress, request: bytes, until: float
    ) -> HttpResponse:
        try:
            return await connection.send(request, until)
        finally:
            if connection.idle and len(self._open) <= MAX_OPEN:
                self._idle.setdefault(server, []).append(connection)
            else:
                connection.cut()

    def _kept(self, server: ServerAddress) -> HttpConnection | None:
        kept = self._idle.get(server)
        while kept:
            if (connection := kept.pop()).idle:
                return connection
        return None

    async def _dial(self, server: ServerAddress, until: float) -> HttpConnection:
        """Connect to the first permitted address that accepts. Raises OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(min(loop.time() + self._connect, until)) as limit:
            addresses = await self._addresses(server)
            for left in range(len(addresses), 0, -1):
                share = ((limit.when() or 0) - loop.time()) / left
                try:
                    async with asyncio.timeout(share):
                        return await self._connected(server, addresses[-left])
                except (OSError, TimeoutError):
                    if left == 1:
                        raise
        raise AddressNotPermitted(_forbidden(server.plain))

    async def _addresses(self, server: ServerAddress) -> Sequence[str]:
        """Return the permitted addresses. Raises AddressNotPermitted for none, OSError for an unknown name."""
        found = await self._names.addresses(server.host)
        return permitted(self._guard, found, plain=server.plain)[:MAX_DIALLED]

    async def _connected(self, server: ServerAddress, address: str) -> HttpConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: HttpConnection(lambda lost: self._lost(server, lost)),
            address,
            server.port,
            ssl=None if server.plain else self._tls,
            server_hostname=None if server.plain else server.host,
        )
        self._open.add(connection)
        return connection

    def _lost(self, server: ServerAddress, connection: HttpConnection) -> None:
        self._open.discard(connection)
        kept = self._idle.get(server, [])
        if connection in kept:
            kept.remove(connection)
        if not kept:
            self._idle.pop(server, None)

    def _forbids(self, server: ServerAddress) -> str:
        """Return why an address in the URL is not permitted; those of a name are checked when it is resolved."""
        try:
            ipaddress.ip_address(server.host)
        except ValueError:
            return ""
        return "" if self._guard.permits(server.host, clear=server.plain) else _forbidden(server.plain)


def permitted(guard: AddressGuard, addresses: Sequence[str], *, plain: bool) -> list[str]:
    """Return the addresses that may be dialled. Raises AddressNotPermitted when there is none."""
    good = [address for address in addresses if guard.permits(address, clear=plain)]
    if not good:
        raise AddressNotPermitted(_forbidden(plain))
    return good


@lru_cache(maxsize=1024)
def endpoint_url(url: str) -> EndpointUrl:
    """Take a URL apart, or say what is wrong with it."""
    nowhere = ServerAddress("", 0, plain=False)
    try:
        parts, host, port = split_callback_url(url)
    except ValueError:
        return EndpointUrl(nowhere, b"", "invalid URL")
    plain = parts.scheme == "http"
    default = 80 if plain else 443
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        return EndpointUrl(nowhere, b"", "invalid URL")
    if not permits_port(port or default):
        return EndpointUrl(nowhere, b"", f"port {port} is not permitted")
    path = quote(parts.path or "/", _PATH) + (f"?{quote(parts.query, _PATH + '?')}" if parts.query else "")
    name = f"[{host}]" if ":" in host else host
    authority = name if port in {None, default} else f"{name}:{port}"
    line = f" {path} HTTP/1.1\r\nhost: {quote(authority, _PATH + '[]')}\r\n"
    return EndpointUrl(ServerAddress(host, port or default, plain), line.encode())


def _forbidden(plain: bool) -> str:
    if plain:
        return "plain http is permitted only to networks named in webhooks.allow_networks"
    return "private address in no network named in webhooks.allow_networks"


def _fault(error: Exception) -> str:
    if isinstance(error, AddressNotPermitted):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Certificate: {error.verify_message}"[:200]
    if isinstance(error, socket.gaierror):
        return f"host name not resolved: {error.strerror}"[:200]
    return f"{type(error).__name__}: {error}"[:200]


def _seconds(text: str) -> float:
    """Read a Retry-After: seconds or a date (RFC 9110 section 10.2.3); 0 for neither, or a date that is past."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
