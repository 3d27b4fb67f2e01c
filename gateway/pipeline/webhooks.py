"""Webhooks: follows the event streams of this worker's partitions and keeps every receiver's queue moving.

While nobody has a receiver nothing runs and events are not kept for it. Else one round every tenth of a second reads
all partitions in one pipeline, looks up the messages concerned in a second and moves their events to queues in a third;
each queue that has something in it is one task (see ``receiver``), so a dead receiver delays nobody but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import structlog

from gateway.pipeline.addresses import Guard
from gateway.pipeline.events import Wish, addressed, ends, pieces, wanted
from gateway.pipeline.gatherer import Gatherer
from gateway.pipeline.receiver import Health, Receiver, Sender, Settings, now_ms
from gateway.store.errors import StoreError
from gateway.store.hooks import Address, Ask, Batch, Cover, Moved, Piece, Queue, Sight, Tail
from gateway.store.owner import Owner
from gateway.store.requests import OwnerSeen

ROUND = 0.15
"""Seconds between rounds: what happens meanwhile shares its posts."""

LOOK_EVERY = 5.0
"""Seconds between looks at which workers are alive, and so at whose partitions are whose."""

DEAD_AFTER = 10_000
OF_LATE = 35 * 86400
"""Seconds a message that names a receiver may live (it may be scheduled for next month)."""

MOST_ACTIVE = 2000
"""Queues of one account that are worked at once in this worker; more wait for their turn."""

MOST_POSTS = 64
"""Posts of one account that are under way at once in this worker."""

MOST_WAITING = 100_000
"""Events in one queue of a receiver that fails; beyond, the older half goes to the dead letters."""

_MOST_KNOWN = 10_000

log = structlog.get_logger(__name__)


def poster(named: Iterable[str], agent: str) -> Sender:
    """What posts to public addresses, and to those in the networks ``named``."""
    from gateway.pipeline.post import Poster  # noqa: PLC0415

    return Poster(Guard(named), agent=agent)


class HookStore(Protocol):
    """What is needed of the store (see ``gateway.store.hooks.Hooks``)."""

    partitions: int

    def queue(self, address: Address) -> bytes: ...
    async def follow(self, accounts: Iterable[str] = ()) -> None: ...
    async def unfollow(self, of_late: int) -> bool: ...
    async def read(self, owner: Owner, partitions: Sequence[int], *, ends: bool = False) -> list[Tail]: ...
    async def leave(self, owner: Owner, partitions: Iterable[int]) -> None: ...
    def reveal(self, sealed: bytes) -> Cover: ...
    async def sights(self, ids: Sequence[bytes]) -> dict[bytes, Sight]: ...
    async def move(self, owner: Owner, moves: Sequence[tuple[Tail, Sequence[Piece]]]) -> list[list[Moved] | None]: ...
    async def next(self, asks: Sequence[Ask]) -> list[Batch | None]: ...
    async def queues(self, partitions: Iterable[int] | None = None) -> tuple[set[str], list[Queue]]: ...


class Owners(Protocol):
    """Who else is there (see ``gateway.store.store.Store``)."""

    async def owners(self) -> list[OwnerSeen]: ...


class _Active(NamedTuple):
    receiver: Receiver
    task: asyncio.Task[None]


class Webhooks:
    """``start`` before messages are accepted, ``run`` until it is cancelled, then ``stop``."""

    def __init__(
        self,
        store: HookStore,
        owners: Owners,
        owner: Owner,
        poster: Callable[[], Sender],
        *,
        give_up_after: int = 86400,
    ) -> None:
        self._make_poster = poster
        self._poster: Sender | None = None
        self.give_up_after = 86400
        self.counts: Counter[str] = Counter()
        self._store = store
        self._owners = owners
        self._owner = owner
        self._settings: dict[str, Settings] = {}
        self._named: set[str] = set()  # accounts whose messages name receivers
        self._named_on: dict[str, int] = {}  # the day on which the store was last told so
        self._wishes: dict[bytes, Wish] = {}
        self._following = asyncio.Event()
        self._mine: tuple[int, ...] = tuple(range(store.partitions))
        self._looked = float("-inf")
        self._versions: dict[int, int] = {}
        self._active: dict[tuple[int, bytes], _Active] = {}
        self._busy: Counter[str] = Counter()
        self._turn: dict[str, dict[tuple[int, Address], None]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._health: OrderedDict[tuple[str, str], Health] = OrderedDict()
        self._asks: Gatherer[Ask, Batch | None] = Gatherer(store.next, gap=0.001, limit=64)

    def __repr__(self) -> str:
        return f"<Webhooks {len(self._active)} queues at work, {dict(self.counts)}>"

    @property
    def poster(self) -> Sender:
        """Made when it is first needed (see ``prepare``): an HTTP client takes 15 MB."""
        if self._poster is None:
            self._poster = self._make_poster()
        return self._poster

    async def prepare(self) -> None:
        """Import what posts beside the loop: it takes a third of a second, and messages go on meanwhile."""
        if self._poster is None:
            await asyncio.to_thread(importlib.import_module, "gateway.pipeline.post")

    # -- settings

    def configure(self, accounts: Iterable[Settings], *, give_up_after: int = 86400) -> None:
        """Take over the accounts' settings, and how many seconds a receiver that fails is tried."""
        self.give_up_after = give_up_after
        self._settings = {one.account: one for one in accounts}
        self._wish()

    def settings(self, account: str) -> Settings | None:
        """Of one account, as they are now."""
        return self._settings.get(account)

    def _wish(self) -> None:
        self._wishes = {
            name.encode(): Wish(name, one.everything, own=bool(one.url))
            for name, one in self._settings.items()
            if one.url or name in self._named
        }

    async def start(self) -> None:
        """Follow events when an account has a receiver, or messages of late named one. Raises StoreError."""
        if any(one.url for one in self._settings.values()):
            await self._follow()
        elif await self._store.unfollow(OF_LATE):
            await self.prepare()
            self._following.set()

    async def renew(self) -> None:
        """After ``configure`` on a running gateway: networks are read again, waits are cut short. Raises StoreError."""
        former, self._poster = self._poster, None
        if former is not None:
            await former.close()  # posts under way fail and are tried again
        if not self._following.is_set():
            await self.start()
        for active in self._active.values():
            active.receiver.retry()

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
        self._named |= names
        self._wish()
        self._following.set()

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
        tasks = [active.task for active in self._active.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._versions:
            with contextlib.suppress(StoreError):
                await self._store.leave(self._owner, list(self._versions))
        if self._poster is not None:
            await self._poster.close()

    async def _round(self) -> bool:
        """Read, look up, move; True when there is more."""
        await self._look()
        all_ends = not any(wish.everything for wish in self._wishes.values())
        tails = await self._store.read(self._owner, self._mine, ends=all_ends)
        await self._learn(tails)
        moves = []
        for tail in tails:
            if tail.entries:
                await asyncio.sleep(0)  # a partition is some milliseconds of work
                queues = ends(tail.entries, self._wishes, self._store.reveal)
                moves.append((tail, self._pieces(await self._sought(tail) if queues is None else queues)))
        if not moves:
            return any(tail.more for tail in tails)
        for (tail, put), moved in zip(moves, await self._store.move(self._owner, moves), strict=True):
            if moved is None:
                self._lose(tail.partition)
                continue
            for piece, state in zip(put, moved, strict=True):
                self.counts["events"] += piece.events
                self._fresh(tail.partition, piece, state)
        return any(tail.more for tail in tails)

    async def _sought(self, tail: Tail) -> dict[Address, list[str]]:
        """The events of each queue, when the messages concerned have to be looked up."""
        told = wanted(tail.entries, self._wishes)
        ids = {one.id for one in told}
        return addressed(told, await self._store.sights(list(ids)) if ids else {})

    def _pieces(self, events: Mapping[Address, Sequence[str]]) -> list[Piece]:
        out = []
        for address, some in events.items():
            queue = self._store.queue(address)
            settings = self._settings.get(address.account)
            for count, plain in pieces(some, settings.batch if settings else 100):
                out.append(Piece(queue, address, secrets.token_bytes(8), count, plain))
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
        alive = {one.owner.name for one in seen if one.beat > youngest - DEAD_AFTER} | {self._owner.name}
        names = sorted(alive)
        place = names.index(self._owner.name)
        mine = tuple(range(place, self._store.partitions, len(names)))
        given = set(self._versions) - set(mine)
        self._mine = mine
        for partition in given:
            self._lose(partition)
        if given:
            await self._store.leave(self._owner, given)

    async def _learn(self, tails: Sequence[Tail]) -> None:
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
            self._wish()
        for queue in queues:
            if queue.waiting:
                self._work(queue.partition, queue.address)
        self._versions.update({tail.partition: tail.version for tail in changed})

    def _lose(self, partition: int) -> None:
        """Another worker has it now; its queues are durable, so a post under way may be cut off."""
        if self._versions.pop(partition, None) is None:
            return
        for (where, _), active in list(self._active.items()):
            if where == partition:
                active.task.cancel()

    # -- queues

    def _fresh(self, partition: int, piece: Piece, moved: Moved) -> None:
        receiver = self._work(partition, piece.address)
        if receiver is None:
            return
        receiver.waiting = moved.waiting
        if moved.is_batch:
            receiver.give(Batch(moved.waiting, piece.name, piece.events, now_ms(), piece.plain))
        elif receiver.tries and moved.waiting > MOST_WAITING:
            receiver.crowd()

    def _work(self, partition: int, address: Address) -> Receiver | None:
        """The receiver of a queue, at work; None when it waits for its turn."""
        place = partition, self._store.queue(address)
        active = self._active.get(place)
        if active is not None and not active.task.done():
            return active.receiver
        if active is None and self._busy[address.account] >= MOST_ACTIVE:
            self._turn.setdefault(address.account, {})[partition, address] = None
            return None
        receiver = Receiver(self, place, address, self._healthy(address))
        if active is None:
            self._busy[address.account] += 1
        task = asyncio.get_running_loop().create_task(receiver.run(), name=f"webhooks of {address.account}")
        self._active[place] = _Active(receiver, task)
        task.add_done_callback(lambda done: self._ended(place, done))
        return receiver

    def _ended(self, place: tuple[int, bytes], task: asyncio.Task[None]) -> None:
        active = self._active.get(place)
        if active is None or active.task is not task:
            return  # somebody has begun it anew already
        del self._active[place]
        account = active.receiver.address.account
        self._busy[account] -= 1
        if not task.cancelled() and task.exception() is not None:
            log.error("a queue of webhooks failed", account=account, exc_info=task.exception())
        turn = self._turn.get(account)
        if turn and not task.cancelled():
            first = next(iter(turn))
            del turn[first]
            self._work(*first)

    def _healthy(self, address: Address) -> Health:
        """Shared by all queues of an account that lead to one server."""
        settings = self._settings.get(address.account)
        parts = urlsplit(address.url or (settings.url if settings else ""))
        key = address.account, f"{parts.scheme}://{parts.netloc}"
        health = self._health.get(key)
        if health is None:
            health = self._health[key] = Health()
            if len(self._health) > _MOST_KNOWN:
                self._health.popitem(last=False)
        return health

    # -- what receivers need, and what operators see

    async def next(self, ask: Ask) -> Batch | None:
        """What became of a batch, and the next one. Raises StoreError."""
        (batch,) = await self._asks.put([ask])
        return batch

    def slot(self, account: str) -> asyncio.Semaphore:
        """To be held during a post: an account whose receivers are slow keeps the sockets of no other."""
        slot = self._slots.get(account)
        if slot is None:
            slot = self._slots[account] = asyncio.Semaphore(MOST_POSTS)
        return slot

    def count(self, what: str, events: int = 1) -> None:
        """For the metrics."""
        self.counts[what] += events

    def failing(self) -> list[tuple[Address, Receiver]]:
        """Receivers of this worker that do not take what they are sent."""
        receivers = [active.receiver for active in self._active.values()]
        return [(receiver.address, receiver) for receiver in receivers if receiver.tries]
