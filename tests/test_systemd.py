"""Notifications to the service manager: a datagram socket stands in for systemd's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.systemd import NO_MANAGER, Notifier, notifying
from tests.test_serve import write_config

PATIENCE = 30.0


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and the value of NOTIFY_SOCKET for it."""
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("abstract sockets are Linux's")
        name = f"@smpp-gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name[1:]}" if name[0] == "@" else name)
        heard.settimeout(PATIENCE)
        yield heard, name


def next_line(heard: socket.socket) -> list[str]:
    return heard.recv(4096).decode().split("\n")


def until(heard: socket.socket, line: str) -> list[str]:
    while line not in (lines := next_line(heard)):
        assert lines == ["WATCHDOG=1"], lines
    return lines


async def test_systemd_is_notified_of_each_step(manager: tuple[socket.socket, str]) -> None:
    heard, name = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid()), "OTHER": "1"}
    notifier = Notifier.of(environment)
    assert (environment, notifier.watchdog) == ({"OTHER": "1"}, 0.02)  # no child believes that they are for it
    notifier.ready("taking messages")
    assert next_line(heard) == ["READY=1", "STATUS=taking messages"]
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    reloading, instant = next_line(heard)
    assert (reloading, int(instant.removeprefix("MONOTONIC_USEC=")) >= before) == ("RELOADING=1", True)
    stop = asyncio.Event()
    async with notifying(notifier, stop):
        assert await asyncio.to_thread(next_line, heard) == ["WATCHDOG=1"]
        stop.set()
        assert "STOPPING=1" in await asyncio.to_thread(until, heard, "STOPPING=1")
        assert await asyncio.to_thread(next_line, heard) == ["WATCHDOG=1"]  # the end may take its time


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}],
)
async def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier.of(environment)
    assert notifier.watchdog == 0
    notifier.ready("x")
    async with notifying(NO_MANAGER, asyncio.Event()):
        await asyncio.sleep(0)


def test_a_missing_service_manager_is_only_logged(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone")).ready("x")


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_is_ready_reloads_and_stops_as_systemd_wants_it(tmp_path: Path, workers: int) -> None:
    file, _, _ = write_config(tmp_path)
    file.write_text(f"workers = {workers}\n" + file.read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(PATIENCE)
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        gateway = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            until(heard, "READY=1")
            file.write_text(file.read_text().replace('password = "secret"', 'password = "secret"\nrate = 7'))
            gateway.send_signal(signal.SIGHUP)
            until(heard, "RELOADING=1")
            until(heard, "READY=1")
            gateway.send_signal(signal.SIGTERM)
            until(heard, "STOPPING=1")
            assert gateway.wait(PATIENCE) == 0
        finally:
            if gateway.poll() is None:
                gateway.kill()
                gateway.wait()
