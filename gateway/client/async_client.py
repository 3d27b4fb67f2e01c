"""``AsyncClient``: the client for asyncio, on aiohttp."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
from yarl import URL

from gateway.client.async_methods import AsyncMethods
from gateway.client.calls import Call, RawResponse
from gateway.client.retry import Retry
from gateway.client.transport import request_headers, split_url, unreachable


class AsyncClient(AsyncMethods):
    """Client of one gateway for one event loop; use it as ``async with AsyncClient(url, key) as client``.

    ``timeout``: seconds per attempt; ``connections``: the most that are open at once. All methods raise ClientError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        key: str = "",
        timeout: float = 10.0,
        *,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | None = None,
        connections: int = 32,
    ) -> None:
        split_url(url)
        self.url = url.rstrip("/")
        self.retry = retry
        self._headers = request_headers(key)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tls = tls
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient {self.url}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The client remains usable."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(self, call: Call[Any]) -> RawResponse:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = dict(call.headers) | ({} if call.body is None else {"Content-Type": "application/json"})
        # encoded: the path is quoted already, and %2B must stay what it is
        url = URL(self.url + call.path, encoded=True)
        try:
            async with self._session.request(
                call.method, url, data=call.body, headers=headers, ssl=self._tls or True, allow_redirects=False
            ) as response:
                body = await response.read()
                return RawResponse(
                    response.status, {name.lower(): text for name, text in response.headers.items()}, body
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(self.url, error) from error
