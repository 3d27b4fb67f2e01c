"""Follows the event streams of this worker's partitions and moves their events into the queues of endpoints.

While no account has an endpoint nothing runs, and events are not kept. Else a round every 0.15 s reads all partitions
in one pipeline and moves their events in a second. Entries carry the summaries of their messages, so no record is
looked up. The ``DeliveryScheduler`` posts what is in the queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

import structlog

from gateway.store.errors import StoreError
from gateway.store.owner import DEAD_AFTER
from gateway.store.webhook_queues import EventChunk, LeaseState, PartitionTail, WebhookQueues
from gateway.supervision import TRIES, FailureCounts, Supervision, isolate_failures
from gateway.webhooks.event_json import (
    QueueEvents,
    Subscription,
    chunks,
    wanted_events,
    write_looked_up,
    write_summarized,
)
from gateway.webhooks.scheduler import DeliveryScheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.store.former_accounts import EndpointSettings
    from gateway.store.messages import MessageStore
    from gateway.store.owner import LeaseOwner
    from gateway.webhooks.endpoints import Endpoints

    _Move = tuple[PartitionTail, Sequence[EventChunk]]

ROUND = 0.15
"""Seconds between rounds: events of one round share their posts."""

SHARE_EVERY = 5.0
"""Seconds between looks at which workers are alive, which decides who has which partitions."""

RECENT = 35 * 86400
"""Seconds that a message which names a URL may live (it may be scheduled for next month)."""

log = structlog.get_logger(__name__)


class EventFollower:
    """Moves events to the queues of endpoints: ``start`` before messages are accepted, ``run``, then ``stop``."""

    def __init__(
        self,
        store: WebhookQueues,
        owners: MessageStore,
        owner: LeaseOwner,
        endpoints: Endpoints,
        *,
        supervision: Supervision | None = None,
    ) -> None:
        self.scheduler = DeliveryScheduler(store, endpoints)
        self._endpoints = endpoints
        self._store = store
        self._owners = owners
        self._owner = owner
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._naming: set[str] = set()  # accounts whose messages name URLs
        self._recorded_on: dict[str, int] = {}  # … -> the day on which the store last recorded it
        self._wanting_all: set[str] | None = None  # accounts that want every move, as the store knows them
        self._subscriptions: dict[bytes, Subscription] = {}
        self._following = asyncio.Event()
        self._partitions: tuple[int, ...] = tuple(range(store.partitions))
        self._shared_at = float("-inf")  # of the loop's time
        self._versions: dict[int, int] = {}  # of the partitions whose lease we hold

    def __repr__(self) -> str:
        return f"<EventFollower {self.scheduler!r}, {dict(self._endpoints.counts)}>"

    # -- settings

    def configure(self, settings: Mapping[str, EndpointSettings], *, give_up_after: int = 86400) -> None:
        """Take over settings by account, and for how many seconds a failing endpoint is tried."""
        self._endpoints.configure(settings, give_up_after=give_up_after)
        self._subscribe()

    def _subscribe(self) -> None:
        self._subscriptions = {
            name.encode(): Subscription(name, one.everything, own=bool(one.url))
            for name, one in self._endpoints.settings.items()
            if one.url or name in self._naming
        }

    async def start(self) -> None:
        """Follow events if an account has an endpoint, or messages named URLs recently. Raises StoreError."""
        if any(one.url for one in self._endpoints.settings.values()):
            await self._follow()
        elif await self._store.unfollow(RECENT):
            await self._endpoints.prepare()
            await self._store_wanting_all()
            self._following.set()

    async def reload(self) -> None:
        """Put ``configure`` into effect on a running gateway: permitted networks, and no waits. Raises StoreError."""
        await self._endpoints.renew_poster()  # posts under way fail and are tried again
        if not self._following.is_set():
            await self.start()
        else:
            await self._store_wanting_all()
        self.scheduler.retry_all()

    async def follow_accounts(self, accounts: Iterable[str]) -> None:
        """Follow events of accounts whose messages name URLs. Call before storing the messages. Raises StoreError."""
        today = int(time.time()) // 86400
        unrecorded = {name for name in accounts if self._recorded_on.get(name) != today}
        if unrecorded:
            await self._follow(unrecorded)
            self._recorded_on.update(dict.fromkeys(unrecorded, today))

    async def _follow(self, accounts: Iterable[str] = ()) -> None:
        names = set(accounts)
        await self._endpoints.prepare()
        await self._store.follow(names)
        await self._store_wanting_all()
        self._naming |= names
        self._subscribe()
        self._following.set()

    async def _store_wanting_all(self) -> None:
        """Store which accounts want every move, when that has changed."""
        names = {name for name, one in self._endpoints.settings.items() if one.everything}
        if names != self._wanting_all:
            await self._store.want_all(sorted(names))
            self._wanting_all = names

    # -- life

    async def run(self) -> None:
        """Run rounds until it is cancelled."""
        store_away = False
        while True:
            await self._following.wait()
            try:
                more = await self._round()
                store_away = False
            except StoreError as error:
                if not store_away:
                    log.warning("webhooks are waiting for the store", error=str(error))
                store_away, more = True, False
            await asyncio.sleep(0 if more else ROUND)

    async def stop(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109 - what is not done by then is cancelled
        """Let posts under way end, and release the leases."""
        await self.scheduler.stop(timeout)
        if self._versions:
            with contextlib.suppress(StoreError):
                await self._store.release(self._owner, list(self._versions))
        await self._endpoints.close()

    async def _round(self) -> bool:
        """Read, write as JSON, move; True when there is more to read."""
        await self._share_partitions()
        finals_only = not any(subscription.everything for subscription in self._subscriptions.values())
        tails = await self._store.read(self._owner, self._partitions, finals_only=finals_only)
        await self._check_leases(tails)
        moves: list[_Move] = []
        for tail in tails:
            if tail.entries:
                await asyncio.sleep(0)  # a partition is some milliseconds of work
                moves += await self._moves(tail)
        if moves:
            await isolate_failures(moves, self._move, self._not_moved)
        return any(tail.more for tail in tails)

    async def _moves(self, tail: PartitionTail) -> list[_Move]:
        """Return what to move of a read, none for a round to be repeated. Raises StoreError.

        Entries that fail to be read hold up their own partition for three rounds; then they are left out.
        """
        try:
            events = write_summarized(tail.entries, self._subscriptions, self._store.open_header, self._unwritable)
            return [(tail, self._chunks(await self._look_up(tail) if events is None else events))]
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is odd about it, the other partitions go on
            self._supervision.failed("webhooks", error)
            if self._tries.add((tail.partition, tail.read_to)) < TRIES:
                return []
            self._supervision.set_aside("events", f"partition {tail.partition}, up to {tail.read_to!r}", error)
            return [(tail, [])]

    async def _look_up(self, tail: PartitionTail) -> QueueEvents:
        """Write events of entries without summaries: their messages are looked up, which takes longer."""
        refs = wanted_events(tail.entries, self._subscriptions)
        ids = {ref.id for ref in refs}
        return write_looked_up(refs, await self._store.summaries(list(ids)) if ids else {}, self._unwritable)

    def _chunks(self, events: QueueEvents) -> list[EventChunk]:
        out = []
        for address, some in events.items():
            queue = self._store.queue_name(address)
            for count, plain in chunks(some, self._endpoints.batch_size(address.account)):
                out.append(EventChunk(queue, address, secrets.token_bytes(8), count, plain))
        return out

    async def _move(self, moves: Sequence[_Move]) -> None:
        for (tail, moving), moved in zip(moves, await self._store.move(self._owner, moves), strict=True):
            if moved is None:
                self._drop_partition(tail.partition)
                continue
            for chunk, result in zip(moving, moved, strict=True):
                self._endpoints.counts["events"] += chunk.events
                self.scheduler.moved(tail.partition, chunk, result)

    async def _not_moved(self, move: _Move, error: Exception) -> None:
        """Count and log that the events of one partition cannot be moved now; those of the others are."""
        self._supervision.failed("webhooks", error)

    def _unwritable(self, event: bytes, error: Exception) -> None:
        self._supervision.set_aside("event", f"{event[:16].hex()}.{int.from_bytes(event[16:20], 'big')}", error)

    # -- partitions

    async def _share_partitions(self) -> None:
        """Divide the partitions among the workers that are alive."""
        now = asyncio.get_running_loop().time()
        if now - self._shared_at < SHARE_EVERY:
            return
        self._shared_at = now
        seen = await self._owners.owners()
        youngest = max((one.beat for one in seen), default=0)
        alive = {one.owner.name for one in seen if one.beat > youngest - DEAD_AFTER * 1000} | {self._owner.name}
        names = sorted(alive)
        first = names.index(self._owner.name)
        self._partitions = tuple(range(first, self._store.partitions, len(names)))
        former = set(self._versions) - set(self._partitions)
        for partition in former:
            self._drop_partition(partition)
        if former:
            await self._store.release(self._owner, former)

    async def _check_leases(self, tails: Sequence[PartitionTail]) -> None:
        """Drop partitions that are lost; work the queues of those that are new, or were changed by another worker."""
        changed = []
        for tail in tails:
            if tail.lease is LeaseState.LOST:
                self._drop_partition(tail.partition)
            elif tail.lease is LeaseState.NEW or self._versions.get(tail.partition) != tail.version:
                changed.append(tail)
        if not changed:
            return
        accounts, queues = await self._store.queues([tail.partition for tail in changed])
        if accounts - self._naming:
            self._naming |= accounts
            self._subscribe()
        for queue in queues:
            if queue.waiting:
                self.scheduler.work(queue.partition, queue.address)
        self._versions.update({tail.partition: tail.version for tail in changed})

    def _drop_partition(self, partition: int) -> None:
        if self._versions.pop(partition, None) is not None:
            self.scheduler.drop_partition(partition)
