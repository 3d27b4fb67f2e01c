"""What operators see of webhooks and do about them: queues, dead letters, a test of an endpoint."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.clock import now_ms
from gateway.store.webhook_queues import QueueAddress, QueueInfo, WebhookQueues
from gateway.webhooks.endpoints import Endpoints, request_headers
from gateway.webhooks.event_json import rfc3339

if TYPE_CHECKING:
    from gateway.webhooks.poster import PostOutcome
    from gateway.webhooks.scheduler import DeliveryScheduler

TEST_EVENT = "webhook.test"
"""Type of the event that a test posts; endpoints ignore types they do not know."""


class EndpointStatus(msgspec.Struct):
    """One endpoint, all partitions together."""

    account: str
    url: str  # without its query
    own: bool  # the account's callback_url; else messages named it
    waiting: int = 0
    oldest_s: float = 0.0
    dead: int = 0
    dropped: int = 0  # dead letters dropped for lack of room
    tries: int = 0  # in a row without success, by the worker that was asked
    last_error: str = ""
    failing_s: float = 0.0  # since the first of these tries
    next_try_s: float = 0.0  # until the next one


class PostedTest(NamedTuple):
    """The outcome of a test."""

    outcome: PostOutcome
    seconds: float
    signed: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as operators read it."""
        return {
            "ok": self.outcome.ok,
            "status": self.outcome.status or None,
            "fault": self.outcome.fault or None,
            "ms": round(self.seconds * 1000, 1),
            "signed": self.signed,
        }


class WebhookAdmin:
    """Shows and controls endpoints for operators. Every method may raise StoreError."""

    def __init__(self, store: WebhookQueues, endpoints: Endpoints, scheduler: DeliveryScheduler) -> None:
        self._store = store
        self._endpoints = endpoints
        self._scheduler = scheduler

    def __repr__(self) -> str:
        return f"<WebhookAdmin of {self._scheduler!r}>"

    async def endpoints(self) -> list[EndpointStatus]:
        """Return endpoints that have something waiting, dead letters or faults; worst first."""
        now, out = now_ms(), dict[QueueAddress, EndpointStatus]()
        _, queues = await self._store.queues()
        for queue in queues:
            status = self._status(out, queue.address)
            status.waiting += queue.waiting
            status.dead += queue.dead
            status.dropped += queue.dropped
            if queue.since:
                status.oldest_s = max(status.oldest_s, round((now - queue.since) / 1000, 1))
        clock = asyncio.get_running_loop().time()
        for failing in self._scheduler.failing():
            status = self._status(out, failing.address)
            status.failing_s = max(status.failing_s, round((now - failing.since) / 1000, 1))
            if failing.tries > status.tries:
                status.tries, status.last_error = failing.tries, failing.last_error
                status.next_try_s = max(0.0, round(failing.retry_at - clock, 1))
        return sorted(out.values(), key=lambda one: (-one.dead, -one.waiting, one.account, one.url))

    def _status(self, known: dict[QueueAddress, EndpointStatus], address: QueueAddress) -> EndpointStatus:
        status = known.get(address)
        if status is None:
            url = without_query(self._endpoints.url(address))
            status = known[address] = EndpointStatus(address.account, url, not address.url)
        return status

    async def dead(self, account: str = "", url: str = "", most: int = 100) -> list[msgspec.Raw]:
        """Return up to ``most`` dead events as they would be posted, oldest first per partition."""
        out: list[msgspec.Raw] = []
        for queue in await self._dead_queues(account, url):
            skip = 0
            while queue.dead and len(out) < most and (some := await self._store.dead_letters(*_key(queue), skip)):
                skip += len(some)
                for dead_letters in some:
                    out += _decode(b"[" + dead_letters.plain + b"]")
        return out[:most]

    async def replay(self, account: str = "", url: str = "") -> int:
        """Queue dead letters again. Return how many events."""
        return sum([await self._store.replay(*_key(queue)) for queue in await self._dead_queues(account, url)])

    async def drop(self, account: str = "", url: str = "") -> int:
        """Delete dead letters. Return how many events."""
        return sum([await self._store.drop(*_key(queue)) for queue in await self._dead_queues(account, url)])

    def retry(self, account: str = "", url: str = "") -> int:
        """Try failing queues of this worker now. Return how many."""
        failing = [queue for queue in self._scheduler.failing() if self._matches(queue.address, account, url)]
        for queue in failing:
            self._scheduler.retry_now(queue)
        return len(failing)

    async def test(self, account: str, url: str = "") -> PostedTest | None:
        """Post one test event now, past every queue. None: there is no such account, or it has no endpoint."""
        settings = self._endpoints.settings.get(account)
        target = url or (settings.url if settings else "")
        if settings is None or not target:
            return None
        await self._endpoints.prepare()
        name, now = f"test_{secrets.token_hex(12)}", now_ms()
        data = {"note": "a test of this endpoint; no message is concerned"}
        event = {"id": name, "type": TEST_EVENT, "time": rfc3339(now), "account": account, "sequence": 0, "data": data}
        body = msgspec.json.encode([event])
        begun = time.monotonic()
        outcome = await self._endpoints.poster.post(target, request_headers(settings, name, body), body)
        return PostedTest(outcome, time.monotonic() - begun, bool(settings.keys))

    async def _dead_queues(self, account: str, url: str) -> list[QueueInfo]:
        _, queues = await self._store.queues()
        chosen = [queue for queue in queues if queue.dead and self._matches(queue.address, account, url)]
        return sorted(chosen, key=lambda queue: queue.partition)

    def _matches(self, address: QueueAddress, account: str, url: str) -> bool:
        if account and address.account != account:
            return False
        full = self._endpoints.url(address)
        return not url or url in {full, without_query(full)}


def without_query(url: str) -> str:
    """Return a URL without its query, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}" if url else ""


_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _key(queue: QueueInfo) -> tuple[int, bytes]:
    return queue.partition, queue.queue
