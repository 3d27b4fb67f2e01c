"""Webhooks in the store: the events still to be moved, and a queue for every endpoint.

Per partition, one worker holds the lease, reads the event stream behind the last entry moved, and moves the events that
endpoints want into their queues. The same function records how far it got, so an event is moved once. A queue belongs
to an account and a URL. Its chunks are sealed JSON; the first of them form the batch that is being posted, frozen until
it is taken or given up. What is given up goes to the queue's dead letters.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gateway.model import EnvelopeHeader
from gateway.store.errors import StoreRefused
from gateway.store.ids import partition_of
from gateway.store.layout import HEAD, RecordHead, upgraded
from gateway.store.records import cut, read_parts

if TYPE_CHECKING:
    from gateway.store.crypto import Vault
    from gateway.store.keys import Hasher
    from gateway.store.owner import LeaseOwner
    from gateway.store.redis.connection import StoreConnection

READ = 200
"""Most entries of a partition's stream in one read."""

READ_OCTETS = 32 * 1024
"""Octets of events after which a read ends, some 600 events."""

MAX_DEAD = 100_000
"""Most events in the dead letters of a queue; beyond, the oldest are dropped."""

MAX_BATCH = 500
"""Most events in one batch."""


class QueueAddress(NamedTuple):
    """Whose queue: an account, and the URL its message named; "" = the account's own callback_url."""

    account: str
    url: str


class StreamEntry(NamedTuple):
    """One entry of an event stream, still packed (see ``layout.EVENT`` and ``layout.SUMMARY``)."""

    events: bytes
    instant: int  # ms UTC
    summaries: bytes | None  # of the events' messages; None: written by a version that had none


class LeaseState(IntEnum):
    """The lease on a partition's events, for the worker that read."""

    LOST = 0  # another worker has it, or nothing is followed
    KEPT = 1
    NEW = 2


class PartitionTail(NamedTuple):
    """The result of one read of a partition."""

    partition: int
    lease: LeaseState
    version: int = 0  # changes when another worker, or a replay, changes queues or accounts
    moved_to: bytes = b""  # the last entry moved
    more: bool = False
    read_to: bytes = b""  # the last entry read
    entries: Sequence[StreamEntry] = ()


class EventChunk(NamedTuple):
    """Events for one queue: JSON objects with commas between them."""

    queue: bytes
    address: QueueAddress
    name: bytes  # 8 octets
    events: int
    plain: bytes


class MovedChunk(NamedTuple):
    """Whether a moved chunk is the batch to post now, and how many events wait in its queue."""

    is_batch: bool
    waiting: int


class FrozenBatch(NamedTuple):
    """The frozen batch of a queue."""

    waiting: int  # events in the queue, these included
    first: bytes  # name of its first chunk: identifies the batch
    events: int
    since: int  # when its oldest chunk was queued, ms UTC
    plain: bytes  # JSON objects with commas between them


class BatchOutcome(IntEnum):
    """What became of a batch."""

    UNKNOWN = 0
    TAKEN = 1  # the endpoint answered 2xx
    GIVEN_UP = 2


class NextBatchRequest(NamedTuple):
    """The outcome of the batch that begins with the chunk ``first``, and a request for the next one."""

    partition: int
    queue: bytes
    limit: int  # most events of the next batch
    outcome: BatchOutcome = BatchOutcome.UNKNOWN
    first: bytes = b""
    cutoff: int = 0  # when given up: chunks queued up to this instant (ms UTC) go with it


class QueueInfo(NamedTuple):
    """The counts of one queue."""

    partition: int
    queue: bytes
    address: QueueAddress
    waiting: int
    since: int  # when the oldest was queued, ms UTC; 0: nothing waits
    dead: int
    dropped: int  # dead letters dropped for lack of room


class DeadLetters(NamedTuple):
    """One chunk of events that were given up."""

    events: int
    since: int  # ms UTC
    plain: bytes


class MessageSummary(NamedTuple):
    """What an event says of its message: the parts of a record that do not change."""

    header: EnvelopeHeader
    segments: int
    carrier_id: str
    done_at: int = 0  # the latest of its carrier's dates (ms UTC); 0: none given


EMPTY_HEADER = EnvelopeHeader("", "", "", 0, "")
"""For a message whose record is gone, or is sealed with a key that is."""

_decode_header = msgspec.msgpack.Decoder(EnvelopeHeader).decode


def _summary(raw: bytes, vault: Vault) -> MessageSummary:
    raw = upgraded(raw)
    head = RecordHead._make(HEAD.unpack_from(raw))
    sections = cut(head, raw)
    carrier_id, done_at = "", 0
    if parts := read_parts(sections.parts):
        carrier_id, done_at = parts[0].carrier_id.decode("latin-1"), max([part.done_at for part in parts])
    return MessageSummary(_decode_header(vault.open(sections.envelope)), head.segments, carrier_id, done_at)


class WebhookQueues:
    """Event streams, queues and dead letters. Every method may raise StoreError, and be repeated after it."""

    def __init__(self, link: StoreConnection, hasher: Hasher, vault: Vault, *, partitions: int, keep: int) -> None:
        """``keep``: how many moved entries stay in a partition's event stream."""
        self.partitions = partitions
        self._link = link
        self._hasher = hasher
        self._vault = vault
        self._keep = keep

    def queue_name(self, address: QueueAddress) -> bytes:
        """Return the name of an address's queue: a keyed hash that reveals neither account nor URL."""
        return self._hasher.scope(address.account, "webhook", address.url)

    async def follow(self, accounts: Iterable[str] = ()) -> None:
        """Keep events from now on until they are moved. ``accounts``: those whose messages name URLs."""
        names = tuple(accounts)
        await self._link.calls([(partition, "webhooks_follow", names) for partition in range(self.partitions)])

    async def want_all(self, accounts: Iterable[str]) -> None:
        """Set the accounts that want every move of their messages: their events carry summaries from now on."""
        names = tuple(accounts)
        await self._link.calls([(partition, "webhooks_want_all", names) for partition in range(self.partitions)])

    async def unfollow(self, recent: int) -> bool:
        """Stop following events, as no account has a callback_url. True: they are still followed.

        That is so while a queue holds something, or a message named a URL in the last ``recent`` seconds.
        """
        calls = [(partition, "webhooks_unfollow", (recent * 1000,)) for partition in range(self.partitions)]
        return any(await self._link.calls(calls))

    async def read(
        self, owner: LeaseOwner, partitions: Sequence[int], *, finals_only: bool = False
    ) -> list[PartitionTail]:
        """Take or renew the lease on these partitions, and read what follows the last entry moved.

        ``finals_only``: skip entries without a final event.
        """
        args = (owner.name, 1, READ, READ_OCTETS, int(finals_only))
        calls = [(partition, "webhooks_read", args) for partition in partitions]
        replies = await self._link.calls(calls)
        return [_tail(partition, reply) for partition, reply in zip(partitions, replies, strict=True)]

    async def release(self, owner: LeaseOwner, partitions: Iterable[int]) -> None:
        """Give leases back."""
        await self._link.calls([(partition, "webhooks_read", (owner.name, 0)) for partition in partitions])

    def open_header(self, sealed: bytes) -> EnvelopeHeader:
        """Decrypt the header of an envelope. An empty one when its key is gone: that must not stop other events."""
        try:
            return _decode_header(self._vault.open(sealed))
        except StoreRefused:
            return EMPTY_HEADER

    async def summaries(self, ids: Sequence[bytes]) -> dict[bytes, MessageSummary]:
        """Look up the summaries of these messages; those whose record or key is gone are left out."""
        by_partition: dict[int, list[bytes]] = {}
        for one in ids:
            by_partition.setdefault(partition_of(one), []).append(one)
        replies = await self._link.calls([(partition, "find", some) for partition, some in by_partition.items()])
        found: dict[bytes, MessageSummary] = {}
        for some, reply in zip(by_partition.values(), replies, strict=True):
            await asyncio.sleep(0)  # a partition is some milliseconds of work
            for one, raw in zip(some, reply, strict=True):
                if raw:
                    try:
                        found[one] = _summary(raw, self._vault)
                    except StoreRefused:  # its key is gone: that must not stop the events of all others
                        continue
        return found

    async def move(
        self, owner: LeaseOwner, moves: Sequence[tuple[PartitionTail, Sequence[EventChunk]]]
    ) -> list[list[MovedChunk] | None]:
        """Put chunks into their queues, and record what was read of each partition as moved.

        None: the lease was lost meanwhile and nothing was done.
        """
        seal = self._vault.seal
        calls = []
        for tail, chunks in moves:
            args: list[Any] = [owner.name, tail.moved_to, tail.read_to, self._keep]
            for chunk in chunks:
                address = seal("\0".join(chunk.address).encode())
                args += (chunk.queue, address, chunk.name, chunk.events, seal(_compressed(chunk.plain)))
            calls.append((tail.partition, "webhooks_move", args))
        return [_moved(reply) for reply in await self._link.calls(calls)]

    async def next_batches(self, requests: Sequence[NextBatchRequest]) -> list[FrozenBatch | None]:
        """Return the batch of each queue to post now, frozen until it has an outcome; None: nothing waits.

        While the outcome is unknown it is the same batch again; else the first chunks, up to ``limit`` events (or one
        chunk). A batch that is given up goes to the dead letters, with all that was queued up to ``cutoff``.
        """
        calls = [
            (
                one.partition,
                "webhooks_next_batch",
                (one.queue, int(one.outcome), one.first, min(one.limit, MAX_BATCH), one.cutoff, MAX_DEAD),
            )
            for one in requests
        ]
        return [self._batch(reply) for reply in await self._link.calls(calls)]

    def _batch(self, reply: Sequence[Any]) -> FrozenBatch | None:
        if not reply:
            return None
        waiting, first, events, since, *sealed = reply
        return FrozenBatch(waiting, first, events, since, b",".join([self._plain(one) for one in sealed]))

    def _plain(self, sealed: bytes) -> bytes:
        packed = self._vault.open(sealed)
        return packed if packed[:1] == b"{" else zlib.decompress(packed)  # former versions did not compress

    async def queues(self, partitions: Iterable[int] | None = None) -> tuple[set[str], list[QueueInfo]]:
        """Return the accounts whose messages named URLs, and every queue that is not empty."""
        chosen = range(self.partitions) if partitions is None else tuple(partitions)
        accounts: set[str] = set()
        queues = []
        replies = await self._link.calls([(partition, "webhooks_queues", ()) for partition in chosen])
        for partition, (names, *rest) in zip(chosen, replies, strict=True):
            accounts.update(name.decode() for name in names)
            for at in range(0, len(rest), 6):
                queue, address, *counts = rest[at : at + 6]
                account, _, url = self._vault.open(address).decode().partition("\0")
                queues.append(QueueInfo(partition, queue, QueueAddress(account, url), *counts))
        return accounts, queues

    async def dead_letters(self, partition: int, queue: bytes, skip: int = 0, most: int = 10) -> list[DeadLetters]:
        """Return dead letters of a queue, oldest first."""
        reply = await self._link.call(partition, "webhooks_dead_letters", queue, "list", skip, most)
        return [
            DeadLetters(events, since, self._plain(sealed))
            for events, since, sealed in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def replay(self, partition: int, queue: bytes) -> int:
        """Append the dead letters of a queue to its tail, as new. Return how many events."""
        return await self._empty_dead_letters(partition, queue, "replay")

    async def drop(self, partition: int, queue: bytes) -> int:
        """Delete the dead letters of a queue. Return how many events."""
        return await self._empty_dead_letters(partition, queue, "drop")

    async def _empty_dead_letters(self, partition: int, queue: bytes, verb: str) -> int:
        total, left = 0, 1
        while left:
            done, left = await self._link.call(partition, "webhooks_dead_letters", queue, verb, 0, 500)
            total += done
        return total


def _tail(partition: int, reply: Sequence[Any]) -> PartitionTail:
    if not reply[0]:
        return PartitionTail(partition, LeaseState.LOST)
    lease, version, moved_to, more, read_to, *rest = reply
    entries = [StreamEntry(*rest[at : at + 3]) for at in range(0, len(rest), 3)]
    return PartitionTail(
        partition=partition,
        lease=LeaseState(lease),
        version=version,
        moved_to=moved_to,
        more=more == 1,
        read_to=read_to,
        entries=entries,
    )


def _compressed(plain: bytes) -> bytes:
    """Events of one kind are alike: they shrink to a seventh for a microsecond each, which copying them to the store
    and its disk would cost as well."""
    return zlib.compress(plain, 1)


def _moved(reply: Sequence[int]) -> list[MovedChunk] | None:
    if not reply[0]:
        return None
    return [MovedChunk(reply[at] == 1, reply[at + 1]) for at in range(1, len(reply), 2)]
