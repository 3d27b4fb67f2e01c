"""Webhooks: follows the event streams of this worker's partitions and keeps every receiver's queue moving.

While nobody has a receiver nothing runs and events are not kept for it. Else one round every seventh of a second reads
all partitions in one pipeline and moves their events to queues in a second. Each event brings what is told of its
message. What is in the queues the ``outbox`` posts.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.config.addresses import AddressGuard
from gateway.model import EnvelopeHeader
from gateway.store.errors import StoreError
from gateway.store.owner import DEAD_AFTER, LeaseOwner
from gateway.store.requests import OwnerSeen
from gateway.store.webhook_queues import (
    EventChunk,
    FrozenBatch,
    MessageSummary,
    MovedChunk,
    NextBatchRequest,
    PartitionTail,
    QueueAddress,
    QueueInfo,
)
from gateway.supervision import TRIES, FailureCounts, Supervision, sift
from gateway.webhooks.delivery import DeliveryScheduler
from gateway.webhooks.endpoint_queue import EndpointClient, EndpointSettings
from gateway.webhooks.event_format import Subscription, addressed, as_told, chunks, wanted
from gateway.webhooks.poster import Poster

ROUND = 0.15
"""Seconds between rounds: what happens meanwhile shares its posts."""

LOOK_EVERY = 5.0
"""Seconds between looks at which workers are alive, and so at whose partitions are whose."""

OF_LATE = 35 * 86400
"""Seconds a message that names a receiver may live (it may be scheduled for next month)."""

_Move = tuple[PartitionTail, Sequence[EventChunk]]

log = structlog.get_logger(__name__)


def poster(named: Iterable[str], agent: str) -> EndpointClient:
    """What posts to public addresses, and to those in the networks ``named``."""
    return Poster(AddressGuard(named), agent=agent)


class EventStore(Protocol):
    """What is needed of the store (see ``gateway.store.webhook_queues.WebhookQueues``)."""

    partitions: int

    def queue(self, address: QueueAddress) -> bytes: ...
    async def follow(self, accounts: Iterable[str] = ()) -> None: ...
    async def hear_all(self, accounts: Iterable[str]) -> None: ...
    async def unfollow(self, of_late: int) -> bool: ...
    async def read(
        self, owner: LeaseOwner, partitions: Sequence[int], *, ends: bool = False
    ) -> list[PartitionTail]: ...
    async def leave(self, owner: LeaseOwner, partitions: Iterable[int]) -> None: ...
    def reveal(self, sealed: bytes) -> EnvelopeHeader: ...
    async def summaries(self, ids: Sequence[bytes]) -> dict[bytes, MessageSummary]: ...
    async def move(
        self, owner: LeaseOwner, moves: Sequence[tuple[PartitionTail, Sequence[EventChunk]]]
    ) -> list[list[MovedChunk] | None]: ...
    async def next(self, asks: Sequence[NextBatchRequest]) -> list[FrozenBatch | None]: ...
    async def queues(self, partitions: Iterable[int] | None = None) -> tuple[set[str], list[QueueInfo]]: ...


class OwnerStore(Protocol):
    """Who else is there (see ``gateway.store.messages.MessageStore``)."""

    async def owners(self) -> list[OwnerSeen]: ...


class EventFollower:
    """``start`` before messages are accepted, ``run`` until it is cancelled, then ``stop``."""

    def __init__(
        self,
        store: EventStore,
        owners: OwnerStore,
        owner: LeaseOwner,
        poster: Callable[[], EndpointClient],
        *,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._make_poster = poster
        self._poster: EndpointClient | None = None
        self.deliveries = DeliveryScheduler(store, self)
        self.counts = self.deliveries.counts
        self._store = store
        self._owners = owners
        self._owner = owner
        self._settings: dict[str, EndpointSettings] = {}
        self._named: set[str] = set()  # accounts whose messages name receivers
        self._named_on: dict[str, int] = {}  # the day on which the store was last told so
        self._subscriptions: dict[bytes, Subscription] = {}
        self._following = asyncio.Event()
        self._hears_all: set[str] | None = None  # as the store was told
        self._mine: tuple[int, ...] = tuple(range(store.partitions))
        self._looked = float("-inf")
        self._versions: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<EventFollower {self.deliveries!r}, {dict(self.counts)}>"

    @property
    def poster(self) -> EndpointClient:
        """Made when it is first needed (see ``prepare``)."""
        if self._poster is None:
            self._poster = self._make_poster()
        return self._poster

    async def prepare(self) -> None:
        """Make what posts beside the loop: reading the certificates that are trusted takes a while."""
        if self._poster is None:
            self._poster = await asyncio.to_thread(self._make_poster)

    # -- settings

    def configure(self, accounts: Iterable[EndpointSettings], *, give_up_after: int = 86400) -> None:
        """Take over the accounts' settings, and how many seconds a receiver that fails is tried."""
        self.deliveries.give_up_after = give_up_after
        self._settings = {one.account: one for one in accounts}
        self._subscribe()

    def settings(self, account: str) -> EndpointSettings | None:
        """Of one account, as they are now."""
        return self._settings.get(account)

    def _subscribe(self) -> None:
        self._subscriptions = {
            name.encode(): Subscription(name, one.everything, own=bool(one.url))
            for name, one in self._settings.items()
            if one.url or name in self._named
        }

    async def start(self) -> None:
        """Follow events when an account has a receiver, or messages of late named one. Raises StoreError."""
        if any(one.url for one in self._settings.values()):
            await self._follow()
        elif await self._store.unfollow(OF_LATE):
            await self.prepare()
            await self._hear()
            self._following.set()

    async def renew(self) -> None:
        """After ``configure`` on a running gateway: networks are read again, waits are cut short. Raises StoreError."""
        former, self._poster = self._poster, None
        if former is not None:
            await former.close()  # posts under way fail and are tried again
        if not self._following.is_set():
            await self.start()
        else:
            await self._hear()
        self.deliveries.retry()

    async def named(self, accounts: Iterable[str]) -> None:
        """Messages of these accounts name receivers; to be called before they are stored. Raises StoreError."""
        today = int(time.time()) // 86400
        fresh = {name for name in accounts if self._named_on.get(name) != today}
        if fresh:
            await self._follow(fresh)
            self._named_on.update(dict.fromkeys(fresh, today))

    async def _follow(self, accounts: Iterable[str] = ()) -> None:
        names = set(accounts)
        await self.prepare()
        await self._store.follow(names)
        await self._hear()
        self._named |= names
        self._subscribe()
        self._following.set()

    async def _hear(self) -> None:
        """Tell the store whose events are wanted one and all, when that is news to it."""
        wanted_by = {name for name, one in self._settings.items() if one.everything}
        if wanted_by != self._hears_all:
            await self._store.hear_all(sorted(wanted_by))
            self._hears_all = wanted_by

    # -- life

    async def run(self) -> None:
        """Round and round, for ever."""
        away = False
        while True:
            await self._following.wait()
            try:
                more = await self._round()
                away = False
            except StoreError as error:
                if not away:
                    log.warning("webhooks wait for the store", error=str(error))
                away, more = True, False
            await asyncio.sleep(0 if more else ROUND)

    async def stop(self, patience: float = 2.0) -> None:
        """Let posts under way end, give the leases back."""
        await self.deliveries.stop(patience)
        if self._versions:
            with contextlib.suppress(StoreError):
                await self._store.leave(self._owner, list(self._versions))
        if self._poster is not None:
            await self._poster.close()

    async def _round(self) -> bool:
        """Read, look up, move; True when there is more."""
        await self._look()
        all_ends = not any(subscription.everything for subscription in self._subscriptions.values())
        tails = await self._store.read(self._owner, self._mine, ends=all_ends)
        await self._learn(tails)
        moves: list[_Move] = []
        for tail in tails:
            if tail.entries:
                await asyncio.sleep(0)  # a partition is some milliseconds of work
                moves += await self._to_move(tail)
        if moves:
            await sift(moves, self._move, self._unmoved)
        return any(tail.more for tail in tails)

    async def _to_move(self, tail: PartitionTail) -> list[_Move]:
        """What is to be put into queues of what was read in a partition. Raises StoreError.

        Entries that cannot be read hold up their partition alone, for three rounds; then they are left out.
        """
        try:
            queues = as_told(tail.entries, self._subscriptions, self._store.reveal, self._spoilt)
            return [(tail, self._chunks(await self._sought(tail) if queues is None else queues))]
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is odd about it, the other partitions go on
            self._supervision.failed("webhooks", error)
            if self._tries.add((tail.partition, tail.upto)) < TRIES:
                return []
            self._supervision.set_aside("events", f"partition {tail.partition}, up to {tail.upto!r}", error)
            return [(tail, [])]

    async def _move(self, moves: Sequence[_Move]) -> None:
        for (tail, put), moved in zip(moves, await self._store.move(self._owner, moves), strict=True):
            if moved is None:
                self._lose(tail.partition)
                continue
            for chunk, state in zip(put, moved, strict=True):
                self.deliveries.count("events", chunk.events)
                self.deliveries.fresh(tail.partition, chunk, state)

    async def _unmoved(self, move: _Move, error: Exception) -> None:
        """The events of one partition cannot be moved now; those of the others are."""
        self._supervision.failed("webhooks", error)

    def _spoilt(self, event: bytes, error: Exception) -> None:
        self._supervision.set_aside("event", f"{event[:16].hex()}.{int.from_bytes(event[16:20], 'big')}", error)

    async def _sought(self, tail: PartitionTail) -> dict[QueueAddress, list[str]]:
        """The events of each queue, when the messages concerned have to be looked up."""
        told = wanted(tail.entries, self._subscriptions)
        ids = {one.id for one in told}
        return addressed(told, await self._store.summaries(list(ids)) if ids else {}, self._spoilt)

    def _chunks(self, events: Mapping[QueueAddress, Sequence[str]]) -> list[EventChunk]:
        out = []
        for address, some in events.items():
            queue = self._store.queue(address)
            settings = self._settings.get(address.account)
            for count, plain in chunks(some, settings.batch if settings else 100):
                out.append(EventChunk(queue, address, secrets.token_bytes(8), count, plain))
        return out

    # -- whose partitions

    async def _look(self) -> None:
        """Share the partitions among the workers that are alive."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        seen = await self._owners.owners()
        youngest = max((one.beat for one in seen), default=0)
        alive = {one.owner.name for one in seen if one.beat > youngest - DEAD_AFTER * 1000} | {self._owner.name}
        names = sorted(alive)
        place = names.index(self._owner.name)
        mine = tuple(range(place, self._store.partitions, len(names)))
        given = set(self._versions) - set(mine)
        self._mine = mine
        for partition in given:
            self._lose(partition)
        if given:
            await self._store.leave(self._owner, given)

    async def _learn(self, tails: Sequence[PartitionTail]) -> None:
        """Queues that were there before us, or that somebody else has changed."""
        changed = []
        for tail in tails:
            if not tail.held:
                self._lose(tail.partition)
            elif tail.held == 2 or self._versions.get(tail.partition) != tail.version:
                changed.append(tail)
        if not changed:
            return
        accounts, queues = await self._store.queues([tail.partition for tail in changed])
        if accounts - self._named:
            self._named |= accounts
            self._subscribe()
        for queue in queues:
            if queue.waiting:
                self.deliveries.work(queue.partition, queue.address)
        self._versions.update({tail.partition: tail.version for tail in changed})

    def _lose(self, partition: int) -> None:
        if self._versions.pop(partition, None) is not None:
            self.deliveries.lose(partition)
