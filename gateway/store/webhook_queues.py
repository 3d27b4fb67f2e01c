"""Webhooks in the store: which events are still to be moved, and the queue of every receiver.

Per partition: one worker holds the lease, reads the event stream behind the last entry moved, and moves what receivers
want into their queues; the same function remembers how far it is, so an event is moved once. A queue belongs to an
account and an address. Its pieces are sealed JSON; the first of them form the batch that is being posted, frozen until
it was taken or given up. What was given up lies in the queue's dead letters.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import msgspec

from gateway.model import EnvelopeHeader
from gateway.store.crypto import Vault
from gateway.store.errors import StoreRefused
from gateway.store.ids import partition_of
from gateway.store.keys import Hasher
from gateway.store.layout import HEAD, HEAD_FIELDS, upgraded
from gateway.store.owner import LeaseOwner
from gateway.store.records import read_parts

READ = 200
"""Most entries of a partition's stream in one read."""

READ_OCTETS = 32 * 1024
"""… and about so many octets of events, some 600."""

MOST_DEAD = 100_000
"""Most events in the dead letters of a queue; then the oldest go."""


class QueueConnection(Protocol):
    """What is needed of a connection (see ``gateway.store.redis.connection``)."""

    async def call(self, partition: int, function: str, *args: Any) -> Any: ...
    async def calls(self, requests: Sequence[tuple[int, str, Sequence[Any]]]) -> list[Any]: ...


class QueueAddress(NamedTuple):
    """Whose queue: an account, and the URL its message named; "" = the account's own."""

    account: str
    url: str


class StreamEntry(NamedTuple):
    """One entry of an event stream, not yet taken apart (see ``layout.EVENT`` and ``layout.TOLD``)."""

    events: bytes
    instant: int
    told: bytes | None  # None: by a version that told nothing


class PartitionTail(NamedTuple):
    """What one read of a partition gave."""

    partition: int
    held: int  # 0: another worker has the lease, or events are not followed; 1: still ours; 2: ours from now on
    version: int = 0  # changes when queues or accounts were changed by somebody else
    last: bytes = b""  # entry moved last
    more: bool = False
    upto: bytes = b""  # entry looked at last
    entries: Sequence[StreamEntry] = ()


class EventChunk(NamedTuple):
    """Events for one queue: JSON objects with commas between them."""

    queue: bytes
    address: QueueAddress
    name: bytes  # 8 octets
    events: int
    plain: bytes


class MovedChunk(NamedTuple):
    """What became of one piece: whether it is the batch to be posted now, and how many events wait in its queue."""

    is_batch: bool
    waiting: int


class FrozenBatch(NamedTuple):
    """The frozen batch of a queue."""

    waiting: int  # events in the queue, these included
    first: bytes  # name of its first piece: stands for the batch
    events: int
    since: int  # instant its oldest piece was queued
    plain: bytes  # JSON objects with commas between them


class BatchOutcome(IntEnum):
    """What became of a batch."""

    UNKNOWN = 0
    TAKEN = 1  # its receiver has it
    GIVEN_UP = 2


class NextBatchRequest(NamedTuple):
    """What became of the batch of a queue that begins with the piece ``first``; and the next one, please."""

    partition: int
    queue: bytes
    limit: int  # most events of the next batch
    became: BatchOutcome = BatchOutcome.UNKNOWN
    first: bytes = b""
    until: int = 0  # ms UTC


class QueueInfo(NamedTuple):
    """One queue at a glance."""

    partition: int
    queue: bytes
    address: QueueAddress
    waiting: int
    since: int  # 0 when nothing waits
    dead: int
    dropped: int


class DeadLetters(NamedTuple):
    """Dead letters: events that were given up."""

    events: int
    since: int
    plain: bytes


class MessageSummary(NamedTuple):
    """What an event tells of its message: the parts of a record that do not change."""

    header: EnvelopeHeader
    segments: int
    carrier_id: str
    done_at: int = 0  # the latest of its carrier's dates (ms UTC); 0: it has named none


UNSEEN = EnvelopeHeader("", "", "", 0, "")
"""Of a message whose record is gone, or is sealed with a key that is."""

_PLACES = {name: place for place, (name, _) in enumerate(HEAD_FIELDS)}
_SEGMENTS = _PLACES["segments"]
_LENGTHS = slice(_PLACES["account_len"], _PLACES["trail_len"] + 1)
_open_header = msgspec.msgpack.Decoder(EnvelopeHeader).decode


def _summary(raw: bytes, vault: Vault) -> MessageSummary:
    raw = upgraded(raw)
    head = HEAD.unpack_from(raw)
    account, route, envelope, permission, content, carrier, parts, *_ = head[_LENGTHS]
    at = HEAD.size + 16 + account + route
    header = _open_header(vault.open(raw[at : at + envelope]))
    carrier_id, done_at = "", 0
    if parts:
        at += envelope + permission + content + carrier
        told = read_parts(raw[at : at + parts])
        carrier_id, done_at = told[0].carrier_id.decode("latin-1"), max([part.done_at for part in told])
    return MessageSummary(header, head[_SEGMENTS], carrier_id, done_at)


class WebhookQueues:
    """Every method may raise StoreError; every call may be repeated after it."""

    def __init__(self, link: QueueConnection, hasher: Hasher, vault: Vault, *, partitions: int, keep: int) -> None:
        """``keep``: entries of a partition's event stream that stay when they have been moved."""
        self.partitions = partitions
        self._link = link
        self._hasher = hasher
        self._vault = vault
        self._keep = keep

    def queue(self, address: QueueAddress) -> bytes:
        """The name of an address's queue: tells nothing about either."""
        return self._hasher.scope(address.account, "webhook", address.url)

    async def follow(self, accounts: Iterable[str] = ()) -> None:
        """From now on events are kept until they were moved. ``accounts``: whose messages name receivers."""
        names = tuple(accounts)
        await self._link.calls([(partition, "webhooks_follow", names) for partition in range(self.partitions)])

    async def hear_all(self, accounts: Iterable[str]) -> None:
        """These accounts, and no others, want to hear of every move: their events bring what is told of them."""
        names = tuple(accounts)
        await self._link.calls([(partition, "webhooks_want_all", names) for partition in range(self.partitions)])

    async def unfollow(self, of_late: int) -> bool:
        """Nobody is configured to hear of events; True when they are followed still, for what messages named.

        ``of_late``: seconds that a message which named a receiver may be alive.
        """
        calls = [(partition, "webhooks_unfollow", (of_late * 1000,)) for partition in range(self.partitions)]
        return any(await self._link.calls(calls))

    async def read(self, owner: LeaseOwner, partitions: Sequence[int], *, ends: bool = False) -> list[PartitionTail]:
        """Take or keep the lease on these partitions, and read on; ``ends``: entries in which nothing ends are left
        out."""
        asked = (owner.name, 1, READ, READ_OCTETS, int(ends))
        calls = [(partition, "webhooks_read", asked) for partition in partitions]
        replies = await self._link.calls(calls)
        return [_tail(partition, reply) for partition, reply in zip(partitions, replies, strict=True)]

    async def leave(self, owner: LeaseOwner, partitions: Iterable[int]) -> None:
        """Give leases back."""
        await self._link.calls([(partition, "webhooks_read", (owner.name, 0)) for partition in partitions])

    def reveal(self, sealed: bytes) -> EnvelopeHeader:
        """The cover of an envelope; an empty one when its key was taken away, for that must not keep back the others'
        events."""
        try:
            return _open_header(self._vault.open(sealed))
        except StoreRefused:
            return UNSEEN

    async def summaries(self, ids: Sequence[bytes]) -> dict[bytes, MessageSummary]:
        """What events tell of these messages; those whose record is gone are missing."""
        by_partition: dict[int, list[bytes]] = {}
        for one in ids:
            by_partition.setdefault(partition_of(one), []).append(one)
        replies = await self._link.calls([(partition, "find", some) for partition, some in by_partition.items()])
        seen: dict[bytes, MessageSummary] = {}
        for some, reply in zip(by_partition.values(), replies, strict=True):
            await asyncio.sleep(0)  # a partition is some milliseconds of work
            for one, raw in zip(some, reply, strict=True):
                if raw:
                    try:
                        seen[one] = _summary(raw, self._vault)
                    except StoreRefused:  # its key was taken away: that must not keep back the events of all others
                        continue
        return seen

    async def move(
        self, owner: LeaseOwner, moves: Sequence[tuple[PartitionTail, Sequence[EventChunk]]]
    ) -> list[list[MovedChunk] | None]:
        """Put pieces into their queues; what was read of each partition then counts as moved.

        None: the lease was lost meanwhile, nothing was done.
        """
        seal = self._vault.seal
        calls = []
        for tail, chunks in moves:
            args: list[Any] = [owner.name, tail.last, tail.upto, self._keep]
            for chunk in chunks:
                meta = seal("\0".join(chunk.address).encode())
                args += (chunk.queue, meta, chunk.name, chunk.events, seal(_packed(chunk.plain)))
            calls.append((tail.partition, "webhooks_move", args))
        return [_moved(reply) for reply in await self._link.calls(calls)]

    async def next(self, asks: Sequence[NextBatchRequest]) -> list[FrozenBatch | None]:
        """The batch of each queue that is to be posted now, frozen until something becomes of it; None: nothing waits.

        It is the same one again while nothing became of it; else the first pieces, up to ``limit`` events (or one
        piece). Given up: to the dead letters with it, and with all that was queued up to ``until``.
        """
        calls = [
            (
                ask.partition,
                "webhooks_next_batch",
                (ask.queue, int(ask.became), ask.first, min(ask.limit, 500), ask.until, MOST_DEAD),
            )
            for ask in asks
        ]
        return [self._batch(reply) for reply in await self._link.calls(calls)]

    def _batch(self, reply: Sequence[Any]) -> FrozenBatch | None:
        if not reply:
            return None
        waiting, first, events, since, *sealed = reply
        return FrozenBatch(waiting, first, events, since, b",".join([self._plain(one) for one in sealed]))

    def _plain(self, sealed: bytes) -> bytes:
        packed = self._vault.open(sealed)
        return packed if packed[:1] == b"{" else zlib.decompress(packed)  # former versions kept it plain

    async def queues(self, partitions: Iterable[int] | None = None) -> tuple[set[str], list[QueueInfo]]:
        """Accounts whose messages named receivers, and every queue that has something in it."""
        asked = range(self.partitions) if partitions is None else tuple(partitions)
        accounts: set[str] = set()
        queues = []
        replies = await self._link.calls([(partition, "webhooks_queues", ()) for partition in asked])
        for partition, (names, *rest) in zip(asked, replies, strict=True):
            accounts.update(name.decode() for name in names)
            for at in range(0, len(rest), 6):
                queue, meta, *counts = rest[at : at + 6]
                account, _, url = self._vault.open(meta).decode().partition("\0")
                queues.append(QueueInfo(partition, queue, QueueAddress(account, url), *counts))
        return accounts, queues

    async def dead_letters(self, partition: int, queue: bytes, skip: int = 0, most: int = 10) -> list[DeadLetters]:
        """Dead letters of a queue, oldest first."""
        reply = await self._link.call(partition, "webhooks_dead_letters", queue, "list", skip, most)
        return [
            DeadLetters(events, since, self._plain(sealed))
            for events, since, sealed in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def replay(self, partition: int, queue: bytes) -> int:
        """Dead letters go to the tail of their queue, as if they were new. Answers how many events."""
        return await self._empty(partition, queue, "replay")

    async def drop(self, partition: int, queue: bytes) -> int:
        """Dead letters are thrown away. Answers how many events."""
        return await self._empty(partition, queue, "drop")

    async def _empty(self, partition: int, queue: bytes, verb: str) -> int:
        total, left = 0, 1
        while left:
            done, left = await self._link.call(partition, "webhooks_dead_letters", queue, verb, 0, 500)
            total += done
        return total


def _tail(partition: int, reply: Sequence[Any]) -> PartitionTail:
    if not reply[0]:
        return PartitionTail(partition, 0)
    held, version, last, more, upto, *rest = reply
    entries = [StreamEntry(*rest[at : at + 3]) for at in range(0, len(rest), 3)]
    return PartitionTail(partition, held, version, last, more == 1, upto, entries)


def _packed(plain: bytes) -> bytes:
    """Events of one kind are alike: they shrink to a seventh for a microsecond each, which the copies on their way to
    the store and to its disk would cost as well."""
    return zlib.compress(plain, 1)


def _moved(reply: Sequence[int]) -> list[MovedChunk] | None:
    if not reply[0]:
        return None
    return [MovedChunk(reply[at] == 1, reply[at + 1]) for at in range(1, len(reply), 2)]
