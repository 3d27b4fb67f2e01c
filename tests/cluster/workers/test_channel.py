"""Orders and reports arrive unchanged."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from gateway.cluster.worker_identity import WorkerIdentity
from gateway.cluster.workers.channel import WorkerOrders, WorkerReport, decode_report, encode_line, receive_orders
from gateway.config import load, load_text

ROOT = Path(__file__).parents[3]
WORKER_IDENTITY = WorkerIdentity(2, "host.2", "unix:///s", "127.0.0.1:8080", "unix:/w2")


@pytest.mark.parametrize("file", ["gateway.toml", "demo.toml"])
def test_a_configuration_survives_the_way_to_the_worker(file: str) -> None:
    config = load(ROOT / "config" / file, {"NORTH_PORT": "1", "SOUTH_PORT": "2"})
    here, there = socket.socketpair()
    with here, there:
        here.sendall(encode_line(WorkerOrders(WORKER_IDENTITY, config)))
        assert receive_orders(there) == WorkerOrders(WORKER_IDENTITY, config)


def test_durations_and_tables_survive_the_way_to_the_worker() -> None:
    text = """
[retention]
finished = "90m"
[privacy]
[[account]]
name = "shop"
templates = { hello = "Hello {name}" }
[[carrier]]
name = "north"
hosts = ["127.0.0.1:2775"]
system_id = "gw"
password = "pw"
status_table = { "0x0400" = "retry" }
sender_rates = { "SHOP*" = 1.5 }
[[route]]
to = "+46"
carriers = ["north"]
"""
    config = load_text(text, "gw.toml", {}).config
    assert msgspec.json.decode(msgspec.json.encode(config), type=type(config)) == config


def test_receiving_orders_from_a_dead_supervisor_raises_eof() -> None:
    here, there = socket.socketpair()
    here.close()
    with there, pytest.raises(EOFError):
        receive_orders(there)


def test_reports_survive_the_way_to_the_supervisor() -> None:
    reports = [WorkerReport("alive"), WorkerReport("failed", "why")]
    assert [decode_report(encode_line(report)) for report in reports] == reports
