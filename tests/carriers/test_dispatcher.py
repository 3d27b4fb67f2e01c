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
from gateway.carriers.progress import ProgressWriter
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
    redecide: Callable[[list[Redecide]], None] = lambda items: None,
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
        redecide=redecide,
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


@pytest.mark.parametrize("resent", [0, 2], ids=["with others", "alone"])
async def test_what_is_not_written_when_we_stop_goes_back(resent: int) -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    store.rows[message_id].message.resent = resent
    async with bench(store, 10) as one:
        original = store.take

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            one.ports[0].paused = any(taken.leased for taken in answer)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: store.rows[message_id].state is State.SENDING)
    assert [one for one, _ in store.untaken] == [message_id]
    assert (store.states(), one.dispatcher.out, one.ports[0].bodies) == ({State.QUEUED: 1}, 0, [])


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
        assert {resolution for resolution, _, _ in row.history} == {Resolution.BACK, Resolution.SENT}


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


class Pauses:
    """Pauses of the machine, as the heart of a dispatcher sees them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._heartbeat = dispatcher._heartbeat

    def stand_still(self) -> None:
        """For longer than others wait until they take over what is ours."""
        self._heartbeat._last = asyncio.get_running_loop().time() - DEAD_AFTER - 2

    def beat(self) -> None:
        self._heartbeat._last = asyncio.get_running_loop().time()


async def test_nothing_is_taken_after_a_pause_of_ours_until_we_have_beaten() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with bench(store, 5) as one:
        pauses, now = Pauses(one.dispatcher), asyncio.get_running_loop().time()
        pauses.stand_still()
        assert one.dispatcher._plan(now) == ([], 0)
        pauses.beat()
        await until(lambda: len(one.ports[0].open) == 1)


async def test_what_waits_to_be_written_is_not_written_after_a_pause_of_ours_even_when_it_was_just_taken() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with bench(store, 5) as one:
        leased, now = await lease(store), asyncio.get_running_loop().time()
        one.dispatcher._leases.leased([leased])
        one.dispatcher._writer.put([InFlightMessage(leased, [b"x"], now)])
        one.dispatcher._out += 1
        Pauses(one.dispatcher).stand_still()
        one.dispatcher._tend(now)
        assert one.ports[0].bodies == []
        await until(lambda: store.rows[message_id].state is State.QUEUED)
        assert (one.ports[0].bodies, one.dispatcher.out) == ([], 0)


async def test_what_a_take_brings_after_a_pause_of_ours_is_not_written() -> None:
    store = MemoryStore()
    fill(store, 5)
    async with bench(store, 10) as one:
        original, pauses = store.take, Pauses(one.dispatcher)

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            pauses.stand_still()  # while the answer was on its way
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: len(store.untaken) > 0, 3)
        assert one.ports[0].bodies == []


async def test_what_a_take_brings_after_a_pause_of_ours_is_not_written_when_we_beat_right_after_it_either() -> None:
    """Others may have taken it over during the pause: it goes back under its lease, and what is still ours is taken
    anew."""
    store = MemoryStore()
    fill(store, 5)
    async with bench(store, 10) as one:
        original, pauses = store.take, Pauses(one.dispatcher)

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            store.take = original  # type: ignore[method-assign]
            pauses.stand_still()
            asyncio.get_running_loop().call_soon(pauses.beat)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: len(one.ports[0].open) == 5)
        assert len(store.untaken) > 0


async def test_no_part_of_a_long_message_follows_after_a_pause_of_ours_until_we_have_beaten() -> None:
    store = MemoryStore()
    store.put("46700000001", text="x" * 153 * 20)
    async with bench(store, 8) as one:
        (port,), original, pauses = one.ports, store.regate, Pauses(one.dispatcher)

        async def regate(*args: Any) -> Any:
            answer = await original(*args)
            pauses.stand_still()  # while the answer was on its way
            return answer

        store.regate = regate  # type: ignore[method-assign]
        await until(lambda: len(port.open) == 8)
        one.answer(port)
        await until(lambda: len(store.regated) == 3)  # it was asked again, and again the pause came first
        assert len(port.bodies) == 8
        store.regate = original  # type: ignore[method-assign]
        pauses.beat()
        await until(lambda: len(port.bodies) == 16)


async def test_a_successor_of_our_name_ends_the_writing_however_lately_we_have_beaten() -> None:
    store = MemoryStore()
    store.put("46700000001")
    async with bench(store, 5) as one:
        one.dispatcher._heartbeat.successor = "2"
        assert one.dispatcher._plan(asyncio.get_running_loop().time()) == ([], 0)
        one.dispatcher._heartbeat.successor = ""
        await until(lambda: len(one.ports[0].open) == 1)


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


# ---- what wakes it, without any sweep


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes round with time: whatever happens, something has said that it may."""
    monkeypatch.setattr("gateway.carriers.dispatcher.SWEEP_EVERY", 1e9)


@pytest.mark.usefixtures("unswept")
@pytest.mark.parametrize("urgent", [False, True])
async def test_a_hint_is_followed_at_once(urgent: bool) -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        await idle(one)
        store.put("46700000001", category=Category.OTP if urgent else Category.TRANSACTIONAL)
        one.dispatcher.hint(range(PARTITIONS), urgent=urgent)
        await until(lambda: len(one.ports[0].open) == 1)


async def idle(one: Bench) -> None:
    """Until it has looked everywhere and sleeps."""
    await until(lambda: not one.dispatcher._scheduler and not one.dispatcher._wake.is_set())


@pytest.mark.usefixtures("unswept")
async def test_a_bind_that_takes_work_again_is_served_at_once() -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        await idle(one)
        (port,) = one.ports
        port.paused = True
        store.put("46700000001")
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: not one.dispatcher._wake.is_set())
        assert port.open == []
        port.paused = False
        one.dispatcher.room(port)
        await until(lambda: len(port.open) == 1)


@pytest.mark.usefixtures("unswept")
async def test_what_was_taken_and_had_no_room_is_written_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.carriers.window_writer.WRITE_WITHIN", 1e9)
    store = MemoryStore()
    store.put("46700000001")
    async with bench(store, 10) as one:
        (port,), original = one.ports, store.take

        async def take(*args: Any) -> Any:
            answer = await original(*args)
            port.paused = any(taken.leased for taken in answer)
            return answer

        store.take = take  # type: ignore[method-assign]
        await until(lambda: port.paused and not one.dispatcher._wake.is_set())
        port.paused = False
        one.dispatcher.room(port)
        await until(lambda: len(port.open) == 1)
        assert store.untaken == []


@pytest.mark.usefixtures("unswept")
@pytest.mark.parametrize("aside", [False, True], ids=["stored", "set aside"])
async def test_room_whose_answers_are_stored_or_set_aside_is_used_at_once(aside: bool) -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        (port,) = one.ports
        fill(store, 30)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) == 9)
        if aside:
            held = [row.message for row in store.rows.values() if row.state is State.SENDING]
            port.open = []
            one.dispatcher.set_aside([_sent(message) for message in held])
        else:
            one.answer(port)
        await until(lambda: len(port.bodies) == 18)


def _sent(leased: LeasedMessage) -> SubmitResult:
    part = PartAnswer(0, PartState.ACCEPTED, b"id")
    return SubmitResult(leased.id, leased.lease, "north", Resolution.SENT, Reason.NONE, 0, 0, 1, [part])


@pytest.mark.usefixtures("unswept")
async def test_what_wakes_later_is_taken_when_it_does() -> None:
    store = MemoryStore()
    row = store.rows[store.put("46700000001")]
    row.due = int(time() * 1000) + 50
    async with bench(store, 10) as one:
        await until(lambda: len(one.ports[0].open) == 1)
        assert time() * 1000 >= row.due


# ---- other settings while it runs


@pytest.mark.usefixtures("unswept")
async def test_other_routes_are_served_at_once() -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        now = asyncio.get_running_loop().time()
        one.dispatcher.set_routes([])
        store.put("46700000001")
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: not one.dispatcher._wake.is_set())
        assert not one.dispatcher.serves("*", now)
        assert one.ports[0].open == []
        one.dispatcher.set_routes([Route(carriers=("north",))])
        assert one.dispatcher.serves("*", now)
        await until(lambda: len(one.ports[0].open) == 1)


async def test_other_settings_of_a_carrier_hold_from_the_next_message_on() -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        (port,) = one.ports
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
        await until(lambda: len(port.open) == 1)
        assert port.bodies[0].startswith(b"WAP\0")
        one.answer(port, 0x58)
        await until(lambda: store.states()[State.REJECTED] == 1)


# ---- what others are told


async def test_everybody_hears_whether_this_carrier_has_a_bind_here_or_elsewhere() -> None:
    store = MemoryStore()
    async with bench(store, 10) as one:
        health, (port,) = one.health, one.ports
        later = asyncio.get_running_loop().time() + 1000
        await until(lambda: not health.down("north", later))
        assert not health.away("north")
        one.ports.clear()
        one.dispatcher.wake()
        await until(lambda: health.down("north", later))
        assert not health.away("north")
        one.dispatcher.set_elsewhere(True)
        one.dispatcher.wake()
        await until(lambda: health.away("north"))
        assert not health.down("north", later)
        one.ports.append(port)
        one.dispatcher.wake()
        await until(lambda: not health.away("north"))


async def test_a_carrier_without_room_is_full_for_others_and_what_it_left_behind_is_theirs() -> None:
    told: list[int] = []
    store = MemoryStore()
    fill(store, 60)
    async with bench(store, 10, left=told.extend) as one:
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
    async with bench(store, 10, redecide=back.extend) as one:
        original = store.take
        handed = cast("Redecide", object())

        async def take(*args: Any) -> Any:
            first, *others = await original(*args)
            store.take = original  # type: ignore[method-assign]
            return [first._replace(redecide=[handed], dropped=3), *others]

        store.take = take  # type: ignore[method-assign]
        await until(lambda: back == [handed])
        assert (one.dispatcher.dropped, one.dispatcher.taken) == (3, 0)


async def test_a_take_whose_answer_was_lost_brings_back_what_nobody_heard_of_and_nothing_that_is_on_its_way() -> None:
    store = MemoryStore()
    first = store.put("46700000001")
    async with bench(store, 10) as one:
        (port,) = one.ports
        await until(lambda: len(port.open) == 1)
        store.lose_takes = 1
        second = store.put("46700000002")
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) > 1)
        assert store.calls["untake_lost"] == 1
        assert [job.leased.id for job, _ in port.open] == [first, second]
        one.answer(port)
        await until(lambda: store.states() == {State.SENT: 2})
        assert len(port.bodies) == 2
        await until(lambda: not one.dispatcher._leases._held)  # what is over is remembered no longer


async def test_what_a_bind_could_not_take_because_it_had_ended_goes_back_and_is_not_to_blame() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001")
    async with bench(store, 10) as one:
        (port,) = one.ports

        def submit(body: bytes, context: object, now: float) -> None:
            one.ports.clear()
            raise ConnectionResetError

        port.submit = submit  # type: ignore[method-assign]
        await until(lambda: len(store.untaken) > 0)
        assert (store.rows[message_id].state, store.rows[message_id].due) == (State.QUEUED, 0)
        assert (store.rows[message_id].history, one.dispatcher.out) == ([], 0)


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
    async with bench(store, 40, rate=1000) as one:
        (port,) = one.ports
        await idle(one)  # there was nothing to take
        assert permits.used == 0
        one.dispatcher.set_routes([])  # nothing that it might take
        one.dispatcher.hint([0])
        one.dispatcher._plan(asyncio.get_running_loop().time() + 1)
        assert permits.used == 0
        one.dispatcher.set_routes([Route(carriers=("north",))])
        store.away = True  # the take fails
        store.put("46700000001", text="x" * 400)
        fill(store, 5)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: store.calls["take"] > 0 and store.calls["untake_lost"] > 0)
        assert (permits.used, port.bodies) == (0, [])
        store.away = False  # it is tried again by itself
        await until(lambda: len(port.bodies) == 8)
        assert permits.used == one.dispatcher.submitted == 8
        contexts, port.open = port.open, []
        one.dispatcher.lost(port, contexts, (), asyncio.get_running_loop().time())
        store.put("46710000000", text="x" * 400)
        one.dispatcher.hint(range(PARTITIONS))
        await until(lambda: len(port.open) == 3)  # risked alone, with a permit for one part
        assert permits.used == one.dispatcher.submitted == 11


# ---- what cannot be read


@pytest.mark.parametrize("sealed", [False, True])
async def test_what_a_take_brings_and_nobody_can_read_goes_back_for_later(sealed: bool) -> None:
    store = MemoryStore()
    row = store.rows[store.put("46700000001")]
    async with bench(store, 10) as one:
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
        assert (row.state, one.dispatcher.out, one.ports[0].bodies) == (State.QUEUED, 0, [])
