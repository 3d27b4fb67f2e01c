"""One request to a receiver of webhooks, and what came of it.

A name is resolved once and the connection goes to an address that was checked, so that a name which changes its mind
in between gains nothing. Redirects are not followed, proxies and cookies do not exist, and what an answer may cost is
bounded (see ``http1``).
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
from gateway.webhooks.endpoint_queue import PostOutcome
from gateway.webhooks.http_connection import HttpConnection, HttpResponse
from gateway.webhooks.resolver import Resolver

CONNECT, TOTAL = 5.0, 10.0
"""Seconds for the connection (name, TCP, TLS), and for all of it."""

MOST_OPEN = 1000
"""Connections beyond these are not kept when they are idle."""

MOST_TRIED = 4
"""Addresses of one name that are dialled, one after the other."""


class AddressNotPermitted(OSError):
    """The receiver's address is none that we dial."""


class ServerAddress(NamedTuple):
    """Where connections lead."""

    host: str
    port: int
    clear: bool  # plain http


class EndpointUrl(NamedTuple):
    """A URL taken apart. ``fault``: what stands against it before anything is dialled."""

    server: ServerAddress
    line: bytes  # the request line behind its method, and the Host header
    fault: str = ""


class Poster:
    """Posts to receivers. Start it in the loop that uses it, and close it."""

    def __init__(
        self, guard: AddressGuard, *, agent: str = "smpp-gateway", connect: float = CONNECT, total: float = TOTAL
    ) -> None:
        self._guard = guard
        self._connect = connect
        self._total = total
        self._common = f"user-agent: {agent}\r\naccept: */*\r\naccept-encoding: identity\r\n".encode()
        self._trust = ssl.create_default_context()
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
        await asyncio.sleep(0)  # their ends are told

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> PostOutcome:
        """POST a body; never raises for what a receiver or the network does."""
        return await self._request(b"POST", url, headers, body)

    async def ask(self, url: str, headers: dict[str, str]) -> PostOutcome:
        """OPTIONS: is anybody there? Never raises, as ``post``."""
        return await self._request(b"OPTIONS", url, headers, b"")

    async def _request(self, method: bytes, url: str, headers: dict[str, str], body: bytes) -> PostOutcome:
        target = target_of(url)
        if fault := target.fault or self._forbids(target.server):
            return PostOutcome(0, fault)
        said = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        rest = f"{said}content-length: {len(body)}\r\n\r\n".encode("latin-1")
        try:
            answer = await self._exchange(target.server, b"".join((method, target.line, self._common, rest, body)))
        except TimeoutError:
            return PostOutcome(0, "timed out")
        except (OSError, ValueError) as error:
            return PostOutcome(0, _said(error))
        return PostOutcome(answer.status, answer.fault, _seconds(answer.retry_after) if answer.retry_after else 0.0)

    async def _exchange(self, server: ServerAddress, request: bytes) -> HttpResponse:
        """Raises OSError when there is no connection.

        One that was kept may have been closed by the server just now: then it has not heard us, and is asked anew.
        """
        until = asyncio.get_running_loop().time() + self._total
        kept = self._kept(server)
        if kept is not None:
            answer = await self._ask(kept, server, request, until)
            if not answer.unheard:
                return answer
        return await self._ask(await self._dial(server, until), server, request, until)

    async def _ask(
        self, connection: HttpConnection, server: ServerAddress, request: bytes, until: float
    ) -> HttpResponse:
        try:
            return await connection.ask(request, until)
        finally:
            if connection.idle and len(self._open) <= MOST_OPEN:
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
        """A new connection to the first permitted address that takes it. Raises OSError."""
        async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + self._connect, until)) as patience:
            addresses = await self._addresses(server)
            for left in range(len(addresses), 0, -1):
                share = ((patience.when() or 0) - asyncio.get_running_loop().time()) / left
                try:
                    async with asyncio.timeout(share):
                        return await self._connected(server, addresses[-left])
                except (OSError, TimeoutError):
                    if left == 1:
                        raise
        raise AddressNotPermitted(_forbidden(server.clear))

    async def _addresses(self, server: ServerAddress) -> Sequence[str]:
        """Raises NotPermitted when no address is left, OSError when the name is not known."""
        found = await self._names.addresses(server.host)
        return permitted(self._guard, found, clear=server.clear)[:MOST_TRIED]

    async def _connected(self, server: ServerAddress, address: str) -> HttpConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: HttpConnection(lambda lost: self._lost(server, lost)),
            address,
            server.port,
            ssl=None if server.clear else self._trust,
            server_hostname=None if server.clear else server.host,
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
        """What stands against an address in the URL itself; a name's addresses are looked at when it is resolved."""
        try:
            ipaddress.ip_address(server.host)
        except ValueError:
            return ""
        return "" if self._guard.permits(server.host, clear=server.clear) else _forbidden(server.clear)


def permitted(guard: AddressGuard, addresses: Sequence[str], *, clear: bool) -> list[str]:
    """Of a name's addresses those that may be dialled. Raises NotPermitted when there is none."""
    good = [address for address in addresses if guard.permits(address, clear=clear)]
    if not good:
        raise AddressNotPermitted(_forbidden(clear))
    return good


@lru_cache(maxsize=1024)
def target_of(url: str) -> EndpointUrl:
    """A URL as it is dialled, or what is wrong with it."""
    nowhere = ServerAddress("", 0, clear=False)
    try:
        parts, host, port = split_callback_url(url)
    except ValueError:
        return EndpointUrl(nowhere, b"", "the URL cannot be read")
    clear = parts.scheme == "http"
    usual = 80 if clear else 443
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        return EndpointUrl(nowhere, b"", "the URL cannot be read")
    if not permits_port(port or usual):
        return EndpointUrl(nowhere, b"", f"port {port} is not permitted")
    path = quote(parts.path or "/", _PATH) + (f"?{quote(parts.query, _PATH + '?')}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host
    place = named if port in {None, usual} else f"{named}:{port}"
    line = f" {path} HTTP/1.1\r\nhost: {quote(place, _PATH + '[]')}\r\n"
    return EndpointUrl(ServerAddress(host, port or usual, clear), line.encode())


_PATH = "/%:@!$&'()*+,;=~"


def _forbidden(clear: bool) -> str:
    if clear:
        return "plain http goes only to networks named in webhooks.allow_networks"
    return "a private address that is not named in webhooks.allow_networks"


def _said(error: Exception) -> str:
    if isinstance(error, AddressNotPermitted):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"Certificate: {error.verify_message}"[:200]
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved: {error.strerror}"[:200]
    return f"{type(error).__name__}: {error}"[:200]


def _seconds(text: str) -> float:
    """Of a Retry-After: a number of seconds or a date (RFC 9110, 10.2.3); 0 for what is neither, or is over."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
