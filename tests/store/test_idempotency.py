"""Claims on a real server: who may run a request, and what its repeats get."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store import keys
from gateway.store.crypto import Vault
from gateway.store.idempotency import Claim, Claimed, ClaimStore, Settled, StoredResponse, item_id, item_reference
from gateway.store.ids import new_ids, partition_of, time_of
from gateway.store.library import KEY_CLOCK, build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import ClaimResult

PARTITIONS = 3
START = 1_800_000_000_000
HOUR = 3_600_000
HASHER = keys.Hasher(bytes(32), PARTITIONS)
VAULT = Vault({1: bytes(32)}, 1)
ONE, AGAIN, OTHER = LeaseOwner("a", "1"), LeaseOwner("a", "2"), LeaseOwner("b", "1")
BODY = b"b" * 16


class Place:
    """A store whose clock belongs to the test."""

    def __init__(self, link: StoreConnection) -> None:
        self.link = link
        self.store = MessageStore(link, HASHER, VAULT, partitions=PARTITIONS)
        self.name, self.partition = HASHER.claim("shop", "key")

    async def at(self, now: int) -> None:
        await self.link.commands([(p, ("SET", self.link.tags[p] + b"clock", now)) for p in range(PARTITIONS)])

    async def claim(self, owner: LeaseOwner, base: bytes, body: bytes = BODY) -> Claimed:
        return (await ClaimStore(self.link, VAULT, owner).claim([Claim(self.name, self.partition, body, base)]))[0]

    async def settle(self, base: bytes, answer: StoredResponse | None) -> None:
        await ClaimStore(self.link, VAULT, ONE).settle([Settled(self.name, self.partition, base, answer)])


@pytest.fixture
async def place(store_url: str) -> AsyncIterator[Place]:
    link = await connect(store_url, tags=keys.tags(PARTITIONS), library=build_library(KEY_CLOCK), durability="everysec")
    place = Place(link)
    await place.at(START)
    yield place
    await link.close()


def base(now: int = START) -> bytes:
    return new_ids(now, [0])[0]


async def test_one_runs_and_the_others_wait_as_long_as_it_lives(place: Place) -> None:
    first, second = base(), base()
    await place.store.beat(ONE)
    assert await place.claim(ONE, first) == Claimed(ClaimResult.CLAIMED, first)
    assert (await place.claim(OTHER, second)).result is ClaimResult.RUNNING
    await place.at(START + 9_999)
    assert (await place.claim(OTHER, second)).result is ClaimResult.RUNNING
    await place.at(START + 10_000)
    assert await place.claim(OTHER, second) == Claimed(ClaimResult.CLAIMED, first)


async def test_the_successor_goes_on_at_once_with_the_same_base(place: Place) -> None:
    first = base()
    await place.store.beat(ONE)
    await place.claim(ONE, first)
    assert await place.claim(AGAIN, base()) == Claimed(ClaimResult.CLAIMED, first)
    assert await place.claim(AGAIN, base()) == Claimed(ClaimResult.CLAIMED, first)
    assert (await place.claim(AGAIN, base(), b"c" * 16)).result is ClaimResult.MISMATCH


@pytest.mark.parametrize("size", [2, 100_000])
async def test_an_answer_is_given_for_a_day(place: Place, size: int) -> None:
    first, answer = base(), StoredResponse(202, b"{}" * (size // 2), b"application/x-ndjson")
    await place.claim(ONE, first)
    await place.settle(first, answer)
    await place.at(START + 24 * HOUR - 1)
    assert await place.claim(OTHER, base()) == Claimed(ClaimResult.DONE, answer=answer)
    assert (await place.claim(ONE, base(), b"c" * 16)).result is ClaimResult.MISMATCH
    await place.at(START + 24 * HOUR)
    later = base(START + 24 * HOUR)
    assert await place.claim(OTHER, later, b"c" * 16) == Claimed(ClaimResult.CLAIMED, later)
    await place.settle(first, answer)  # too late: the name is another request's now
    assert await place.claim(OTHER, base(), b"c" * 16) == Claimed(ClaimResult.CLAIMED, later)


async def test_an_answer_that_is_not_kept_lets_the_next_repeat_run_with_the_same_base(place: Place) -> None:
    first = base()
    await place.store.beat(ONE)
    await place.claim(ONE, first)
    await place.settle(first, None)
    assert await place.claim(OTHER, base()) == Claimed(ClaimResult.CLAIMED, first)


async def test_the_first_answer_stands(place: Place) -> None:
    first, answer = base(), StoredResponse(202, b"{}")
    await place.claim(ONE, first)
    await place.claim(AGAIN, base())  # runs it too, thinking the other dead
    await place.settle(first, answer)
    await place.settle(first, StoredResponse(503, b"!"))
    await place.settle(first, None)
    assert await place.claim(OTHER, base()) == Claimed(ClaimResult.DONE, answer=answer)


async def test_a_claim_is_deleted_after_24_hours(place: Place) -> None:
    first = base()
    await place.claim(ONE, first)
    await place.settle(first, StoredResponse(202, b"{}"))
    key = place.link.tags[place.partition] + b"j:" + place.name
    ((left,),) = [await place.link.commands([(place.partition, ("PTTL", key))])]
    assert 23 * HOUR < left <= 24 * HOUR


def test_ids_of_items_differ_and_carry_time_and_partition() -> None:
    first, second = base(), base()
    ids = {item_id(each, index, 2) for each in (first, second) for index in range(1000)}
    assert len(ids) == 2000
    assert {(partition_of(each), time_of(each)) for each in ids} == {(2, START)}
    assert item_id(first, 7, 2) == item_id(first, 7, 2)
    assert len({item_reference(first, index) for index in range(1000)}) == 1000


def test_claims_of_accounts_do_not_clash() -> None:
    assert len({HASHER.claim(*each) for each in (("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"))}) == 4
