# ruff: noqa: SIM117  # who serves whom reads better nested
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.carriers.connection import Bind, BindListeners
from gateway.carriers.pool import BindPool
from gateway.config import Carrier
from gateway.simulator import Faults, Simulator
from gateway.smpp.events import Answered
from gateway.smpp.short_message import ShortMessage, submit_template
from tests.carriers.test_service import until

BODY = submit_template(source=b"shop", source_ton=5).encode(b"46700000001", b"hello")


class RecordingListener:
    """Records what binds report."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.messages: list[ShortMessage] = []
        self.unknown: list[Any] = []
        self.unwritten: list[Any] = []
        self.rooms = 0

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        self.answers += answers

    def received(self, bind: Bind, messages: list[ShortMessage], now: float) -> None:
        self.messages += messages

    def timed_out(self, bind: Bind, contexts: Sequence[Any], now: float) -> None:
        self.unknown += contexts

    def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        self.unknown += unknown
        self.unwritten += unwritten

    def capacity_changed(self, bind: Bind) -> None:
        self.rooms += 1


@asynccontextmanager
async def pool_to(
    ports: Sequence[int], listener: RecordingListener | None = None, **settings: Any
) -> AsyncIterator[BindPool]:
    carrier = Carrier(
        name="north",
        hosts=tuple(f"127.0.0.1:{port}" for port in ports),
        system_id="gw",
        password="pw",
        **{"binds": 1, "window": 5, **settings},
    )
    pool, listener = BindPool(carrier), listener or RecordingListener()
    running = asyncio.create_task(pool.run(BindListeners(listener, listener)))
    try:
        yield pool
        await pool.finish()
        await asyncio.wait_for(running, 5)
    finally:
        running.cancel()


async def bound(pool: BindPool, count: int = 1) -> Bind:
    await until(lambda: len(pool.binds) == count)
    return pool.binds[0]


async def test_repr_is_a_status_line() -> None:
    async with Simulator() as simulator:
        async with pool_to([simulator.port]) as pool:
            assert repr(pool.slots[0]) == "<BindSlot north/1 down, 0 failures (not tried yet)>"
            bind = await bound(pool)
            expected = f"<Bind north/1 trx 127.0.0.1:{simulator.port} bound_trx window 0/5 up 0 s>"
            assert repr(bind).lower().replace("bound_transceiver", "bound_trx") == expected.lower()


async def test_submits_leave_in_one_write_and_are_answered() -> None:
    listener = RecordingListener()
    async with Simulator() as simulator:
        async with pool_to([simulator.port], listener) as pool:
            bind = await bound(pool)
            now = asyncio.get_running_loop().time()
            for number in range(5):
                bind.submit(BODY, number, now)
            assert bind.free == 0
            await until(lambda: len(listener.answers) == 5)
            assert [answer.context for answer in listener.answers] == [0, 1, 2, 3, 4]
            assert bind.proven


async def test_submits_never_written_are_reported_as_unwritten() -> None:
    listener = RecordingListener()
    async with Simulator(Faults(noresp_every=1)) as simulator:
        async with pool_to([simulator.port], listener) as pool:
            bind = await bound(pool)
            now = asyncio.get_running_loop().time()
            bind.submit(BODY, "written", now)
            await until(lambda: simulator.stats.submits == 1)
            bind.submit(BODY, "not written", now)
            bind.abort("test")
            await asyncio.sleep(0.05)
        assert (listener.unknown, listener.unwritten) == (["written"], ["not written"])
        assert simulator.stats.submits == 1


async def test_binds_go_to_the_hosts_in_turn() -> None:
    async with Simulator() as one, Simulator() as two:
        async with pool_to([one.port, two.port], binds=2) as pool:
            await bound(pool, 2)
            assert (one.stats.bound, two.stats.bound) == (1, 1)


async def test_a_host_that_is_away_is_left_for_the_next() -> None:
    async with Simulator() as one, Simulator() as two:
        await one.stop()
        async with pool_to([one.port, two.port]) as pool:
            await bound(pool)
            assert two.stats.bound == 1


async def test_a_wrong_password_is_not_tried_again() -> None:
    async with Simulator(users={"gw": "another"}) as simulator:
        async with pool_to([simulator.port], binds=3) as pool:
            await until(lambda: bool(pool.slots[0].last_error))
            await asyncio.sleep(1.2)
            assert simulator.stats.connections == 1
            assert pool.slots[0].last_error == "ESME_RINVPASWD"
            left = [slot.next_try - asyncio.get_running_loop().time() for slot in pool.slots]
            assert min(left) > 55


async def test_at_most_two_tries_a_second_over_all_binds() -> None:
    async with Simulator(Faults(refuse_connections=True)) as simulator:
        async with pool_to([simulator.port], binds=20):
            await asyncio.sleep(2.2)
            assert simulator.stats.connections <= 6


async def test_a_carrier_that_ends_every_bind_at_once_is_tried_with_growing_delays() -> None:
    async with Simulator() as simulator:
        async with pool_to([simulator.port], binds=2) as pool:
            for times in (1, 2, 3):
                for slot in pool.slots:
                    slot.next_try = 0.0
                    slot.wake.set()
                await until(lambda: all(slot.bind is not None and slot.bind.session.bound for slot in pool.slots))
                for slot in pool.slots:
                    assert slot.bind is not None
                    slot.bind.abort("over at once")
                await until(lambda: [slot.failures for slot in pool.slots] == [times, times])  # noqa: B023


async def test_a_bind_that_is_ended_at_once_does_not_wake_the_others() -> None:
    async with Simulator() as simulator:
        async with pool_to([simulator.port], binds=2) as pool:
            await bound(pool, 2)
            one, other = pool.slots
            assert one.bind is not None and other.bind is not None
            other.bind.abort("over at once")
            await until(lambda: other.failures == 1)
            other.next_try = before = other.next_try + 1000.0
            one.bind.abort("over at once")
            await until(lambda: one.failures == 1)
            one.next_try = 0.0
            one.wake.set()
            await until(lambda: one.bind is not None and one.bind.session.bound)
            assert (other.next_try, other.bind) == (before, None)


async def test_a_carrier_that_hangs_is_given_up_and_reported() -> None:
    listener = RecordingListener()
    async with Simulator(Faults(ignore_enquire_link=True, noresp_every=1)) as simulator:
        async with pool_to([simulator.port], listener, enquire_interval=0.2) as pool:
            bind = await bound(pool)
            bind.session._enquire_timeout = 0.2  # type: ignore[attr-defined]
            bind.submit(BODY, "hanging", asyncio.get_running_loop().time())
            await asyncio.wait_for(bind.closed.wait(), 5)
            assert listener.unknown == ["hanging"]
            assert "enquire_link" in bind.reason


async def test_the_peers_unbind_ends_the_bind_and_another_follows() -> None:
    async with Simulator() as simulator:
        async with pool_to([simulator.port]) as pool:
            first = await bound(pool)
            simulator.unbind()
            await asyncio.wait_for(first.closed.wait(), 8)
            await until(lambda: pool.binds != [] and pool.binds[0] is not first)


async def test_a_graceful_end_waits_for_answers() -> None:
    listener = RecordingListener()
    async with Simulator(Faults(latency_ms=150)) as simulator:
        async with pool_to([simulator.port], listener) as pool:
            bind = await bound(pool)
            bind.submit(BODY, 1, asyncio.get_running_loop().time())
            await pool.finish()
            assert [answer.status for answer in listener.answers] == [0]
            assert (listener.unknown, listener.unwritten) == ([], [])
            assert simulator.stats.cut == 0
            assert bind.reason == "unbound"


async def test_a_pool_is_sick_when_no_bind_answers_submits() -> None:
    listener = RecordingListener()
    async with Simulator(Faults(noresp_every=1)) as simulator:
        async with pool_to([simulator.port], listener, binds=2, response_timeout=0.3) as pool:
            assert pool.sick  # none is up
            await bound(pool, 2)
            assert not pool.sick
            now = asyncio.get_running_loop().time()
            one, two = pool.binds
            one.submit(BODY, 1, now)
            await until(lambda: one.sick)
            assert not pool.sick
            two.submit(BODY, 2, now)
            await until(lambda: pool.sick)
            assert (one.free, two.free) == (1, 1)
            simulator.faults.noresp_every = 0
            one.submit(BODY, "probe", asyncio.get_running_loop().time())
            await until(lambda: not pool.sick)
            assert one.free == 4  # the first still has its place


async def test_late_answers_count_and_make_the_time_out_longer_over_reconnects() -> None:
    listener = RecordingListener()
    async with Simulator(Faults(latency_ms=6000)) as simulator:
        async with pool_to([simulator.port], listener, response_timeout=0.3) as pool:
            bind = await bound(pool)
            bind.submit(BODY, "slow", asyncio.get_running_loop().time())
            await until(lambda: listener.unknown == ["slow"])
            await until(lambda: len(listener.answers) == 1)
            assert (listener.answers[0].context, listener.answers[0].status, listener.answers[0].late) == (
                "slow",
                0,
                True,
            )
            assert (pool.totals().late_answers, pool.totals().given_up) == (1, 1)
            simulator.drop()
            await until(lambda: pool.binds not in ([], [bind]))
            assert (pool.totals().late_answers, pool.totals().given_up) == (1, 1)
            assert 9 <= pool.timeout(asyncio.get_running_loop().time()) < 12
