"""Our binds against an SMSC that others wrote (smpp34, Rust): so that our carrier side and our simulator cannot share a
misunderstanding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.children import free_ports
from gateway.carriers.connection import Bind
from gateway.carriers.pool import BindPool
from gateway.config import Carrier
from gateway.smpp import receipt
from gateway.smpp.events import Answered
from gateway.smpp.pdu import DELIVER_SM
from gateway.smpp.short_message import ShortMessage, submit_template
from gateway.smpp.status import CommandStatus
from gateway.smpp.text import SplitMethod, decode, split

smpp34 = pytest.importorskip("smpp34", reason="smpp34 has no wheel for this platform")

PATIENCE = 10.0
LONG_TEXT = "Zażółć gęślą jaźń – 🚚 " * 20


class Smsc:
    """The other side: takes submits, answers with an id, sends a receipt for each."""

    def __init__(self, port: int) -> None:
        self.server = smpp34.Server(host="127.0.0.1", port=port, system_id="other")
        self.submits: list[Any] = []
        self.receipts_refused = 0
        self.receipts_taken = 0
        self.sessions: dict[str, Any] = {}
        self.unbound = 0
        self.reject: Callable[[Any], int] = lambda _: 0
        self.delivering: set[asyncio.Task[None]] = set()
        self._window = asyncio.Semaphore(8)  # the server itself refuses more deliver_sm at once

    async def run(self) -> None:
        while True:
            event = await self.server.next()
            if isinstance(event, smpp34.Esme):
                self.sessions[event.session_id] = event
            elif isinstance(event, smpp34.SubmitSmEvent):
                self._take(event)
            else:
                self.unbound += 1

    def _take(self, event: Any) -> None:
        status = self.reject(event)
        if status:
            event.reject(status)
            return
        self.submits.append(event)
        number = f"{len(self.submits):08x}"
        event.accept(message_id=number)
        task = asyncio.create_task(self._deliver(event, number))
        self.delivering.add(task)
        task.add_done_callback(self.delivering.discard)

    async def _deliver(self, event: Any, number: str) -> None:
        async with self._window:
            await self._deliver_one(event, number)

    async def _deliver_one(self, event: Any, number: str) -> None:
        to = next(session for session in self.sessions.values() if session.can_receive)
        text = receipt.build(number.encode(), receipt.DELIVERED, submitted=0, done=0)
        answer = await to.deliver_sm(
            destination_addr=event.source_addr,
            source_addr=event.destination_addr,
            source_addr_ton=1,
            source_addr_npi=1,
            esm_class=0x04,
            short_message=text,
            tlvs=[smpp34.Tlv(smpp34.TLV_RECEIPTED_MESSAGE_ID, number.encode() + b"\0")],
        )
        if answer.is_success:
            self.receipts_taken += 1
        else:
            self.receipts_refused += 1


class Collector:
    """Our side: keeps answers and receipts, and acknowledges the latter."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.messages: list[ShortMessage] = []
        self.unknown: list[Any] = []

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        self.answers += answers

    def received(self, bind: Bind, messages: list[ShortMessage], now: float) -> None:
        self.messages += messages
        for message in messages:
            bind.respond(DELIVER_SM, message.sequence, CommandStatus.ESME_ROK)

    def timed_out(self, bind: Bind, contexts: Sequence[Any], now: float) -> None:
        self.unknown += contexts

    def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        self.unknown += unknown

    def room(self, bind: Bind) -> None:
        pass


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another program's threads
            await asyncio.sleep(0.01)


@asynccontextmanager
async def bound(**settings: Any) -> AsyncIterator[tuple[Smsc, BindPool, Collector]]:
    """An SMSC and a pool of ours that is bound to it everywhere."""
    (port,) = free_ports(1)
    smsc, listener = Smsc(port), Collector()
    await smsc.server.start()
    serving = asyncio.create_task(smsc.run())
    carrier = Carrier(name="other", hosts=(f"127.0.0.1:{port}",), system_id="gw", password="secret", **settings)
    pool = BindPool(carrier, listener)
    running = asyncio.create_task(pool.run())
    try:
        await until(lambda: len(smsc.sessions) == len(pool.slots))
        await until(lambda: all(slot.bind is not None and slot.bind.session.bound for slot in pool.slots))
        yield smsc, pool, listener
        await pool.finish()
        await until(lambda: smsc.unbound == len(pool.slots))
    finally:
        tasks = [running, serving, *smsc.delivering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await smsc.server.stop()


def receipts_of(listener: Collector) -> set[bytes]:
    """The ids that receipts came for; all of them say delivered."""
    parsed = [receipt.parse(message) for message in listener.messages]
    assert all(found is not None and found.state == receipt.DELIVERED for found in parsed)
    return {found.ids[0] for found in parsed if found is not None}


def submit(pool: BindPool, text: str, dest: bytes, context: object, long: SplitMethod = SplitMethod.UDH8) -> int:
    """Write a text to the bind with the most room; how many parts it had."""
    template = submit_template(source=b"Shop", source_ton=5, source_npi=0, registered_delivery=1)
    bind = max(pool.binds, key=lambda each: each.free)
    cut = split(text, reference=7, long=long)
    for part in cut.parts:
        body = template.encode(
            dest, part.short_message, esm_class=cut.esm_class, data_coding=cut.data_coding, tlvs=part.tlvs
        )
        bind.submit(body, context, asyncio.get_running_loop().time())
    return len(cut.parts)


async def test_submits_are_answered_and_their_receipts_come_back() -> None:
    async with bound(binds=2) as (smsc, pool, listener):
        for number in range(200):
            await until(lambda: any(bind.free for bind in pool.binds))
            submit(pool, f"Hello {number} €", b"46701740605", number)
        await until(lambda: smsc.receipts_taken == len(listener.answers) == 200)
        assert sorted(answer.context for answer in listener.answers) == list(range(200))  # type: ignore[type-var]
        assert receipts_of(listener) == {answer.message_id for answer in listener.answers}
        assert (len(listener.messages), smsc.receipts_refused, listener.unknown) == (200, 0, [])
        texts = {decode(event.short_message, event.data_coding) for event in smsc.submits}
        assert texts == {f"Hello {number} €" for number in range(200)}
        assert {(event.source_addr, event.source_addr_ton) for event in smsc.submits} == {("Shop", 5)}


async def test_a_transmitter_and_a_receiver_share_the_work() -> None:
    """Few, and only as far as our side goes: smpp34 1.5 answers deliver_sm_resp on a receiver with generic_nack."""
    async with bound(binds=1, bind="transmitter+receiver") as (_smsc, pool, listener):
        for number in range(8):
            submit(pool, f"Hello {number}", b"46701740605", number)
        await until(lambda: len(listener.messages) == 8)
        assert receipts_of(listener) == {answer.message_id for answer in listener.answers}
        assert listener.unknown == []


@pytest.mark.parametrize("long", [SplitMethod.UDH8, SplitMethod.UDH16, SplitMethod.SAR, SplitMethod.PAYLOAD])
async def test_long_texts_arrive_whole_however_they_are_cut(long: SplitMethod) -> None:
    async with bound(binds=1) as (smsc, pool, listener):
        parts = submit(pool, LONG_TEXT, b"8613800138000", "long", long)
        await until(lambda: smsc.receipts_taken == parts)
        assert len(listener.answers) == parts
        pieces = []
        for event in smsc.submits:
            tlvs = {tlv.tag: bytes(tlv.value) for tlv in event.tlvs}
            payload = tlvs.get(smpp34.TLV_MESSAGE_PAYLOAD, bytes(event.short_message))
            header = payload[0] + 1 if event.esm_class & 0x40 else 0
            order = payload[header - 1] if header else tlvs.get(smpp34.TLV_SAR_SEGMENT_SEQNUM, b"\1")[0]
            pieces.append((order, payload[header:]))
        assert b"".join(piece for _, piece in sorted(pieces)).decode("utf-16-be") == LONG_TEXT


async def test_a_refusal_comes_back_with_its_status() -> None:
    async with bound(binds=1) as (smsc, pool, listener):
        smsc.reject = lambda event: smpp34.ESME_RTHROTTLED if event.destination_addr.endswith("1") else 0
        for number in range(4):
            submit(pool, "x", b"4670174060%d" % number, number)
        await until(lambda: len(listener.answers) == 4)
        await until(lambda: smsc.receipts_taken == 3)
        statuses = {answer.context: answer.status for answer in listener.answers}
        assert statuses == {0: 0, 1: CommandStatus.ESME_RTHROTTLED, 2: 0, 3: 0}
