# ruff: noqa: SIM117  # who serves whom reads better nested
"""One carrier's whole serving against the simulator, with the store in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.carriers.lanes import CarrierHealth, CarrierLanes, RouteShares
from gateway.carriers.service import CarrierService
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.config import Carrier, Route
from gateway.model import Category, Resolution, State
from gateway.simulator import Faults, Simulator, StatusRule
from tests.carriers.memory_store import HASHER, MemoryStore, beating


@asynccontextmanager
async def serving(simulator: Simulator, store: MemoryStore, **settings: Any) -> AsyncIterator[CarrierService]:
    first_sequence = settings.pop("first_sequence", 1)
    carrier = Carrier(
        name="north",
        hosts=(f"127.0.0.1:{simulator.port}",),
        system_id="gw",
        password="pw",
        **{"rate": 0, "binds": 2, "window": 20, **settings},
    )
    health = CarrierHealth(["north"], asyncio.get_running_loop().time())
    shares: dict[str, RouteShares] = {}
    service = CarrierService(
        carrier,
        store=store.as_real(),
        heartbeat=await beating(store),
        lanes=CarrierLanes("north", [Route(carriers=("north",))], health, shares),
        health=health,
        hasher=HASHER,
        forms=ReceiptIdForms(store.as_real()),
        redecide=lambda items: None,
        first_sequence=first_sequence,
    )
    running = asyncio.create_task(service.run())
    try:
        yield service
        await service.stop()
        await asyncio.wait_for(running, 5)
    finally:
        running.cancel()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # a simulator rings no bell
            await asyncio.sleep(0.01)


def fill(store: MemoryStore, count: int, **message: Any) -> list[bytes]:
    return [store.put(f"4670{number:07}", **message) for number in range(count)]


async def test_everything_is_sent_and_delivered() -> None:
    store = MemoryStore()
    fill(store, 300)
    async with Simulator(ledger=True) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: store.states()[State.DELIVERED] == 300)
            assert len({entry.dest for entry in simulator.ledger}) == 300
            await until(lambda: repr(service.pool) == "<BindPool north 2/2 up, 2 tries>")
        await until(lambda: simulator.stats.bound == 0)
    assert simulator.stats.accepted == 300
    assert simulator.stats.receipts_acknowledged == 300
    assert simulator.stats.receipts_refused == 0
    assert service.receipts.counts["applied"] + service.receipts.counts["parked"] == 300


async def test_transmitter_and_receiver_pairs() -> None:
    store = MemoryStore()
    fill(store, 50)
    async with Simulator(Faults(receipt_bind="any")) as simulator:
        async with serving(simulator, store, bind="transmitter+receiver", binds=1):
            await until(lambda: store.states()[State.DELIVERED] == 50)
            await until(lambda: simulator.stats.binds == 2)


async def test_parts_stay_together_in_order_on_one_bind() -> None:
    store = MemoryStore()
    texts = ["x" * 400, "y" * 160, "z" * 161]
    for number in range(60):
        store.put(f"4670{number:07}", texts[number % 3])
    async with Simulator(Faults(latency_ms=5, jitter_ms=5), ledger=True) as simulator:
        async with serving(simulator, store, window=7):
            await until(lambda: store.states()[State.SENT] + store.states()[State.DELIVERED] == 60)
    parts: dict[bytes, list[bytes]] = {}
    for entry in sorted(simulator.ledger, key=lambda entry: entry.sequence):
        parts.setdefault(entry.dest, []).append(entry.payload[:6])
    assert Counter(len(headers) for headers in parts.values()) == {3: 20, 1: 20, 2: 20}
    assert all(headers == sorted(headers) for headers in parts.values())


async def test_a_message_longer_than_the_window() -> None:
    store = MemoryStore()
    store.put("46700000001", "x" * 1000)
    async with Simulator(ledger=True) as simulator, serving(simulator, store, window=2, binds=1):
        await until(lambda: store.states()[State.SENT] + store.states()[State.DELIVERED] == 1)
    assert len(simulator.ledger) == 7
    assert store.untaken == []


async def test_temporary_refusals_are_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.carriers.retry.RETRY_DELAY", 0.05)
    store = MemoryStore()
    fill(store, 40)
    async with Simulator(Faults(status_rules=[StatusRule(status=8, first=2)])) as simulator:
        async with serving(simulator, store):
            await until(lambda: store.states()[State.DELIVERED] == 40)
    assert (simulator.stats.submits, simulator.stats.accepted) == (120, 40)


async def test_permanent_refusals_are_tried_once() -> None:
    store = MemoryStore()
    fill(store, 30)
    async with Simulator(Faults(status_rules=[StatusRule(status=0x0B)])) as simulator, serving(simulator, store):
        await until(lambda: store.states()[State.REJECTED] == 30)
    assert simulator.stats.submits == 30


async def test_throttling_slows_down_and_loses_nothing() -> None:
    store = MemoryStore()
    fill(store, 600)
    async with Simulator(Faults(rate=200, burst=50), ledger=True) as simulator:
        async with serving(simulator, store, rate=1000, window=100) as service:
            await until(lambda: store.states()[State.SENT] + store.states()[State.DELIVERED] == 600, 15)
            assert service.dispatcher.pace.slowed
    assert simulator.stats.accepted == 600
    assert simulator.stats.duplicates == 0
    assert simulator.stats.throttled <= 0.25 * simulator.stats.submits  # the first second is learnt from; see test_pace


@pytest.mark.parametrize("phase", ["before_accept", "after_accept", "mid_answer"])
async def test_a_cut_makes_the_open_window_unknown_and_nothing_else(phase: str) -> None:
    store = MemoryStore()
    fill(store, 300)
    faults = Faults(drop_every=60, drop_phase=phase, drop_mode="reset", latency_ms=2)  # type: ignore[arg-type]
    async with Simulator(faults, ledger=True) as simulator, serving(simulator, store) as service:
        await until(lambda: store.states()[State.QUEUED] + store.states()[State.SENDING] == 0, 20)
        assert service.dispatcher.in_flight == 0
    states = store.states()
    assert states[State.SENT] + states[State.DELIVERED] + states[State.UNKNOWN] == 300
    assert 1 <= states[State.UNKNOWN] <= 5 * 20
    assert simulator.stats.duplicates == 0


async def test_unanswered_submits_become_unknown_after_timeout_and_grace() -> None:
    store = MemoryStore()
    fill(store, 10)
    async with Simulator(Faults(noresp_every=5)) as simulator:
        async with serving(simulator, store, response_timeout=0.2) as service:
            await until(lambda: store.states()[State.UNKNOWN] == 2, 12)
            assert service.dispatcher.in_flight == 0


async def test_receipts_wait_for_the_store() -> None:
    store = MemoryStore()
    fill(store, 20)
    async with Simulator(Faults(receipt_delay_ms=300)) as simulator, serving(simulator, store) as service:
        await until(lambda: store.states()[State.SENT] == 20)
        store.away = True
        await asyncio.sleep(0.7)
        assert simulator.stats.receipts_acknowledged == 0
        store.away = False
        await until(lambda: store.states()[State.DELIVERED] == 20)
        assert service.progress_writer.away_since is None
    assert simulator.stats.receipts_acknowledged == 20


async def test_a_long_outage_of_the_store_sends_receipts_back_to_the_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.carriers.receipts.STORE_WAIT", 0.1)
    store = MemoryStore()
    fill(store, 20)
    async with Simulator(Faults(receipt_delay_ms=200, receipt_jitter_ms=400, receipt_retry_ms=300)) as simulator:
        async with serving(simulator, store):
            await until(lambda: store.states()[State.SENT] + store.states()[State.DELIVERED] == 20)
            store.away = True
            await asyncio.sleep(0.9)
            store.away = False
            await until(lambda: store.states()[State.DELIVERED] == 20)
    assert simulator.stats.receipts_refused > 0


async def test_the_lost_answer_of_a_take_loses_no_message() -> None:
    store = MemoryStore()
    store.lose_takes = 3
    fill(store, 200)
    async with Simulator(Faults(latency_ms=2), ledger=True) as simulator:
        async with serving(simulator, store):
            await until(lambda: store.states()[State.DELIVERED] == 200)
    assert simulator.stats.accepted == 200
    assert store.calls["untake_lost"] >= 3


async def test_replies_are_not_acknowledged() -> None:
    store = MemoryStore()
    fill(store, 5)
    async with Simulator(Faults(reply_every=1, reply_delay_ms=1, receipt_tries=1)) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: service.receipts.counts["replies"] == 5)
    assert simulator.stats.receipts_refused >= 5


async def test_an_outage_of_the_carrier() -> None:
    store = MemoryStore()
    async with Simulator(ledger=True) as simulator, serving(simulator, store) as service:
        fill(store, 50)
        await until(lambda: store.states()[State.SENT] + store.states()[State.DELIVERED] == 50)
        await simulator.outage(1.0)
        for number in range(50):
            store.put(f"4671{number:07}")
        service.dispatcher.work_available(range(4))
        await until(lambda: store.states()[State.DELIVERED] == 100, 20)
    assert simulator.stats.connections <= 2 + 2 * 12
    assert store.untaken == []


async def test_sequence_numbers_wrap() -> None:
    store = MemoryStore()
    fill(store, 100)
    async with Simulator(ledger=True) as simulator, serving(simulator, store, first_sequence=0x7FFFFFF0):
        await until(lambda: store.states()[State.DELIVERED] == 100)
    sequences = [entry.sequence for entry in simulator.ledger]
    assert max(sequences) == 0x7FFFFFFF
    assert min(sequences) == 1


async def test_one_time_passwords_pass_a_backlog() -> None:
    store = MemoryStore()
    async with Simulator(Faults(latency_ms=5), ledger=True) as simulator:
        async with serving(simulator, store, rate=200, window=50) as service:
            await until(lambda: simulator.stats.bound == 2)
            fill(store, 2000, category=Category.MARKETING)
            service.dispatcher.work_available(range(4))
            await until(lambda: len(simulator.ledger) > 20)
            loop = asyncio.get_running_loop()
            waits = []
            for number in range(10):
                before = loop.time()
                message_id = store.put(f"4672{number:07}", category=Category.OTP)
                partition = store.rows[message_id].message.recipient.partition
                service.dispatcher.work_available((partition,), urgent=True)
                await until(lambda number=number: any(e.dest == b"4672%07d" % number for e in simulator.ledger))  # type: ignore[misc]
                waits.append(loop.time() - before)
                await asyncio.sleep(0.03)
            assert sorted(waits)[-2] < 0.06
            service.dispatcher.stop()


async def test_stopping_gives_back_and_waits_for_the_window() -> None:
    store = MemoryStore()
    fill(store, 500)
    async with Simulator(Faults(latency_ms=100), ledger=True) as simulator, serving(simulator, store):
        await until(lambda: simulator.stats.submits > 50)
    states = store.states()
    assert states[State.SENDING] == 0
    assert states[State.UNKNOWN] == 0
    assert states[State.SENT] + states[State.DELIVERED] == simulator.stats.accepted
    assert states[State.QUEUED] == 500 - simulator.stats.accepted


async def test_a_text_no_alphabet_of_the_carrier_can_hold_is_refused() -> None:
    store = MemoryStore()
    message_id = store.put("46700000001", "x" * 300 * 153)
    async with Simulator() as simulator, serving(simulator, store):
        await until(lambda: store.rows[message_id].state is State.REJECTED)
    assert store.rows[message_id].history[-1][0] is Resolution.REJECTED
    assert simulator.stats.submits == 0
