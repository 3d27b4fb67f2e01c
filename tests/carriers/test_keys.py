# ruff: noqa: SIM117  # who serves whom reads better nested
"""Keys of a carrier, each against a carrier that needs it: out of the real store, over the wire, and back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from time import time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.carriers.manager import CarrierManager
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.config import Carrier, CarrierTlv, Config, Route
from gateway.model import State
from gateway.simulator import Faults, Simulator, StatusRule
from gateway.smpp.codec import decode
from gateway.smpp.events import BindRequested
from gateway.smpp.text import SplitMethod
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.receipt_index import ReceiptIndex
from tests.carriers.test_service import until
from tests.carriers.test_with_store import opened, submit, sweeping, until_states

NAMES = count()
LONG_TEXT = "Ein Gruß aus Köln – " + "x" * 300
UDH, SAR, PAYLOAD = 0x40, 0x020C, 0x0424


@asynccontextmanager
async def serving(store: MessageStore, simulator: Simulator, **settings: Any) -> AsyncIterator[CarrierManager]:
    """One carrier with these keys."""
    heartbeat = Heartbeat(store, LeaseOwner.fresh(f"test-{next(NAMES)}"), sole=True)
    await heartbeat.start()
    words = {"rate": 0, "window": 30, "hosts": (f"127.0.0.1:{simulator.port}",), **settings}
    carrier = Carrier(name="north", system_id="gw", password="pw", **words)
    carrier_manager = CarrierManager(
        Config(carriers=(carrier,), routes=(Route(carriers=("north",)),)),
        store=store,
        heartbeat=heartbeat,
        hasher=store.hasher,
        forms=ReceiptIdForms(store),
        redecide=lambda items: None,
        index=ReceiptIndex(store, store._link),  # the one it was made with
    )
    running = asyncio.create_task(carrier_manager.run())
    try:
        yield carrier_manager
        await carrier_manager.stop()
        await asyncio.wait_for(running, 5)
    finally:
        running.cancel()


async def delivered(url: str, simulator: Simulator, count: int = 30, *, text: str = "hello", **settings: Any) -> None:
    """Messages go out by a carrier with these settings, and every one is followed to its delivery."""
    async with opened(url) as store, simulator:
        ids = await submit(store, count, text=text)
        async with serving(store, simulator, **settings):
            await until_states(store, ids, State.DELIVERED)


# ── how messages are written ─────────────────────────────────────────────────────────────────────────────────────


async def test_address_types_and_number_format(store_url: str) -> None:
    seen: list[Any] = []
    keys: dict[str, Any] = {"source_ton": 2, "source_npi": 8, "dest_ton": 4, "dest_npi": 6, "number_format": "plus"}
    await delivered(store_url, Simulator(tap=seen.append), 3, registered_delivery=17, **keys)
    assert {(m.source_ton, m.source_npi, m.dest_ton, m.dest_npi, m.registered_delivery) for m in seen} == {
        (2, 8, 4, 6, 17)
    }
    assert {message.dest for message in seen} == {b"+46700000000", b"+46700000001", b"+46700000002"}


@pytest.mark.parametrize(("alphabet", "octets"), [("gsm7", b"K\x7cln"), ("latin1", "Köln".encode("latin-1"))])
async def test_alphabets(store_url: str, alphabet: str, octets: bytes) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as simulator:
        ids = await submit(store, 1, text="Köln")
        async with serving(store, simulator, alphabet=alphabet):
            await until_states(store, ids, State.DELIVERED)
    (entry,) = simulator.ledger
    assert (entry.payload, entry.data_coding) == (octets, 0 if alphabet == "gsm7" else 3)


@pytest.mark.parametrize("method", list(SplitMethod))
async def test_long_messages(store_url: str, method: SplitMethod) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as simulator:
        ids = await submit(store, 5, text="x" * 400)
        async with serving(store, simulator, long_messages=method.value):
            await until_states(store, ids, State.DELIVERED)
    parts = Counter(entry.dest for entry in simulator.ledger)
    assert set(parts.values()) == {1 if method is SplitMethod.PAYLOAD else 3}
    first = simulator.ledger[0]
    tlvs = first.tlvs or {}
    shapes = {
        SplitMethod.UDH8: first.payload[:3] == b"\x05\x00\x03" and bool(first.esm_class & UDH),
        SplitMethod.UDH16: first.payload[:3] == b"\x06\x08\x04" and bool(first.esm_class & UDH),
        SplitMethod.SAR: SAR in tlvs and not first.esm_class & UDH,
        SplitMethod.PAYLOAD: PAYLOAD in tlvs and len(first.payload) == 400,
    }
    assert shapes[method]


@pytest.mark.parametrize(("form", "ending"), [("absolute", b"+"), ("relative", b"R"), ("none", b"")])
async def test_validity_and_service_type(store_url: str, form: str, ending: bytes) -> None:
    simulator = Simulator(ledger=True)
    await delivered(store_url, simulator, 3, validity=form, service_type="CMT")
    assert {(entry.validity[-1:], entry.service_type) for entry in simulator.ledger} == {(ending, b"CMT")}


async def test_a_carrier_that_refuses_validity_gets_messages_without_and_is_logged(store_url: str) -> None:
    simulator = Simulator(Faults(status_rules=[StatusRule(0x62, validity="any")]), ledger=True)
    async with opened(store_url) as store, simulator:
        ids = await submit(store, 40)
        async with serving(store, simulator, window=5, binds=1) as carrier_manager:
            await until_states(store, ids, State.DELIVERED)
            refusals = carrier_manager.services[0].dispatcher.validity
            assert refusals.off
            assert 3 <= refusals.omitted == simulator.stats.refused < 40  # once each, until it is left out of all
    assert (len(simulator.ledger), simulator.stats.duplicates) == (40, 0)
    assert {entry.validity for entry in simulator.ledger} == {b""}


@pytest.mark.parametrize(("zone", "refused"), [("Asia/Kolkata", False), ("", True)])
async def test_a_carrier_that_ignores_the_offset_gets_validities_in_its_own_time(
    store_url: str, zone: str, refused: bool
) -> None:
    simulator = Simulator(Faults(validity_clock=330), ledger=True)
    await delivered(store_url, simulator, 5, time_zone=zone, window=5)
    assert bool(simulator.stats.refused) is refused
    assert {bool(entry.validity) for entry in simulator.ledger} == {not refused}


async def test_only_the_refused_parts_of_a_long_message_go_once_more_without_validity(store_url: str) -> None:
    simulator = Simulator(Faults(status_rules=[StatusRule(0x62, validity="any", every=3)]), ledger=True)
    await delivered(store_url, simulator, 10, text="x" * 400, binds=1)
    assert (len(simulator.ledger), simulator.stats.duplicates) == (30, 0)
    assert simulator.stats.refused > 0


async def test_a_carrier_that_takes_relative_validities_only(store_url: str) -> None:
    simulator = Simulator(Faults(status_rules=[StatusRule(0x62, validity="absolute")]), ledger=True)
    await delivered(store_url, simulator, 10, validity="relative")
    assert simulator.stats.refused == 0


async def test_parameters_that_a_carrier_demands(store_url: str) -> None:
    seen: list[Any] = []
    tlvs = (CarrierTlv(tag=0x1400, type="cstring", value="1101456789"), CarrierTlv(tag=0x1401, metadata="template_id"))
    await delivered(store_url, Simulator(tap=seen.append), 3, tlvs=tlvs, text="x" * 200)
    assert [message.tlvs[0x1400] for message in seen] == [b"1101456789\0"] * 6


# ── how binds are made ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_fields_of_a_bind_request(store_url: str) -> None:
    simulator = Simulator(users={"gw": "pw"})
    said: list[Any] = []
    decide = simulator._bind_status

    def listen(bind: BindRequested) -> int:
        said.append(bind)
        return decide(bind)

    simulator._bind_status = listen  # type: ignore[method-assign]
    await delivered(store_url, simulator, 3, system_type="VMA", address_range="^4670", binds=1)
    (bind,) = said
    assert (bind.system_type, bind.address_range, bind.system_id) == (b"VMA", b"^4670", b"gw")


async def test_types_of_number_and_version_of_the_bind(store_url: str) -> None:
    said = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4))
        said.set_result(decode(size.to_bytes(4) + await reader.readexactly(size - 4)))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(store_url) as store, server:
        keys: dict[str, Any] = {
            "bind_ton": 5,
            "bind_npi": 1,
            "interface_version": "5.0",
            "hosts": (f"127.0.0.1:{port}",),
        }
        async with serving(store, Simulator(), binds=1, **keys):
            bind = await asyncio.wait_for(said, 5)
    assert tuple(bind.fields[key] for key in ("addr_ton", "addr_npi", "interface_version")) == (5, 1, 0x50)


async def test_pairs_of_transmitter_and_receiver(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(receipt_bind="any")) as simulator:
        ids = await submit(store, 30)
        async with serving(store, simulator, bind="transmitter+receiver", binds=2):
            await until_states(store, ids, State.DELIVERED)
            await until(lambda: simulator.stats.bound == 4)


async def test_sequence_numbers_begin_at_first_sequence_and_wrap(store_url: str) -> None:
    simulator = Simulator(ledger=True)
    await delivered(store_url, simulator, 40, first_sequence=0x7FFFFFF0, binds=1)
    numbers = [entry.sequence for entry in simulator.ledger]
    assert numbers[0] == 0x7FFFFFF1  # the bind itself was the first
    assert {1, 2, 3} <= set(numbers) <= {*range(1, 100), *range(0x7FFFFFF0, 0x80000000)}
    assert len(set(numbers)) == 40


async def test_silent_carriers_get_enquire_link_and_are_disconnected(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.carriers.connection.ENQUIRE_TIMEOUT", 0.2)
    async with opened(store_url) as store, Simulator(Faults(ignore_enquire_link=True)) as simulator:
        async with serving(store, simulator, enquire_interval=0.2, binds=1):
            await until(lambda: simulator.stats.connections > 1)


# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "receipt", "form"),
    [
        ("dec", "same", "as-is"),
        ("uuid", "upper", "auto"),
        ("hex", "dec", "hex-to-dec"),
        ("HEX", "dec-padded", "hex-to-dec"),
        ("hex-padded", "dec", "hex-to-dec"),
        ("dec", "hex", "dec-to-hex"),
        ("dec-padded", "HEX", "dec-to-hex"),
        ("hex-padded", "stripped", "auto"),
        ("hex", "dec", "auto"),
    ],
)
@pytest.mark.parametrize("key", ["recipient", "id"])
async def test_forms_of_ids(store_url: str, answer: str, receipt: str, form: str, key: str) -> None:
    faults = Faults(id_form=answer, receipt_id_form=receipt)  # type: ignore[arg-type]
    if key == "id":
        faults.receipt_from = "999"
    if form == "auto":
        if key == "id":
            pytest.skip("where the id is all there is nothing is guessed")
        async with opened(store_url) as store, Simulator(faults) as simulator:
            ids = await submit(store, 30)
            async with (
                serving(store, simulator, id_form=form) as carrier_manager,
                sweeping(store, carrier_manager.forms),
            ):
                await until_states(store, ids, State.DELIVERED)
        return
    await delivered(store_url, Simulator(faults), id_form=form, receipt_key=key)


@pytest.mark.parametrize(
    "faults", [Faults(), Faults(receipt_before_answer=True, latency_ms=30), Faults(receipt_copies=2)]
)
@pytest.mark.parametrize("source", ["999", "SERVICE"])
async def test_a_carrier_that_rewrites_numbers(store_url: str, faults: Faults, source: str) -> None:
    faults.receipt_from = source
    await delivered(store_url, Simulator(faults), text="x" * 200, receipt_key="id")


async def test_receipts_with_rewritten_numbers_match_nothing_without_receipt_key_id(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(Faults(receipt_from="46709999999")) as simulator:
        ids = await submit(store, 3)
        async with serving(store, simulator):
            await until_states(store, ids, State.SENT)
            async with asyncio.timeout(5):
                while (await store.depths()).parked < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


AS_WRITTEN = {
    "UCS-2 under data_coding 8": Faults(receipt_coding="ucs2", receipt_data_coding=8),
    "UCS-2 under data_coding 0": Faults(receipt_coding="ucs2"),
    "a byte order mark": Faults(receipt_coding="ucs2-bom", receipt_data_coding=8),
    "ASCII under data_coding 8": Faults(receipt_data_coding=8),
    "a header that is none": Faults(receipt_esm_class=0x44),
    "a header": Faults(receipt_esm_class=0x44, receipt_before="050003010101"),
    "a quote": Faults(receipt_before="22"),
    "a NUL": Faults(receipt_before="00"),
    "a length": Faults(receipt_before="7a"),
    "an octet too many": Faults(receipt_behind="04"),
    "half a TLV": Faults(receipt_behind="042300"),
    "a state that is none": Faults(receipt_message_state=0),
    "another": Faults(receipt_message_state=12),
    "a digit": Faults(receipt_message_state=0x35),
    "not turned round": Faults(receipt_swapped=False),
}


@pytest.mark.parametrize("tlvs", [True, False])
@pytest.mark.parametrize("name", AS_WRITTEN)
async def test_receipts_in_deviating_formats_are_matched(store_url: str, name: str, tlvs: bool) -> None:
    await delivered(store_url, Simulator(msgspec.structs.replace(AS_WRITTEN[name], receipt_tlvs=tlvs)), 5)


@pytest.mark.parametrize("stray", ["04", "0423", "0423000503"])
async def test_tlvs_alone_with_a_stray_end(store_url: str, stray: str) -> None:
    await delivered(store_url, Simulator(Faults(receipt_text="none", receipt_behind=stray)), 5)


async def test_receipts_known_by_their_text_alone(store_url: str) -> None:
    faults = Faults(receipt_esm_class=0, receipt_tlvs=False)
    await delivered(store_url, Simulator(faults), 5, receipt_text=True)


async def test_numbers_in_national_format(store_url: str) -> None:
    await delivered(store_url, Simulator(Faults(receipt_national="46")), 5, country="SE")


async def test_receipts_in_the_zone_of_the_carrier(store_url: str) -> None:
    ahead = int(datetime.now(ZoneInfo("Asia/Tokyo")).utcoffset().total_seconds()) // 60  # type: ignore[union-attr]
    async with opened(store_url) as store, Simulator(Faults(receipt_utc_offset=ahead)) as simulator:
        ids = await submit(store, 1)
        async with serving(store, simulator, time_zone="Asia/Tokyo"):
            await until_states(store, ids, State.DELIVERED)
        (record,) = await store.find(ids)
    assert record is not None
    assert abs(record.parts[0].done_at - time() * 1000) < 120_000


async def test_vendor_statuses(store_url: str) -> None:
    refusing = Faults(status_rules=[StatusRule(status=0x0411, dest="46700000001")])
    async with opened(store_url) as store, Simulator(refusing) as simulator:
        ids = await submit(store, 2)
        async with serving(store, simulator, status_table={"0x0411": "permanent"}):
            await until_states(store, ids[1:], State.REJECTED)
            await until_states(store, ids[:1], State.DELIVERED)
    assert simulator.stats.submits == 2


@pytest.mark.parametrize("form", ["standard", "seconds", "century"])
@pytest.mark.parametrize("key", ["recipient", "id"])
async def test_dates_of_a_carrier_with_a_clock_of_its_own(store_url: str, form: Any, key: str) -> None:
    """Moscow's says three hours more than UTC; two parts and copies of each receipt, found by number or by id."""
    faults = Faults(receipt_utc_offset=180, receipt_text=form, receipt_copies=2, receipt_tlvs=False)
    began = time() * 1000
    async with opened(store_url) as store, Simulator(faults) as simulator:
        ids = await submit(store, 5, text="x" * 200)
        async with serving(store, simulator, utc_offset=180, receipt_key=key):
            await until_states(store, ids, State.DELIVERED)
        dates = [part.done_at for record in await store.find(ids) if record for part in record.parts]
    assert len(dates) == 10
    exact = 60_000 if form == "standard" else 1000  # the usual form has no seconds
    assert all(began - exact <= date <= time() * 1000 for date in dates)


@pytest.mark.parametrize(
    "faults", [Faults(receipt_utc_offset=-900_000), Faults(receipt_utc_offset=5000), Faults(receipt_text="no-dates")]
)
async def test_dates_that_cannot_be_hurt_nothing(store_url: str, faults: Faults) -> None:
    async with opened(store_url) as store, Simulator(faults) as simulator:
        ids = await submit(store, 5)
        async with serving(store, simulator):
            await until_states(store, ids, State.DELIVERED)
        assert {part.done_at for record in await store.find(ids) if record for part in record.parts} == {0}


# ── pace of a sender ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_sender_keeps_to_its_rate(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as simulator:
        ids = await submit(store, 60)  # all by "shop"
        async with serving(store, simulator, sender_rates={"sh*": 40}) as carrier_manager:
            await until_states(store, ids, State.DELIVERED)
            assert carrier_manager.services[0].dispatcher.in_flight == 0
        assert (await store.depths()).leases == 0
        records = await store.find(ids)
    times = sorted(entry.at for entry in simulator.ledger)
    assert simulator.stats.duplicates == 0
    assert times[-1] - times[0] >= 59 / 40 * 0.9
    assert all(sum(1 for at in times if start <= at < start + 0.5) <= 20 * 1.05 + 4 for start in times)
    assert all(record is not None and record.attempts == 0 for record in records)


async def test_other_senders_do_not_wait_for_it(store_url: str) -> None:
    async with opened(store_url) as store, Simulator(ledger=True) as simulator:
        slow = await submit(store, 20)
        async with serving(store, simulator, sender_rates={"shop": 1}):
            async with asyncio.timeout(5):
                while simulator.stats.accepted < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            others = await submit(store, 50, prefix="4671", sender="bank")
            await until_states(store, others, State.DELIVERED, 2)
        states = Counter(record.state for record in await store.find(slow) if record)
        assert states[State.QUEUED] > 10
