"""Queues of webhooks on a real server: nothing is moved twice, nothing is acknowledged by mistake."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from gateway.model import Category, Content, Envelope, EnvelopeHeader, NewMessage, OnUnknown, Permission, Reason, State
from gateway.store.crypto import Vault
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher, tags
from gateway.store.layout import SUMMARY
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import Retention
from gateway.store.webhook_queues import (
    EMPTY_HEADER,
    BatchOutcome,
    EventChunk,
    LeaseState,
    MessageSummary,
    NextBatchRequest,
    PartitionTail,
    QueueAddress,
    WebhookQueues,
)

OURS, LATER, OTHERS = LeaseOwner("one", "a"), LeaseOwner("one", "b"), LeaseOwner("two", "a")
SHOP = QueueAddress("shop", "")
VAULT = Vault({1: bytes(32)}, 1)
HASHER = Hasher(bytes(32), 1)


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[StoreConnection]:
    built = await connect(store_url, tags=tags(1), library=build_library(), durability="everysec")
    yield built
    await built.everywhere("FLUSHALL")  # others share the server, with other partitions
    await built.close()


@pytest.fixture
def webhook_queues(link: StoreConnection) -> WebhookQueues:
    return WebhookQueues(link, HASHER, VAULT, partitions=1, keep=100)


async def happen(link: StoreConnection, count: int = 1, events: int = 20_000) -> list[bytes]:
    """Calls to the store that each raise one event."""
    store = MessageStore(link, HASHER, VAULT, partitions=1, retention=Retention(events=events))
    now = time.time_ns() // 1_000_000
    ids = new_ids(now, [0] * count)
    permission = Permission(0, 0, now + 3_600_000, 0, bytes(8), bytes(8))
    for one in ids:
        recipient = HASHER.recipient("46700000001")
        envelope = Envelope(recipient.digits, "s", "shop", 2, "b", "ref", "https://a.example/")
        message = NewMessage(
            one,
            recipient,
            State.REJECTED,
            Reason.CONSENT_MISSING,
            0,
            Category.MARKETING,
            OnUnknown.NEVER,
            "",
            1,
            3,
            permission,
            envelope,
            Content("x"),
        )
        await store.accept([message])
    return ids


def chunk(name: bytes = b"chunk--1", plain: bytes = b"{}", events: int = 1) -> EventChunk:
    return EventChunk(HASHER.scope("shop", "webhook", ""), SHOP, name, events, plain)


async def read(webhook_queues: WebhookQueues, owner: LeaseOwner = OURS) -> PartitionTail:
    (tail,) = await webhook_queues.read(owner, [0])
    return tail


async def put(webhook_queues: WebhookQueues, link: StoreConnection, *chunks: EventChunk) -> None:
    await happen(link)
    tail = await read(webhook_queues)
    assert await webhook_queues.move(OURS, [(tail, chunks)]) != [None]


def ask(
    outcome: BatchOutcome = BatchOutcome.UNKNOWN, first: bytes = b"", limit: int = 100, cutoff: int = 0
) -> NextBatchRequest:
    return NextBatchRequest(0, HASHER.scope("shop", "webhook", ""), limit, outcome, first, cutoff)


async def test_events_are_kept_from_the_first_follow_on(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await happen(link)
    assert (await read(webhook_queues)).lease == 0
    await webhook_queues.follow()
    here = (await read(webhook_queues)).moved_to
    assert await read(webhook_queues) == PartitionTail(
        0, LeaseState.KEPT, 1, here, more=False, read_to=here, entries=[]
    )
    ids = await happen(link, 2)
    await webhook_queues.follow()  # again: goes on from where it is
    tail = await read(webhook_queues)
    assert (tail.lease, len(tail.entries), tail.more) == (1, 2, False)
    assert [entry.events[:16] for entry in tail.entries] == ids


async def test_what_is_read_is_moved_once(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await happen(link, 2)
    tail = await read(webhook_queues)
    assert await webhook_queues.move(OURS, [(tail, [chunk()])]) == [[(True, 1)]]
    assert await webhook_queues.move(OURS, [(tail, [chunk()])]) == [None]
    assert (await read(webhook_queues)).entries == []
    await happen(link)
    assert await webhook_queues.move(OURS, [(await read(webhook_queues), [chunk(b"chunk--2", events=4)])]) == [
        [(False, 5)]
    ]


async def test_the_lease_keeps_others_away(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await happen(link)
    tail = await read(webhook_queues)
    assert (await read(webhook_queues, OTHERS)).lease == 0
    assert (await read(webhook_queues, LATER)).lease == 2  # the same node, started again
    assert await webhook_queues.move(OURS, [(tail, [chunk()])]) == [None]
    await webhook_queues.release(OURS, [0])  # not ours to give
    assert (await read(webhook_queues, OTHERS)).lease == 0
    await webhook_queues.release(LATER, [0])
    assert (await read(webhook_queues, OTHERS)).lease == 2


async def test_a_batch_is_frozen_until_it_has_an_outcome(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await put(webhook_queues, link, chunk(b"chunk--1", b"1"))
    await put(
        webhook_queues, link, chunk(b"chunk--2", b"2", 2), chunk(b"chunk--3", b"3", 3), chunk(b"chunk--4", b"4", 4)
    )
    (batch,) = await webhook_queues.next_batches([ask()])
    assert batch is not None
    assert (batch.waiting, batch.first, batch.events, batch.plain) == (10, b"chunk--1", 1, b"1")
    assert await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, b"chunk--9")]) == [batch]  # an unknown batch
    (second,) = await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, batch.first, 5)])
    assert second is not None
    assert (second.waiting, second.events, second.plain) == (9, 5, b"2,3")
    assert await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, batch.first)]) == [
        second
    ]  # said twice, done once
    (third,) = await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, second.first)])
    assert third is not None
    assert (third.waiting, third.plain) == (4, b"4")
    assert await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, third.first)]) == [None]
    assert await webhook_queues.next_batches([ask(BatchOutcome.TAKEN, third.first)]) == [None]
    assert await webhook_queues.queues() == (set(), [])


async def test_dead_letters(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    for number in range(3):
        await put(webhook_queues, link, chunk(b"chunk--%d" % number, b"%d" % number))
    (second,) = await webhook_queues.next_batches([ask(BatchOutcome.GIVEN_UP, b"chunk--0")])
    assert second is not None
    assert second.plain == b"1,2"
    assert await webhook_queues.next_batches([ask(BatchOutcome.GIVEN_UP, second.first)]) == [None]
    (queue,) = (await webhook_queues.queues())[1]
    assert (queue.address, queue.waiting, queue.since, queue.dead) == (SHOP, 0, 0, 3)
    dead_letters = await webhook_queues.dead_letters(0, queue.queue, 1, 1)
    assert [(one.events, one.plain) for one in dead_letters] == [(1, b"1")]
    assert await webhook_queues.replay(0, queue.queue) == 3
    (again,) = await webhook_queues.next_batches([ask()])
    assert again is not None
    assert again.plain == b"0,1,2"
    assert await webhook_queues.next_batches([ask(BatchOutcome.GIVEN_UP, again.first)]) == [None]
    assert await webhook_queues.drop(0, queue.queue) == 3
    assert await webhook_queues.queues() == (set(), [])


async def test_new_events_wait_behind_replayed_ones(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await put(webhook_queues, link, chunk(b"chunk--0", b"0"))
    await webhook_queues.next_batches([ask(BatchOutcome.GIVEN_UP, b"chunk--0")])
    await webhook_queues.replay(0, ask().queue)
    await happen(link)
    assert await webhook_queues.move(OURS, [(await read(webhook_queues), [chunk(b"chunk--1", b"1")])]) == [[(False, 2)]]
    (batch,) = await webhook_queues.next_batches([ask()])
    assert batch is not None
    assert (batch.first, batch.events, batch.plain) == (b"chunk--0", 2, b"0,1")


async def test_giving_up_takes_chunks_as_old_as_the_cutoff_with_it(
    webhook_queues: WebhookQueues, link: StoreConnection
) -> None:
    await webhook_queues.follow()
    for number in range(3):
        await put(webhook_queues, link, chunk(b"chunk--%d" % number, b"%d" % number))
    far = time.time_ns() // 1_000_000 + 60_000
    assert await webhook_queues.next_batches([ask(BatchOutcome.GIVEN_UP, b"chunk--0", cutoff=far)]) == [None]
    (queue,) = (await webhook_queues.queues())[1]
    assert (queue.waiting, queue.dead) == (0, 3)


async def test_what_was_moved_is_trimmed_and_nothing_else(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    key = tags(1)[0] + b"e"
    await happen(link, 250, events=100)
    assert await link.command(0, "XLEN", key) == 250  # beyond the usual bound: not read yet
    tail = await read(webhook_queues)
    await happen(link, 20, events=100)
    await webhook_queues.move(OURS, [(tail, [])])
    assert len((await read(webhook_queues)).entries) == 250 + 20 - len(tail.entries)
    for _ in range(5):
        await happen(link, 100, events=100)
        await webhook_queues.move(OURS, [(await read(webhook_queues), [])])
    assert await link.command(0, "XLEN", key) <= 400  # one to two hundred that were moved, in nodes of a hundred


async def test_entries_without_a_final_event_are_skipped(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    tag = tags(1)[0]
    await link.command(0, "XADD", tag + b"e", "*", "d", "sent", "t", 1, "v", "")
    (tail,) = await webhook_queues.read(OURS, [0], finals_only=True)
    assert (tail.entries, tail.moved_to) == ([], tail.read_to)
    (one,) = await happen(link)
    await link.command(0, "XADD", tag + b"e", "*", "d", "sent", "t", 1, "v", "")
    (tail,) = await webhook_queues.read(OURS, [0], finals_only=True)
    ((events, _, summaries),) = tail.entries
    assert summaries is not None
    assert events[:16] == one
    where, segments, second, id_length, length = SUMMARY.unpack_from(summaries)
    assert (where, segments, second, id_length, length) == (0, 3, 0, 0, len(summaries) - SUMMARY.size)
    assert webhook_queues.open_header(summaries[SUMMARY.size :]).client_ref == "ref"
    assert len((await read(webhook_queues)).entries) == 2
    assert await webhook_queues.move(OURS, [(tail, [])]) == [[]]
    (tail,) = await webhook_queues.read(OURS, [0], finals_only=True)
    assert (tail.entries, tail.moved_to) == ([], tail.read_to)


async def test_entries_of_a_version_without_summaries(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await link.command(0, "XADD", tags(1)[0] + b"e", "*", "d", "packed", "t", 1)
    (tail,) = await webhook_queues.read(OURS, [0], finals_only=True)
    assert tail.entries == [(b"packed", 1, None)]


async def test_summaries_are_looked_up(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    (one,) = await happen(link)
    missing = new_ids(0, [0])
    summaries = await webhook_queues.summaries([one, *missing])
    assert list(summaries) == [one]
    header = EnvelopeHeader("46700000001", "s", "shop", 2, "b", "ref", "https://a.example/")
    assert summaries[one] == MessageSummary(header, 3, "")


async def test_a_record_whose_key_is_gone_does_not_stop_others(
    webhook_queues: WebhookQueues, link: StoreConnection
) -> None:
    (one,) = await happen(link)
    stranger = WebhookQueues(link, HASHER, Vault({2: bytes(32)}, 2), partitions=1, keep=100)
    assert await stranger.summaries([one]) == {}
    assert stranger.open_header(VAULT.seal(b"")) == EMPTY_HEADER


async def test_nothing_readable_lies_in_the_store(webhook_queues: WebhookQueues, link: StoreConnection) -> None:
    await webhook_queues.follow()
    await put(webhook_queues, link, chunk(plain=b'{"to":"+46700000001"}'))
    tag, queue = tags(1)[0], HASHER.scope("shop", "webhook", "")
    (sealed,) = await link.command(0, "LRANGE", tag + b"sq:" + queue, 0, -1)
    assert b"4670" not in sealed
    assert (await webhook_queues.next_batches([ask()]))[0].plain == b'{"to":"+46700000001"}'
    assert b"shop" not in await link.command(0, "HGET", tag + b"s:" + queue, "m")
