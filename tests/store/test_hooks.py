"""Queues of webhooks by short stories, on a real server: nothing is moved twice, nothing is acknowledged by mistake."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from gateway.model import Category, Content, Envelope, NewMessage, OnUnknown, Permission, Reason, State
from gateway.store.connect import Link, connect
from gateway.store.hooks import UNSEEN, Address, Ask, Became, Cover, Hooks, Piece, Sight, Tail
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher, tags
from gateway.store.layout import TOLD
from gateway.store.library import build_library
from gateway.store.owner import Owner
from gateway.store.privacy import Vault
from gateway.store.requests import Retention
from gateway.store.store import Store

OURS, LATER, OTHERS = Owner("one", "a"), Owner("one", "b"), Owner("two", "a")
SHOP = Address("shop", "")
VAULT = Vault({1: bytes(32)}, 1)
HASHER = Hasher(bytes(32), 1)


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[Link]:
    built = await connect(store_url, tags=tags(1), library=build_library(), durability="everysec")
    yield built
    await built.everywhere("FLUSHALL")  # others share the server, with other partitions
    await built.close()


@pytest.fixture
def hooks(link: Link) -> Hooks:
    return Hooks(link, HASHER, VAULT, partitions=1, keep=100)


async def happen(link: Link, count: int = 1, events: int = 20_000) -> list[bytes]:
    """Calls to the store that each raise one event."""
    store = Store(link, HASHER, VAULT, partitions=1, retention=Retention(events=events))
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


def piece(name: bytes = b"piece--1", plain: bytes = b"{}", events: int = 1) -> Piece:
    return Piece(HASHER.scope("shop", "webhook", ""), SHOP, name, events, plain)


async def read(hooks: Hooks, owner: Owner = OURS) -> Tail:
    (tail,) = await hooks.read(owner, [0])
    return tail


async def put(hooks: Hooks, link: Link, *pieces: Piece) -> None:
    await happen(link)
    tail = await read(hooks)
    assert await hooks.move(OURS, [(tail, pieces)]) != [None]


def ask(became: Became = Became.UNKNOWN, first: bytes = b"", limit: int = 100, until: int = 0) -> Ask:
    return Ask(0, HASHER.scope("shop", "webhook", ""), limit, became, first, until)


async def test_events_are_followed_from_the_first_wish_on(hooks: Hooks, link: Link) -> None:
    await happen(link)
    assert (await read(hooks)).held == 0
    await hooks.follow()
    here = (await read(hooks)).last
    assert await read(hooks) == Tail(0, 1, 1, here, more=False, upto=here, entries=[])
    ids = await happen(link, 2)
    await hooks.follow()  # again: goes on from where it is
    tail = await read(hooks)
    assert (tail.held, len(tail.entries), tail.more) == (1, 2, False)
    assert [entry.events[:16] for entry in tail.entries] == ids


async def test_what_is_read_is_moved_once(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await happen(link, 2)
    tail = await read(hooks)
    assert await hooks.move(OURS, [(tail, [piece()])]) == [[(True, 1)]]
    assert await hooks.move(OURS, [(tail, [piece()])]) == [None]
    assert (await read(hooks)).entries == []
    await happen(link)
    assert await hooks.move(OURS, [(await read(hooks), [piece(b"piece--2", events=4)])]) == [[(False, 5)]]


async def test_the_lease_keeps_others_away(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await happen(link)
    tail = await read(hooks)
    assert (await read(hooks, OTHERS)).held == 0
    assert (await read(hooks, LATER)).held == 2  # the same node, started again
    assert await hooks.move(OURS, [(tail, [piece()])]) == [None]
    await hooks.leave(OURS, [0])  # not ours to give
    assert (await read(hooks, OTHERS)).held == 0
    await hooks.leave(LATER, [0])
    assert (await read(hooks, OTHERS)).held == 2


async def test_a_batch_is_frozen_until_something_becomes_of_it(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await put(hooks, link, piece(b"piece--1", b"1"))
    await put(hooks, link, piece(b"piece--2", b"2", 2), piece(b"piece--3", b"3", 3), piece(b"piece--4", b"4", 4))
    (batch,) = await hooks.next([ask()])
    assert batch is not None
    assert (batch.waiting, batch.first, batch.events, batch.plain) == (10, b"piece--1", 1, b"1")
    assert await hooks.next([ask(Became.TAKEN, b"piece--9")]) == [batch]  # a batch nobody knows
    (second,) = await hooks.next([ask(Became.TAKEN, batch.first, 5)])
    assert second is not None
    assert (second.waiting, second.events, second.plain) == (9, 5, b"2,3")
    assert await hooks.next([ask(Became.TAKEN, batch.first)]) == [second]  # said twice, done once
    (third,) = await hooks.next([ask(Became.TAKEN, second.first)])
    assert third is not None
    assert (third.waiting, third.plain) == (4, b"4")
    assert await hooks.next([ask(Became.TAKEN, third.first)]) == [None]
    assert await hooks.next([ask(Became.TAKEN, third.first)]) == [None]
    assert await hooks.queues() == (set(), [])


async def test_dead_letters(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    for number in range(3):
        await put(hooks, link, piece(b"piece--%d" % number, b"%d" % number))
    (second,) = await hooks.next([ask(Became.GIVEN_UP, b"piece--0")])
    assert second is not None
    assert second.plain == b"1,2"
    assert await hooks.next([ask(Became.GIVEN_UP, second.first)]) == [None]
    (queue,) = (await hooks.queues())[1]
    assert (queue.address, queue.waiting, queue.since, queue.dead) == (SHOP, 0, 0, 3)
    letters = await hooks.letters(0, queue.queue, 1, 1)
    assert [(one.events, one.plain) for one in letters] == [(1, b"1")]
    assert await hooks.replay(0, queue.queue) == 3
    (again,) = await hooks.next([ask()])
    assert again is not None
    assert again.plain == b"0,1,2"
    assert await hooks.next([ask(Became.GIVEN_UP, again.first)]) == [None]
    assert await hooks.drop(0, queue.queue) == 3
    assert await hooks.queues() == (set(), [])


async def test_what_comes_after_a_replay_waits_behind_it(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await put(hooks, link, piece(b"piece--0", b"0"))
    await hooks.next([ask(Became.GIVEN_UP, b"piece--0")])
    await hooks.replay(0, ask().queue)
    await happen(link)
    assert await hooks.move(OURS, [(await read(hooks), [piece(b"piece--1", b"1")])]) == [[(False, 2)]]
    (batch,) = await hooks.next([ask()])
    assert batch is not None
    assert (batch.first, batch.events, batch.plain) == (b"piece--0", 2, b"0,1")


async def test_giving_up_takes_what_is_as_old_with_it(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    for number in range(3):
        await put(hooks, link, piece(b"piece--%d" % number, b"%d" % number))
    far = time.time_ns() // 1_000_000 + 60_000
    assert await hooks.next([ask(Became.GIVEN_UP, b"piece--0", until=far)]) == [None]
    (queue,) = (await hooks.queues())[1]
    assert (queue.waiting, queue.dead) == (0, 3)


async def test_what_was_moved_is_trimmed_and_nothing_else(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    key = tags(1)[0] + b"e"
    await happen(link, 250, events=100)
    assert await link.command(0, "XLEN", key) == 250  # beyond the usual bound: nobody has read it yet
    tail = await read(hooks)
    await happen(link, 20, events=100)
    await hooks.move(OURS, [(tail, [])])
    assert len((await read(hooks)).entries) == 250 + 20 - len(tail.entries)
    for _ in range(5):
        await happen(link, 100, events=100)
        await hooks.move(OURS, [(await read(hooks), [])])
    assert await link.command(0, "XLEN", key) <= 400  # one to two hundred that were moved, in nodes of a hundred


async def test_entries_in_which_nothing_ends_are_stepped_over(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    tag = tags(1)[0]
    await link.command(0, "XADD", tag + b"e", "*", "d", "sent", "t", 1, "v", "")
    (tail,) = await hooks.read(OURS, [0], ends=True)
    assert (tail.entries, tail.last) == ([], tail.upto)
    (one,) = await happen(link)
    await link.command(0, "XADD", tag + b"e", "*", "d", "sent", "t", 1, "v", "")
    (tail,) = await hooks.read(OURS, [0], ends=True)
    ((events, _, told),) = tail.entries
    assert told is not None
    assert events[:16] == one
    where, segments, second, id_length, length = TOLD.unpack_from(told)
    assert (where, segments, second, id_length, length) == (0, 3, 0, 0, len(told) - TOLD.size)
    assert hooks.reveal(told[TOLD.size :]).client_ref == "ref"
    assert len((await read(hooks)).entries) == 2
    assert await hooks.move(OURS, [(tail, [])]) == [[]]
    (tail,) = await hooks.read(OURS, [0], ends=True)
    assert (tail.entries, tail.last) == ([], tail.upto)


async def test_entries_of_a_version_that_told_nothing(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await link.command(0, "XADD", tags(1)[0] + b"e", "*", "d", "packed", "t", 1)
    (tail,) = await hooks.read(OURS, [0], ends=True)
    assert tail.entries == [(b"packed", 1, None)]


async def test_what_an_event_tells_of_its_message(hooks: Hooks, link: Link) -> None:
    (one,) = await happen(link)
    missing = new_ids(0, [0])
    sights = await hooks.sights([one, *missing])
    assert list(sights) == [one]
    cover = Cover("46700000001", "s", "shop", 2, "b", "ref", "https://a.example/")
    assert sights[one] == Sight(cover, 3, "")


async def test_a_record_that_does_not_open_keeps_nobody_back(hooks: Hooks, link: Link) -> None:
    (one,) = await happen(link)
    stranger = Hooks(link, HASHER, Vault({2: bytes(32)}, 2), partitions=1, keep=100)
    assert await stranger.sights([one]) == {}
    assert stranger.reveal(VAULT.seal(b"")) == UNSEEN


async def test_nothing_readable_lies_in_the_store(hooks: Hooks, link: Link) -> None:
    await hooks.follow()
    await put(hooks, link, piece(plain=b'{"to":"+46700000001"}'))
    tag, queue = tags(1)[0], HASHER.scope("shop", "webhook", "")
    (sealed,) = await link.command(0, "LRANGE", tag + b"sq:" + queue, 0, -1)
    assert b"4670" not in sealed
    assert (await hooks.next([ask()]))[0].plain == b'{"to":"+46700000001"}'
    assert b"shop" not in await link.command(0, "HGET", tag + b"s:" + queue, "m")
