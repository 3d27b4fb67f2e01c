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

from gateway.config.addresses import Guard
from gateway.pipeline.events import Wish, addressed, as_told, pieces, wanted
from gateway.pipeline.outbox import Outbox
from gateway.pipeline.parts import TRIES, Parts, Tries, sift
from gateway.pipeline.post import Poster
from gateway.pipeline.receiver import Sender, Settings
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

_Move = tuple[Tail, Sequence[Piece]]

log = structlog.get_logger(__name__)


def poster(named: Iterable[str], agent: str) -> Sender:
    """What posts to public addresses, and to those in the networks ``named``."""
    return Poster(Guard(named), agent=agent)


class HookStore(Protocol):
    """What is needed of the store (see ``gateway.store.hooks.Hooks``)."""

    partitions: int

    def queue(self, address: Address) -> bytes: ...
    async def follow(self, accounts: Iterable[str] = ()) -> None: ...
    async def hear_all(self, accounts: Iterable[str]) -> None: ...
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


class Webhooks:
    """``start`` before messages are accepted, ``run`` until it is cancelled, then ``stop``."""

    def __init__(
        self,
        store: HookStore,
        owners: Owners,
        owner: Owner,
        poster: Callable[[], Sender],
        *,
        parts: Parts | None = None,
    ) -> None:
        self._parts = parts or Parts()
        self._tries = Tries()
        self._make_poster = poster
        self._poster: Sender | None = None
        self.outbox = Outbox(store, self)
        self.counts = self.outbox.counts
        self._store = store
        self._owners = owners
        self._owner = owner
        self._settings: dict[str, Settings] = {}
        self._named: set[str] = set()  # accounts whose messages name receivers
        self._named_on: dict[str, int] = {}  # the day on which the store was last told so
        self._wishes: dict[bytes, Wish] = {}
        self._following = asyncio.Event()
        self._hears_all: set[str] | None = None  # as the store was told
        self._mine: tuple[int, ...] = tuple(range(store.partitions))
        self._looked = float("-inf")
        self._versions: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Webhooks {self.outbox!r}, {dict(self.counts)}>"

    @property
    def poster(self) -> Sender:
        """Made when it is first needed (see ``prepare``)."""
        if self._poster is None:
            self._poster = self._make_poster()
        return self._poster

    async def prepare(self) -> None:
        """Make what posts beside the loop: reading the certificates that are trusted takes a while."""
        if self._poster is None:
            self._poster = await asyncio.to_thread(self._make_poster)

    # -- settings

    def configure(self, accounts: Iterable[Settings], *, give_up_after: int = 86400) -> None:
        """Take over the accounts' settings, and how many seconds a receiver that fails is tried."""
        self.outbox.give_up_after = give_up_after
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
        self.outbox.retry()

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
        self._wish()
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
        await self.outbox.stop(patience)
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
        moves: list[_Move] = []
        for tail in tails:
            if tail.entries:
                await asyncio.sleep(0)  # a partition is some milliseconds of work
                moves += await self._to_move(tail)
        if moves:
            await sift(moves, self._move, self._unmoved)
        return any(tail.more for tail in tails)

    async def _to_move(self, tail: Tail) -> list[_Move]:
        """What is to be put into queues of what was read in a partition. Raises StoreError.

        Entries that cannot be read hold up their partition alone, for three rounds; then they are left out.
        """
        try:
            queues = as_told(tail.entries, self._wishes, self._store.reveal, self._spoilt)
            return [(tail, self._pieces(await self._sought(tail) if queues is None else queues))]
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is odd about it, the other partitions go on
            self._parts.failed("webhooks", error)
            if self._tries.add((tail.partition, tail.upto)) < TRIES:
                return []
            self._parts.set_aside("events", f"partition {tail.partition}, up to {tail.upto!r}", error)
            return [(tail, [])]

    async def _move(self, moves: Sequence[_Move]) -> None:
        for (tail, put), moved in zip(moves, await self._store.move(self._owner, moves), strict=True):
            if moved is None:
                self._lose(tail.partition)
                continue
            for piece, state in zip(put, moved, strict=True):
                self.outbox.count("events", piece.events)
                self.outbox.fresh(tail.partition, piece, state)

    async def _unmoved(self, move: _Move, error: Exception) -> None:
        """The events of one partition cannot be moved now; those of the others are."""
        self._parts.failed("webhooks", error)

    def _spoilt(self, event: bytes, error: Exception) -> None:
        self._parts.set_aside("event", f"{event[:16].hex()}.{int.from_bytes(event[16:20], 'big')}", error)

    async def _sought(self, tail: Tail) -> dict[Address, list[str]]:
        """The events of each queue, when the messages concerned have to be looked up."""
        told = wanted(tail.entries, self._wishes)
        ids = {one.id for one in told}
        return addressed(told, await self._store.sights(list(ids)) if ids else {}, self._spoilt)

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
                self.outbox.work(queue.partition, queue.address)
        self._versions.update({tail.partition: tail.version for tail in changed})

    def _lose(self, partition: int) -> None:
        if self._versions.pop(partition, None) is not None:
            self.outbox.lose(partition)
