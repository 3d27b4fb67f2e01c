"""One bind against carriers that behave badly, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Any

import pytest
import uvloop

from gateway.carriers import read_control
from gateway.carriers.bind_settings import BindSettings
from gateway.carriers.connection import Bind, BindListeners
from gateway.carriers.read_budget import IDLE_BURST, IDLE_RATE, SHARED_BURST, SHARED_RATE, ReadBudget, ReadCredit
from gateway.carriers.read_control import INBOUND_WINDOW
from gateway.smpp.operations import SessionState
from gateway.smpp.pdu import (
    ALERT_NOTIFICATION,
    BIND_TRANSCEIVER,
    DELIVER_SM,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    RESP,
    SUBMIT_SM,
    SUBMIT_SM_RESP,
)
from tests.carriers.test_pool import BODY, RecordingListener
from tests.carriers.test_service import until
from tests.short_messages import encode_sm
from tests.smpp.peers import pdu

RECEIPT = encode_sm(b"46700000001", b"shop", b"id:1 stat:DELIVRD", esm_class=4)


class Listener(RecordingListener):
    """Keeps what binds tell, and the room there was."""

    def __init__(self) -> None:
        super().__init__()
        self.late = 0

    def timed_out(self, bind: Bind, contexts: Any, now: float) -> None:
        self.late += len(contexts)


class Answering(RecordingListener):
    """Answers every message at once; ``useful``: as one that matched a message."""

    def __init__(self, *, useful: bool = False) -> None:
        super().__init__()
        self.useful = useful

    def received(self, bind: Bind, messages: Any, now: float) -> None:
        super().received(bind, messages, now)
        for message in messages:
            bind.respond(message.command_id, message.sequence, 0)
        if self.useful:
            bind.useful(len(messages))


class Carrier:
    """The other end of a bind: a plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.got: list[tuple[int, int]] = []  # (command_id, sequence)

    async def read(self) -> tuple[int, int]:
        head = await self.reader.readexactly(16)
        length, command_id, _, sequence = (int.from_bytes(head[at : at + 4], "big") for at in (0, 4, 8, 12))
        await self.reader.readexactly(length - 16)
        self.got.append((command_id, sequence))
        return command_id, sequence

    def write(self, *pdus: bytes) -> None:
        self.writer.write(b"".join(pdus))


@asynccontextmanager
async def bound(
    listener: RecordingListener, read_budget: ReadBudget | None = None, **settings: Any
) -> AsyncIterator[tuple[Bind, Carrier]]:
    """A bind and the carrier that has accepted it."""
    accepted: asyncio.Future[Carrier] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = Carrier(reader, writer)
        _, sequence = await carrier.read()
        carrier.write(pdu(BIND_TRANSCEIVER | RESP, sequence, b"c\0"))
        accepted.set_result(carrier)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    bind = Bind(
        "north/1",
        BIND_TRANSCEIVER,
        BindSettings("north", b"gw", b"pw", **settings),
        BindListeners(listener, listener),
        read_budget=read_budget,
    )
    try:
        await bind.connect(*server.sockets[0].getsockname())
        carrier = await accepted
        await until(lambda: bind.session.bound)
        yield bind, carrier
    finally:
        bind.abort("test is over")
        if accepted.done():
            accepted.result().writer.transport.abort()
        server.close()


def generous() -> ReadBudget:
    """Of which everything may be read that is of no use."""
    return ReadBudget(ReadCredit(0.0, 1e9))


FLOODS = pytest.mark.parametrize(
    "octets",
    [pdu(ENQUIRE_LINK, 7), pdu(SUBMIT_SM_RESP, 999, b"id\0"), pdu(DELIVER_SM, 7, RECEIPT), pdu(0x0F0F, 7)],
    ids=["enquire_link", "unknown answers", "deliver_sm", "unknown commands"],
)


def now() -> float:
    return asyncio.get_running_loop().time()


async def lag_while(condition: Callable[[], bool], seconds: float) -> float:
    """The longest that a coroutine which wants to run every millisecond had to wait, in seconds of this process."""
    worst, end = 0.0, perf_counter() + seconds
    while not condition() and perf_counter() < end:
        before = perf_counter()
        await asyncio.sleep(0)
        worst = max(worst, perf_counter() - before)
    return worst


class TestFloods:
    @FLOODS
    async def test_what_is_of_no_use_is_bounded_in_number_however_fast_it_comes(
        self, octets: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listener = Answering()
        async with bound(listener) as (bind, carrier):
            count = 40_000
            began, before = now(), bind.session.idle
            carrier.write(octets * count)
            async with asyncio.timeout(10):
                while "resting" not in repr(bind.reading) or now() - began < 0.3:  # noqa: ASYNC110  # repr is a string
                    await asyncio.sleep(0.001)
            done = bind.session.idle - before + len(listener.messages)
            most = IDLE_BURST + SHARED_BURST + (IDLE_RATE + SHARED_RATE) * (now() - began)
            assert IDLE_BURST <= done <= most + 2 * read_control.TURN // len(octets)
            assert (
                capsys.readouterr().out.count("carrier sends too much that matches no message: reading is slowed down")
                == 1
            )

    async def test_turns_are_short_while_most_of_what_comes_is_of_no_use(self) -> None:
        async with bound(RecordingListener()) as (bind, carrier):
            assert bind.session.turn == read_control.TURN
            carrier.write(pdu(ENQUIRE_LINK, 7) * 900)
            await until(lambda: bind.session.controls == 900)
            assert bind.session.turn == read_control.SMALL_TURN

    async def test_awaited_answers_pay_for_receipts_that_came_before_them(self) -> None:
        read_budget = ReadBudget(ReadCredit(0.0, 0.0))
        async with bound(RecordingListener(), read_budget, window=5) as (bind, carrier):
            for number in range(5):
                bind.submit(BODY, number, now())
            sequences = [(await carrier.read())[1] for _ in range(5)]
            read_budget._idle.rate = 0.0
            read_budget.charge(100, now())
            carrier.write(*(pdu(SUBMIT_SM_RESP, sequence, b"id\0") for sequence in sequences), pdu(ENQUIRE_LINK, 7))
            await until(lambda: bind.session.outstanding == 0 and bind.session.controls == 1)
            assert read_budget._idle.amount == IDLE_BURST - 100 + 5 - 1

    async def test_operations_that_are_not_served_are_logged_once_a_minute(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with bound(RecordingListener()) as (bind, carrier):
            carrier.write(pdu(ALERT_NOTIFICATION, 1, b"\0" * 6) * 50)
            await until(lambda: bind.session.controls == 50)
            assert capsys.readouterr().out.count("operation that is not served") == 1

    async def test_messages_that_are_ours_are_all_read_at_once(self) -> None:
        listener = Answering(useful=True)
        async with bound(listener, ReadBudget(ReadCredit(0.0, 0.0))) as (_, carrier):
            count = 20_000
            began = now()
            carrier.write(*(pdu(DELIVER_SM, n, RECEIPT) for n in range(count)))
            await until(lambda: len(listener.messages) == count)
            assert count > 2 * (IDLE_BURST + IDLE_RATE * (now() - began)), "more than of those that are not"

    @FLOODS
    async def test_a_turn_of_the_loop_reads_a_bounded_part_of_it(self, octets: bytes) -> None:
        """However much a carrier sends, others have their turn every few milliseconds of work."""
        listener = RecordingListener()
        async with bound(listener, generous()) as (bind, _):
            turns: list[int] = []
            receive = bind.session.receive

            def counted(data: bytes, now: float) -> list[Any]:
                before = bind.session.waiting + len(data)
                events = receive(data, now)
                turns.append(before - bind.session.waiting)
                return events

            bind.session.receive = counted  # type: ignore[method-assign]
            flood = octets * (400_000 // len(octets))
            for start in range(0, len(flood), 200_000):
                bind.data_received(flood[start : start + 200_000])
            assert bind.session.waiting > 300_000
            assert bind.reading.pauses == 1
            await until(lambda: bind.session.waiting == 0 or bind.session.unanswered >= INBOUND_WINDOW)
            assert max(turns) <= read_control.TURN + len(octets)
            assert len(turns) >= 2

    async def test_deliveries_without_an_answer_stop_the_reading_until_half_are_answered(self) -> None:
        listener = RecordingListener()
        async with bound(listener, generous()) as (bind, carrier):
            carrier.write(*(pdu(DELIVER_SM, n, RECEIPT) for n in range(10_000)))
            await until(lambda: "unanswered" in repr(bind.reading) and bind.session.unanswered >= INBOUND_WINDOW)
            await asyncio.sleep(0.1)
            most = INBOUND_WINDOW + read_control.TURN // 64
            assert INBOUND_WINDOW <= len(listener.messages) <= most
            answered = 0
            while answered < 10_000:
                waiting = listener.messages[answered:]
                for message in waiting:
                    bind.respond(DELIVER_SM, message.sequence, 0)
                answered += len(waiting)
                await asyncio.sleep(0.005)
                assert len(listener.messages) - answered <= most
            assert [message.sequence for message in listener.messages] == list(range(10_000))

    async def test_deliveries_that_nobody_answers_stop_the_reading_for_a_while_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the store is away, requests and the loss of the connection are still noticed."""
        monkeypatch.setattr(read_control, "UNANSWERED_MOST", 0.2)
        listener = RecordingListener()
        async with bound(listener, generous()) as (bind, carrier):
            carrier.write(*(pdu(DELIVER_SM, n, RECEIPT) for n in range(5000)), pdu(ENQUIRE_LINK, 77))
            async with asyncio.timeout(10):
                while await carrier.read() != (ENQUIRE_LINK_RESP, 77):
                    pass
            assert len(listener.messages) == 5000
            carrier.writer.close()
            await asyncio.wait_for(bind.closed.wait(), 5)

    async def test_the_end_comes_after_all_that_was_read_before(self) -> None:
        listener = RecordingListener()
        async with bound(listener, generous(), window=10) as (bind, carrier):
            bind.submit(BODY, "a", now())
            bind.submit(BODY, "b", now())
            _, sequence = await carrier.read()
            await carrier.read()
            carrier.write(*(pdu(DELIVER_SM, n, RECEIPT) for n in range(4000)), pdu(SUBMIT_SM_RESP, sequence, b"id\0"))
            carrier.writer.write_eof()
            answered = 0
            while not bind.closed.is_set():
                for message in listener.messages[answered:]:
                    bind.respond(DELIVER_SM, message.sequence, 0)
                answered = len(listener.messages)
                await asyncio.sleep(0.001)
            assert (len(listener.messages), listener.unknown, listener.unwritten) == (4000, ["b"], [])
            assert [answer.context for answer in listener.answers] == ["a"]

    async def test_a_connection_that_goes_while_much_is_unread_takes_no_submits_any_more(self) -> None:
        listener = RecordingListener()
        async with bound(listener) as (bind, _):
            bind.data_received(pdu(ENQUIRE_LINK, 7) * 20_000)
            bind.connection_lost(ConnectionResetError("gone"))
            assert (bind.free, bind.able, bind.closed.is_set()) == (0, False, False)
            await asyncio.wait_for(bind.closed.wait(), 5)
            assert bind.reason == "connection lost: gone"

    async def test_a_bind_that_is_given_up_while_much_is_unread_comes_to_its_end(self) -> None:
        """… and does not go on parsing the rest."""
        async with bound(Listener()) as (bind, _):
            bind.data_received(b"".join(pdu(DELIVER_SM, number, RECEIPT) for number in range(1, 2000)))
            assert bind.session.more
            bind.connection_lost(None)
            bind.abort("carrier answered 0x00000004 to a submit")
            turns = 0
            read = bind.reading.turned

            def turned(seconds: float, at: float) -> None:
                nonlocal turns
                turns += 1
                read(seconds, at)

            bind.reading.turned = turned  # type: ignore[method-assign]
            for _ in range(20):
                await asyncio.sleep(0)
            assert turns <= 1

    async def test_a_carrier_that_reads_nothing_is_not_read_either(self) -> None:
        listener = RecordingListener()
        async with bound(listener, generous()) as (bind, carrier):
            carrier.reader._transport.pause_reading()  # type: ignore[attr-defined]
            assert bind._transport is not None
            bind._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            async with asyncio.timeout(20):
                while "output" not in repr(bind.reading):
                    if carrier.writer.transport.get_write_buffer_size() < 1 << 18:
                        carrier.write(pdu(ENQUIRE_LINK, 7) * 4096)
                    await asyncio.sleep(0.001)
            assert bind.session.pending <= read_control.PENDING + 2 * read_control.TURN // 16
            before = bind.session.pending
            carrier.write(pdu(ENQUIRE_LINK, 7) * 100_000)
            await asyncio.sleep(0.1)
            assert bind.session.pending == before
            carrier.reader._transport.resume_reading()  # type: ignore[attr-defined]
            carrier.reader._limit = 1 << 30  # type: ignore[attr-defined]
            await until(lambda: "output" not in repr(bind.reading) and bind.session.waiting == 0)
            assert bind.session.bound


class TestUnwritten:
    async def stalled(self, bind: Bind, carrier: Carrier) -> int:
        """Submit until the socket takes no more; how many submits there are."""
        carrier.reader._transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        while not bind._paused:
            for _ in range(100):
                bind.submit(BODY + b"\x14\x99\x04\x00" + b"x" * 1024, count, now())
                count += 1
            await asyncio.sleep(0)
        return count

    async def rest(self, carrier: Carrier) -> int:
        """Submits of which the carrier gets an octet or more before the end."""
        carrier.reader._transport.resume_reading()  # type: ignore[attr-defined]
        data = b""
        with suppress(ConnectionError):
            while chunk := await carrier.reader.read(1 << 20):
                data += chunk
        found = at = 0
        while at < len(data):
            found += 1
            at += int.from_bytes(data[at : at + 4], "big")
        return found

    @pytest.mark.parametrize("policy", [uvloop.EventLoopPolicy(), asyncio.DefaultEventLoopPolicy()])
    def test_a_submit_of_which_no_octet_left_is_unwritten_and_never_leaves(self, policy: Any) -> None:
        async def run() -> None:
            listener = RecordingListener()
            async with bound(listener, window=10_000) as (bind, carrier):
                count = await self.stalled(bind, carrier)
                for number in range(5):  # never handed to the transport
                    bind.submit(BODY, count + number, now())
                bind.abort("silent for too long")
                assert listener.unknown + listener.unwritten == list(range(count + 5))
                assert len(listener.unwritten) > 5
                assert await self.rest(carrier) == len(listener.unknown)

        with asyncio.Runner(loop_factory=policy.new_event_loop) as runner:
            runner.run(run())

    async def test_of_a_connection_that_is_reset_only_what_was_never_handed_over_is_unwritten(self) -> None:
        listener = RecordingListener()
        async with bound(listener, window=10_000) as (bind, carrier):
            count = await self.stalled(bind, carrier)
            for number in range(5):
                bind.submit(BODY, count + number, now())
            carrier.writer.transport.abort()
            await asyncio.wait_for(bind.closed.wait(), 5)
            assert (listener.unknown, listener.unwritten) == (list(range(count)), list(range(count, count + 5)))


class TestSickness:
    async def test_a_carrier_that_answers_no_submit_for_a_response_timeout_is_sick(self) -> None:
        listener = RecordingListener()
        async with bound(listener, window=10, response_timeout=5) as (bind, carrier):
            start = now()
            for number in range(3):
                bind.submit(BODY, number, start)
            bind.tick(start + 5)
            assert (bind.sick, bind.free, bind.probing) == (False, 7, False)
            rooms = listener.rooms
            bind.tick(start + 5.1)
            assert (bind.sick, bind.free, bind.probing) == (True, 1, False)
            assert listener.rooms == rooms + 1
            assert repr(bind).endswith(" sick>")
            bind.submit(BODY, "probe", now())
            assert (bind.free, bind.probing) == (0, True)
            while len(submits := [sequence for command_id, sequence in carrier.got if command_id == SUBMIT_SM]) < 4:
                await carrier.read()
            sequence = submits[-1]
            carrier.write(pdu(SUBMIT_SM_RESP, sequence, b"id\0"))
            await until(lambda: len(listener.answers) == 1)
            assert (bind.sick, bind.free, bind.probing) == (False, 7, False)
            assert listener.rooms == rooms + 2

    async def test_a_probe_without_an_answer_makes_room_for_the_next_after_a_response_timeout(self) -> None:
        async with bound(RecordingListener(), window=10, response_timeout=0.1) as (bind, _):
            bind.submit(BODY, 0, now() - 1)
            bind.tick(now())
            assert bind.free == 1
            bind.submit(BODY, 1, now())
            assert bind.free == 0
            await until(lambda: bind.free == 1)
            assert bind.session.outstanding == 2

    async def test_it_stays_sick_when_its_submits_are_given_up_and_a_late_answer_makes_it_well(self) -> None:
        listener = Listener()
        async with bound(listener, window=10, response_timeout=5) as (bind, carrier):
            start = now()
            bind.submit(BODY, "late", start)
            _, sequence = await carrier.read()
            bind.tick(start + 5.1)
            bind.tick(start + 10.1)
            assert (listener.late, bind.session.outstanding, bind.sick) == (1, 0, True)
            carrier.write(pdu(SUBMIT_SM_RESP, sequence, b"id\0"))
            await until(lambda: len(listener.answers) == 1)
            assert listener.answers[0].late
            assert listener.answers[0].context == "late"
            assert not bind.sick

    async def test_a_bind_with_nothing_out_is_never_sick(self) -> None:
        async with bound(RecordingListener(), response_timeout=5) as (bind, _):
            bind.tick(now() + 29)
            assert not bind.sick

    async def test_a_silent_carrier_is_given_up_within_45_seconds(self) -> None:
        async with bound(RecordingListener(), response_timeout=30) as (bind, _):
            start = now()
            for half in range(2, 91):
                bind.tick(start + half / 2)
                if bind.session.state is SessionState.CLOSED:
                    break
            assert half / 2 <= 45
