# ruff: noqa: SIM117  # who serves whom reads better nested
"""Carriers served out of the real store: nothing lost, nothing doubled, receipts followed to the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time
from typing import Any

import pytest

from gateway.carriers.lanes import CarrierHealth, CarrierLanes
from gateway.carriers.service import CarrierService
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.cluster.sweeper import Sweeper
from gateway.config import Carrier, Route
from gateway.model import Category, Content, Envelope, NewMessage, OnUnknown, Permission, Priority, Reason, State
from gateway.simulator import Faults, Simulator
from gateway.store.crypto import Vault
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import connect
from gateway.store.requests import Lane, Retention, TakeRequest
from tests.carriers.test_service import until

PARTITIONS = 4
ROUTE = Route(carriers=("north", "south"))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MessageStore]:
    link = await connect(url, tags=tags(PARTITIONS), library=build_library(), durability="everysec")
    try:
        yield MessageStore(link, Hasher(bytes(32), PARTITIONS), Vault({1: bytes(32)}, 1), partitions=PARTITIONS)
    finally:
        await link.close()


async def submit(
    store: MessageStore,
    count: int,
    *,
    text: str = "hello",
    prefix: str = "4670",
    sender: str = "shop",
    same: bool = False,
) -> list[bytes]:
    """``same``: all to one recipient."""
    now = int(time() * 1000)
    recipients = [store.hasher.recipient(f"{prefix}{0 if same else number:07}") for number in range(count)]
    ids = new_ids(now, [recipient.partition for recipient in recipients])
    permission = Permission(now, now + 3_600_000, now + 3_600_000, 0, bytes(8), bytes(8))
    segments = 1 + len(text) // 161
    await store.accept(
        [
            NewMessage(
                id=message_id,
                recipient=recipient,
                state=State.QUEUED,
                reason=Reason.NONE,
                due=0,
                category=Category.TRANSACTIONAL,
                on_unknown=OnUnknown.RESEND,
                route="*",
                weight=1,
                segments=segments,
                permission=permission,
                envelope=Envelope(recipient.digits, sender, "acme", 1, "", segments=segments),
                content=Content(text),
            )
            for message_id, recipient in zip(ids, recipients, strict=True)
        ]
    )
    return ids


async def states(store: MessageStore, ids: list[bytes]) -> Counter[State]:
    return Counter(record.state for record in await store.find(ids) if record is not None)


async def until_states(store: MessageStore, ids: list[bytes], state: State, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while (await states(store, ids))[state] != len(ids):  # noqa: ASYNC110  # the store rings no bell
            await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(
    store: MessageStore, simulators: dict[str, Simulator], **settings: Any
) -> AsyncIterator[list[CarrierService]]:
    heartbeat = Heartbeat(store, LeaseOwner.fresh("test"), sole=True)
    await heartbeat.start()
    health = CarrierHealth(list(simulators), asyncio.get_running_loop().time())
    services = [
        CarrierService(
            Carrier(
                name=name,
                hosts=(f"127.0.0.1:{simulator.port}",),
                system_id="gw",
                password="pw",
                **{"rate": 0, "window": 30, **settings},
            ),
            store=store,
            heartbeat=heartbeat,
            lanes=CarrierLanes(name, [ROUTE], health, {}),
            health=health,
            hasher=store.hasher,
            forms=ReceiptIdForms(store),
            redecide=lambda items: None,
        )
        for name, simulator in simulators.items()
    ]
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield services
        await asyncio.gather(*(service.stop() for service in services))
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
    finally:
        for task in tasks:
            task.cancel()


async def test_delivered_once_each(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as north:
        ids = await submit(store, 400)
        async with serving(store, {"north": north}):
            await until_states(store, ids, State.DELIVERED)
        assert (north.stats.accepted, north.stats.duplicates) == (400, 0)
        assert north.stats.receipts_acknowledged == 400
        assert (await store.depths()).leases == 0


@asynccontextmanager
async def sweeping(store: MessageStore, forms: ReceiptIdForms) -> AsyncIterator[Sweeper]:
    """Parked receipts are looked at every second, and need not have waited for a minute."""
    store.set_retention(Retention(orphan=0))
    sweeper = Sweeper(store, forms)
    task = asyncio.create_task(sweeper.run())
    try:
        yield sweeper
    finally:
        task.cancel()


async def learned_in(store: MessageStore) -> list[bytes]:
    return [name for name in await store.flags() if name.startswith(b"i:north\x00127.0.0.1:")]


@pytest.mark.parametrize("form", ["dec-padded", "HEX", "hex"])
async def test_receipts_find_their_message_by_other_forms_of_the_id(store_url: str, form: str) -> None:
    faults = Faults(id_form="hex", receipt_id_form=form)  # type: ignore[arg-type]
    async with opened(store_url) as store, Simulator(faults) as north:
        ids = await submit(store, 60)
        async with serving(store, {"north": north}) as (service,), sweeping(store, service.receipts.forms) as sweeper:
            await until_states(store, ids, State.DELIVERED)
            learned = service.receipts.forms.kind(("north", f"127.0.0.1:{north.port}"))
            assert learned is not None  # from 20 receipts in a row
            async with asyncio.timeout(5):  # other gateways are to know as well
                while not await learned_in(store):  # noqa: ASYNC110  # the store rings no bell
                    await asyncio.sleep(0.05)
            again = await submit(store, 30, prefix="4671")
            before = sweeper.counts["matched"]
            await until_states(store, again, State.DELIVERED)
            assert sweeper.counts["matched"] == before, "what was learned is looked up at once"


async def test_receipts_before_their_answers(store_url: str) -> None:
    faults = Faults(receipt_before_answer=True, latency_ms=30, receipt_delay_ms=0)
    async with opened(store_url) as store, Simulator(faults) as north:
        ids = await submit(store, 60, text="x" * 200)
        async with serving(store, {"north": north}):
            await until_states(store, ids, State.DELIVERED)


async def test_throttled_messages_keep_their_place_and_are_sent_once(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(rate=300, burst=30), ledger=True) as north:
        ids = await submit(store, 600)
        async with serving(store, {"north": north}, rate=1000):
            await until_states(store, ids, State.DELIVERED)
        assert north.stats.duplicates == 0
        assert north.stats.throttled < 0.25 * north.stats.submits


async def test_cut_links_resend_only_what_was_unanswered(store_url: str) -> None:
    faults = Faults(drop_every=50, drop_mode="reset", latency_ms=2)
    async with opened(store_url) as store, Simulator(faults, ledger=True) as north:
        ids = await submit(store, 400)
        async with serving(store, {"north": north}):
            async with asyncio.timeout(30):
                while (now := await states(store, ids))[State.QUEUED] + now[State.SENDING]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        # sent once more and cut off again: unknown for good, and perhaps never seen by the carrier
        assert len({entry.dest for entry in north.ledger}) >= 400 - now[State.UNKNOWN]
        assert now[State.UNKNOWN] + now[State.SENT] + now[State.DELIVERED] == 400
        assert north.stats.accepted - 400 <= 30 * north.stats.cut


async def test_a_second_carrier_takes_over(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(bind_status=0x0D)) as north, Simulator() as south:
        ids = await submit(store, 100)
        async with serving(store, {"north": north, "south": south}):
            await until_states(store, ids, State.DELIVERED)
        assert (north.stats.accepted, south.stats.accepted) == (0, 100)


async def test_a_message_that_one_carrier_refuses_goes_to_the_next(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(rate=1, burst=1, rate_status=0x0A)) as north:
        async with Simulator() as south:
            ids = await submit(store, 50)
            async with serving(store, {"north": north, "south": south}):
                await until_states(store, ids, State.DELIVERED)
            assert north.stats.accepted + south.stats.accepted == 50
            assert south.stats.accepted > 40


async def test_what_a_lost_answer_of_take_had_leased_goes_back(store_url: str) -> None:
    async with opened(store_url) as store:
        ids = await submit(store, 40)
        owner = LeaseOwner.fresh("test")
        lanes = (Lane("*", 0, Priority.TRANSACTIONAL),)
        await store.beat(owner)
        lost = await store.take(owner, [TakeRequest(partition, lanes, "north", 5) for partition in range(PARTITIONS)])
        kept = await store.take(owner, [TakeRequest(partition, lanes, "north", 3) for partition in range(PARTITIONS)])
        other = await store.take(owner, [TakeRequest(partition, lanes, "south", 1) for partition in range(PARTITIONS)])
        known = {partition: {one.lease for one in kept[partition].leased} for partition in range(PARTITIONS)}
        count = sum(len(taken.leased) for taken in lost)
        assert count > 0
        assert await store.untake_lost(owner, "north", known) == count
        assert await store.untake_lost(owner, "north", known) == 0
        expected = sum(len(taken.leased) for taken in (*kept, *other))
        assert await states(store, ids) == {State.QUEUED: 40 - expected, State.SENDING: expected}
        again = await store.take(owner, [TakeRequest(partition, lanes, "north", 50) for partition in range(PARTITIONS)])
        assert sum(len(taken.leased) for taken in again) == 40 - expected


async def test_a_restarted_worker_takes_back_what_it_held(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as north:
        ids = await submit(store, 40)
        former = LeaseOwner.fresh("test")
        await store.beat(former)
        lanes = (Lane("*", 0, Priority.TRANSACTIONAL),)
        taken = await store.take(former, [TakeRequest(partition, lanes, "north", 5) for partition in range(PARTITIONS)])
        assert sum(len(one.leased) for one in taken) > 0
        async with serving(store, {"north": north}):
            await until_states(store, ids, State.DELIVERED)
        assert north.stats.duplicates == 0
        assert [seen.owner for seen in await store.owners() if seen.owner == former] == []


async def test_messages_are_found_without_an_announcement(store_url: str) -> None:
    async with opened(store_url) as store, Simulator() as north, serving(store, {"north": north}):
        await until(lambda: north.stats.bound == 2)
        ids = await submit(store, 10, prefix="4671")
        await until_states(store, ids, State.DELIVERED, 3)
