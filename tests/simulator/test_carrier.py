"""The simulated carrier over a real socket, fault by fault, with delays of a few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.simulator import Faults, StatusRule, run
from gateway.smpp import receipt
from gateway.smpp.pdu import BIND_RECEIVER, BIND_TRANSMITTER

from .app import App, until

Carriers = Callable[..., Any]
QUICK = {"receipt_delay_ms": 1.0}


async def test_a_submit_gets_a_response_and_a_receipt_that_is_acknowledged(carriers: Carriers) -> None:
    carrier = await carriers(Faults(receipt_delay_ms=5))
    app = await App().bind(carrier.port)
    app.submit("a", text=b"hello there")
    await until(lambda: carrier.stats.receipts_acknowledged)
    found = receipt.parse(app.delivered[0])
    assert found is not None
    assert found.ids == tuple(app.ids)
    assert (found.state, found.text) == (receipt.DELIVERED, b"hello there")
    entry = carrier.ledger[0]
    assert (entry.dest, entry.source, entry.payload, entry.id) == (b"46700000001", b"SHOP", b"hello there", app.ids[0])
    assert repr(carrier) == f"<Simulator port {carrier.port} links 1 accepted 1>"
    assert carrier.undelivered == 0


async def test_many_submits_at_once(carriers: Carriers) -> None:
    carrier = await carriers(Faults(**QUICK))
    app = await App().bind(carrier.port)
    app.submit_many(3000)
    await until(lambda: carrier.stats.receipts_acknowledged == 3000)
    assert len(set(app.ids)) == 3000 == len(app.delivered)


# Binds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "user", "password", "status"),
    [
        (Faults(), "app", "secret", 0),
        (Faults(), "app", "wrong", 0x0E),
        (Faults(), "other", "secret", 0x0F),
        (Faults(bind_status=0x0D), "app", "secret", 0x0D),
    ],
)
async def test_binds(carriers: Carriers, faults: Faults, user: str, password: str, status: int) -> None:
    carrier = await carriers(faults, users={"app": "secret"})
    app = await App().bind(carrier.port, user, password)
    assert app.bound == status
    assert (carrier.stats.binds, carrier.stats.binds_refused) == (int(not status), int(bool(status)))


async def test_one_bind_too_many(carriers: Carriers) -> None:
    carrier = await carriers(Faults(max_binds=1))
    first = await App().bind(carrier.port)
    assert (await App().bind(carrier.port)).bound == 0x05
    assert (await App().bind(carrier.port, "other")).bound == 0
    first.transport.close()
    await until(lambda: carrier.stats.bound == 1)
    assert (await App().bind(carrier.port)).bound == 0


async def test_a_refused_bind_may_close_a_slow_one_comes_late(carriers: Carriers) -> None:
    carrier = await carriers(Faults(bind_status=0x0D, bind_close=True))
    app = await App().bind(carrier.port)
    await until(lambda: app.closed)
    carrier.faults = Faults(bind_delay_ms=5)
    assert (await App().bind(carrier.port)).bound == 0


async def test_connections_are_refused(carriers: Carriers) -> None:
    carrier = await carriers(Faults(refuse_connections=True))
    app = App()
    try:
        await app.bind(carrier.port)
    except ConnectionError:
        return
    assert app.closed and app.bound is None


async def test_an_outage_and_its_end(carriers: Carriers) -> None:
    carrier = await carriers()
    app = await App().bind(carrier.port)
    outage = asyncio.create_task(carrier.outage(0.05))
    await until(lambda: app.closed)
    with pytest.raises(ConnectionRefusedError):
        await App().bind(carrier.port)
    await outage
    assert (await App().bind(carrier.port)).bound == 0


# Answers ----------------------------------------------------------------------------------------------------------


async def test_latency_and_jitter(carriers: Carriers) -> None:
    carrier = await carriers(Faults(latency_ms=5, jitter_ms=30, receipts="off"))
    app = await App().bind(carrier.port)
    begun = asyncio.get_running_loop().time()
    app.submit_many(50)
    await until(lambda: len(app.answers) == 50)
    assert asyncio.get_running_loop().time() - begun >= 0.005
    assert list(app.answers) != sorted(app.answers)  # type: ignore[type-var]
    assert not app.delivered


async def test_throttled_and_refused(carriers: Carriers) -> None:
    carrier = await carriers(Faults(rate=1, burst=3))
    app = await App().bind(carrier.port)
    app.submit_many(10)
    await until(lambda: len(app.answers) == 10)
    assert [answers[0].status for answers in app.answers.values()] == [0] * 3 + [0x58] * 7
    carrier.faults.rate = 0
    carrier.faults.status_rules = [StatusRule(0x0B, dest="47")]
    app.submit("good"), app.submit("bad", dest="4711")
    await until(lambda: len(app.answers) == 12)
    assert (app.answers["good"][0].status, app.answers["bad"][0].status) == (0, 0x0B)
    assert (carrier.stats.throttled, carrier.stats.refused, carrier.stats.accepted) == (7, 1, 4)


@pytest.mark.parametrize(
    ("dest", "status"), [("", 0x0B), ("shop", 0x0B), ("+", 0x0B), ("+4670", 0), ("4670", 0), ("4" * 20, 0)]
)
async def test_a_destination_is_a_number(carriers: Carriers, dest: str, status: int) -> None:
    carrier = await carriers()
    app = await App().bind(carrier.port)
    app.submit("a", dest=dest)
    await until(lambda: app.answers)
    assert app.answers["a"][0].status == status
    assert carrier.stats.refused == bool(status)


@pytest.mark.parametrize("mode", ["close", "reset"])
@pytest.mark.parametrize(
    ("phase", "accepted", "answered"),
    [("before_accept", 2, 2), ("after_accept", 3, 2), ("mid_answer", 3, 2), ("after_answer", 3, 3)],
)
async def test_the_connection_is_cut(carriers: Carriers, mode: Any, phase: Any, accepted: int, answered: int) -> None:
    carrier = await carriers(Faults(drop_every=3, drop_phase=phase, drop_mode=mode))
    app = await App().bind(carrier.port)
    app.submit_many(5)
    await until(lambda: app.closed)
    assert carrier.stats.accepted == accepted == len(carrier.ledger)
    assert carrier.stats.cut == 1 and carrier.stats.bound == 0
    if mode == "close":
        assert len(app.answers) == answered
        assert app.unanswered == list(range(answered, 5))


async def test_accepted_submits_may_get_no_or_an_odd_response(carriers: Carriers) -> None:
    carrier = await carriers(Faults(noresp_every=2))
    app = await App().bind(carrier.port)
    app.submit_many(4)
    await until(lambda: len(app.answers) == 2)
    assert (carrier.stats.accepted, carrier.stats.unanswered) == (4, 2)
    carrier.faults = Faults(empty_id_every=1, duplicate_answer_every=1)
    app.submit("odd")
    await until(lambda: app.session.ignored_answers == 1)
    assert app.answers["odd"][0].message_id == b""


async def test_unbind_in_the_middle(carriers: Carriers) -> None:
    carrier = await carriers(Faults(unbind_every=2))
    app = await App().bind(carrier.port)
    app.submit_many(2)
    await until(lambda: app.unbinding)
    assert len(app.answers) == 2


async def test_drop_and_unbind_on_demand(carriers: Carriers) -> None:
    carrier = await carriers()
    app, other = await App().bind(carrier.port), await App().bind(carrier.port)
    carrier.unbind()
    await until(lambda: app.unbinding and other.unbinding)
    app = await App().bind(carrier.port)
    assert carrier.drop() >= 1
    await until(lambda: app.closed)


async def test_ids_differ_between_answer_and_receipt(carriers: Carriers) -> None:
    carrier = await carriers(Faults(id_form="hex-padded", receipt_id_form="dec", **QUICK))
    app = await App().bind(carrier.port)
    app.submit("a")
    await until(lambda: app.delivered)
    found = receipt.parse(app.delivered[0])
    assert found is not None
    assert int(app.ids[0], 16) == int(found.ids[0])


# Receipts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receipts", "registered", "state", "expected"),
    [
        ("on_request", 0, "DELIVRD", 0),
        ("on_request", 1, "DELIVRD", 1),
        ("on_request", 2, "DELIVRD", 0),
        ("on_request", 2, "UNDELIV", 1),
        ("always", 0, "DELIVRD", 1),
        ("off", 1, "DELIVRD", 0),
    ],
)
async def test_when_a_receipt_is_made(
    carriers: Carriers, receipts: Any, registered: int, state: Any, expected: int
) -> None:
    carrier = await carriers(Faults(receipts=receipts, receipt_states={state: 1}, **QUICK))
    app = await App().bind(carrier.port)
    app.submit("a", registered=registered)
    await until(lambda: app.answers)
    assert carrier.stats.receipts_made == expected


async def test_receipts_before_the_answer_twice_and_with_an_intermediate_one(carriers: Carriers) -> None:
    faults = Faults(receipt_before_answer=True, receipt_copies=2, receipt_intermediate="ENROUTE", latency_ms=10)
    carrier = await carriers(faults)
    app = await App().bind(carrier.port)
    app.submit("a")
    await until(lambda: len(app.delivered) == 4)
    assert not app.answers
    await until(lambda: app.answers)
    states = [found.state for message in app.delivered if (found := receipt.parse(message))]
    assert states == [receipt.ENROUTE] * 2 + [receipt.DELIVERED] * 2


async def test_a_refused_receipt_comes_again_until_the_tries_are_over(carriers: Carriers) -> None:
    carrier = await carriers(Faults(receipt_retry_ms=1, receipt_tries=3, **QUICK))
    app = await App().bind(carrier.port)
    app.ack_status = 0x58
    app.submit("a")
    await until(lambda: carrier.stats.receipts_refused == 3)
    assert len(app.delivered) == 3 and carrier.undelivered == 0
    app.ack_status = 0x0B  # a final refusal
    app.submit("b")
    await until(lambda: carrier.stats.receipts_refused == 4)
    assert carrier.undelivered == 0


async def test_what_was_not_acknowledged_goes_to_the_next_bind(carriers: Carriers) -> None:
    carrier = await carriers(Faults(**QUICK))
    app = await App().bind(carrier.port)
    app.ack_status = None
    app.submit_many(5)
    await until(lambda: len(app.delivered) == 5)
    app.transport.abort()
    await until(lambda: carrier.stats.bound == 0)
    assert carrier.undelivered == 5
    later = await App().bind(carrier.port)
    await until(lambda: carrier.stats.receipts_acknowledged == 5)
    assert [m.short_message for m in later.delivered] == [m.short_message for m in app.delivered]
    assert carrier.stats.receipts_redelivered == 5


async def test_unacknowledged_receipts_are_lost_with_their_bind_when_redelivery_is_off(carriers: Carriers) -> None:
    carrier = await carriers(Faults(receipt_redeliver=False, **QUICK))
    app = await App().bind(carrier.port)
    app.ack_status = None
    app.submit_many(5)
    await until(lambda: len(app.delivered) == 5)
    app.transport.abort()
    await until(lambda: carrier.stats.receipts_lost == 5)
    assert carrier.undelivered == 0


async def test_the_window_of_a_bind_is_respected(carriers: Carriers) -> None:
    carrier = await carriers(Faults(window=3, **QUICK))
    app = await App().bind(carrier.port)
    app.ack_status = None
    app.submit_many(10)
    await until(lambda: len(app.answers) == 10 and len(app.delivered) == 3 and carrier.undelivered == 7)
    app.ack_status = 0
    app.acknowledge()
    await until(lambda: carrier.stats.receipts_acknowledged == 10)


async def test_receipts_of_a_transmitter_come_over_the_receiver(carriers: Carriers) -> None:
    carrier = await carriers(Faults(**QUICK))
    sender = await App().bind(carrier.port, command_id=BIND_TRANSMITTER)
    sender.submit_many(3)
    await until(lambda: carrier.undelivered == 3 and len(sender.answers) == 3)
    receiver = await App().bind(carrier.port, command_id=BIND_RECEIVER)
    stranger = await App().bind(carrier.port, "other")
    await until(lambda: len(receiver.delivered) == 3)
    assert not sender.delivered and not stranger.delivered


# Replies and session ----------------------------------------------------------------------------------------------


async def test_replies_are_sent_by_rule_and_on_demand(carriers: Carriers) -> None:
    carrier = await carriers(Faults(reply_every=2, reply_text="STOP", reply_delay_ms=1, receipts="off"))
    app = await App().bind(carrier.port)
    app.submit_many(3)
    await until(lambda: app.delivered)
    reply = app.delivered[0]
    assert (reply.source, reply.dest, reply.short_message, reply.esm_class) == (b"46700000001", b"SHOP", b"STOP", 0)
    assert carrier.send("4670", "12345", "a" * 200) == 2
    await until(lambda: len(app.delivered) == 3)
    assert carrier.stats.replies == 2
    await App().bind(carrier.port, "other")
    with pytest.raises(LookupError, match="2 apps"):
        carrier.send("4670", "12345", "hello")


async def test_enquire_link_is_ignored_on_demand(carriers: Carriers) -> None:
    carrier = await carriers(Faults(ignore_enquire_link=True, receipts="off"))
    app = await App().bind(carrier.port)
    enquire = bytes.fromhex("00000010000000150000000000000099")
    app.transport.write(enquire)
    app.submit("a")
    app.transport.write(enquire[:7])
    await until(lambda: app.answers)
    assert bytes.fromhex("80000015") not in app.raw
    carrier.faults.ignore_enquire_link = False
    app.raw = b""
    app.transport.write(enquire[7:])
    await until(lambda: app.raw)
    assert app.raw.hex() == "00000010800000150000000000000099"


async def test_other_operations_are_refused(carriers: Carriers) -> None:
    carrier = await carriers()
    app = await App().bind(carrier.port)
    app.raw = b""
    app.transport.write(bytes.fromhex("00000014000000080000000000000005") + b"1\0\0\0")  # cut short
    app.transport.write(bytes.fromhex("00000019000000080000000000000006") + b"\0" + b"1\0" + b"\0\0\0\0\0\0")
    await until(lambda: len(app.raw) >= 32)
    assert app.raw[:4] == b"\0\0\0\x10"
    assert app.raw[-8:].hex() == "0000001100000006"


async def test_garbage_ends_the_connection_alone(carriers: Carriers) -> None:
    carrier = await carriers()
    app, other = await App().bind(carrier.port), await App().bind(carrier.port)
    app.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: app.closed)
    other.submit("a")
    await until(lambda: other.answers)


async def test_duplicates_are_counted(carriers: Carriers) -> None:
    carrier = await carriers()
    app = await App().bind(carrier.port)
    app.submit("a"), app.submit("b"), app.submit("c", text=b"other")
    await until(lambda: len(app.answers) == 3)
    assert carrier.stats.duplicates == 1


async def test_run_prints_statistics() -> None:
    lines: list[str] = []
    task = asyncio.create_task(run(0, every=0.01, say=lines.append))
    await until(lambda: lines)
    app = await App().bind(int(lines[0].rpartition(":")[2]))
    await until(lambda: len(lines) == 2)
    assert lines[1].startswith("binds 1  submits 0 (0/s)")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: app.closed)


def test_counters_are_plain_data() -> None:
    assert set(msgspec.to_builtins(Faults())) >= {"rate", "latency_ms"}
