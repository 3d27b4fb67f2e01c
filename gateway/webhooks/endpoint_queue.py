"""One queue and its receiver: a batch at a time, signed, tried until it is taken or too old.

A receiver that has not answered well since the gateway started, or that failed last, is asked first whether it is there
(OPTIONS, RFC 9110 section 9.3.7, signed as well). So one that is down is not handed the same events again and again,
and every POST holds events. After a minute and a half of such answers the events themselves are tried, for it may be
that it minds nothing but the question; then it is not asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from random import random
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from gateway import signature
from gateway.clock import now_ms
from gateway.store.errors import StoreError
from gateway.store.webhook_queues import BatchOutcome, FrozenBatch, NextBatchRequest, QueueAddress
from gateway.webhooks.endpoint_health import ServerHealth, ServerPlace, ServerTrust
from gateway.webhooks.retry_delay import wait

if TYPE_CHECKING:
    from gateway.config import Account

ASK_FIRST = 90.0
"""Seconds of an outage in which a receiver is asked before it is handed anything."""

GONE = 410
"""Of a receiver that says so nothing is tried again: as Standard Webhooks want it."""

STORE_AWAY = 1.0

_LATER = frozenset({408, 425, 429})

log = structlog.get_logger(__name__)


class PostOutcome(NamedTuple):
    """What a receiver said. ``status`` 0: it said nothing, ``fault`` says why."""

    status: int
    fault: str = ""
    retry_after: float = 0.0  # seconds, 0 when it did not say

    @property
    def good(self) -> bool:
        """The receiver has it."""
        return 200 <= self.status < 300

    @property
    def alive(self) -> bool:
        """Somebody is at home, though he may not like the question: 404 or 405 are as good as 200."""
        return (0 < self.status < 500 and self.status not in _LATER) or self.status == 501

    def __str__(self) -> str:
        return self.fault or f"HTTP {self.status}"


class EndpointSettings(NamedTuple):
    """What an account wants of its webhooks."""

    account: str
    url: str
    keys: tuple[bytes, ...] = ()
    batch: int = 100
    everything: bool = False

    @classmethod
    def of(cls, account: Account) -> EndpointSettings:
        """Of an account as it is configured."""
        keys = tuple(signature.read_secret(secret) for secret in account.signing)
        everything = account.webhook_events == "all"
        return cls(account.name, account.callback_url, keys, account.webhook_batch, everything)


class EndpointClient(Protocol):
    """What posts (``post.Poster``)."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> PostOutcome: ...
    async def ask(self, url: str, headers: dict[str, str]) -> PostOutcome: ...
    async def close(self) -> None: ...


class EndpointContext(Protocol):
    """What a receiver needs of the whole (``outbox.Outbox``)."""

    give_up_after: int  # seconds

    @property
    def poster(self) -> EndpointClient: ...
    def settings(self, account: str) -> EndpointSettings | None: ...
    async def next(self, ask: NextBatchRequest) -> FrozenBatch | None: ...
    def slot(self, account: str, server: ServerHealth) -> AbstractAsyncContextManager[None]: ...
    def count(self, what: str, events: int = 1) -> None: ...
    def proven(self, server: ServerHealth) -> None: ...
    def is_gone(self, address: QueueAddress) -> bool: ...
    def gone(self, address: QueueAddress) -> None: ...


class EndpointQueue:
    """The queue of one address in one partition, while anything is in it."""

    def __init__(self, house: EndpointContext, place: ServerPlace, address: QueueAddress, server: ServerHealth) -> None:
        self.place = place
        self.address = address
        self.server = server
        self.tries = 0  # in a row without success
        self.said = ""  # the last fault
        self.since = 0  # instant of the first failure in a row, ms UTC
        self.waiting = 0
        self.retry_at = 0.0  # of the loop's time; 0 = none planned
        self._house = house
        self._batch: FrozenBatch | None = None  # the one in hand; while it waits for its next try without its events
        self._given: FrozenBatch | None = None
        self._failing_since = 0.0
        self._crowded = False

    def __repr__(self) -> str:
        failing = f", {self.tries} tries: {self.said}" if self.tries else ""
        return f"<EndpointQueue of {self.address.account} {self.waiting} waiting{failing}>"

    def give(self, batch: FrozenBatch) -> None:
        """The batch that the queue begins with, known before anybody asked for it."""
        self._given = batch
        self.waiting = batch.waiting

    def crowd(self) -> None:
        """Too much waits: the older half is given up at the next failure."""
        self._crowded = True

    async def run(self) -> None:
        """Until nothing waits; or until the receiver fails: then ``retry_at`` says when to run again."""
        self.retry_at = 0.0
        if self._batch is None:
            self._batch = self._pop() or await self._next(self._ask())
        while self._batch is not None:
            self.waiting = self._batch.waiting
            became = await self._deliver(self._batch)
            if became is BatchOutcome.UNKNOWN:
                return
            batch = self._batch
            self._house.count("posted" if became is BatchOutcome.TAKEN else "dead", batch.events)
            self._batch = await self._next(self._told(became, batch))
        self.waiting = 0

    def _ask(self) -> NextBatchRequest:
        settings = self._house.settings(self.address.account)
        return NextBatchRequest(*self.place, settings.batch if settings else 100)

    def _told(self, became: BatchOutcome, batch: FrozenBatch) -> NextBatchRequest:
        ask = self._ask()._replace(became=became, first=batch.first)
        if became is BatchOutcome.TAKEN:
            return ask
        now = now_ms()
        until = now if self._house.is_gone(self.address) else now - self._house.give_up_after * 1000
        if self._crowded:
            until = max(until, (batch.since + now) // 2)
            self._crowded = False
        return ask._replace(until=until)

    def _pop(self) -> FrozenBatch | None:
        batch, self._given = self._given, None
        return batch

    async def _next(self, ask: NextBatchRequest) -> FrozenBatch | None:
        """The next batch; what the store says goes before what was given meanwhile (it is the same or older)."""
        while True:
            try:
                batch = await self._house.next(ask)
            except StoreError as error:
                log.info("a webhook waits for the store", account=self.address.account, error=str(error))
                await asyncio.sleep(STORE_AWAY)
            else:
                given = self._pop()
                return batch or given

    # -- posting

    async def _deliver(self, batch: FrozenBatch) -> BatchOutcome:
        """Try it once. UNKNOWN: the next try is planned."""
        if self._house.is_gone(self.address):
            return BatchOutcome.GIVEN_UP
        async with self._house.slot(self.address.account, self.server):
            outcome = await self._try(batch)
        if outcome.good:
            self._recovered()
            return BatchOutcome.TAKEN
        self._failed(outcome)
        if outcome.status == GONE:
            log.warning("a receiver of webhooks is gone", account=self.address.account, waiting=self.waiting)
            self._house.gone(self.address)
            return BatchOutcome.GIVEN_UP
        if self._crowded or batch.since < now_ms() - self._house.give_up_after * 1000:
            log.warning("webhook events given up", account=self.address.account, said=self.said, tries=self.tries)
            return BatchOutcome.GIVEN_UP
        now = asyncio.get_running_loop().time()
        pause = wait(now - self._failing_since, random(), outcome.retry_after)  # noqa: S311  # spreads, hides nothing
        self.retry_at = now + pause
        self._batch = batch._replace(plain=b"")
        return BatchOutcome.UNKNOWN

    def _recovered(self) -> None:
        if self.tries:
            log.info("a receiver of webhooks is back", account=self.address.account, tries=self.tries)
        self.tries, self.since, self._failing_since = 0, 0, 0.0
        if not self.server.proven:
            self._house.proven(self.server)

    def _failed(self, outcome: PostOutcome) -> None:
        if not self.tries:
            self._failing_since, self.since = asyncio.get_running_loop().time(), now_ms()
            log.warning("a receiver of webhooks fails", account=self.address.account, said=str(outcome))
        self.tries += 1
        self.said = str(outcome)
        self.server.trust = ServerTrust.FAILING
        self._house.count("failures")

    async def _try(self, batch: FrozenBatch) -> PostOutcome:
        settings = self._house.settings(self.address.account)
        url = self.address.url or (settings.url if settings else "")
        if settings is None or not url:
            return PostOutcome(0, "the account has no callback_url any more")
        if self.address.url and not settings.keys:
            return PostOutcome(
                0, "the account has no webhook_secret any more: what a message named is not posted unsigned"
            )
        outage = asyncio.get_running_loop().time() - self._failing_since if self.tries else 0.0
        late = outage >= ASK_FIRST
        if self.server.asks and not self.server.proven and not late:
            asked = await self._asked(settings, url)
            if not asked.alive:
                return asked
        if not batch.plain:
            fresh = self._batch = await self._next(self._ask())
            if fresh is None:  # somebody else has it now
                self._batch = batch
                return PostOutcome(204)
            batch = fresh
        body = b"[" + batch.plain + b"]"
        name = batch_id(self.place[1], batch)
        outcome = await self._house.poster.post(url, headers(settings.keys, name, body), body)
        if outcome.good and late and self.server.asks:
            self.server.asks = (await self._asked(settings, url)).alive
        return outcome

    async def _asked(self, settings: EndpointSettings, url: str) -> PostOutcome:
        return await self._house.poster.ask(url, headers(settings.keys, f"ask_{token_hex(12)}", b""))


def headers(keys: Sequence[bytes], name: str, body: bytes) -> dict[str, str]:
    """Of one post, signed now; without a secret there is no signature."""
    stamp = int(time.time())
    named = {"content-type": "application/json"}
    if not keys:
        return named | {signature.ID: name, signature.TIMESTAMP: str(stamp)}
    return named | signature.signed_headers(keys, name, stamp, body)


def batch_id(queue: bytes, batch: FrozenBatch) -> str:
    """The webhook-id: the same for the same batch, whoever posts it."""
    return hashlib.blake2b(queue + batch.first + batch.events.to_bytes(2, "big"), digest_size=15).hexdigest()
