"""The queues of receivers that this worker keeps moving: each that has something in it is one task (see ``receiver``).

A receiver that fails has no task while it waits for its next try, so however many are dead, they keep nobody else from
working; and when it is tried, it takes its turn among the failing (see ``servers``).
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import structlog

from gateway.clock import now_ms
from gateway.intake.batcher import Batcher
from gateway.store.webhook_queues import EventChunk, FrozenBatch, MovedChunk, NextBatchRequest, QueueAddress
from gateway.webhooks.endpoint_health import EndpointHealth, ServerHealth, ServerPlace, ServerTrust
from gateway.webhooks.endpoint_queue import EndpointClient, EndpointQueue, EndpointSettings

MOST_ACTIVE = 2000
"""Queues of one account that are worked at once in this worker, on servers of one kind; more wait for their turn."""

MOST_WAITING = 100_000
"""Events in one queue of a receiver that fails; beyond, the older half goes to the dead letters."""

GONE_FOR = 3600.0
"""Seconds in which nothing is posted to a receiver that said it was gone (410)."""

AFTER_ERROR = 10.0
"""Seconds until a queue whose task failed by an error of ours is begun anew: its batch is durable."""

_MOST_GONE = 10_000

log = structlog.get_logger(__name__)


class QueueStoreForDelivery(Protocol):
    """What is needed of the store (see ``gateway.store.webhook_queues.WebhookQueues``)."""

    def queue(self, address: QueueAddress) -> bytes: ...
    async def next(self, asks: Sequence[NextBatchRequest]) -> list[FrozenBatch | None]: ...


class DeliveryContext(Protocol):
    """What is needed of the whole (``webhooks.Webhooks``)."""

    @property
    def poster(self) -> EndpointClient: ...
    def settings(self, account: str) -> EndpointSettings | None: ...


Lane = tuple[str, ServerTrust]
"""An account's queues on servers of one kind: those that fail do not take the places of the others."""


class _Active(NamedTuple):
    receiver: EndpointQueue
    lane: Lane
    task: asyncio.Task[None]


class _Parked(NamedTuple):
    receiver: EndpointQueue
    timer: asyncio.TimerHandle


class DeliveryScheduler:
    """``work`` and ``fresh`` say where something waits; ``stop`` lets posts end."""

    def __init__(self, store: QueueStoreForDelivery, hub: DeliveryContext) -> None:
        self.give_up_after = 86400
        self.counts: Counter[str] = Counter()
        self._store = store
        self._hub = hub
        self._servers = EndpointHealth()
        self._active: dict[ServerPlace, _Active] = {}
        self._parked: dict[ServerPlace, _Parked] = {}
        self._busy: Counter[Lane] = Counter()
        self._turn: dict[Lane, dict[ServerPlace, EndpointQueue]] = {}
        self._stopping = False
        self._gone: OrderedDict[QueueAddress, float] = OrderedDict()
        self._asks: Batcher[NextBatchRequest, FrozenBatch | None] = Batcher(
            store.next, gap=0.001, limit=64, divide=True
        )

    def __repr__(self) -> str:
        parked = f", {len(self._parked)} wait for their next try" if self._parked else ""
        return f"<DeliveryScheduler {len(self._active)} queues at work{parked}>"

    # -- what waits

    def fresh(self, partition: int, chunk: EventChunk, moved: MovedChunk) -> None:
        """Something was put into a queue."""
        receiver = self.work(partition, chunk.address)
        receiver.waiting = moved.waiting
        if moved.is_batch and receiver.place in self._active:
            receiver.give(FrozenBatch(moved.waiting, chunk.name, chunk.events, now_ms(), chunk.plain))
        elif receiver.tries and moved.waiting > MOST_WAITING:
            receiver.crowd()
            self._resume(receiver.place)

    def work(self, partition: int, address: QueueAddress) -> EndpointQueue:
        """The receiver of a queue, at work, or waiting for its turn or its next try."""
        place = partition, self._store.queue(address)
        active = self._active.get(place)
        if active is not None and (active.receiver.retry_at or not active.task.done()):
            return active.receiver
        parked = self._parked.get(place)
        if parked is not None:
            return parked.receiver
        receiver = next((turn[place] for turn in self._turn.values() if place in turn), None)
        if receiver is None:
            receiver = EndpointQueue(self, place, address, self._servers.of(address.account, self._url(address)))
            self._begin(receiver)
        return receiver

    def lose(self, partition: int) -> None:
        """Another worker has it now; its queues are durable, so a post under way may be cut off."""
        for place, active in self._active.items():
            if place[0] == partition:
                active.task.cancel()
        for place in [place for place in self._parked if place[0] == partition]:
            self._unpark(place)
        for turn in self._turn.values():
            for place in [place for place in turn if place[0] == partition]:
                del turn[place]

    def retry(self) -> None:
        """Nobody waits for his next try any longer, and nobody is gone: settings are new."""
        self._gone.clear()
        for place in list(self._parked):
            self._resume(place)

    async def stop(self, patience: float) -> None:
        """Let posts under way end."""
        self._stopping = True
        for place in list(self._parked):
            self._unpark(place)
        self._turn.clear()
        tasks = [active.task for active in self._active.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- tasks

    def _begin(self, receiver: EndpointQueue) -> None:
        account, place = receiver.address.account, receiver.place
        receiver.server = self._servers.of(account, self._url(receiver.address))  # a reload may have changed it
        lane = account, receiver.server.trust
        if self._busy[lane] >= MOST_ACTIVE:
            self._turn.setdefault(lane, {})[place] = receiver
            return
        former = self._active.get(place)
        if former is not None:
            if not former.task.done():
                return
            self._busy[former.lane] -= 1  # its end has not been told yet
        self._busy[lane] += 1
        task = asyncio.get_running_loop().create_task(receiver.run(), name=f"webhooks of {account}")
        self._active[place] = _Active(receiver, lane, task)
        task.add_done_callback(lambda done: self._ended(receiver, done))

    def _ended(self, receiver: EndpointQueue, task: asyncio.Task[None]) -> None:
        account, place = receiver.address.account, receiver.place
        active = self._active.get(place)
        if active is None or active.task is not task:
            return  # somebody has begun it anew already
        del self._active[place]
        self._busy[active.lane] -= 1
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("a queue of webhooks failed, and is begun anew", account=account, exc_info=error)
            receiver.retry_at = asyncio.get_running_loop().time() + AFTER_ERROR
        if receiver.retry_at and not self._stopping:
            self._park(receiver)
        turn = self._turn.get(active.lane)
        if turn:
            self._begin(turn.pop(next(iter(turn))))
        else:
            self._turn.pop(active.lane, None)

    def _park(self, receiver: EndpointQueue) -> None:
        place = receiver.place
        timer = asyncio.get_running_loop().call_at(receiver.retry_at, self._resume, place)
        self._parked[place] = _Parked(receiver, timer)
        receiver.server.waiting.add(place)

    def _unpark(self, place: ServerPlace) -> EndpointQueue | None:
        parked = self._parked.pop(place, None)
        if parked is None:
            return None
        parked.timer.cancel()
        parked.receiver.server.waiting.discard(place)
        return parked.receiver

    def _resume(self, place: ServerPlace) -> None:
        receiver = self._unpark(place)
        if receiver is not None:
            self._begin(receiver)

    def _url(self, address: QueueAddress) -> str:
        settings = self._hub.settings(address.account)
        return address.url or (settings.url if settings else "")

    # -- what receivers need (receiver.House)

    @property
    def poster(self) -> EndpointClient:
        return self._hub.poster

    def settings(self, account: str) -> EndpointSettings | None:
        return self._hub.settings(account)

    async def next(self, ask: NextBatchRequest) -> FrozenBatch | None:
        """What became of a batch, and the next one. Raises StoreError."""
        (batch,) = await self._asks.put([ask])
        return batch

    def slot(self, account: str, server: ServerHealth) -> AbstractAsyncContextManager[None]:
        return self._servers.slot(account, server)

    def count(self, what: str, events: int = 1) -> None:
        """For the metrics."""
        self.counts[what] += events

    def proven(self, server: ServerHealth) -> None:
        """It is well: whoever waits to try it again need not wait."""
        server.trust = ServerTrust.PROVEN
        for place in list(server.waiting):
            self._resume(place)

    def gone(self, address: QueueAddress) -> None:
        """It said so itself."""
        self._gone[address] = asyncio.get_running_loop().time() + GONE_FOR
        if len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)

    def is_gone(self, address: QueueAddress) -> bool:
        return asyncio.get_running_loop().time() < self._gone.get(address, 0.0)

    # -- what operators see and do

    def failing(self) -> list[EndpointQueue]:
        """Receivers that do not take what they are sent."""
        receivers = [active.receiver for active in self._active.values()]
        receivers += [parked.receiver for parked in self._parked.values()]
        receivers += [receiver for turn in self._turn.values() for receiver in turn.values()]
        return [receiver for receiver in receivers if receiver.tries]

    def outages(self) -> dict[str, float]:
        """Seconds since the first failure, of the receiver of each account that fails the longest."""
        out: dict[str, float] = {}
        for receiver in self.failing():
            account = receiver.address.account
            out[account] = max(out.get(account, 0.0), (now_ms() - receiver.since) / 1000)
        return out

    def retry_now(self, receiver: EndpointQueue) -> None:
        """Try it now, also when it said that it was gone."""
        self._gone.pop(receiver.address, None)
        self._resume(receiver.place)
