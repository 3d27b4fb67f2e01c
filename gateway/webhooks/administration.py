"""What operators see of webhooks and do about them: queues, dead letters, a test of a receiver."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from gateway.clock import now_ms
from gateway.store.webhook_queues import DeadLetters, QueueAddress, QueueInfo
from gateway.webhooks.delivery import DeliveryScheduler
from gateway.webhooks.endpoint_queue import EndpointClient, EndpointSettings, PostOutcome, headers
from gateway.webhooks.event_format import iso

TEST = "webhook.test"
"""Type of the event that a test posts; receivers ignore types they do not know."""


class EndpointStatus(msgspec.Struct):
    """One receiver, all partitions together."""

    account: str
    url: str  # without its query
    own: bool  # the account's own; else messages named it
    waiting: int = 0
    oldest_s: float = 0.0
    dead: int = 0
    dropped: int = 0  # dead letters for which there was no room
    tries: int = 0  # in a row without success, of the worker that was asked
    last_error: str = ""
    failing_s: float = 0.0  # since the first of these tries
    next_try_s: float = 0.0  # until the next one


class TestPost(NamedTuple):
    """What a receiver said to a test."""

    outcome: PostOutcome
    seconds: float
    signed: bool


class EndpointAccess(Protocol):
    """What is needed of ``webhooks.Webhooks``."""

    @property
    def poster(self) -> EndpointClient: ...
    async def prepare(self) -> None: ...
    def settings(self, account: str) -> EndpointSettings | None: ...
    @property
    def deliveries(self) -> DeliveryScheduler: ...


class WebhookAdminStore(Protocol):
    """What is needed of ``store.webhook_queues.WebhookQueues``."""

    async def queues(self, partitions: Iterable[int] | None = None) -> tuple[set[str], list[QueueInfo]]: ...
    async def dead_letters(self, partition: int, queue: bytes, skip: int = 0, most: int = 10) -> list[DeadLetters]: ...
    async def replay(self, partition: int, queue: bytes) -> int: ...
    async def drop(self, partition: int, queue: bytes) -> int: ...


class WebhookAdmin:
    """Every method may raise StoreError."""

    def __init__(self, store: WebhookAdminStore, hub: EndpointAccess) -> None:
        self._store = store
        self._hub = hub

    def __repr__(self) -> str:
        return f"<WebhookAdmin of {self._hub!r}>"

    async def standings(self) -> list[EndpointStatus]:
        """Receivers that have something waiting, dead letters, or faults; worst first."""
        now, out = now_ms(), dict[QueueAddress, EndpointStatus]()
        _, queues = await self._store.queues()
        for queue in queues:
            standing = self._standing(out, queue.address)
            standing.waiting += queue.waiting
            standing.dead += queue.dead
            standing.dropped += queue.dropped
            if queue.since:
                standing.oldest_s = max(standing.oldest_s, round((now - queue.since) / 1000, 1))
        clock = asyncio.get_running_loop().time()
        for failing in self._hub.deliveries.failing():
            standing = self._standing(out, failing.address)
            standing.failing_s = max(standing.failing_s, round((now - failing.since) / 1000, 1))
            if failing.tries > standing.tries:
                standing.tries, standing.last_error = failing.tries, failing.said
                standing.next_try_s = max(0.0, round(failing.retry_at - clock, 1))
        return sorted(out.values(), key=lambda one: (-one.dead, -one.waiting, one.account, one.url))

    def _standing(self, known: dict[QueueAddress, EndpointStatus], address: QueueAddress) -> EndpointStatus:
        standing = known.get(address)
        if standing is None:
            standing = known[address] = EndpointStatus(address.account, shown(self._url(address)), not address.url)
        return standing

    def _url(self, address: QueueAddress) -> str:
        settings = self._hub.settings(address.account)
        return address.url or (settings.url if settings else "")

    async def dead(self, account: str = "", url: str = "", most: int = 100) -> list[msgspec.Raw]:
        """Up to ``most`` dead events, oldest first per partition, as they would be posted."""
        out: list[msgspec.Raw] = []
        for queue in await self._chosen(account, url):
            skip = 0
            while queue.dead and len(out) < most and (some := await self._store.dead_letters(*_place(queue), skip)):
                skip += len(some)
                for dead_letters in some:
                    out += _decode(b"[" + dead_letters.plain + b"]")
        return out[:most]

    async def replay(self, account: str = "", url: str = "") -> int:
        """Dead letters are posted again. Answers how many events."""
        return sum([await self._store.replay(*_place(queue)) for queue in await self._chosen(account, url)])

    async def drop(self, account: str = "", url: str = "") -> int:
        """Dead letters are thrown away. Answers how many events."""
        return sum([await self._store.drop(*_place(queue)) for queue in await self._chosen(account, url)])

    def retry(self, account: str = "", url: str = "") -> int:
        """Receivers of this worker that wait for their next try do not wait any longer; how many."""
        deliveries = self._hub.deliveries
        waiting = [failing for failing in deliveries.failing() if self._matches(failing.address, account, url)]
        for failing in waiting:
            deliveries.retry_now(failing)
        return len(waiting)

    async def test(self, account: str, url: str = "") -> TestPost | None:
        """Post one test event now, past every queue; None when there is no such account or it has no receiver."""
        settings = self._hub.settings(account)
        target = url or (settings.url if settings else "")
        if settings is None or not target:
            return None
        await self._hub.prepare()
        name, now = f"test_{secrets.token_hex(12)}", now_ms()
        data = {"note": "a test of this receiver; no message is concerned"}
        event = {"id": name, "type": TEST, "time": iso(now), "account": account, "sequence": 0, "data": data}
        body = msgspec.json.encode([event])
        begun = time.monotonic()
        outcome = await self._hub.poster.post(target, headers(settings.keys, name, body), body)
        return TestPost(outcome, time.monotonic() - begun, bool(settings.keys))

    async def _chosen(self, account: str, url: str) -> list[QueueInfo]:
        _, queues = await self._store.queues()
        chosen = [queue for queue in queues if queue.dead and self._matches(queue.address, account, url)]
        return sorted(chosen, key=lambda queue: queue.partition)

    def _matches(self, address: QueueAddress, account: str, url: str) -> bool:
        if account and address.account != account:
            return False
        real = self._url(address)
        return not url or url in {real, shown(real)}


def shown(url: str) -> str:
    """A URL without its query, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}" if url else ""


_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _place(queue: QueueInfo) -> tuple[int, bytes]:
    return queue.partition, queue.queue


def as_json(tested: TestPost) -> dict[str, Any]:
    """A test as operators read it."""
    return {
        "ok": tested.outcome.good,
        "status": tested.outcome.status or None,
        "fault": tested.outcome.fault or None,
        "ms": round(tested.seconds * 1000, 1),
        "signed": tested.signed,
    }
