"""One queue and its receiver: a batch at a time, signed, tried until it is taken or too old.

A receiver that has not answered well since the gateway started, or that failed last, is asked first (OPTIONS): so a
receiver that is down is not handed the same events again and again. After two minutes of such answers the batch itself
is tried, for there are servers that answer nothing but POST.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from random import random
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import structlog

from gateway import signature
from gateway.pipeline.patience import wait
from gateway.store.errors import StoreError
from gateway.store.hooks import Address, Ask, Batch, Became

if TYPE_CHECKING:
    from gateway.config import Account

ASK_FIRST = 120.0
"""Seconds of an outage in which a receiver is asked before it is handed anything."""

STORE_AWAY = 1.0

_LATER = frozenset({408, 425, 429})

log = structlog.get_logger(__name__)


class Outcome(NamedTuple):
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
        """Somebody is at home, though he may not like the question: 405 or 501 are as good as 200."""
        return (0 < self.status < 500 and self.status not in _LATER) or self.status == 501

    def __str__(self) -> str:
        return self.fault or f"HTTP {self.status}"


class Settings(NamedTuple):
    """What an account wants of its webhooks."""

    account: str
    url: str
    keys: tuple[bytes, ...] = ()
    batch: int = 100
    everything: bool = False

    @classmethod
    def of(cls, account: Account) -> Settings:
        """Of an account as it is configured."""
        keys = tuple(signature.read_secret(secret) for secret in account.signing)
        everything = account.webhook_events == "all"
        return cls(account.name, account.callback_url, keys, account.webhook_batch, everything)


class Sender(Protocol):
    """What posts (``post.Poster``)."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome: ...
    async def ask(self, url: str, headers: dict[str, str]) -> Outcome: ...
    async def close(self) -> None: ...


class House(Protocol):
    """What a receiver needs of the whole (``webhooks.Webhooks``)."""

    give_up_after: int  # seconds

    @property
    def poster(self) -> Sender: ...
    def settings(self, account: str) -> Settings | None: ...
    async def next(self, ask: Ask) -> Batch | None: ...
    def slot(self, account: str) -> asyncio.Semaphore: ...
    def count(self, what: str, events: int = 1) -> None: ...


class Health(msgspec.Struct):
    """What is known of one server of one account."""

    proven: bool = False


class Receiver:
    """The queue of one address in one partition, while anything is in it."""

    def __init__(self, house: House, place: tuple[int, bytes], address: Address, health: Health) -> None:
        self.partition, self.queue = place
        self.address = address
        self.health = health
        self.tries = 0  # in a row without success
        self.said = ""  # the last fault
        self.waiting = 0
        self.retry_at = 0.0  # of the loop's time; 0 = none planned
        self._house = house
        self._given: Batch | None = None
        self._failing_since = 0.0
        self._heard = True  # the last failure was an answer, not silence
        self._crowded = asyncio.Event()
        self._again = asyncio.Event()

    def __repr__(self) -> str:
        failing = f", {self.tries} tries: {self.said}" if self.tries else ""
        return f"<Receiver of {self.address.account} {self.waiting} waiting{failing}>"

    def give(self, batch: Batch) -> None:
        """The batch that the queue begins with, known before anybody asked for it."""
        self._given = batch
        self.waiting = batch.waiting

    def crowd(self) -> None:
        """Too much waits: the older half is given up at the next failure, or now if one was just had."""
        self._crowded.set()
        self._again.set()

    def retry(self) -> None:
        """Do not wait any longer."""
        self._again.set()

    async def run(self) -> None:
        """Until nothing waits."""
        batch = self._pop() or await self._next(self._ask())
        while batch is not None:
            self.waiting = batch.waiting
            taken = await self._deliver(batch)
            self._house.count("posted" if taken else "dead", batch.events)
            batch = await self._next(self._taken(batch) if taken else self._given_up(batch))
        self.waiting = 0

    def _ask(self) -> Ask:
        settings = self._house.settings(self.address.account)
        return Ask(self.partition, self.queue, settings.batch if settings else 100)

    def _taken(self, batch: Batch) -> Ask:
        return self._ask()._replace(became=Became.TAKEN, first=batch.first)

    def _given_up(self, batch: Batch) -> Ask:
        now = now_ms()
        until = now - self._house.give_up_after * 1000
        if self._crowded.is_set():
            until = max(until, (batch.since + now) // 2)
            self._crowded.clear()
        return self._ask()._replace(became=Became.GIVEN_UP, first=batch.first, until=until)

    def _pop(self) -> Batch | None:
        batch, self._given = self._given, None
        return batch

    async def _next(self, ask: Ask) -> Batch | None:
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

    async def _deliver(self, batch: Batch) -> bool:
        """True when the receiver has it, False when it is given up."""
        loop = asyncio.get_running_loop()
        body = b"[" + batch.plain + b"]"
        name = batch_id(self.queue, batch)
        while True:
            async with self._house.slot(self.address.account):
                outcome = await self._try(name, body)
            if outcome.good:
                if self.tries:
                    log.info("a receiver of webhooks is back", account=self.address.account, tries=self.tries)
                self.tries, self._failing_since, self.health.proven = 0, 0.0, True
                return True
            now = loop.time()
            if not self.tries:
                self._failing_since = now
                log.warning("a receiver of webhooks fails", account=self.address.account, said=str(outcome))
            self.tries += 1
            self.said, self._heard, self.health.proven = str(outcome), outcome.status > 0, False
            self._house.count("failures")
            if self._crowded.is_set() or batch.since < now_ms() - self._house.give_up_after * 1000:
                log.warning("webhook events given up", account=self.address.account, said=self.said, tries=self.tries)
                return False
            pause = wait(now - self._failing_since, random(), outcome.retry_after)  # noqa: S311  # spreads, hides nothing
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.retry_at = loop.time() + seconds
        timer = loop.call_at(self.retry_at, self._again.set)
        try:
            await self._again.wait()
        finally:
            timer.cancel()
            self._again.clear()
            self.retry_at = 0.0

    async def _try(self, name: str, body: bytes) -> Outcome:
        settings = self._house.settings(self.address.account)
        url = self.address.url or (settings.url if settings else "")
        if settings is None or not url:
            return Outcome(0, "the account has no callback_url any more")
        outage = asyncio.get_running_loop().time() - self._failing_since if self.tries else 0.0
        if not self.health.proven and (outage < ASK_FIRST or not self._heard):
            asked = await self._house.poster.ask(url, headers(settings.keys, f"ask_{name}", b""))
            if not asked.alive:
                return asked
        return await self._house.poster.post(url, headers(settings.keys, name, body), body)


def headers(keys: Sequence[bytes], name: str, body: bytes) -> dict[str, str]:
    """Of one post, signed now; without a secret there is no signature."""
    stamp = int(time.time())
    named = {"content-type": "application/json"} if body else {}
    if not keys:
        return named | {signature.ID: name, signature.TIMESTAMP: str(stamp)}
    return named | signature.signed_headers(keys, name, stamp, body)


def batch_id(queue: bytes, batch: Batch) -> str:
    """The webhook-id: the same for the same batch, whoever posts it."""
    return hashlib.blake2b(queue + batch.first + batch.events.to_bytes(2, "big"), digest_size=15).hexdigest()


def now_ms() -> int:
    """The wall clock, ms UTC."""
    return time.time_ns() // 1_000_000
