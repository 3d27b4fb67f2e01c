"""``smpp-gateway serve`` as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.children import free_ports
from gateway.cli import Exit
from gateway.client import Client, Unreachable

PATIENCE = 30.0


def write_config(folder: Path, *, data: str = "data", http: int = 0, carrier: int = 1) -> tuple[Path, int, int]:
    """A configuration in ``folder``; its file, HTTP port and admin port."""
    ports = free_ports(3)
    http = http or ports[0]
    file = folder / f"gateway-{http}.toml"
    file.write_text(f"""
[store]
data_dir = "{folder / data}"
[http]
listen = "127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{ports[1]}"
[smpp]
listen = "127.0.0.1:{ports[2]}"
[[account]]
name = "shop"
api_keys = ["plain:key"]
default_category = "transactional"
[[carrier]]
name = "north"
hosts = ["127.0.0.1:{carrier}"]
system_id = "gw"
password = "secret"
[[route]]
to = "*"
carriers = ["north"]
""")
    return file, http, ports[1]


@contextmanager
def serving(file: Path, admin: int) -> Iterator[subprocess.Popen[str]]:
    """A gateway that is ready; killed at the end if it still runs."""
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        client, deadline = Client(f"http://127.0.0.1:{admin}", timeout=2.0), time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "not ready in time"
            try:
                if client.get("/readyz").ok:
                    break
            except Unreachable:
                time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def refused(file: Path) -> tuple[int, str]:
    """Exit code and words of a gateway that cannot start."""
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_serve_in_order_and_accepted_messages_survive(tmp_path: Path, number: signal.Signals) -> None:
    file, http, admin = write_config(tmp_path)
    client = Client(f"http://127.0.0.1:{http}", "key")
    with serving(file, admin) as gateway:
        accepted = client.post("/v1/messages", {"to": "+46701740605", "text": "Hello"})
        assert (accepted.status, accepted.body["status"]) == (202, "queued")
        gateway.send_signal(number)
        out, errors = gateway.communicate(timeout=PATIENCE)
        assert (gateway.returncode, out) == (Exit.OK, "")
        lines = [json.loads(line) for line in errors.splitlines()]  # nothing but logs
        assert "Traceback" not in errors
        assert lines
    with serving(file, admin):
        found = client.get(f"/v1/messages/{accepted.body['id']}")
        assert (found.status, found.body["status"]) == (200, "queued")


def test_numbers_and_texts_are_not_in_the_log(tmp_path: Path) -> None:
    file, http, admin = write_config(tmp_path)
    with serving(file, admin) as gateway:
        Client(f"http://127.0.0.1:{http}", "key").post("/v1/messages", {"to": "+46701740605", "text": "hush-hush"})
        gateway.send_signal(signal.SIGTERM)
        errors = gateway.communicate(timeout=PATIENCE)[1]
    assert not [word for word in ("46701740605", "hush-hush", "secret", "plain:key") if word in errors]


def test_a_second_gateway_on_the_same_data_is_refused(tmp_path: Path) -> None:
    file, _, admin = write_config(tmp_path)
    with serving(file, admin) as gateway:
        code, errors = refused(write_config(tmp_path)[0])
        assert code == Exit.CANNOT_START
        assert f"in use by a running gateway (pid {gateway.pid})" in errors
        assert "Traceback" not in errors


def test_an_address_in_use_is_reported_with_a_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        code, errors = refused(write_config(tmp_path, http=port)[0])
    assert code == Exit.CANNOT_START
    assert "cannot start:" in errors
    assert str(port) in errors
    assert "Traceback" not in errors


def test_an_unreachable_store_is_reported_with_a_remedy(tmp_path: Path) -> None:
    file, _, _ = write_config(tmp_path)
    file.write_text(file.read_text().replace("[store]", f'[store]\nurl = "redis://127.0.0.1:{free_ports(1)[0]}"'))
    code, errors = refused(file)
    assert code == Exit.CANNOT_START
    assert "cannot start:" in errors
    assert "Traceback" not in errors
