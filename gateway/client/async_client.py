"""The same client for asyncio, on aiohttp. Its methods mean what those of ``Client`` mean."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar, Unpack

import aiohttp
from yarl import URL

from gateway.client import calls
from gateway.client.calls import CHUNK, Call, RawResponse, Retry
from gateway.client.errors import ClientError, ConflictError
from gateway.client.sync_client import address, headers_of, unreachable
from gateway.client.types import (
    Accepted,
    Batch,
    Canceled,
    Consent,
    ConsentDetails,
    Decisions,
    Message,
    Record,
    Scope,
    Suppression,
)

T = TypeVar("T")


class AsyncClient:
    """Talks to one gateway from one event loop; use it as ``async with AsyncClient(url, key) as client``."""

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
        address(url)
        self.url = url.rstrip("/")
        self.retry = retry
        self._headers = headers_of(key)
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
        """Close all connections. The client can still be used."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def send(self, message: Message, *, key: str | None = None) -> Accepted:
        """Hand in one message; it is stored when this returns. Raises RefusedError when policy says no."""
        return await self.ask(calls.send(message, key))

    async def batch(self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK) -> Batch:
        """Hand in many messages, ``size`` a request; see ``Client.batch`` for what a failure half-way means."""
        return calls.joined([batch async for batch in self.batches(messages, key=key, size=size)])

    async def batches(
        self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK
    ) -> AsyncIterator[Batch]:
        """Like ``batch``, for any length: results request by request."""
        for chunk in calls.chunks(messages, size, key):
            yield calls.results(chunk, calls.NOTHING if chunk.call is None else await self.ask(chunk.call))

    async def message(self, message_id: str) -> Record:
        """State, parts, carrier's ids, timeline. Raises NotFoundError."""
        return await self.ask(calls.message(message_id))

    async def find(self, client_ref: str, to: str | None = None) -> list[Record]:
        """What was accepted under your reference within 72 hours: for one recipient, or for all."""
        return (await self.ask(calls.find(client_ref, to))).messages

    async def decisions(self, message_id: str) -> Decisions:
        """What policy said of a message, and until when it may go."""
        return await self.ask(calls.decisions(message_id))

    async def wait(self, message_id: str, seconds: float = 30.0) -> Record:
        """Follow a message until it is final or the time is over; its last record."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + seconds, 0.05
        while True:
            record = await self.message(message_id)
            left = deadline - loop.time()
            if record.final or left <= 0:
                return record
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)

    async def cancel(self, message_id: str) -> Canceled:
        """Stop a message; once more does no harm. Raises ConflictError when it has come to another end."""
        try:
            return await self.ask(calls.cancel(message_id))
        except ConflictError:
            if (ended := await self.message(message_id)).status == "canceled":
                return Canceled(ended.id, ended.status)
            raise

    # ── recipients ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def grant(
        self, to: str, *, method: str, evidence: str, brand: str | None = None, **details: Unpack[ConsentDetails]
    ) -> Consent:
        """Record a consent: how it was given (``web_form``, ``keyword``, …) and the words agreed to."""
        return await self.ask(
            calls.consent(to, "granted", method=method, evidence=evidence, brand=brand, details=details)
        )

    async def revoke(
        self,
        to: str,
        *,
        method: str = "",
        evidence: str = "",
        brand: str | None = None,
        **details: Unpack[ConsentDetails],
    ) -> Consent:
        """Record that a consent was taken back; it stops what is already queued."""
        return await self.ask(
            calls.consent(to, "revoked", method=method, evidence=evidence, brand=brand, details=details)
        )

    async def consents(self, to: str) -> list[Consent]:
        """Every consent on record for the account's brands."""
        return (await self.ask(calls.consents(to))).consents

    async def suppress(
        self, to: str, reason: str, *, scope: Scope = "marketing", brand: str | None = None
    ) -> Suppression:
        """Record an opt-out, for one brand or all; it stops what is already queued."""
        return await self.ask(calls.suppress(to, reason, scope, brand))

    async def suppressions(self, to: str) -> list[Suppression]:
        """Every opt-out that stands against the account's messages."""
        return (await self.ask(calls.suppressions(to))).suppressions

    async def unsuppress(self, to: str, *, scope: Scope | None = None, brand: str | None = None) -> None:
        """Lift the account's opt-outs; ``scope`` and ``brand`` narrow it."""
        await self.ask(calls.unsuppress(to, scope, brand))

    # ── doing it ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, call: Call[T]) -> T:
        """Any call of ``gateway.client.calls``, with its repeats."""
        loop = asyncio.get_running_loop()
        begun, tried = loop.time(), 0
        while True:
            tried += 1
            try:
                return calls.read(call, await self._once(call))
            except ClientError as error:
                pause = self.retry.pause(error, tried, loop.time() - begun, random.random())  # noqa: S311 - jitter
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, call: Call[Any]) -> RawResponse:
        """One try. Raises Unreachable."""
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
