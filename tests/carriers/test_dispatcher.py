from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.carriers.dispatcher import Dispatcher
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.lanes import CarrierHealth, CarrierLanes
from gateway.carriers.progress import ProgressWriter
from gateway.carriers.validity import PROOFS
from gateway.config import Carrier, CarrierTlv, Route
from gateway.model import Category, Leased, OnUnknown, PartState, Priority, Reason, Resolution, State
from gateway.policy.pace import Pace
from gateway.smpp.events import Answered
from gateway.store.requests import Lane, TakeRequest
from tests.carriers.memory_store import OWNER, PARTITIONS, MemoryStore, beating
from tests.carriers.test_service import until


class FakePort:
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


class Bench:
    """A dispatcher between a store in memory and fake ports."""

    def __init__(
        self, store: MemoryStore, dispatcher: Dispatcher, ports: list[FakePort], health: CarrierHealth
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.ports = ports
        self.binds = ports
        self.health = health

    @property
    def sick(self) -> bool:
        return all(port.sick for port in self.ports)

    def answer(self, port: FakePort, status: int = 0, count: int | None = None, named: bool = True) -> None:
        contexts, port.open = port.open[:count], port.open[len(port.open) if count is None else count :]
        answers = [Answered(context, status, b"id%d" % id(context) if named else b"", False) for context in contexts]
        self.dispatcher.answered(port, answers, asyncio.get_running_loop().time())

    async def answer_all(self, status: int = 0) -> None:
        while True:
            await asyncio.sleep(0.01)
            for port in self.ports:
                if port.open:
                    self.answer(port, status)


@asynccontextmanager
async def bench(
    store: MemoryStore,
    *windows: int,
    rate: float = 0,
    left: Callable[[Sequence[int]], None] = lambda partitions: None,
    **settings: Any,
) -> AsyncIterator[Bench]:
    carrier = Carrier(name="north", hosts=("127.0.0.1:1",), system_id="gw", password="pw", **settings)
    now = asyncio.get_running_loop().time()
    health = CarrierHealth(["north"], now)
    progress_writer = ProgressWriter(store, OWNER, lambda answers, matches, tickets: dispatcher.reported(answers))
    dispatcher = Dispatcher(
        carrier,
        store=store,
        heartbeat=await beating(store),
        lanes=CarrierLanes("north", [Route(carriers=("north",))], health, {}),
        health=health,
        pace=Pace(rate, now),
        progress_writer=progress_writer,
        redecide=lambda items: None,
        left=left,
    )
    one = Bench(
        store,
        dispatcher,
        [FakePort(f"north/{number}", window) for number, window in enumerate(windows)],
        health,
    )
    dispatcher.binds = one
    tasks = [asyncio.create_task(dispatcher.run()), asyncio.create_task(progress_writer.run())]
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
    async with bench(store, 60, 40) as one:
        await until(lambda: store.states()[State.SENDING] == 90)
        await asyncio.sleep(0.3)
        assert store.states()[State.SENDING] == 90
        for number in range(15):
            store.put(f"4671{number:07}", category=Category.OTP)
        one.dispatcher.hint(range(PARTITIONS), urgent=True)
        await until(lambda: store.states()[State.SENDING] == 100)
        await asyncio.sleep(0.3)
        assert store.states()[State.SENDING] == 100
        assert [len(port.open) for port in one.ports] == [60, 40]


async def test_answers_hold_their_room_until_they_are_stored() -> None:
    store = MemoryStore()
    fill(store, 100)
    async with bench(store, 10) as one:
        await until(lambda: len(one.ports[0].open) == 9)
        store.away = True
        one.answer(one.ports[0])
        await asyncio.sleep(0.2)
        assert (one.dispatcher.out, one.ports[0].open) == (9, [])
        store.away = False
        await until(lambda: store.states()[State.SENT] == 9)
        await until(lambda: len(one.ports[0].open) == 9)


async def test_spreads_over_binds_by_room() -> None:
    store = MemoryStore()
    async with bench(store, 100, 50) as one:
        fill(store, 90)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: sum(len(port.open) for port in one.ports) == 90)
        assert len(one.ports[0].open) > len(one.ports[1].open) > 15


async def test_a_bind_that_is_full_does_not_block_the_others() -> None:
    store = MemoryStore()
    fill(store, 300)
    async with bench(store, 20, 20) as one:
        one.ports[0].paused = True
        answering = asyncio.create_task(one.answer_all())
        await until(lambda: store.states()[State.SENT] == 300)
        answering.cancel()
        assert one.ports[0].bodies == []


async def test_the_rate_is_kept() -> None:
    store = MemoryStore()
    fill(store, 400)
    async with bench(store, 100, rate=200) as one:
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
    async with bench(store, 10) as one:
        port = one.ports[0]
        fill(store, 5)
        original = store.take

        async def take(*args: Any) -> Any:
            port.paused = True  # the transport fills up while the store is asked
            return await original(*args)

        store.take = take  # type: ignore[method-assign]
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: store.untaken != [], 3)
        assert store.states() == {State.QUEUED: 5}
        assert one.dispatcher.out == 0


async def test_nothing_is_written_without_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    fill(store, 5)
    monkeypatch.setattr("gateway.cluster.heartbeat.STOP_WRITING", 0.0)
    async with bench(store, 10) as one:
        await asyncio.sleep(0.4)
        assert one.ports[0].bodies == []
        assert store.calls["take"] == 0


async def test_lost_binds_make_unknown_what_was_written_and_bring_back_the_rest() -> None:
    store = MemoryStore()
    store.put("46700000001")
    store.put("46700000002")
    async with bench(store, 10) as one:
        port = one.ports[0]
        await until(lambda: len(port.open) == 2)
        one.ports.clear()
        one.dispatcher.lost(port, port.open[:1], port.open[1:], 0.0)
        await until(lambda: store.states() == {State.UNKNOWN: 1, State.QUEUED: 1})
        assert one.dispatcher.out == 0


async def test_a_late_answer_after_the_timeout_still_tells_its_id() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with bench(store, 10) as one:
        port = one.ports[0]
        await until(lambda: len(port.open) == 1)
        one.dispatcher.timed_out(port, port.open, 0.0)
        await until(lambda: store.rows[message_id].state is State.UNKNOWN)
        one.answer(port)
        await until(lambda: len(store.rows[message_id].history) == 2)
        assert store.rows[message_id].history[1][0] is Resolution.SENT
        assert store.rows[message_id].parts == {0: PartState.ACCEPTED}
        await until(lambda: one.dispatcher.out == 0)


async def test_only_the_refused_part_is_sent_again() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", "x" * 400)
    async with bench(store, 10) as one:
        port = one.ports[0]
        await until(lambda: len(port.open) == 3)
        first = list(port.bodies)
        one.answer(port, 0, 1)
        one.answer(port, 0x58, 1)
        one.answer(port, 0)
        await until(lambda: len(port.open) == 1)
        assert port.bodies[3] == first[1]
        one.answer(port)
        await until(lambda: store.rows[message_id].state is State.SENT)


async def test_a_bind_at_fault_is_repaired() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with bench(store, 10) as one:
        port = one.ports[0]
        await until(lambda: len(port.open) == 1)
        one.answer(port, 0x04)
        await until(lambda: bool(port.aborted))
        await until(lambda: store.rows[message_id].history != [])
        assert store.rows[message_id].history[0][0] is Resolution.BACK


async def test_frequent_full_queues_slow_the_pace() -> None:
    store = MemoryStore()
    fill(store, 60)
    async with bench(store, 100, rate=1000) as one:
        port = one.ports[0]
        await until(lambda: len(port.open) == 60)
        one.answer(port, 0x14)
        assert one.dispatcher.pace.slowed


async def test_repr_is_a_status_line() -> None:
    async with bench(MemoryStore(), 10) as one:
        assert repr(one.dispatcher) == "<Dispatcher north 0 out, 0 submitted, <Pace unlimited of 0/s, 0 decreases>>"


async def test_marketing_waits_for_the_close_when_less_than_a_minute_is_left() -> None:
    store = MemoryStore()
    closes = int(time() * 1000) - 1
    marketing = store.rows[store.put("46700000001", category=Category.MARKETING)]
    other = store.rows[store.put("46700000002")]
    marketing.message.closes = other.message.closes = closes
    async with bench(store, 10) as one:
        (port,) = one.ports
        await until(lambda: len(port.bodies) == 1 and store.calls["postpone"] == 1)
        assert (marketing.state, marketing.due, marketing.history) == (State.QUEUED, closes, [])
        assert b"46700000002" in port.bodies[0]


async def test_a_validity_that_is_refused_is_left_out_at_the_second_try_and_only_then() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with bench(store, 10) as one:
        (port,) = one.ports
        await until(lambda: bool(port.open))
        one.answer(port, 0x62)
        await until(lambda: bool(port.open))
        assert b"000+\0" in port.bodies[0]
        assert b"000+\0" not in port.bodies[1]
        one.answer(port, 0x62)
        await until(lambda: store.states()[State.REJECTED] == 1)
        (row,) = store.rows.values()
        assert row.history == [(Resolution.BACK, "north", 0), (Resolution.REJECTED, "north", 0x62)]


@pytest.mark.parametrize("named", [True, False], ids=["with ids", "without ids"])
async def test_a_carrier_that_takes_nothing_with_a_validity_is_known_after_three_messages(named: bool) -> None:
    """Whatever its answers look like: else every message would be refused once, for ever."""
    store = MemoryStore()
    async with bench(store, 10) as one:
        (port,) = one.ports
        for number in range(PROOFS):
            store.put(f"4670000000{number}")
            one.dispatcher.hint(range(store.partitions))
            await until(lambda: bool(port.open))
            one.answer(port, 0x62)
            await until(lambda: bool(port.open))
            one.answer(port, named=named)
        assert one.dispatcher.validity.off


async def test_a_carriers_own_word_on_that_status_counts_more() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with bench(store, 10, status_table={"0x62": "permanent"}) as one:
        await until(lambda: bool(one.ports[0].open))
        one.answer(one.ports[0], 0x62)
        await until(lambda: store.states()[State.REJECTED] == 1)
        assert len(one.ports[0].bodies) == 1


async def test_what_a_carrier_cannot_take_is_said_once_a_minute_for_each_reason() -> None:
    store = MemoryStore()
    fill(store, 40)
    tlvs = (CarrierTlv(tag=0x1401, metadata="template_id", required=True),)
    with capture_logs() as lines:
        async with bench(store, 10, tlvs=tlvs):
            await until(lambda: store.states()[State.REJECTED] == 40)
    said = [line["error"] for line in lines if "cannot be sent" in line["event"]]
    assert said == ['carrier "north" demands TLV 0x1401; give metadata.template_id (text or a whole number)']


# ---- carriers that answer nothing, and messages that were lost before


async def test_after_submits_were_lost_one_message_goes_at_a_time_until_something_is_answered() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with bench(store, 50) as one:
        (port,) = one.ports
        await until(lambda: len(port.open) == 1)
        contexts, port.open = port.open, []
        one.dispatcher.lost(port, contexts, (), asyncio.get_running_loop().time())
        fill(store, 30)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) == 1)
        await asyncio.sleep(0.4)
        assert len(port.open) == 1
        one.answer(port)
        await until(lambda: len(port.open) == 29)


async def test_a_carrier_that_loses_whatever_it_is_handed_is_down_for_others_until_it_answers() -> None:
    store = MemoryStore()
    async with bench(store, 50) as one:
        (port,) = one.ports
        for number in range(2):
            assert not one.health.down("north", asyncio.get_running_loop().time())
            await lose_one(one, number)
        await until(lambda: one.health.down("north", asyncio.get_running_loop().time()))
        store.put("46710000000")
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) > 0)
        one.answer(port, 0x45)
        await until(lambda: not one.health.down("north", asyncio.get_running_loop().time()))


async def lose_one(one: Bench, number: int) -> None:
    """A message is written, and the link breaks over it."""
    (port,) = one.ports
    one.store.put(f"4670{number:07}")
    one.dispatcher.hint(range(PARTITIONS))
    await until(lambda: len(port.open) > 0)
    contexts, port.open = port.open, []
    one.dispatcher.lost(port, contexts, (), asyncio.get_running_loop().time())


async def test_a_carrier_that_complains_of_every_session_is_down_for_others() -> None:
    store = MemoryStore()
    fill(store, 1)
    async with bench(store, 50) as one:
        (port,) = one.ports
        for _ in range(2):
            await until(lambda: len(port.open) > 0)
            one.answer(port, 0x04)
        await until(lambda: one.health.down("north", asyncio.get_running_loop().time()))


async def test_what_a_failing_carrier_lost_is_told_to_those_that_take_over_first() -> None:
    told: list[int] = []
    store = MemoryStore()
    async with bench(store, 50, left=told.extend) as one:
        await lose_one(one, 1)
        await until(lambda: one.dispatcher.out == 0)
        assert told == []
        await lose_one(one, 2)
        await until(lambda: len(told) == 1)


async def test_one_message_that_is_always_throttled_makes_room_for_the_others() -> None:
    store = MemoryStore()
    poison = store.put("46700000001")
    async with bench(store, 1) as one:
        (port,) = one.ports
        number = 0
        while not any(row[0] is Resolution.RETRY for row in store.rows[poison].history):
            number += 1
            store.put(f"4671{number:07}")
            one.dispatcher.hint(range(PARTITIONS))
            await until(lambda: len(port.open) > 0)
            mine = port.open[0][0].leased.id == poison
            one.answer(port, 0x58 if mine else 0)
        assert {status for _, _, status in store.rows[poison].history} == {0x58}


async def test_a_long_message_that_goes_on_is_not_to_blame_for_the_part_that_is_refused() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", "x" * 900)
    row = store.rows[message_id]
    async with bench(store, 20) as one:
        (port,) = one.ports
        while row.state is not State.SENT:
            await until(lambda: len(port.open) > 0 or row.state is State.SENT)
            one.answer(port, 0, 1)
            one.answer(port, 0x04)
        assert len(row.history) > 4
        assert {fate for fate, _, _ in row.history} == {Resolution.BACK, Resolution.SENT}


async def test_a_sick_carrier_is_asked_with_a_message_that_may_be_resent_and_is_down_for_others() -> None:
    store = MemoryStore()
    for number in range(5):
        store.put(f"4670{number:07}", category=Category.MARKETING)
    async with bench(store, 50) as one:
        (port,) = one.ports
        port.sick = True
        one.dispatcher.wake()
        await asyncio.sleep(0.6)
        assert port.open == []
        assert one.health.down("north", asyncio.get_running_loop().time())
        store.put("46710000000")
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) == 1)
        assert port.open[0][0].leased.envelope.to == "46710000000"
        port.sick = False
        one.answer(port)
        await until(lambda: len(port.open) == 5)
        assert not one.health.down("north", asyncio.get_running_loop().time())


async def test_a_carrier_that_answers_nothing_and_cannot_be_asked_is_connected_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.carriers.probing.RECONNECT_AFTER", 0.3)
    store = MemoryStore()
    store.put("46700000001", category=Category.MARKETING)
    async with bench(store, 50) as one:
        one.ports[0].sick = True
        await until(lambda: one.ports[0].aborted != "")
        one.ports[0].sick = False  # another connection: one message is risked, since nothing else waits
        await until(lambda: len(one.ports[0].open) == 1)


async def test_a_sick_bind_beside_a_healthy_one_gets_no_advertising() -> None:
    store = MemoryStore()
    async with bench(store, 20, 20) as one:
        one.ports[0].sick = True
        for number in range(10):
            store.put(f"4670{number:07}", category=Category.MARKETING)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(one.ports[1].open) == 10)
        assert one.ports[0].open == []


async def test_what_was_lost_twice_goes_over_a_bind_on_which_nothing_else_is_unanswered() -> None:
    store = MemoryStore()
    fill(store, 30)
    async with bench(store, 20, 20) as one:
        await until(lambda: sum(len(port.open) for port in one.ports) == 30)
        row = store.rows[store.put("46710000000")]
        row.message.resent = 2
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(store.queues[row.message.recipient.partition]) == 0)
        assert all(len(port.open) > 5 for port in one.ports)  # neither is empty: it waits
        for port in one.ports:
            one.answer(port)
        await until(lambda: any(port.open for port in one.ports))
        (port,) = [port for port in one.ports if port.open]
        assert [job.leased.id for job, _ in port.open] == [row.message.id]
        fill(store, 5)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: sum(len(port.open) for port in one.ports) == 6)


async def test_the_only_bind_serves_others_between_two_that_go_alone() -> None:
    store = MemoryStore()
    for number in range(3):
        store.rows[store.put(f"4671{number:07}")].message.resent = 2
    async with bench(store, 10) as one:
        answering = asyncio.create_task(one.answer_all())
        fill(store, 40)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: store.states() == {State.SENT: 43})
        answering.cancel()
        assert one.dispatcher.tally.resent == 3


# ---- long messages


async def test_every_window_of_a_long_message_asks_the_gate_and_stops_at_its_word() -> None:
    store = MemoryStore()
    id_ = store.put("46700000001", text="x" * 153 * 20)
    async with bench(store, 8) as one:
        (port,) = one.ports
        await until(lambda: len(port.open) == 8)
        assert store.regated == []  # the take has asked
        one.answer(port)
        await until(lambda: len(port.open) == 8)
        assert store.regated == [id_]
        store.stopped[id_] = Reason.CONSENT_REVOKED
        one.answer(port)
        await until(lambda: store.rows[id_].history != [])
        assert len(port.bodies) == 16, "no part follows a revocation"
        assert store.rows[id_].history[-1][0] is Resolution.BACK  # the store has marked it, and ends it


async def test_a_long_message_is_not_begun_when_its_window_closes_before_its_end() -> None:
    store = MemoryStore()
    close = int(time() * 1000) + 200_000
    late = store.put("46700000001", text="x" * 153 * 40, closes=close)
    soon = store.put("46700000002", text="x" * 153 * 2, closes=close)
    async with bench(store, 10, rate=0.1) as one:
        one.dispatcher.pace.set_limit(0.15, asyncio.get_running_loop().time() - 1000)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: store.rows[late].due == close)
        assert store.rows[late].state is State.QUEUED
        assert store.rows[soon].due == 0


# ---- late answers


async def test_a_late_refusal_is_told_and_a_late_answer_brings_its_id() -> None:
    store = MemoryStore()
    first, second = store.put("46700000001"), store.put("46700000002")
    async with bench(store, 10) as one:
        (port,) = one.ports
        await until(lambda: len(port.open) == 2)
        contexts, port.open = port.open, []
        one.dispatcher.timed_out(port, contexts, asyncio.get_running_loop().time())
        await until(lambda: store.states() == {State.UNKNOWN: 2})
        assert one.dispatcher.out == 0
        late = {job.leased.id: (job, index) for job, index in contexts}
        answers = [Answered(late[first], 0, b"late", True), Answered(late[second], 0x0B, b"", True)]
        one.dispatcher.answered(port, answers, asyncio.get_running_loop().time())
        await until(lambda: len(store.rows[second].history) == 2)
        assert store.ids["north", b"late"] == first
        assert store.rows[second].history[-1] == (Resolution.REJECTED, "north", 0x0B)
        assert one.dispatcher.out == 0


async def test_after_a_pause_of_ours_nothing_is_written_that_may_be_somebody_elses_by_now() -> None:
    """It was leased and could not be written; then the process stood still, and beats again before it looks."""
    store = MemoryStore()
    store.put("46700000001")
    async with bench(store, 5) as one:
        one.ports[0].paused = True
        one.dispatcher._writer.put(
            [InFlightMessage((await lease(store)), [b"x"], asyncio.get_running_loop().time() - 12)]
        )
        one.dispatcher._leases.leased([store.rows[next(iter(store.rows))].message])
        one.dispatcher._out += 1
        one.ports[0].paused = False
        one.dispatcher._tend(asyncio.get_running_loop().time())
        assert one.ports[0].bodies == []
        await until(lambda: bool(store.untaken))


async def lease(store: MemoryStore) -> Leased:
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
    async with bench(store, 20) as one:
        (port,) = one.ports
        await until(lambda: len(port.open) == 3)
        first, port.open = port.open[:1], port.open[1:]
        now = asyncio.get_running_loop().time()
        one.dispatcher.timed_out(port, first, now)
        one.dispatcher.answered(port, [Answered(first[0], 0, b"late", True)], now)
        one.answer(port, count=1)
        await asyncio.sleep(0.05)
        assert (store.rows[message_id].history, one.dispatcher.out) == ([], 3)  # the last one may yet be refused
        one.answer(port)
        await until(lambda: store.states()[State.SENT] == 1)
        assert store.rows[message_id].history == [(Resolution.SENT, "north", 0)]
        await until(lambda: one.dispatcher.out == 0)
