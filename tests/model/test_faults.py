"""What the store keeps when its server is killed, its memory is used up or its disk is full."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.model import (
    Category,
    Content,
    Envelope,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Permission,
    Priority,
    Reason,
    ReceiptFact,
    ReceiptMatch,
    Resolution,
    RuleGroup,
    RuleStatus,
    State,
    SubmitResult,
)
from gateway.store import keys
from gateway.store.crypto import load_or_create
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreError, StoreFull
from gateway.store.ids import new_ids
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import CancelResult, Lane, OptChange, TakeRequest

PARTITIONS = 4
ME = LeaseOwner("w0", "1")
LANES = (Lane("world", 0, Priority.TRANSACTIONAL),)


class Shop:
    """An embedded store in use."""

    def __init__(self, folder: Path) -> None:
        self.secrets = load_or_create(folder)
        self.embedded = EmbeddedServer(folder)
        self.hasher = keys.Hasher(self.secrets.hashing, PARTITIONS)
        self.link: StoreConnection
        self.store: MessageStore

    async def open(self) -> None:
        await self.embedded.start()
        self.link = await connect(
            self.embedded.url,
            tags=keys.tags(PARTITIONS),
            library=build_library(),
            fingerprint=self.secrets.fingerprint,
            timeout=3.0,
        )
        self.store = MessageStore(self.link, self.hasher, self.secrets.vault, partitions=PARTITIONS)

    async def close(self) -> None:
        await self.link.close()
        await self.embedded.stop()

    def messages(self, count: int, text: str = "hello") -> list[NewMessage]:
        now = int(time.time() * 1000)
        people = [self.hasher.recipient(f"49151{number:08}") for number in range(count)]
        scope = self.hasher.scope
        permission = Permission(now - 1000, now + 10**9, now + 10**9, 0, scope("shop"), scope("shop", "brand"))
        return [
            NewMessage(
                id=id_,
                recipient=who,
                state=State.QUEUED,
                reason=Reason.NONE,
                due=0,
                category=Category.TRANSACTIONAL,
                on_unknown=OnUnknown.RESEND,
                route="world",
                weight=1,
                segments=1,
                permission=permission,
                envelope=Envelope(who.digits, "Sender", "shop", int(Category.TRANSACTIONAL), "brand"),
                content=Content(text),
            )
            for id_, who in zip(new_ids(now, [p.partition for p in people]), people, strict=True)
        ]

    async def take_all(self) -> list[tuple[bytes, int]]:
        requests = [TakeRequest(p, LANES, "north", 500) for p in range(PARTITIONS)]
        return [(m.id, m.lease) for taken in await self.store.take(ME, requests) for m in taken.leased]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.open()
    yield shop
    await shop.close()


def accepted_by_carrier(id_: bytes, lease: int, carrier_id: bytes) -> SubmitResult:
    part = PartAnswer(0, PartState.ACCEPTED, carrier_id)
    return SubmitResult(id_, lease, "north", Resolution.SENT, Reason.NONE, 0, 0, 1, [part])


async def down_and_up(embedded: EmbeddedServer) -> None:
    async with asyncio.timeout(15):
        while embedded.ready.is_set():  # noqa: ASYNC110 - only its rise can be awaited
            await asyncio.sleep(0.01)
        await embedded.ready.wait()


async def test_no_acknowledged_message_or_answer_is_lost_when_the_server_is_killed(shop: Shop) -> None:
    acknowledged: dict[bytes, State] = {}
    for number in range(3):
        killer = asyncio.get_running_loop().call_later(0.05 + 0.02 * number, os.kill, shop.embedded.pid, signal.SIGKILL)
        try:
            while True:
                batch = shop.messages(20)
                await shop.store.accept(batch)
                acknowledged |= {message.id: State.QUEUED for message in batch}
                leased = await shop.take_all()
                acknowledged |= {id_: State.SENDING for id_, _ in leased}
                answers = [accepted_by_carrier(id_, lease, id_[-8:]) for id_, lease in leased]
                await shop.store.progress(ME, answers)
                acknowledged |= {id_: State.SENT for id_, _ in leased}
        except StoreError:
            pass
        killer.cancel()
        await down_and_up(shop.embedded)
    assert len(acknowledged) > 60
    ids = list(acknowledged)
    for id_, record in zip(ids, await shop.store.find(ids), strict=True):
        # a call that was cut off may have been carried out: then the message is further than the reply said
        assert record is not None
        assert record.state >= acknowledged[id_]
    assert shop.embedded.restarts == 3


async def test_a_full_memory_refuses_messages_but_no_opt_out_and_no_answer(shop: Shop) -> None:
    messages = shop.messages(20)
    await shop.store.accept(messages)
    leased = await shop.take_all()
    assert len(leased) == 20
    await shop.embedded.order("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreFull, match="memory"):
        await shop.store.accept(shop.messages(5))
    stop = OptChange(messages[0].recipient, RuleGroup.ALL, RuleStatus.STOPS, bytes(8), 1)
    assert await shop.store.opt([stop]) == [True]
    answers = [accepted_by_carrier(id_, lease, b"c-" + id_[-6:]) for id_, lease in leased[:10]]
    receipt = ReceiptFact("north", (b"c-" + messages[0].id[-6:],), messages[0].recipient, PartState.DELIVERED)
    matched = await shop.store.progress(ME, answers, [receipt])
    assert matched in ([ReceiptMatch.APPLIED], [ReceiptMatch.PARKED])
    await shop.store.untake(ME, leased[10:])
    assert await shop.store.cancel([leased[-1][0]]) == [CancelResult.CANCELED]
    await shop.embedded.order("CONFIG", "SET", "maxmemory", "0")
    await shop.store.accept(shop.messages(5))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of our own cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


async def test_a_full_disk_stops_the_store_and_loses_nothing(small_disk: Path) -> None:
    shop = Shop(small_disk / "data")
    await shop.open()
    try:
        acknowledged: list[bytes] = []
        with pytest.raises(StoreError) as caught:
            for _ in range(500):
                batch = shop.messages(200, "x" * 500)
                await shop.store.accept(batch)
                acknowledged += [message.id for message in batch]
        assert acknowledged
        assert "disk" in str(caught.value) or "is it running" in str(caught.value)
        await asyncio.sleep(0.5)  # it is tried again, and cannot come up
        make_room(small_disk)
        async with asyncio.timeout(30):
            await shop.embedded.ready.wait()
        found = await shop.store.find(acknowledged)
        assert all(found)
        assert await shop.store.accept(shop.messages(5))
    finally:
        await shop.close()
