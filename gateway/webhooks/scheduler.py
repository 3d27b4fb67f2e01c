"""Which queue of this worker is worked when. A queue being worked is one task (see ``endpoint_queue``).

A queue whose endpoint fails has no task while it waits for its next try, so dead endpoints, however many, keep no other
queue from being worked; its next try takes its turn among the failing ones (see ``server_health``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.clock import now_ms
from gateway.intake.batcher import Batcher
from gateway.store.webhook_queues import (
    EventChunk,
    FrozenBatch,
    MovedChunk,
    NextBatchRequest,
    QueueAddress,
    WebhookQueues,
)
from gateway.webhooks.endpoint_queue import EndpointQueue
from gateway.webhooks.endpoints import Endpoints
from gateway.webhooks.server_health import PoolKey, QueueKey, ServerHealth, ServerTable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ACTIVE = 2000
"""Queues of one account worked at once in this worker, on servers of one status; more wait for their turn."""

MAX_WAITING = 100_000
"""Events in one queue of a failing endpoint; beyond, the older half goes to the dead letters."""

AFTER_ERROR = 10.0
"""Seconds until a queue whose task failed by an error of ours is worked again: its batch is durable."""

log = structlog.get_logger(__name__)


class _Active(NamedTuple):
    queue: EndpointQueue
    pool: PoolKey
    task: asyncio.Task[None]


class _Parked(NamedTuple):
    queue: EndpointQueue
    timer: asyncio.TimerHandle


class DeliveryScheduler:
    """Works the queues that ``work`` and ``moved`` report; ``stop`` lets posts end."""

    def __init__(self, store: WebhookQueues, endpoints: Endpoints) -> None:
        self.counts = endpoints.counts
        self._store = store
        self._endpoints = endpoints
        self._servers = ServerTable()
        self._active: dict[QueueKey, _Active] = {}
        self._parked: dict[QueueKey, _Parked] = {}  # until their next try
        self._pending: dict[PoolKey, dict[QueueKey, EndpointQueue]] = {}  # until their turn
        self._active_of: Counter[PoolKey] = Counter()
        self._stopping = False
        self._requests: Batcher[NextBatchRequest, FrozenBatch | None] = Batcher(
            store.next_batches, gap=0.001, limit=64, divide=True
        )

    def __repr__(self) -> str:
        parked = f", {len(self._parked)} waiting to retry" if self._parked else ""
        return f"<DeliveryScheduler {len(self._active)} queues active{parked}>"

    # -- queues with something in them

    def moved(self, partition: int, chunk: EventChunk, moved: MovedChunk) -> None:
        """Work a queue that a chunk was moved into."""
        queue = self.work(partition, chunk.address)
        queue.waiting = moved.waiting
        if moved.is_batch and queue.key in self._active:
            queue.offer(FrozenBatch(moved.waiting, chunk.name, chunk.events, now_ms(), chunk.plain))
        elif queue.tries and moved.waiting > MAX_WAITING:
            queue.shed()
            self._resume(queue.key)

    def work(self, partition: int, address: QueueAddress) -> EndpointQueue:
        """Return a queue that is active now, or waits for its turn or its next try."""
        key = partition, self._store.queue_name(address)
        active = self._active.get(key)
        if active is not None and (active.queue.retry_at or not active.task.done()):
            return active.queue
        parked = self._parked.get(key)
        if parked is not None:
            return parked.queue
        queue = next((pending[key] for pending in self._pending.values() if key in pending), None)
        if queue is None:
            queue = EndpointQueue(
                key,
                address,
                self._server(address),
                endpoints=self._endpoints,
                servers=self._servers,
                next_batch=self._next_batch,
                recovered=self._resume_server,
            )
            self._begin(queue)
        return queue

    def drop_partition(self, partition: int) -> None:
        """Stop the queues of a partition that another worker has now: they are durable, so posts may be cut off."""
        for key, active in self._active.items():
            if key[0] == partition:
                active.task.cancel()
        for key in [key for key in self._parked if key[0] == partition]:
            self._unpark(key)
        for pending in self._pending.values():
            for key in [key for key in pending if key[0] == partition]:
                del pending[key]

    def retry_all(self) -> None:
        """Try every failing endpoint now, and those that are gone again: settings are new."""
        self._servers.forget_gone()
        for key in list(self._parked):
            self._resume(key)

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - what is not done by then is cancelled
        """Let posts under way end."""
        self._stopping = True
        for key in list(self._parked):
            self._unpark(key)
        self._pending.clear()
        tasks = [active.task for active in self._active.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- tasks

    def _begin(self, queue: EndpointQueue) -> None:
        account, key = queue.address.account, queue.key
        queue.server = self._server(queue.address)  # a reload may have changed it
        pool = queue.server.pool
        if self._active_of[pool] >= MAX_ACTIVE:
            self._pending.setdefault(pool, {})[key] = queue
            return
        former = self._active.get(key)
        if former is not None:
            if not former.task.done():
                return
            self._active_of[former.pool] -= 1  # its done callback has not run yet
        self._active_of[pool] += 1
        task = asyncio.get_running_loop().create_task(queue.run(), name=f"webhooks of {account}")
        self._active[key] = _Active(queue, pool, task)
        task.add_done_callback(lambda done: self._ended(queue, done))

    def _ended(self, queue: EndpointQueue, task: asyncio.Task[None]) -> None:
        account, key = queue.address.account, queue.key
        active = self._active.get(key)
        if active is None or active.task is not task:
            return  # the queue has another task already
        del self._active[key]
        self._active_of[active.pool] -= 1
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("webhook queue failed and is restarted", account=account, retry_in=AFTER_ERROR, exc_info=error)
            queue.retry_at = asyncio.get_running_loop().time() + AFTER_ERROR
        if queue.retry_at and not self._stopping:
            self._park(queue)
        pending = self._pending.get(active.pool)
        if pending:
            self._begin(pending.pop(next(iter(pending))))
        else:
            self._pending.pop(active.pool, None)

    def _park(self, queue: EndpointQueue) -> None:
        timer = asyncio.get_running_loop().call_at(queue.retry_at, self._resume, queue.key)
        self._parked[queue.key] = _Parked(queue, timer)
        queue.server.parked.add(queue.key)

    def _unpark(self, key: QueueKey) -> EndpointQueue | None:
        parked = self._parked.pop(key, None)
        if parked is None:
            return None
        parked.timer.cancel()
        parked.queue.server.parked.discard(key)
        return parked.queue

    def _resume(self, key: QueueKey) -> None:
        queue = self._unpark(key)
        if queue is not None:
            self._begin(queue)

    def _resume_server(self, server: ServerHealth) -> None:
        """Work the other queues of a server that works again: they need not wait."""
        for key in list(server.parked):
            self._resume(key)

    def _server(self, address: QueueAddress) -> ServerHealth:
        return self._servers.server(address.account, self._endpoints.url(address))

    async def _next_batch(self, request: NextBatchRequest) -> FrozenBatch | None:
        """Requests of many queues go to the store in one call. Raises StoreError."""
        (batch,) = await self._requests.put([request])
        return batch

    # -- for operators

    def failing(self) -> list[EndpointQueue]:
        """Return the queues whose endpoint failed last."""
        return [queue for queue in self._queues() if queue.tries]

    def _queues(self) -> Iterator[EndpointQueue]:
        for active in self._active.values():
            yield active.queue
        for parked in self._parked.values():
            yield parked.queue
        for pending in self._pending.values():
            yield from pending.values()

    def outages(self) -> dict[str, float]:
        """Return, by account, for how many seconds its longest failing endpoint has been failing."""
        out: dict[str, float] = {}
        for queue in self.failing():
            account = queue.address.account
            out[account] = max(out.get(account, 0.0), (now_ms() - queue.since) / 1000)
        return out

    def retry_now(self, queue: EndpointQueue) -> None:
        """Try it now, even if its endpoint is gone."""
        self._servers.forget_gone(queue.address)
        self._resume(queue.key)
