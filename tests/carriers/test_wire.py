"""Whatever a carrier writes on the wire ends in answers and receipts that the store can pack, and in nothing raised.

The way is the real one: a bind's octets, its session, receipts and outcomes of one carrier, then the arguments of
``progress``. Short here; by command as long as one likes:

    FUZZ_SECONDS=600 .venv/bin/pytest -m by_hand tests/carriers/test_wire.py
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.carriers.bind_settings import BindSettings
from gateway.carriers.connection import Bind, BindListeners
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.lanes import CarrierHealth, CarrierLanes
from gateway.carriers.receipts import ReceiptHandler
from gateway.carriers.responses import ResponseHandler
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.config import Carrier, Route
from gateway.model import ReceiptFact, ReceiptMatch, State, SubmitResult
from gateway.policy.pace import Pace
from gateway.simulator import Simulator
from gateway.smpp.codec import Pdu, encode
from gateway.smpp.events import Answered
from gateway.smpp.pdu import BIND_TRANSCEIVER, DATA_SM, DELIVER_SM, ENQUIRE_LINK, GENERIC_NACK, RESP, SUBMIT_SM_RESP
from gateway.smpp.receipt import DELIVERED, build
from gateway.smpp.short_message import ShortMessage
from gateway.smpp.tlv import MESSAGE_PAYLOAD, MESSAGE_STATE, NETWORK_ERROR_CODE, RECEIPTED_MESSAGE_ID, encode_tlv
from gateway.store.arguments import pack_answer, pack_outcome, pack_receipt, read_outcome
from gateway.store.layout import DETAILED
from tests.carriers.memory_store import HASHER, MemoryStore
from tests.carriers.test_service import until
from tests.carriers.test_with_store import opened, serving, submit, until_states
from tests.short_messages import encode_sm
from tests.smpp.peers import pdu
from tests.smpp.strategies import pdus

CARRIERS = {"north": 0}
SUBMITS = 6


class Recorder:
    """Packs what is left here as the store's client does, and reads it back."""

    def __init__(self) -> None:
        self.room = 20_000
        self.away_since: float | None = None
        self.facts: list[ReceiptFact] = []
        self.tickets: list[Any] = []
        self.reports: list[SubmitResult] = []

    def add_receipts(self, facts: list[ReceiptFact], tickets: list[Any]) -> None:
        self.facts += facts
        self.tickets += tickets
        for fact in facts:
            packed = pack_receipt(fact, CARRIERS)
            count, at = packed[2] % DETAILED, 3
            for one in fact.ids or (b"",):
                assert packed[at] == 8 + len(one) <= 72
                assert packed[at + 9 : at + 9 + len(one)] == one
                at += 1 + packed[at]
            assert count == len(fact.ids or (b"",))
            state, rest = pack_outcome(fact)
            assert packed.endswith(rest)
            if fact.detail is None:
                assert packed[at:] == rest
            assert len(read_outcome(state, rest)[2].encode()) <= 3 * 64

    def add_results(self, reports: list[SubmitResult]) -> None:
        self.reports += reports
        for report in reports:
            packed = pack_answer(report, CARRIERS)
            assert len(packed) <= 255 * (7 + 64)
            assert all(len(part.carrier_id) <= 64 for part in report.parts)


class Wire(asyncio.Transport):
    """A socket without a network."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = pause_reading = resume_reading = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Peer:
    """A carrier's bind with a few submits outstanding, and everything that handles what it receives."""

    def __init__(self, **options: Any) -> None:
        carrier = Carrier(name="north", hosts=("127.0.0.1:1",), system_id="gw", password="pw", **options)
        now = asyncio.get_running_loop().time()
        lanes = CarrierLanes("north", [Route(carriers=("north",))], CarrierHealth(["north"], now), {})
        self.recorder = Recorder()
        self.received_: list[ShortMessage] = []
        self._receipts = ReceiptHandler(carrier, HASHER, self.recorder, ReceiptIdForms(self))  # type: ignore[arg-type]
        self._responses = ResponseHandler(carrier, lanes, Pace(0, now), lambda: int(time.time() * 1000))
        self.bind = Bind("north/1", BIND_TRANSCEIVER, BindSettings("north", b"gw", b"pw"), BindListeners(self, self))
        self.bind.connection_made(Wire())
        self.bind.data_received(pdu(BIND_TRANSCEIVER | RESP, 1, b"c\0"))
        store = MemoryStore()
        for number in range(SUBMITS):
            leased = store.rows[store.put(f"4670{number:07}")].message
            self.bind.submit(encode_sm(b"shop", b"46", b"hi"), (InFlightMessage(leased, [b"x"], now), 0), now)

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        self.recorder.add_results(self._responses.answered(bind, answers, now)[0])

    def received(self, bind: Bind, messages: list[ShortMessage], now: float) -> None:
        self.received_ += messages
        before = len(self.recorder.tickets)
        self._receipts.received(bind, messages, now)
        while tickets := self.recorder.tickets[before:]:  # as if nothing matched: sent in detail, then left
            before = len(self.recorder.tickets)
            self._receipts.stored([ReceiptMatch.PARKED] * len(tickets), tickets)

    def timed_out(self, bind: Bind, contexts: Sequence[Any], now: float) -> None:
        self.recorder.add_results(self._responses.lost(contexts))

    def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        self.recorder.add_results(self._responses.lost(unknown, unwritten))

    def capacity_changed(self, bind: Bind) -> None:
        pass


def play(chunks: list[bytes], **options: Any) -> Peer:
    """A carrier that writes these chunks after its bind is accepted; the bind is over at the end."""

    async def run() -> Peer:
        peer = Peer(**options)
        for chunk in chunks:
            peer.bind.data_received(chunk)
            await asyncio.sleep(0)
        peer.bind.connection_lost(None)
        async with asyncio.timeout(10):
            await peer.bind.closed.wait()
        return peer

    return asyncio.run(run())


def receipt(message_id: bytes, **more: Any) -> bytes:
    return encode_sm(
        b"46700000001", b"shop", build(message_id, DELIVERED, submitted=0, done=10**12), esm_class=4, **more
    )


SEEDS = [
    pdu(SUBMIT_SM_RESP, 2, b"0A1B2C3D\0"),
    pdu(SUBMIT_SM_RESP, 3, b"x" * 64 + b"\0"),
    pdu(SUBMIT_SM_RESP, 4, b"id\0" + encode_tlv(0x0428, b"\x05"), 0x58),
    pdu(GENERIC_NACK, 5, b"", 3),
    pdu(ENQUIRE_LINK, 77),
    pdu(DELIVER_SM, 1, receipt(b"0A1B2C3D")),
    pdu(DELIVER_SM, 2, receipt(b"1", tlvs=encode_tlv(RECEIPTED_MESSAGE_ID, b"1\0") + encode_tlv(MESSAGE_STATE, b"\2"))),
    pdu(DELIVER_SM, 3, receipt(b"1", tlvs=encode_tlv(NETWORK_ERROR_CODE, b"\3\0\7"))),
    pdu(DELIVER_SM, 4, encode_sm(b"46700000001", b"shop", b"STOP", data_coding=8)),
    pdu(DATA_SM, 5, b"\0\1\1" + b"46700000001\0\0\0shop\0\4\0\0" + encode_tlv(MESSAGE_PAYLOAD, b"id:9 stat:DELIVRD")),
]
SNIPPETS = (
    b"\0",
    b"9" * 70,
    b"z" * 300,
    b"id:",
    b" stat:",
    b" err:",
    b"\xff\xff",
    b"\x1e\x01\x2c",
    b" done date:",
    b"~",
)


def mutated(random: Random) -> bytes:
    """A valid PDU with octets changed, put in, taken out or repeated, its length mostly right again."""
    octets = bytearray(random.choice(SEEDS))
    for _ in range(random.randint(0, 4)):
        at = random.randrange(16, len(octets)) if len(octets) > 16 else len(octets)
        match random.randrange(5):
            case 0:
                octets[at : at + 1] = bytes((random.randrange(256),))
            case 1:
                octets[at:at] = random.choice(SNIPPETS) * random.choice((1, 1, 1, 5, 300))
            case 2:
                del octets[at : at + random.randrange(1, 40)]
            case 3:
                octets[at:at] = octets[at : at + random.randrange(1, 80)] * random.randrange(1, 9)
            case _:
                octets[8:16] = random.choice((octets[8:16], bytes((0, 0, 0, 0, 0, 0, 0, random.randrange(9)))))
    if random.random() < 0.98:
        octets[:4] = len(octets).to_bytes(4, "big")
    return bytes(octets)


def fuzz(random: Random) -> None:
    stream = b"".join(mutated(random) for _ in range(random.randint(1, 12)))
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.randrange(4)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    form = random.choice(("as-is", "hex-to-dec", "dec-to-hex", "auto"))
    peer = play(chunks, id_form=form, receipt_key=random.choice(("recipient", "id")))
    assert len({report.id for report in peer.recorder.reports}) == SUBMITS, "every submit ends"


def test_valid_pdus_with_faults_put_in_reach_the_store_within_its_sizes() -> None:
    for seed in range(300):
        try:
            fuzz(Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.by_hand
def test_valid_pdus_with_faults_put_in_for_long() -> None:
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60"))
    seed = time.time_ns()
    while time.monotonic() < end:
        seed += 1
        try:
            fuzz(Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@given(st.lists(st.one_of(st.binary(max_size=400), pdus().map(encode)), max_size=8))
@settings(max_examples=100)
def test_any_octets_reach_the_store_within_its_sizes(chunks: list[bytes]) -> None:
    play(chunks)


@given(st.integers(2, 1 + SUBMITS), st.binary(max_size=400), st.sampled_from((0, 0x0B, 0x58, 0xFFFFFFFF)))
@settings(max_examples=100)
def test_any_body_of_an_answer_reaches_the_store_within_its_sizes(sequence: int, body: bytes, status: int) -> None:
    peer = play([pdu(SUBMIT_SM_RESP, sequence, body, status)])
    assert len(peer.recorder.reports) == SUBMITS


@given(pdus(DELIVER_SM, DATA_SM), st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=100)
def test_any_id_and_error_of_a_receipt_reach_the_store_within_its_sizes(found: Pdu, one: bytes, other: bytes) -> None:
    text = b"id:%b sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:%b err:%b" % (one, b"A", other)
    found.fields |= {"source_addr": b"46700000001", "esm_class": 4, "data_coding": 0}
    found.tlvs += [(RECEIPTED_MESSAGE_ID, other), (MESSAGE_PAYLOAD, text)]
    assert len(play([encode(found)]).recorder.facts) >= 1


LONG = [b"7" * 252, b"7" * 251 + b"8", b"f" * 300]


@pytest.mark.parametrize("where", ["text", "tlv"])
async def test_ids_of_hundreds_of_octets_are_stored_and_end_nothing(store_url: str, where: str) -> None:
    """One such PDU used to end the gateway, and every one started after it."""
    async with opened(store_url) as store, Simulator() as north, serving(store, {"north": north}) as (service,):
        await until(lambda: len(service.pool.binds) == 2)
        bind = service.pool.binds[0]
        for number, long in enumerate(LONG):
            tlvs = encode_tlv(RECEIPTED_MESSAGE_ID, long + b"\0") if where == "tlv" else b""
            text = build(b"1" if where == "tlv" else long, DELIVERED, submitted=0, done=10**12)
            body = encode_sm(b"46700000001", b"shop", b"", esm_class=4, tlvs=encode_tlv(MESSAGE_PAYLOAD, text) + tlvs)
            bind.data_received(pdu(DELIVER_SM, number, body))
        await asyncio.wait_for(service.progress_writer.drained(), 5)
        ids = await submit(store, 3)
        service.dispatcher.work_available(range(4))
        await until_states(store, ids, State.DELIVERED)


async def test_a_long_id_of_an_answer_is_that_of_its_receipt(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulator.submits.write_id", lambda number, form: b"f" * 120 + b"%d" % number)
    async with opened(store_url) as store, Simulator() as north, serving(store, {"north": north}) as (service,):
        ids = await submit(store, 5)
        service.dispatcher.work_available(range(4))
        await until_states(store, ids, State.DELIVERED)
        found = {part.carrier_id for record in await store.find(ids) if record is not None for part in record.parts}
        assert {len(one) for one in found} == {64}
        assert len(found) == 5
