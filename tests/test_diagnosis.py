"""What ``doctor`` finds: on real servers, real sockets and real certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import diagnosis
from gateway.cli import app
from gateway.config import Carrier, Config, StoreConfig
from gateway.diagnosis import Diagnosis, Level, carrier_findings, data_folder, store_findings, zone_data
from gateway.store.embedded.server import EmbeddedServer
from tests.certificates import Authority


def carrier(*hosts: str, tls: bool = False, ca: str = "") -> Carrier:
    return Carrier(name="north", hosts=hosts, system_id="gw", password="pw", tls=tls, ca=ca)


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A host of a carrier that accepts connections and says nothing."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def levels(found: list[Diagnosis]) -> list[Level]:
    return [finding.level for finding in found]


async def test_every_host_of_a_carrier_is_tried_and_what_is_down_is_a_fault() -> None:
    async with listening() as up:
        async with listening() as down:
            pass
        found = await carrier_findings(carrier(up, down))
    assert levels(found) == [Level.OK, Level.FAULT]
    assert found[0].detail.startswith(f"{up} connects in ")
    assert down in found[1].detail
    assert found[1].remedy


async def test_a_host_that_never_answers_is_a_fault_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "DIAL", 0.05)

    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", silent)
    (found,) = await carrier_findings(carrier("127.0.0.1:2775"))
    assert (found.level, "does not answer within" in found.detail) == (Level.FAULT, True)


@pytest.mark.parametrize(
    ("days", "expected"), [(300, [Level.OK, Level.OK]), (5, [Level.OK, Level.WARNING]), (-1, [Level.FAULT])]
)
async def test_the_end_of_a_certificate_is_named_before_it_comes(
    tmp_path: Path, days: int, expected: list[Level]
) -> None:
    authority = Authority(tmp_path, "carriers")
    async with listening(authority.server("127.0.0.1", days=days)) as host:
        found = await carrier_findings(carrier(host, tls=True, ca=str(authority.file)))
    assert levels(found) == expected
    assert "certificate" in found[-1].detail


async def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    async with listening(Authority(tmp_path, "others").server("127.0.0.1")) as host:
        (found,) = await carrier_findings(carrier(host, tls=True, ca=str(Authority(tmp_path, "ours").file)))
    assert found.level is Level.FAULT
    assert "ours.pem" in found.remedy


def config(folder: Path, url: str = "embedded") -> Config:
    return Config(store=StoreConfig(url=url, data_dir=str(folder)))


async def test_a_running_embedded_store_is_in_order(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    await server.start()
    try:
        found = await store_findings(config(tmp_path))
    finally:
        await server.stop()
    assert [finding for finding in found if finding.level is Level.FAULT] == []
    assert [finding for finding in found if "listpack" in finding.detail] == []
    assert any(finding.detail.startswith("Valkey ") for finding in found)


async def test_an_embedded_store_that_does_not_run_is_no_fault(tmp_path: Path) -> None:
    found = await store_findings(config(tmp_path))
    assert Level.FAULT not in levels(found)
    assert "not running" in found[-1].detail


async def test_settings_that_lose_or_scan_are_named(tmp_path: Path) -> None:
    unsound = ("--maxmemory-policy", "allkeys-lru", "--hash-max-listpack-entries", "512", "--appendfsync", "no")
    server = EmbeddedServer(tmp_path, settings=unsound)
    await server.start()
    try:
        found = await store_findings(config(tmp_path, server.url))
    finally:
        await server.stop()
    said = "\n".join(finding.detail for finding in found if finding.level is Level.FAULT)
    assert "maxmemory-policy allkeys-lru" in said
    assert "appendfsync no" in said
    (scan,) = [finding for finding in found if "listpack" in finding.detail]
    assert (scan.level, "CONFIG SET hash-max-listpack-entries 16" in scan.remedy) == (Level.WARNING, True)


async def test_a_store_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    (found,) = await store_findings(config(tmp_path, f"unix://{tmp_path}/nothing"))
    assert found.level is Level.FAULT


async def test_the_primaries_of_a_cluster_are_examined_each(cluster_url: str, tmp_path: Path) -> None:
    found = await store_findings(config(tmp_path, cluster_url))
    assert len({finding.check for finding in found}) == 3
    assert any("hash-max-listpack-entries" in finding.detail for finding in found)


def test_secrets_that_others_may_read_are_a_fault(tmp_path: Path) -> None:
    secret = tmp_path / "secrets.json"
    secret.write_text("{}")
    secret.chmod(0o644)
    faults = [finding for finding in data_folder(tmp_path, True) if finding.level is Level.FAULT]
    assert [finding.remedy for finding in faults] == [f"chmod 600 {secret}"]
    secret.chmod(0o600)
    assert Level.FAULT not in levels(list(data_folder(tmp_path, True)))


def test_a_folder_that_is_yet_to_be_made_is_examined_where_it_will_be(tmp_path: Path) -> None:
    checks = [finding.check for finding in data_folder(tmp_path / "a" / "b", True)]
    assert checks == ["data folder", "fsync"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("year", "level"), [(2000, Level.OK), (3000, Level.WARNING)])
def test_old_zone_data_is_worth_a_warning(year: int, level: Level) -> None:
    assert zone_data(year).level is level


def test_the_exit_code_says_whether_anything_is_at_fault(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[store]\ndata_dir = "{tmp_path}"\n[[carrier]]\nname = "north"\nhosts = ["127.0.0.1:1"]\nsystem_id = "gw"\n'
        'password = "secret-pw"\n[[route]]\nto = "*"\ncarriers = ["north"]\n'
    )
    done = CliRunner().invoke(app, ["doctor", "--config", str(file)])
    assert done.exit_code == 1
    assert "FAULT    carrier north: 127.0.0.1:1" in done.output
    done = CliRunner().invoke(app, ["doctor", "--config", str(file), "--json"])
    assert (done.exit_code, '"level": "fault"' in done.output) == (1, True)
    file.write_text(f'[store]\ndata_dir = "{tmp_path}"\n')
    assert CliRunner().invoke(app, ["doctor", "--config", str(file)]).exit_code == 0
    file.write_text("[store")
    assert CliRunner().invoke(app, ["doctor", "--config", str(file)]).exit_code == 2
