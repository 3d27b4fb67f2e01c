from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import time
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.carriers.dispatcher import Dispatcher
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.lanes import CarrierHealth, CarrierLanes
from gateway.carriers.pool import BindPool
from gateway.carriers.progress import ProgressListeners, ProgressWriter
from gateway.carriers.validity import PROOFS
from gateway.config import Carrier, CarrierTlv, Route
from gateway.model import (
    Category,
    LeasedMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Priority,
    Reason,
    ReceiptMatch,
    Redecide,
    Resolution,
    State,
    SubmitResult,
)
from gateway.policy.pace import Pace
from gateway.smpp.events import Answered
from gateway.store.owner import DEAD_AFTER
from gateway.store.requests import Lane, TakeRequest, UnreadableMessage
from tests.carriers.memory_store import OWNER, PARTITIONS, MemoryStore, beating
from tests.carriers.test_service import until


class FakeBind:
    """A bind whose carrier answers when the test says so."""

    def __init__(self, name: str, window: int) -> None:
        self.name = name
        self.window = window
        self.peer = "127.0.0.1:1"
        self.sick = False
        self.open: list[Any] = []  # contexts without an answer
        self.bodies: list[bytes] = []
        self.paused = False
        self.aborted = ""
        self.most = 0

    @property
    def free(self) -> int:
        return 0 if self.paused else self.window - len(self.open)

    @property
    def outstanding(self) -> int:
        return len(self.open)

    def submit(self, body: bytes, context: object, now: float) -> None:
        assert self.free > 0
        self.bodies.append(body)
        self.open.append(context)
        self.most = max(self.most, len(self.open))

    def abort(self, reason: str) -> None:
        self.aborted = reason


class FakePool:
    """The binds of a carrier, all of them up."""

    def __init__(self, binds: list[FakeBind]) -> None:
        self.binds = binds

    @property
    def sick(self) -> bool:
        return all(bind.sick for bind in self.binds)


class Harness:
    """A dispatcher between a store in memory and fake binds."""

    def __init__(self, store: MemoryStore, dispatcher: Dispatcher, pool: FakePool, health: CarrierHealth) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.binds = pool.binds
        self.health = health

    def answer(self, bind: FakeBind, status: int = 0, count: int | None = None, named: bool = True) -> None:
        contexts, bind.open = bind.open[:count], bind.open[len(bind.open) if count is None else count :]
        answers = [Answered(context, status, b"id%d" % id(context) if named else b"", False) for context in contexts]
        self.dispatcher.answered(bind, answers, asyncio.get_running_loop().time())

    async def answer_all(self, status: int = 0) -> None:
        while True:
            await asyncio.sleep(0.01)
            for bind in self.binds:
                if bind.open:
                    self.answer(bind, status)


class IgnoredReceipts:
    def stored(self, matches: Sequence[ReceiptMatch], tickets: Sequence[Any]) -> None:
        pass

    def set_aside(self, tickets: Sequence[Any]) -> None:
        pass


@asynccontextmanager
async def dispatching(
    store: MemoryStore,
    *windows: int,
    rate: float = 0,
    offer_to_others: Callable[[Sequence[int]], None] = lambda partitions: None,
    redecide: Callable[[list[Redecide]], None] = lambda items: None,
    **settings: Any,
) -> AsyncIterator[Harness]:
    carrier = Carrier(name="north", hosts=("127.0.0.1:1",), system_id="gw", password="pw", **settings)
    now = asyncio.get_running_loop().time()
    health = CarrierHealth(["north"], now)
    progress_writer = ProgressWriter(store, OWNER)
    pool = FakePool([FakeBind(f"north/{number}", window) for number, window in enumerate(windows)])
    dispatcher = Dispatcher(
        carrier,
        store=store.as_real(),
        heartbeat=await beating(store),
        lanes=CarrierLanes("north", [Route(carriers=("north",))], health, {}),
        health=health,
        pace=Pace(rate, now),
        pool=cast("BindPool", pool),
        progress_writer=progress_writer,
        redecide=redecide,
        offer_to_others=offer_to_others,
    )
    one = Harness(store, dispatcher, pool, health)
    listeners = ProgressListeners(dispatcher, IgnoredReceipts())
    tasks = [asyncio.create_task(dispatcher.run()), asyncio.create_task(progress_writer.run(listeners))]
    try:
        yield one
        dispatcher.stop()
        await asyncio.wait_for(tasks[0], 2)
    finally:
        for task in tasks:
            task.cancel()


def fill(store: MemoryStore, count: int, **message: Any) -> None:
    for number in range(count):
        store.put(f"4670{number:07}", **message)


async def test_never_takes_more_than_the_windows_hold_and_keeps_a_tenth() -> None:
    store = MemoryStore()
    fill(store, 500)
    async with dispatching(store, 60, 40) as one:
        await until(lambda: store.states()[State.SENDING] == 90)
        await asyncio.sleep(0.3)
        assert store.states()[State.SENDING] == 90
        for number in range(15):
            store.put(f"4671{number:07}", category=Category.OTP)
        one.dispatcher.work_available(range(PARTITIONS), urgent=True)
        await until(lambda: store.states()[State.SENDING] == 100)
        await asyncio.sleep(0.3)
        assert store.states()[State.SENDING] == 100
        assert [len(bind.open) for bind in one.binds] == [60, 40]


async def test_answers_hold_their_room_until_they_are_stored() -> None:
    store = MemoryStore()
    fill(store, 100)
    async with dispatching(store, 10) as one:
        await until(lambda: len(one.binds[0].open) == 9)
        store.away = True
        one.answer(one.binds[0])
        await asyncio.sleep(0.2)
        assert (one.dispatcher.in_flight, one.binds[0].open) == (9, [])
        store.away = False
        await until(lambda: store.states()[State.SENT] == 9)
        await until(lambda: len(one.binds[0].open) == 9)


async def test_spreads_over_binds_by_room() -> None:
    store = MemoryStore()
    async with dispatching(store, 100, 50) as one:
        fill(store, 90)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: sum(len(bind.open) for bind in one.binds) == 90)
        assert len(one.binds[0].open) > len(one.binds[1].open) > 15


async def test_a_bind_that_is_full_does_not_block_the_others() -> None:
    store = MemoryStore()
    fill(store, 300)
    async with dispatching(store, 20, 20) as one:
        one.binds[0].paused = True
        answering = asyncio.create_task(one.answer_all())
        await until(lambda: store.states()[State.SENT] == 300)
        answering.cancel()
        assert one.binds[0].bodies == []


async def test_the_rate_is_kept() -> None:
    store = MemoryStore()
    fill(store, 400)
    async with dispatching(store, 100, rate=200) as one:
        loop = asyncio.get_running_loop()
        answering = asyncio.create_task(one.answer_all())
        before = loop.time()
        await asyncio.sleep(1.0)
        answering.cancel()
        # a machine that is busy elsewhere may send less, but never more
        assert 50 <= one.dispatcher.submitted <= 200 * (loop.time() - before + 0.1) + 10
        assert store.calls["take"] <= 150


async def test_what_cannot_be_written_goes_back_within_a_second_or_so() -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        bind = one.binds[0]
        fill(store, 5)
        original = store.take

        async def take(*args: Any) -> Any:
            bind.paused = True  # the transport fills up while the store is asked
            return await original(*args)

        store.take = take  # type: ignore[method-assign]
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: store.untaken != [], 3)
        assert store.states() == {State.QUEUED: 5}
        assert one.dispatcher.in_flight == 0


@pytest.mark.parametrize("resent", [0, 2], ids=["with others", "alone"])
async def test_what_is_not_written_when_we_stop_goes_back(resent: int) -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    store.rows[message_id].message.resent = resent
    async with dispatching(store, 10) as one:
        original = store.take

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            one.binds[0].paused = any(taken.leased for taken in answer)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: store.rows[message_id].state is State.SENDING)
    assert [one for one, _ in store.untaken] == [message_id]
    assert (store.states(), one.dispatcher.in_flight, one.binds[0].bodies) == ({State.QUEUED: 1}, 0, [])


async def test_nothing_is_written_without_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    fill(store, 5)
    monkeypatch.setattr("gateway.cluster.heartbeat.STOP_WRITING", 0.0)
    async with dispatching(store, 10) as one:
        await asyncio.sleep(0.4)
        assert one.binds[0].bodies == []
        assert store.calls["take"] == 0


async def test_lost_binds_make_unknown_what_was_written_and_bring_back_the_rest() -> None:
    store = MemoryStore()
    store.put("46700000001")
    store.put("46700000002")
    async with dispatching(store, 10) as one:
        bind = one.binds[0]
        await until(lambda: len(bind.open) == 2)
        one.binds.clear()
        one.dispatcher.lost(bind, bind.open[:1], bind.open[1:], 0.0)
        await until(lambda: store.states() == {State.UNKNOWN: 1, State.QUEUED: 1})
        assert one.dispatcher.in_flight == 0


async def test_a_late_answer_after_the_timeout_still_tells_its_id() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with dispatching(store, 10) as one:
        bind = one.binds[0]
        await until(lambda: len(bind.open) == 1)
        one.dispatcher.timed_out(bind, bind.open, 0.0)
        await until(lambda: store.rows[message_id].state is State.UNKNOWN)
        one.answer(bind)
        await until(lambda: len(store.rows[message_id].history) == 2)
        assert store.rows[message_id].history[1][0] is Resolution.SENT
        assert store.rows[message_id].parts == {0: PartState.ACCEPTED}
        await until(lambda: one.dispatcher.in_flight == 0)


async def test_only_the_refused_part_is_sent_again() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", "x" * 400)
    async with dispatching(store, 10) as one:
        bind = one.binds[0]
        await until(lambda: len(bind.open) == 3)
        first = list(bind.bodies)
        one.answer(bind, 0, 1)
        one.answer(bind, 0x58, 1)
        one.answer(bind, 0)
        await until(lambda: len(bind.open) == 1)
        assert bind.bodies[3] == first[1]
        one.answer(bind)
        await until(lambda: store.rows[message_id].state is State.SENT)


async def test_a_bind_at_fault_is_repaired() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with dispatching(store, 10) as one:
        bind = one.binds[0]
        await until(lambda: len(bind.open) == 1)
        one.answer(bind, 0x04)
        await until(lambda: bool(bind.aborted))
        await until(lambda: store.rows[message_id].history != [])
        assert store.rows[message_id].history[0][0] is Resolution.BACK


async def test_frequent_full_queues_slow_the_pace() -> None:
    store = MemoryStore()
    fill(store, 60)
    async with dispatching(store, 100, rate=1000) as one:
        bind = one.binds[0]
        await until(lambda: len(bind.open) == 60)
        one.answer(bind, 0x14)
        assert one.dispatcher.pace.slowed


async def test_repr_is_a_status_line() -> None:
    async with dispatching(MemoryStore(), 10) as one:
        assert (
            repr(one.dispatcher) == "<Dispatcher north 0 in flight, 0 submitted, <Pace unlimited of 0/s, 0 decreases>>"
        )


async def test_marketing_waits_for_the_close_when_less_than_a_minute_is_left() -> None:
    store = MemoryStore()
    closes = int(time() * 1000) - 1
    marketing = store.rows[store.put("46700000001", category=Category.MARKETING)]
    other = store.rows[store.put("46700000002")]
    marketing.message.closes = other.message.closes = closes
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.bodies) == 1 and store.calls["postpone"] == 1)
        assert (marketing.state, marketing.due, marketing.history) == (State.QUEUED, closes, [])
        assert b"46700000002" in bind.bodies[0]


async def test_a_validity_that_is_refused_is_left_out_at_the_second_try_and_only_then() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        await until(lambda: bool(bind.open))
        one.answer(bind, 0x62)
        await until(lambda: bool(bind.open))
        assert b"000+\0" in bind.bodies[0]
        assert b"000+\0" not in bind.bodies[1]
        one.answer(bind, 0x62)
        await until(lambda: store.states()[State.REJECTED] == 1)
        (row,) = store.rows.values()
        assert row.history == [(Resolution.BACK, "north", 0), (Resolution.REJECTED, "north", 0x62)]


@pytest.mark.parametrize("named", [True, False], ids=["with ids", "without ids"])
async def test_a_carrier_that_takes_nothing_with_a_validity_is_known_after_three_messages(named: bool) -> None:
    """Whatever its answers look like: else every message would be refused once, for ever."""
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        for number in range(PROOFS):
            store.put(f"4670000000{number}")
            one.dispatcher.work_available(range(store.partitions))
            await until(lambda: bool(bind.open))
            one.answer(bind, 0x62)
            await until(lambda: bool(bind.open))
            one.answer(bind, named=named)
        assert one.dispatcher.validity.off


async def test_a_status_table_outranks_the_retry_without_validity() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with dispatching(store, 10, status_table={"0x62": "permanent"}) as one:
        await until(lambda: bool(one.binds[0].open))
        one.answer(one.binds[0], 0x62)
        await until(lambda: store.states()[State.REJECTED] == 1)
        assert len(one.binds[0].bodies) == 1


async def test_an_unsendable_message_is_logged_once_a_minute_for_each_reason() -> None:
    store = MemoryStore()
    fill(store, 40)
    tlvs = (CarrierTlv(tag=0x1401, metadata="template_id", required=True),)
    with capture_logs() as lines:
        async with dispatching(store, 10, tlvs=tlvs):
            await until(lambda: store.states()[State.REJECTED] == 40)
    said = [line["error"] for line in lines if "cannot be sent" in line["event"]]
    assert said == ['carrier "north" demands TLV 0x1401; give metadata.template_id (text or a whole number)']


# ---- carriers that answer nothing, and messages that were lost before


async def test_after_submits_were_lost_one_message_goes_at_a_time_until_something_is_answered() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with dispatching(store, 50) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.open) == 1)
        contexts, bind.open = bind.open, []
        one.dispatcher.lost(bind, contexts, (), asyncio.get_running_loop().time())
        fill(store, 30)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) == 1)
        await asyncio.sleep(0.4)
        assert len(bind.open) == 1
        one.answer(bind)
        await until(lambda: len(bind.open) == 29)


async def test_a_carrier_that_loses_every_message_counts_as_down_until_it_answers() -> None:
    store = MemoryStore()
    async with dispatching(store, 50) as one:
        (bind,) = one.binds
        for number in range(2):
            assert not one.health.down("north", asyncio.get_running_loop().time())
            await lose_one(one, number)
        await until(lambda: one.health.down("north", asyncio.get_running_loop().time()))
        store.put("46710000000")
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) > 0)
        one.answer(bind, 0x45)
        await until(lambda: not one.health.down("north", asyncio.get_running_loop().time()))


async def lose_one(one: Harness, number: int) -> None:
    """A message is written, and the link breaks over it."""
    (bind,) = one.binds
    one.store.put(f"4670{number:07}")
    one.dispatcher.work_available(range(PARTITIONS))
    await until(lambda: len(bind.open) > 0)
    contexts, bind.open = bind.open, []
    one.dispatcher.lost(bind, contexts, (), asyncio.get_running_loop().time())


async def test_a_carrier_that_complains_of_every_session_is_down_for_others() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with dispatching(store, 50) as one:
        (bind,) = one.binds
        for _ in range(2):
            await until(lambda: len(bind.open) > 0)
            one.answer(bind, 0x04)
        await until(lambda: one.health.down("north", asyncio.get_running_loop().time()))


async def test_work_returned_by_a_failing_carrier_is_offered_to_the_carriers_that_take_over() -> None:
    told: list[int] = []
    store = MemoryStore()
    async with dispatching(store, 50, offer_to_others=told.extend) as one:
        await lose_one(one, 1)
        await until(lambda: one.dispatcher.in_flight == 0)
        assert told == []
        await lose_one(one, 2)
        await until(lambda: len(told) == 1)


async def test_a_message_that_is_always_throttled_steps_aside_for_others() -> None:
    store = MemoryStore()
    poison = store.put("46700000001")
    async with dispatching(store, 1) as one:
        (bind,) = one.binds
        number = 0
        while not any(row[0] is Resolution.RETRY for row in store.rows[poison].history):
            number += 1
            store.put(f"4671{number:07}")
            one.dispatcher.work_available(range(PARTITIONS))
            await until(lambda: len(bind.open) > 0)
            mine = bind.open[0][0].leased.id == poison
            one.answer(bind, 0x58 if mine else 0)
        assert {status for _, _, status in store.rows[poison].history} == {0x58}


async def test_a_long_message_with_accepted_parts_does_not_step_aside() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", "x" * 900)
    row = store.rows[message_id]
    async with dispatching(store, 20) as one:
        (bind,) = one.binds
        while row.state is not State.SENT:
            await until(lambda: len(bind.open) > 0 or row.state is State.SENT)
            one.answer(bind, 0, 1)
            one.answer(bind, 0x04)
        assert len(row.history) > 4
        assert {resolution for resolution, _, _ in row.history} == {Resolution.BACK, Resolution.SENT}


async def test_a_sick_carrier_is_probed_with_resendable_messages_and_counts_as_down() -> None:
    store = MemoryStore()
    for number in range(5):
        store.put(f"4670{number:07}", category=Category.MARKETING)
    async with dispatching(store, 50) as one:
        (bind,) = one.binds
        bind.sick = True
        one.dispatcher.wake()
        await asyncio.sleep(0.6)
        assert bind.open == []
        assert one.health.down("north", asyncio.get_running_loop().time())
        store.put("46710000000")
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) == 1)
        assert bind.open[0][0].leased.envelope.to == "46710000000"
        bind.sick = False
        one.answer(bind)
        await until(lambda: len(bind.open) == 5)
        assert not one.health.down("north", asyncio.get_running_loop().time())


async def test_a_sick_carrier_that_cannot_be_probed_is_reconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.carriers.probing.RECONNECT_AFTER", 0.3)
    store = MemoryStore()
    store.put("46700000001", category=Category.MARKETING)
    async with dispatching(store, 50) as one:
        one.binds[0].sick = True
        await until(lambda: one.binds[0].aborted != "")
        one.binds[0].sick = False  # another connection: one message is risked, since nothing else waits
        await until(lambda: len(one.binds[0].open) == 1)


async def test_a_sick_bind_beside_a_healthy_one_gets_no_marketing() -> None:
    store = MemoryStore()
    async with dispatching(store, 20, 20) as one:
        one.binds[0].sick = True
        for number in range(10):
            store.put(f"4670{number:07}", category=Category.MARKETING)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(one.binds[1].open) == 10)
        assert one.binds[0].open == []


async def test_a_message_lost_twice_is_written_alone_on_its_bind() -> None:
    store = MemoryStore()
    fill(store, 30)
    async with dispatching(store, 20, 20) as one:
        await until(lambda: sum(len(bind.open) for bind in one.binds) == 30)
        row = store.rows[store.put("46710000000")]
        row.message.resent = 2
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(store.queues[row.message.recipient.partition]) == 0)
        assert all(len(bind.open) > 5 for bind in one.binds)  # neither is empty: it waits
        for bind in one.binds:
            one.answer(bind)
        await until(lambda: any(bind.open for bind in one.binds))
        (bind,) = [bind for bind in one.binds if bind.open]
        assert [message.leased.id for message, _ in bind.open] == [row.message.id]
        fill(store, 5)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: sum(len(bind.open) for bind in one.binds) == 6)


async def test_a_single_bind_serves_others_between_two_messages_written_alone() -> None:
    store = MemoryStore()
    for number in range(3):
        store.rows[store.put(f"4671{number:07}")].message.resent = 2
    async with dispatching(store, 10) as one:
        answering = asyncio.create_task(one.answer_all())
        fill(store, 40)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: store.states() == {State.SENT: 43})
        answering.cancel()
        assert one.dispatcher.tally.resent == 3


# ---- long messages


async def test_every_window_of_a_long_message_asks_the_gate_again() -> None:
    store = MemoryStore()
    id_ = store.put("46700000001", text="x" * 153 * 20)
    async with dispatching(store, 8) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.open) == 8)
        assert store.regated == []  # the take has asked
        one.answer(bind)
        await until(lambda: len(bind.open) == 8)
        assert store.regated == [id_]
        store.stopped[id_] = Reason.CONSENT_REVOKED
        one.answer(bind)
        await until(lambda: store.rows[id_].history != [])
        assert len(bind.bodies) == 16, "no part follows a revocation"
        assert store.rows[id_].history[-1][0] is Resolution.BACK  # the store has marked it, and ends it


async def test_a_long_message_is_not_begun_when_its_window_closes_before_its_end() -> None:
    store = MemoryStore()
    close = int(time() * 1000) + 200_000
    late = store.put("46700000001", text="x" * 153 * 40, closes=close)
    soon = store.put("46700000002", text="x" * 153 * 2, closes=close)
    async with dispatching(store, 10, rate=0.1) as one:
        one.dispatcher.pace.set_limit(0.15, asyncio.get_running_loop().time() - 1000)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: store.rows[late].due == close)
        assert store.rows[late].state is State.QUEUED
        assert store.rows[soon].due == 0


# ---- late answers


async def test_late_refusals_and_late_ids_are_stored() -> None:
    store = MemoryStore()
    first, second = store.put("46700000001"), store.put("46700000002")
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.open) == 2)
        contexts, bind.open = bind.open, []
        one.dispatcher.timed_out(bind, contexts, asyncio.get_running_loop().time())
        await until(lambda: store.states() == {State.UNKNOWN: 2})
        assert one.dispatcher.in_flight == 0
        late = {message.leased.id: (message, index) for message, index in contexts}
        answers = [Answered(late[first], 0, b"late", True), Answered(late[second], 0x0B, b"", True)]
        one.dispatcher.answered(bind, answers, asyncio.get_running_loop().time())
        await until(lambda: len(store.rows[second].history) == 2)
        assert store.ids["north", b"late"] == first
        assert store.rows[second].history[-1] == (Resolution.REJECTED, "north", 0x0B)
        assert one.dispatcher.in_flight == 0


async def test_after_a_pause_of_the_process_waiting_messages_are_not_written() -> None:
    """It was leased and could not be written; then the process stood still, and beats again before it looks."""
    store = MemoryStore()
    store.put("46700000001")
    async with dispatching(store, 5) as one:
        one.binds[0].paused = True
        one.dispatcher._writer.put(
            [InFlightMessage((await lease(store)), [b"x"], asyncio.get_running_loop().time() - 12)]
        )
        one.dispatcher._leases.leased([store.rows[next(iter(store.rows))].message])
        one.dispatcher._planner.in_flight += 1
        one.binds[0].paused = False
        one.dispatcher._tend(asyncio.get_running_loop().time())
        assert one.binds[0].bodies == []
        await until(lambda: bool(store.untaken))


class Pauses:
    """Pauses of the process, as the heartbeat shows them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._heartbeat = dispatcher._heartbeat

    def stand_still(self) -> None:
        """For longer than others wait until they take over what is ours."""
        self._heartbeat._last = asyncio.get_running_loop().time() - DEAD_AFTER - 2

    def beat(self) -> None:
        self._heartbeat._last = asyncio.get_running_loop().time()


async def test_after_a_pause_nothing_is_taken_before_the_next_heartbeat() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with dispatching(store, 5) as one:
        pauses, now = Pauses(one.dispatcher), asyncio.get_running_loop().time()
        pauses.stand_still()
        assert one.dispatcher._plan(now) == ([], 0)
        pauses.beat()
        await until(lambda: len(one.binds[0].open) == 1)


async def test_after_a_pause_a_message_just_taken_is_not_written() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with dispatching(store, 5) as one:
        leased, now = await lease(store), asyncio.get_running_loop().time()
        one.dispatcher._leases.leased([leased])
        one.dispatcher._writer.put([InFlightMessage(leased, [b"x"], now)])
        one.dispatcher._planner.in_flight += 1
        Pauses(one.dispatcher).stand_still()
        one.dispatcher._tend(now)
        assert one.binds[0].bodies == []
        await until(lambda: store.rows[message_id].state is State.QUEUED)
        assert (one.binds[0].bodies, one.dispatcher.in_flight) == ([], 0)


async def test_messages_taken_across_a_pause_are_not_written() -> None:
    store = MemoryStore()
    fill(store, 5)
    async with dispatching(store, 10) as one:
        original, pauses = store.take, Pauses(one.dispatcher)

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            pauses.stand_still()  # while the answer was on its way
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: len(store.untaken) > 0, 3)
        assert one.binds[0].bodies == []


async def test_messages_taken_across_a_pause_are_not_written_even_after_a_new_heartbeat() -> None:
    """Others may have taken it over during the pause: it goes back under its lease, and what is still ours is taken
    anew."""
    store = MemoryStore()
    fill(store, 5)
    async with dispatching(store, 10) as one:
        original, pauses = store.take, Pauses(one.dispatcher)

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            store.take = original  # type: ignore[method-assign]
            pauses.stand_still()
            asyncio.get_running_loop().call_soon(pauses.beat)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: len(one.binds[0].open) == 5)
        assert len(store.untaken) > 0


async def test_after_a_pause_no_further_part_is_written_before_the_next_heartbeat() -> None:
    store = MemoryStore()
    store.put("46700000001", text="x" * 153 * 20)
    async with dispatching(store, 8) as one:
        (bind,), original, pauses = one.binds, store.regate, Pauses(one.dispatcher)

        async def regate(*args: Any) -> Any:
            answer = await original(*args)
            pauses.stand_still()  # while the answer was on its way
            return answer

        store.regate = regate  # type: ignore[method-assign]
        await until(lambda: len(bind.open) == 8)
        one.answer(bind)
        await until(lambda: len(store.regated) == 3)  # it was asked again, and again the pause came first
        assert len(bind.bodies) == 8
        store.regate = original  # type: ignore[method-assign]
        pauses.beat()
        await until(lambda: len(bind.bodies) == 16)


async def test_nothing_is_written_once_a_successor_of_our_name_works() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with dispatching(store, 5) as one:
        one.dispatcher._heartbeat.successor = "2"
        assert one.dispatcher._plan(asyncio.get_running_loop().time()) == ([], 0)
        one.dispatcher._heartbeat.successor = ""
        await until(lambda: len(one.binds[0].open) == 1)


async def lease(store: MemoryStore) -> LeasedMessage:
    """Take what there is behind the dispatcher's back."""
    lanes = tuple(Lane("*", 0, priority) for priority in Priority)
    for partition in range(PARTITIONS):
        (taken,) = await store.take(OWNER, [TakeRequest(partition, lanes, "north", 10, 0, OnUnknown.RESEND)])
        if taken.leased:
            return taken.leased[0]
    raise AssertionError("nothing was there")


async def test_a_late_answer_to_one_part_does_not_stand_for_another_that_is_still_open() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", text="x" * 400)
    async with dispatching(store, 20) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.open) == 3)
        first, bind.open = bind.open[:1], bind.open[1:]
        now = asyncio.get_running_loop().time()
        one.dispatcher.timed_out(bind, first, now)
        one.dispatcher.answered(bind, [Answered(first[0], 0, b"late", True)], now)
        one.answer(bind, count=1)
        await asyncio.sleep(0.05)
        assert (store.rows[message_id].history, one.dispatcher.in_flight) == ([], 3)  # the last one may yet be refused
        one.answer(bind)
        await until(lambda: store.states()[State.SENT] == 1)
        assert store.rows[message_id].history == [(Resolution.SENT, "north", 0)]
        await until(lambda: one.dispatcher.in_flight == 0)


# ---- what wakes it, without any sweep


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes round with time: whatever happens, something has said that it may."""
    monkeypatch.setattr("gateway.carriers.take_planner.SWEEP_EVERY", 1e9)


@pytest.mark.usefixtures("unswept")
@pytest.mark.parametrize("urgent", [False, True])
async def test_announced_work_is_taken_at_once(urgent: bool) -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        await idle(one)
        store.put("46700000001", category=Category.OTP if urgent else Category.TRANSACTIONAL)
        one.dispatcher.work_available(range(PARTITIONS), urgent=urgent)
        await until(lambda: len(one.binds[0].open) == 1)


async def idle(one: Harness) -> None:
    """Until it has looked everywhere and sleeps."""
    await until(lambda: not one.dispatcher._scheduler and not one.dispatcher._wake.is_set())


@pytest.mark.usefixtures("unswept")
async def test_a_bind_that_takes_work_again_is_served_at_once() -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        await idle(one)
        (bind,) = one.binds
        bind.paused = True
        store.put("46700000001")
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: not one.dispatcher._wake.is_set())
        assert bind.open == []
        bind.paused = False
        one.dispatcher.capacity_changed(bind)
        await until(lambda: len(bind.open) == 1)


@pytest.mark.usefixtures("unswept")
async def test_what_was_taken_and_had_no_room_is_written_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.carriers.window_writer.WRITE_WITHIN", 1e9)
    store = MemoryStore()
    store.put("46700000001")
    async with dispatching(store, 10) as one:
        (bind,), original = one.binds, store.take

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            bind.paused = any(taken.leased for taken in answer)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: bind.paused and not one.dispatcher._wake.is_set())
        bind.paused = False
        one.dispatcher.capacity_changed(bind)
        await until(lambda: len(bind.open) == 1)
        assert store.untaken == []


@pytest.mark.usefixtures("unswept")
@pytest.mark.parametrize("aside", [False, True], ids=["stored", "set aside"])
async def test_room_whose_answers_are_stored_or_set_aside_is_used_at_once(aside: bool) -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        fill(store, 30)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) == 9)
        if aside:
            held = [row.message for row in store.rows.values() if row.state is State.SENDING]
            bind.open = []
            one.dispatcher.set_aside([_sent(message) for message in held])
        else:
            one.answer(bind)
        await until(lambda: len(bind.bodies) == 18)


def _sent(leased: LeasedMessage) -> SubmitResult:
    part = PartAnswer(0, PartState.ACCEPTED, b"id")
    return SubmitResult(leased.id, leased.lease, "north", Resolution.SENT, Reason.NONE, 0, 0, 1, [part])


@pytest.mark.usefixtures("unswept")
async def test_a_delayed_message_is_taken_when_it_is_due() -> None:
    store = MemoryStore()
    row = store.rows[store.put("46700000001")]
    row.due = int(time() * 1000) + 50
    async with dispatching(store, 10) as one:
        await until(lambda: len(one.binds[0].open) == 1)
        assert time() * 1000 >= row.due


# ---- other settings while it runs


@pytest.mark.usefixtures("unswept")
async def test_new_routes_are_served_at_once() -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        now = asyncio.get_running_loop().time()
        one.dispatcher.set_routes([])
        store.put("46700000001")
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: not one.dispatcher._wake.is_set())
        assert not one.dispatcher.serves("*", now)
        assert one.binds[0].open == []
        one.dispatcher.set_routes([Route(carriers=("north",))])
        assert one.dispatcher.serves("*", now)
        await until(lambda: len(one.binds[0].open) == 1)


async def test_new_settings_apply_from_the_next_message_on() -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        changed = Carrier(
            name="north",
            hosts=("127.0.0.1:1",),
            system_id="gw",
            password="pw",
            rate=50,
            status_table={"0x58": "permanent"},
            sender_rates={"shop": 5.0},
            service_type="WAP",
        )
        one.dispatcher.adjust(changed, asyncio.get_running_loop().time())
        assert one.dispatcher.pace.bucket.rate == 50
        assert one.dispatcher.senders.rates == changed.sender_rates
        store.put("46700000001")
        await until(lambda: len(bind.open) == 1)
        assert bind.bodies[0].startswith(b"WAP\0")
        one.answer(bind, 0x58)
        await until(lambda: store.states()[State.REJECTED] == 1)


# ---- what other carriers and gateways learn


async def test_carrier_health_knows_binds_here_and_elsewhere() -> None:
    store = MemoryStore()
    async with dispatching(store, 10) as one:
        health, (bind,) = one.health, one.binds
        later = asyncio.get_running_loop().time() + 1000
        await until(lambda: not health.down("north", later))
        assert not health.away("north")
        one.binds.clear()
        one.dispatcher.wake()
        await until(lambda: health.down("north", later))
        assert not health.away("north")
        one.dispatcher.set_up_elsewhere(True)
        one.dispatcher.wake()
        await until(lambda: health.away("north"))
        assert not health.down("north", later)
        one.binds.append(bind)
        one.dispatcher.wake()
        await until(lambda: not health.away("north"))


async def test_a_carrier_without_room_counts_as_full_and_offers_its_work_to_others() -> None:
    told: list[int] = []
    store = MemoryStore()
    fill(store, 60)
    async with dispatching(store, 10, offer_to_others=told.extend) as one:
        later = asyncio.get_running_loop().time() + 1000
        await until(lambda: one.health.saturated("north", later))
        assert set(told) <= set(range(PARTITIONS))
        assert told != []
        answering = asyncio.create_task(one.answer_all())
        await until(lambda: store.states() == {State.SENT: 60} and not one.health.saturated("north", later))
        answering.cancel()


async def test_what_a_take_hands_back_for_a_decision_is_decided_and_what_the_gate_ended_is_counted() -> None:
    back: list[Redecide] = []
    store = MemoryStore()
    async with dispatching(store, 10, redecide=back.extend) as one:
        original = store.take
        handed = cast("Redecide", object())

        async def take(*args: Any) -> Any:
            first, *others = await original(*args)
            store.take = original  # type: ignore[method-assign]
            return [first._replace(redecide=[handed], dropped=3), *others]

        store.take = take  # type: ignore[method-assign]
        await until(lambda: back == [handed])
        assert (one.dispatcher.dropped, one.dispatcher.taken) == (3, 0)


async def test_a_lost_take_answer_returns_stray_leases_and_none_in_flight() -> None:
    store = MemoryStore()
    first = store.put("46700000001")
    async with dispatching(store, 10) as one:
        (bind,) = one.binds
        await until(lambda: len(bind.open) == 1)
        store.lose_takes = 1
        second = store.put("46700000002")
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) > 1)
        assert store.calls["untake_lost"] == 1
        assert [message.leased.id for message, _ in bind.open] == [first, second]
        one.answer(bind)
        await until(lambda: store.states() == {State.SENT: 2})
        assert len(bind.bodies) == 2
        await until(lambda: not one.dispatcher._leases._held)  # what is over is remembered no longer


async def test_a_message_its_closed_bind_could_not_take_is_returned_and_not_counted_as_failing() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with dispatching(store, 10) as one:
        (bind,) = one.binds

        def submit(body: bytes, context: object, now: float) -> None:
            one.binds.clear()
            raise ConnectionResetError

        bind.submit = submit  # type: ignore[method-assign]
        await until(lambda: len(store.untaken) > 0)
        assert (store.rows[message_id].state, store.rows[message_id].due) == (State.QUEUED, 0)
        assert (store.rows[message_id].history, one.dispatcher.in_flight) == ([], 0)


# ---- permits


class Permits:
    """All that is taken of a pace and given back to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = 0
        take, give_back, spend = Pace.take, Pace.give_back, Pace.spend

        def taking(pace: Pace, want: int, now: float) -> int:
            got = take(pace, want, now)
            self.used += got
            return got

        def giving(pace: Pace, count: int) -> None:
            self.used -= count
            give_back(pace, count)

        def spending(pace: Pace, count: int, now: float) -> None:
            self.used += count
            spend(pace, count, now)

        monkeypatch.setattr(Pace, "take", taking)
        monkeypatch.setattr(Pace, "give_back", giving)
        monkeypatch.setattr(Pace, "spend", spending)


async def test_every_part_that_is_written_costs_one_permit_and_nothing_else_costs_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    permits = Permits(monkeypatch)
    store = MemoryStore()
    async with dispatching(store, 40, rate=1000) as one:
        (bind,) = one.binds
        await idle(one)  # there was nothing to take
        assert permits.used == 0
        one.dispatcher.set_routes([])  # nothing that it might take
        one.dispatcher.work_available([0])
        one.dispatcher._plan(asyncio.get_running_loop().time() + 1)
        assert permits.used == 0
        one.dispatcher.set_routes([Route(carriers=("north",))])
        store.away = True  # the take fails
        store.put("46700000001", text="x" * 400)
        fill(store, 5)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: store.calls["take"] > 0 and store.calls["untake_lost"] > 0)
        assert (permits.used, bind.bodies) == (0, [])
        store.away = False  # it is tried again by itself
        await until(lambda: len(bind.bodies) == 8)
        assert permits.used == one.dispatcher.submitted == 8
        contexts, bind.open = bind.open, []
        one.dispatcher.lost(bind, contexts, (), asyncio.get_running_loop().time())
        store.put("46710000000", text="x" * 400)
        one.dispatcher.work_available(range(PARTITIONS))
        await until(lambda: len(bind.open) == 3)  # risked alone, with a permit for one part
        assert permits.used == one.dispatcher.submitted == 11


# ---- what cannot be read


@pytest.mark.parametrize("sealed", [False, True])
async def test_unreadable_messages_are_postponed(sealed: bool) -> None:
    store = MemoryStore()
    row = store.rows[store.put("46700000001")]
    async with dispatching(store, 10) as one:
        original = store.take

        async def take(*args: Any) -> Any:
            return [
                taken._replace(
                    leased=[],
                    unread=[UnreadableMessage(each.id, each.lease, "does not open", sealed) for each in taken.leased],
                )
                for taken in await original(*args)
            ]

        store.take = take  # type: ignore[method-assign]
        await until(lambda: row.due > 0)
        assert (row.state, one.dispatcher.in_flight, one.binds[0].bodies) == (State.QUEUED, 0, [])
