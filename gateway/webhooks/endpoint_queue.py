"""One queue of one endpoint: a batch at a time, signed, tried until it is taken or too old.

An endpoint that has not answered well since the gateway started, or that failed last, is probed first (OPTIONS, RFC
9110 section 9.3.7, signed as well). So one that is down is not sent the same events again and again, and every POST
holds events. After a minute and a half of failed probes the events themselves are posted, for the endpoint may reject
nothing but the probe; if it does, it is not probed again.
"""

from __future__ import annotations

import asyncio
import hashlib
from random import random
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog

from gateway.clock import now_ms
from gateway.store.errors import StoreError
from gateway.store.webhook_queues import BatchOutcome, FrozenBatch, NextBatchRequest, QueueAddress
from gateway.webhooks.endpoints import Endpoints, request_headers
from gateway.webhooks.poster import PostOutcome
from gateway.webhooks.retry_delay import retry_delay
from gateway.webhooks.server_health import HealthStatus, QueueKey, ServerHealth, ServerTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.store.former_accounts import EndpointSettings

PROBE_FOR = 90.0
"""Seconds of an outage in which an endpoint is probed before anything is posted to it."""

HTTP_GONE = 410
"""An endpoint that answers so is not tried again, as Standard Webhooks asks."""

STORE_RETRY = 1.0
"""Seconds between tries while the store is away."""

log = structlog.get_logger(__name__)


class EndpointQueue:
    """The queue of one address in one partition, while anything is in it."""

    def __init__(
        self,
        key: QueueKey,
        address: QueueAddress,
        server: ServerHealth,
        *,
        endpoints: Endpoints,
        servers: ServerTable,
        next_batch: Callable[[NextBatchRequest], Awaitable[FrozenBatch | None]],
        recovered: Callable[[ServerHealth], None],
    ) -> None:
        """``next_batch``: report an outcome and get the next batch; raises StoreError. ``recovered``: is called when
        a post to a server that was not known to be healthy succeeds."""
        self.key = key
        self.address = address
        self.server = server
        self.tries = 0  # in a row without success
        self.last_error = ""
        self.since = 0  # instant of the first failure in a row, ms UTC
        self.waiting = 0
        self.retry_at = 0.0  # of the loop's time; 0 = no retry planned
        self._endpoints = endpoints
        self._servers = servers
        self._next_batch = next_batch
        self._on_recovery = recovered
        self._batch: FrozenBatch | None = None  # the current one; without its events while it waits for its next try
        self._offered: FrozenBatch | None = None
        self._failing_since = 0.0  # of the loop's time
        self._overfull = False

    def __repr__(self) -> str:
        failing = f", {self.tries} tries: {self.last_error}" if self.tries else ""
        return f"<EndpointQueue of {self.address.account} {self.waiting} waiting{failing}>"

    def offer(self, batch: FrozenBatch) -> None:
        """Pass in the batch that the queue begins with, to save asking the store for it."""
        self._offered = batch
        self.waiting = batch.waiting

    def shed(self) -> None:
        """Give up the older half of what waits at the next failure: too much waits."""
        self._overfull = True

    async def run(self) -> None:
        """Post until nothing waits, or until the endpoint fails: then ``retry_at`` says when to run again."""
        self.retry_at = 0.0
        if self._batch is None:
            self._batch = self._take_offered() or await self._next(self._request())
        while self._batch is not None:
            self.waiting = self._batch.waiting
            outcome = await self._deliver(self._batch)
            if outcome is BatchOutcome.UNKNOWN:
                return
            batch = self._batch
            self._endpoints.counts["posted" if outcome is BatchOutcome.TAKEN else "dead"] += batch.events
            self._batch = await self._next(self._report(outcome, batch))
        self.waiting = 0

    # -- the store

    def _request(self) -> NextBatchRequest:
        return NextBatchRequest(*self.key, self._endpoints.batch_size(self.address.account))

    def _report(self, outcome: BatchOutcome, batch: FrozenBatch) -> NextBatchRequest:
        request = self._request()._replace(outcome=outcome, first=batch.first)
        if outcome is BatchOutcome.TAKEN:
            return request
        now = now_ms()
        cutoff = now if self._servers.is_gone(self.address) else self._oldest(now)
        if self._overfull:
            cutoff = max(cutoff, (batch.since + now) // 2)
            self._overfull = False
        return request._replace(cutoff=cutoff)

    def _oldest(self, now: int) -> int:
        """Return the instant (ms UTC) from before which batches are given up when their endpoint fails."""
        return now - self._endpoints.give_up_after * 1000

    def _take_offered(self) -> FrozenBatch | None:
        batch, self._offered = self._offered, None
        return batch

    async def _next(self, request: NextBatchRequest) -> FrozenBatch | None:
        """Return the next batch: the store's, which is the same as or older than one offered meanwhile."""
        while True:
            try:
                batch = await self._next_batch(request)
            except StoreError as error:
                log.info("webhook queue is waiting for the store", account=self.address.account, error=str(error))
                await asyncio.sleep(STORE_RETRY)
            else:
                offered = self._take_offered()
                return batch or offered

    # -- posting

    async def _deliver(self, batch: FrozenBatch) -> BatchOutcome:
        """Try to post a batch once. UNKNOWN: the next try is planned."""
        if self._servers.is_gone(self.address):
            return BatchOutcome.GIVEN_UP
        async with self._servers.slot(self.server):
            outcome = await self._try(batch)
        if outcome.ok:
            self._recovered()
            return BatchOutcome.TAKEN
        self._failed(outcome)
        if outcome.status == HTTP_GONE:
            log.warning("webhook endpoint is gone", account=self.address.account, waiting=self.waiting)
            self._servers.set_gone(self.address)
            return BatchOutcome.GIVEN_UP
        if self._overfull or batch.since < self._oldest(now_ms()):
            log.warning(
                "webhook events moved to dead letters",
                account=self.address.account,
                error=self.last_error,
                tries=self.tries,
            )
            return BatchOutcome.GIVEN_UP
        now = asyncio.get_running_loop().time()
        pause = retry_delay(now - self._failing_since, random(), outcome.retry_after)  # noqa: S311  # jitter, no secret
        self.retry_at = now + pause
        self._batch = batch._replace(plain=b"")
        return BatchOutcome.UNKNOWN

    def _recovered(self) -> None:
        if self.tries:
            log.info("webhook endpoint has recovered", account=self.address.account, tries=self.tries)
        self.tries, self.since, self._failing_since = 0, 0, 0.0
        if not self.server.healthy:
            self.server.status = HealthStatus.HEALTHY
            self._on_recovery(self.server)

    def _failed(self, outcome: PostOutcome) -> None:
        if not self.tries:
            self._failing_since, self.since = asyncio.get_running_loop().time(), now_ms()
            log.warning("webhook endpoint is failing", account=self.address.account, error=str(outcome))
        self.tries += 1
        self.last_error = str(outcome)
        self.server.status = HealthStatus.FAILING
        self._endpoints.counts["failures"] += 1

    async def _try(self, batch: FrozenBatch) -> PostOutcome:
        settings, url = self._endpoints.settings.get(self.address.account), self._endpoints.url(self.address)
        if settings is None or not url:
            return PostOutcome(0, "the account has no callback_url")
        if self.address.url and not settings.keys:
            return PostOutcome(0, "the account has no webhook_secret: a message's own callback_url needs signed posts")
        outage = asyncio.get_running_loop().time() - self._failing_since if self.tries else 0.0
        past_probing = outage >= PROBE_FOR
        if self.server.answers_probes and not self.server.healthy and not past_probing:
            probe = await self._probe(settings, url)
            if not probe.reachable:
                return probe
        if not batch.plain:
            same = self._batch = await self._next(self._request())
            if same is None:  # another worker has posted it
                self._batch = batch
                return PostOutcome(204)
            batch = same
        body = b"[" + batch.plain + b"]"
        headers = request_headers(settings, batch_id(self.key[1], batch), body)
        outcome = await self._endpoints.poster.post(url, headers, body)
        if outcome.ok and past_probing and self.server.answers_probes:
            self.server.answers_probes = (await self._probe(settings, url)).reachable
        return outcome

    async def _probe(self, settings: EndpointSettings, url: str) -> PostOutcome:
        return await self._endpoints.poster.probe(url, request_headers(settings, f"ask_{token_hex(12)}", b""))


def batch_id(queue: bytes, batch: FrozenBatch) -> str:
    """Return the webhook-id of a batch: the same whichever worker posts it."""
    return hashlib.blake2b(queue + batch.first + batch.events.to_bytes(2, "big"), digest_size=15).hexdigest()
