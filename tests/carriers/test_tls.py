# ruff: noqa: SIM117  # who serves whom reads better nested
"""TLS to carriers: their certificate and name are checked, ours is shown when they ask, nothing falls back to clear."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.carriers.pool import BindPool
from gateway.model import State
from gateway.simulator import Faults, Simulator
from tests.carriers.test_keys import serving
from tests.carriers.test_service import until
from tests.carriers.test_with_store import opened, submit, until_states
from tests.certificates import Authority

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@asynccontextmanager
async def trying(url: str, simulator: Simulator, **settings: Any) -> AsyncIterator[BindPool]:
    """A pool that tries to bind."""
    async with opened(url) as store, simulator:
        async with serving(store, simulator, binds=1, tls=True, **settings) as carrier_manager:
            yield carrier_manager.services[0].pool


async def refused(url: str, simulator: Simulator, **settings: Any) -> str:
    """Why there is no bind."""
    async with trying(url, simulator, **settings) as pool:
        (slot,) = pool.slots
        await until(lambda: slot.failures > 0)
        assert simulator.stats.binds == 0
        return slot.last_error


async def delivers(url: str, simulator: Simulator, **settings: Any) -> None:
    async with opened(url) as store, simulator:
        ids = await submit(store, 40, text="x" * 200)
        async with serving(store, simulator, tls=True, **settings):
            await until_states(store, ids, State.DELIVERED)
    assert (simulator.stats.accepted, simulator.stats.duplicates) == (80, 0)


async def test_a_private_authority_is_trusted_when_configured(store_url: str, ours: Authority) -> None:
    await delivers(store_url, Simulator(tls=ours.server(HERE), ledger=True), ca=str(ours.file))


async def test_our_certificate_is_shown(store_url: str, ours: Authority, theirs: Authority) -> None:
    cert, key = theirs.issue("gateway")
    simulator = Simulator(tls=ours.server(HERE, clients=theirs), ledger=True)
    await delivers(store_url, simulator, ca=str(ours.file), cert=str(cert), key=str(key))


async def test_without_our_certificate_there_is_no_bind(store_url: str, ours: Authority, theirs: Authority) -> None:
    simulator = Simulator(tls=ours.server(HERE, clients=theirs))
    async with trying(store_url, simulator, ca=str(ours.file)) as pool:
        await until(lambda: pool.slots[0].failures > 0)
    assert simulator.stats.binds == 0


async def test_an_unknown_authority_is_refused(store_url: str, ours: Authority, theirs: Authority) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in await refused(store_url, Simulator(tls=ours.server(HERE)))
    assert "CERTIFICATE_VERIFY_FAILED" in await refused(
        store_url, Simulator(tls=ours.server(HERE)), ca=str(theirs.file)
    )


async def test_a_certificate_for_another_name_is_refused(store_url: str, ours: Authority) -> None:
    simulator = Simulator(tls=ours.server("smsc.example.net"))
    assert "not valid for '127.0.0.1'" in await refused(store_url, simulator, ca=str(ours.file))
    simulator = Simulator(tls=ours.server("smsc.example.net"), ledger=True)
    await delivers(store_url, simulator, ca=str(ours.file), tls_name="smsc.example.net")


async def test_an_expired_certificate_is_refused(store_url: str, ours: Authority) -> None:
    simulator = Simulator(tls=ours.server(HERE, days=-1))
    assert "expired" in await refused(store_url, simulator, ca=str(ours.file))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
async def test_old_tls_versions_are_refused(store_url: str, ours: Authority) -> None:
    context = ours.server(HERE)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with trying(store_url, Simulator(tls=context), ca=str(ours.file)) as pool:
        await until(lambda: pool.slots[0].failures > 0)


async def test_a_carrier_without_tls_learns_no_password(store_url: str, ours: Authority) -> None:
    simulator = Simulator()
    async with trying(store_url, simulator, ca=str(ours.file)) as pool:
        await until(lambda: pool.slots[0].failures > 0)
    assert (simulator.stats.binds, simulator.stats.binds_refused) == (0, 0)


async def test_a_cut_tls_link_loses_no_message(store_url: str, ours: Authority) -> None:
    faults = Faults(drop_every=30, drop_mode="reset", latency_ms=2)
    async with opened(store_url) as store, Simulator(faults, tls=ours.server(HERE)) as simulator:
        ids = await submit(store, 100)
        async with serving(store, simulator, tls=True, ca=str(ours.file), on_unknown="resend") as carrier_manager:
            await until(lambda: simulator.stats.cut >= 2)
            simulator.faults = Faults()
            await until(lambda: carrier_manager.services[0].dispatcher.in_flight == 0 and simulator.stats.bound == 2)
        states = {record.state for record in await store.find(ids) if record}
        assert states <= {State.SENT, State.DELIVERED, State.QUEUED}


async def test_certificates_are_read_again_by_a_reload(store_url: str, ours: Authority, tmp_path: Path) -> None:
    cert, key = ours.issue("gateway")
    mine = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine[0].write_bytes(cert.read_bytes())
    mine[1].write_bytes(key.read_bytes())
    settings: dict[str, Any] = {"ca": str(ours.file), "cert": str(mine[0]), "key": str(mine[1])}
    async with trying(store_url, Simulator(tls=ours.server(HERE, clients=ours)), **settings) as pool:
        await until(lambda: len(pool.binds) == 1)
        before, bind = pool._settings.tls, pool.slots[0].bind
        pool.adjust(pool.carrier)
        assert pool._settings.tls is not before
        assert pool.slots[0].bind is bind
