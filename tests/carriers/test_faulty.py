# ruff: noqa: SIM117  # who serves whom reads better nested
"""The gateway fails over one message, answer, receipt or connection: everything else goes on, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway import supervision
from gateway.carriers import failing_messages, progress, responses
from gateway.carriers.bind_settings import BindSettings
from gateway.carriers.connection import Bind, BindListeners
from gateway.carriers.dispatcher import Dispatcher
from gateway.carriers.receipt_reader import ReceiptReader
from gateway.carriers.receipts import ReceiptHandler
from gateway.carriers.submit import SubmitEncoder
from gateway.model import State
from gateway.simulator import Faults, Simulator
from gateway.smpp.events import Answered, Closed
from gateway.smpp.pdu import BIND_TRANSCEIVER
from gateway.smpp.session import Session
from gateway.store.requests import TakeRequest, UnreadableMessage
from gateway.supervision import TRIES
from tests.carriers.memory_store import MemoryStore, TakeResult
from tests.carriers.test_service import fill, serving, until

COUNT = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing_messages, "RETRY_AFTER", 10)
    monkeypatch.setattr(supervision, "FIRST", 0.01)
    monkeypatch.setattr(progress, "ITEM_RETRY_AFTER", 0.01)


def failing(method: Any, when: Any, times: int = 1_000_000) -> Any:
    """``method``, which fails the first ``times`` times that ``when`` says so."""
    left = times

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left and when(*args):
            left -= 1
            raise OverflowError("int too large to convert")
        return method(self, *args, **kwargs)

    return faulty


def delivered(store: MemoryStore) -> int:
    return store.states()[State.DELIVERED]


async def test_a_message_that_cannot_be_encoded_is_tried_three_times_and_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    faulty = failing(
        SubmitEncoder.encode, lambda message, clock: message.content.text == "bad" and not tried.append(message)
    )
    monkeypatch.setattr(SubmitEncoder, "encode", faulty)
    store = MemoryStore()
    bad = store.put("46709999999", "bad")
    fill(store, COUNT)
    async with Simulator(ledger=True) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT and store.rows[bad].state is State.FAILED)
            assert service.dispatcher.in_flight == 0
            assert service._supervision.set_aside_counts == {"message": 1}
    assert (len(tried), simulator.stats.accepted) == (TRIES, COUNT)


async def test_a_message_that_cannot_be_written_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bind, "submit", failing(Bind.submit, lambda body, *rest: b"bad" in body))
    store = MemoryStore()
    bad = store.put("46709999999", "bad")
    long = store.put("46709999998", "good " * 40 + "bad")  # its first part can be written
    fill(store, COUNT)
    async with Simulator(Faults(receipts=0)) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: store.states()[State.SENT] == COUNT and store.rows[bad].state is State.FAILED)
            await until(lambda: store.rows[long].state is State.FAILED)
            assert service.dispatcher.in_flight == 0


async def test_a_fault_over_an_answer_makes_its_message_unknown_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    normal, left = responses.normalise_id, 1

    def faulty(message_id: bytes, form: Any) -> bytes:
        nonlocal left
        if left:
            left -= 1
            raise ValueError("what an id")
        return normal(message_id, form)

    monkeypatch.setattr(responses, "normalise_id", faulty)
    store = MemoryStore()
    fill(store, COUNT)
    async with Simulator(Faults(receipts=0)) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: store.states() == {State.SENT: COUNT - 1, State.UNKNOWN: 1})
            assert (service.dispatcher.in_flight, service._supervision.failures["answer"]) == (0, 1)
    assert simulator.stats.accepted == COUNT


async def test_a_fault_over_a_receipt_refuses_it_temporarily_then_for_good_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    fill(store, COUNT)
    read = failing(ReceiptReader.read, lambda message: message.source.endswith(b"07"))
    monkeypatch.setattr(ReceiptReader, "read", read)
    async with Simulator(Faults(receipt_retry_ms=20, receipt_tries=9)) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT - 1)
            await until(lambda: service._supervision.set_aside_counts["receipt"] == 1)
            assert service.receipts.counts["failed"] == TRIES
            assert service._supervision.failures["bind"] == 0


async def test_a_failed_dispatcher_is_restarted_and_nothing_is_lost_or_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = Dispatcher._lease
    failures = 3

    def faulty(self: Dispatcher, leased: Sequence[Any], now: float) -> int:
        nonlocal failures
        if failures and leased:
            failures -= 1
            raise KeyError("after the take, before anything is ours")
        return took(self, leased, now)

    monkeypatch.setattr(Dispatcher, "_lease", faulty)
    monkeypatch.setattr(Dispatcher, "_tend", failing(Dispatcher._tend, lambda now: True, times=2))
    store = MemoryStore()
    fill(store, COUNT)
    async with Simulator(ledger=True) as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT)
            assert service._supervision.restarts["north: dispatcher"] == 5
            assert service.dispatcher.in_flight == 0
    assert simulator.stats.accepted == COUNT


async def test_a_failed_progress_writer_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ReceiptHandler, "stored", failing(ReceiptHandler.stored, lambda matches, tickets: tickets, times=2)
    )
    store = MemoryStore()
    fill(store, COUNT)
    async with Simulator() as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT)
            assert service._supervision.restarts["north: progress"] == 2
            await until(lambda: service.dispatcher.in_flight == 0)


async def test_a_fault_over_a_connection_ends_it_alone_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    fill(store, COUNT)
    async with Simulator() as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT and len(service.pool.binds) == 2)
            first, second = (slot.bind for slot in service.pool.slots)
            assert first is not None
            assert second is not None
            monkeypatch.setattr(Session, "_parse", failing(Session._parse, lambda *args: True, times=1))
            first.data_received(b"whatever")
            assert "OverflowError" in first.reason
            assert second.able
            monkeypatch.setattr(Dispatcher, "answered", failing(Dispatcher.answered, lambda *args: True, times=1))
            fill_more = [store.put(f"4671{number:07}") for number in range(COUNT)]
            service.dispatcher.work_available(range(4))
            await until(lambda: service._supervision.failures["bind"] >= 2)
            await until(lambda: all(store.rows[one].state is not State.QUEUED for one in fill_more))
            await until(lambda: len(service.pool.binds) == 2)


async def test_failed_binds_are_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unlucky(self: Bind, host: str, port: int) -> None:
        monkeypatch.undo()
        raise UnicodeError("label too long")

    monkeypatch.setattr(supervision, "FIRST", 0.01)
    monkeypatch.setattr(Bind, "connect", unlucky)
    store = MemoryStore()
    fill(store, COUNT)
    async with Simulator() as simulator:
        async with serving(simulator, store, binds=1) as service:
            await until(lambda: delivered(store) == COUNT)
            assert service._supervision.restarts["north/1: bind"] == 1


class Damaged(MemoryStore):
    """The records of some messages cannot be read."""

    def __init__(self, *, sealed: bool) -> None:
        super().__init__()
        self.sealed = sealed
        self.bad: set[bytes] = set()

    def _take(self, request: TakeRequest) -> TakeResult:
        taken = super()._take(request)
        unread = [
            UnreadableMessage(one.id, one.lease, "no key", self.sealed) for one in taken.leased if one.id in self.bad
        ]
        return taken._replace(leased=[one for one in taken.leased if one.id not in self.bad], unread=unread)


async def test_a_record_that_is_damaged_is_tried_three_times_and_fails() -> None:
    store = Damaged(sealed=False)
    bad = store.put("46709999999")
    store.bad = {bad}
    fill(store, COUNT)
    async with Simulator() as simulator:
        async with serving(simulator, store) as service:
            await until(lambda: delivered(store) == COUNT and store.rows[bad].state is State.FAILED)
            assert [one[1:3] for one in service._supervision.latest] == [("record", bad.hex())]
    assert simulator.stats.accepted == COUNT


async def test_messages_whose_encryption_key_is_missing_wait_for_it_and_hold_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failing_messages, "KEY_RETRY_AFTER", 50)
    store = Damaged(sealed=True)
    store.bad = {store.put(f"4670999{number:04}") for number in range(5)}
    fill(store, COUNT)
    async with Simulator() as simulator:
        async with serving(simulator, store):
            await until(lambda: delivered(store) == COUNT)
            await asyncio.sleep(0.5)  # many tries
            assert {store.rows[one].state for one in store.bad} <= {State.QUEUED, State.SENDING}
            store.bad = set()  # the key is back
            await until(lambda: delivered(store) == COUNT + 5)


async def test_a_fault_over_one_event_does_not_skip_the_rest_of_the_batch() -> None:
    """The answer that causes the fault comes with the end of the connection: what was outstanding is reported lost."""

    class Deaf:
        lost_contexts: Sequence[Any] = ()

        def answered(self, bind: Bind, answers: Any, now: float) -> None:
            raise KeyError("what an answer")

        def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
            self.lost_contexts = unknown

    listener = Deaf()
    listeners = BindListeners(listener, listener)  # type: ignore[arg-type]
    bind = Bind("north/1", BIND_TRANSCEIVER, BindSettings("north", b"gw", b"pw"), listeners)
    bind._handle([Answered("one", 0, b"1", 0.0), Closed("gone", ["two"])], 0.0)
    assert listener.lost_contexts == ["two"]
    assert bind.closed.is_set()
