"""One request to a receiver of webhooks, and what came of it. The only place that knows aiohttp.

A name is resolved once and the connection goes to an address that was checked, so that a name which changes its mind
in between gains nothing. Redirects are not followed, proxies and cookies do not exist, and of the answer no more than
64 KiB is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.pipeline.addresses import Guard, permits_port
from gateway.pipeline.receiver import Outcome

CONNECT, TOTAL = 5.0, 10.0
"""Seconds for the connection (name, TCP, TLS), and for all of it."""

MOST_READ = 64 * 1024


class NotPermitted(OSError):
    """The receiver's address is none that we dial."""


class Resolver(AbstractResolver):
    """The system's names, less every address that is not permitted."""

    def __init__(self, guard: Guard, *, clear: bool) -> None:
        self._guard = guard
        self._clear = clear

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises NotPermitted when no address is left, OSError when the name is not known."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        good = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
            if self._guard.permits(str(address[0]), clear=self._clear)
        ]
        if not good:
            raise NotPermitted(_forbidden(self._clear))
        return good

    async def close(self) -> None:
        """Nothing is held."""


class Poster:
    """Posts to receivers. Start it in the loop that uses it, and close it."""

    def __init__(
        self, guard: Guard, *, agent: str = "smpp-gateway", connect: float = CONNECT, total: float = TOTAL
    ) -> None:
        self._guard = guard
        timeout = aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect)
        trust = ssl.create_default_context()
        self._https, self._http = (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=Resolver(guard, clear=clear),
                    socket_factory=partial(_socket, guard, clear),
                    limit=0,
                    ttl_dns_cache=10,
                    keepalive_timeout=30,
                    ssl=trust,
                ),
                timeout=timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"user-agent": agent, "accept-encoding": "identity"},
            )
            for clear in (False, True)
        )

    async def close(self) -> None:
        await self._https.close()
        await self._http.close()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """POST a body; never raises for what a receiver or the network does."""
        return await self._request("POST", url, headers, body)

    async def ask(self, url: str, headers: dict[str, str]) -> Outcome:
        """OPTIONS: is anybody there? Never raises, as ``post``."""
        return await self._request("OPTIONS", url, headers, None)

    async def _request(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Outcome:
        fault, clear = self._check(url)
        if fault:
            return Outcome(0, fault)
        session = self._http if clear else self._https
        try:
            async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                left = MOST_READ
                while left > 0 and (some := await answer.content.read(left)):
                    left -= len(some)
                if left <= 0:
                    answer.close()  # the rest stays where it is, and so does the connection
                return Outcome(answer.status, "", _seconds(answer.headers.get("retry-after", "")))
        except TimeoutError:
            return Outcome(0, "timed out")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(0, _said(error))

    def _check(self, url: str) -> tuple[str, bool]:
        """What stands against a URL before anything is dialled, and whether it is a clear one."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "the URL cannot be read", False
        clear = parts.scheme == "http"
        if parts.scheme not in {"http", "https"} or not host:
            return "the URL cannot be read", clear
        if not permits_port(port or (80 if clear else 443)):
            return f"port {port} is not permitted", clear
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "", clear  # a name: the resolver looks at its addresses
        return ("" if self._guard.permits(host, clear=clear) else _forbidden(clear)), clear


def _socket(guard: Guard, clear: bool, address: AddrInfoType) -> socket.socket:
    """The last look, at the very address that is dialled: "①②⑦.0.0.1" is a name to us and none to the resolver."""
    family, kind, proto, _, target = address
    if not guard.permits(str(target[0]), clear=clear):
        raise NotPermitted(_forbidden(clear))
    return socket.socket(family, kind, proto)


def _forbidden(clear: bool) -> str:
    if clear:
        return "plain http goes only to networks named in webhooks.allow_networks"
    return "a private address that is not named in webhooks.allow_networks"


def _said(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NotPermitted):
            return str(cause)
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return f"{type(error).__name__}: {error}"[:200]


def _seconds(text: str) -> float:
    """Of a Retry-After: a number of seconds or a date (RFC 9110, 10.2.3); 0 for what is neither, or is over."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
