"""Two independent SMPP clients agree with the simulated carrier: what it sends they can read, and the reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiosmpplib
import pytest
import smpplib.client
import smpplib.consts
import smpplib.exceptions
import smpplib.gsm

from gateway.simulator import Faults, LedgerEntry, StatusRule
from gateway.smpp.text import Joined, Joiner, decode

from .app import until

Carriers = Callable[..., Any]
USERS = {"app": "secret"}
LONG_TEXTS = ["Grüße {€} " * 30, "Привет мир! " * 20, "emoji 😀 " * 25]


def joined(ledger: list[LedgerEntry]) -> str:
    """The text that the carrier's ledger adds up to."""
    joiner = Joiner()
    whole: list[Joined] = []
    for entry in ledger:
        found = joiner.add(
            entry.source, entry.dest, entry.esm_class, entry.data_coding, entry.payload, entry.tlvs, entry.at
        )
        whole += [found] if found else []
    (only,) = whole
    return decode(only.payload, only.data_coding)


# smpplib: blocking, in a thread -----------------------------------------------------------------------------------


def smpplib_submits(port: int, texts: list[str], receipts: int) -> tuple[list[Any], list[Any]]:
    """``(answers, receipts)`` of one client that submits each text, long ones in parts by its own splitting."""
    client = smpplib.client.Client("127.0.0.1", port, timeout=5, allow_unknown_opt_params=True)
    answers: list[Any] = []
    received: list[Any] = []
    client.set_message_sent_handler(lambda pdu: answers.append(pdu))  # noqa: PLW0108 - it calls by keyword
    client.set_message_received_handler(lambda pdu: received.append(pdu))  # noqa: PLW0108
    client.connect()
    client.bind_transceiver(system_id="app", password="secret")
    submits = 0
    for text in texts:
        parts, coding, esm_class = smpplib.gsm.make_parts(text)
        for part in parts:
            client.send_message(
                source_addr_ton=smpplib.consts.SMPP_TON_ALNUM,
                source_addr="SHOP",
                dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
                dest_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
                destination_addr="46700000001",
                short_message=part,
                data_coding=coding,
                esm_class=esm_class,
                registered_delivery=True,
            )
            submits += 1
    while len(answers) < submits or len(received) < receipts:
        client.read_once()
    client.unbind()
    client.disconnect()
    return answers, received


async def test_smpplib_submits_and_gets_its_receipts(carriers: Carriers) -> None:
    carrier = await carriers(Faults(receipt_delay_ms=5), users=USERS)
    answers, received = await asyncio.to_thread(smpplib_submits, carrier.port, ["hello", "Grüße €"], 2)
    ids = [answer.message_id for answer in answers]
    assert ids == [entry.id for entry in carrier.ledger]
    assert [pdu.receipted_message_id.rstrip(b"\0") for pdu in received] == ids
    assert [pdu.message_state for pdu in received] == [2, 2]
    assert received[0].short_message.startswith(b"id:" + ids[0] + b" sub:001 dlvrd:001 submit date:")
    assert [decode(entry.payload, entry.data_coding) for entry in carrier.ledger] == ["hello", "Grüße €"]
    await until(lambda: carrier.stats.receipts_acknowledged == 2 and carrier.stats.bound == 0)


@pytest.mark.parametrize("text", ["Привет мир! " * 20, "a plain but long text. " * 20])
async def test_smpplib_splits_and_we_join(carriers: Carriers, text: str) -> None:
    carrier = await carriers(Faults(receipts="off"))
    await asyncio.to_thread(smpplib_submits, carrier.port, [text], 0)
    assert len(carrier.ledger) > 1
    assert joined(carrier.ledger) == text


async def test_smpplib_sees_our_refusals(carriers: Carriers) -> None:
    carrier = await carriers(Faults(bind_status=0x0E))
    with pytest.raises(smpplib.exceptions.PDUError, match="Invalid Password"):
        await asyncio.to_thread(smpplib_submits, carrier.port, [], 0)
    carrier.faults = Faults(status_rules=[StatusRule(0x58)])
    with pytest.raises(smpplib.exceptions.PDUError, match="Throttling error"):
        await asyncio.to_thread(smpplib_submits, carrier.port, ["hello"], 0)


# aiosmpplib -------------------------------------------------------------------------------------------------------


class Hook(aiosmpplib.AbstractHook):  # type: ignore[misc]  # it comes without types
    def __init__(self) -> None:
        self.received_messages: list[Any] = []
        self.errors: list[Exception] = []

    async def sending(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        pass

    async def received(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        self.received_messages.append(smpp_message)

    async def send_error(self, smpp_message: Any, error: Exception, client_id: str) -> None:
        self.errors.append(error)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.received_messages if isinstance(message, kind)]


class Peer:
    """An aiosmpplib client that runs as long as the ``async with`` block."""

    def __init__(self, port: int) -> None:
        self.hook = Hook()
        self.esme = aiosmpplib.ESME(
            "127.0.0.1", port, "app", "secret", hook=self.hook, log_level="ERROR", default_encoding="gsm0338"
        )

    async def submit(self, text: str, **more: Any) -> None:
        await self.esme.broker.enqueue(
            aiosmpplib.SubmitSm(
                short_message=text,
                source=aiosmpplib.PhoneNumber("46700000002"),
                destination=aiosmpplib.PhoneNumber("46700000001"),
                log_id=text[:10],
                **more,
            )
        )

    async def __aenter__(self) -> Peer:
        self.task = asyncio.create_task(self.esme.start())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(TimeoutError):  # it waits for ever when it failed
            await asyncio.wait_for(self.esme.stop(), 2)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_aiosmpplib_submits_and_gets_its_receipts(carriers: Carriers) -> None:
    carrier = await carriers(Faults(receipt_delay_ms=5), users=USERS)
    async with Peer(carrier.port) as peer:
        await peer.submit("hello [€]")
        await peer.submit("Привет", encoding="ucs2")
        await until(lambda: carrier.stats.receipts_acknowledged == 2)
    answers = peer.hook.of(aiosmpplib.SubmitSmResp)
    assert [answer.message_id.encode() for answer in answers] == [entry.id for entry in carrier.ledger]
    assert [decode(entry.payload, entry.data_coding) for entry in carrier.ledger] == ["hello [€]", "Привет"]
    for answer, receipt in zip(answers, peer.hook.of(aiosmpplib.DeliverSm), strict=True):
        assert receipt.is_receipt()
        found = receipt.parse_receipt()
        assert (found["id"], found["stat"], found["err"]) == (answer.message_id, "DELIVRD", 0)
        assert receipt.log_id == answer.log_id  # its own correlation agrees
    assert peer.hook.errors == []


@pytest.mark.parametrize("text", LONG_TEXTS)
async def test_we_split_and_aiosmpplib_joins(carriers: Carriers, text: str) -> None:
    carrier = await carriers()
    async with Peer(carrier.port) as peer:
        await until(lambda: carrier.stats.bound)
        assert carrier.send("46700000001", "12345", text) > 1
        await until(lambda: peer.hook.of(aiosmpplib.DeliverSm))
    (reply,) = peer.hook.of(aiosmpplib.DeliverSm)
    assert not reply.is_receipt()
    assert reply.short_message == text


async def test_aiosmpplib_splits_and_we_join(carriers: Carriers) -> None:
    """By user data header: its SAR splitting fails with an UnboundLocalError of its own (0.7.4)."""
    text = "Привет мир! " * 30
    carrier = await carriers(Faults(receipts="off"))
    async with Peer(carrier.port) as peer:
        await peer.submit(text, encoding="ucs2", esm_class=0x40, auto_message_payload=False)
        await until(lambda: peer.hook.of(aiosmpplib.SubmitSmResp))
    assert len(carrier.ledger) > 1
    assert joined(carrier.ledger) == text
