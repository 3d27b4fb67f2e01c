"""When workers cannot start, do not answer, or do not end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import cast

import pytest

from bench.children import free_ports
from gateway.api.listener import bind
from gateway.cli import Exit
from gateway.cluster.worker_identity import WorkerIdentity
from gateway.cluster.workers import worker as module
from gateway.cluster.workers.locks import WorkerLocks
from gateway.cluster.workers.worker import Worker
from gateway.config import Config
from gateway.simulator import Faults
from tests.running_gateway import running_gateway
from tests.servers import alive
from tests.test_serve import refused, write_config


def test_workers_that_cannot_start_report_the_reason(tmp_path: Path) -> None:
    file, _, _ = write_config(tmp_path)
    dead = f'workers = 2\n[store]\nurl = "redis://127.0.0.1:{free_ports(1)[0]}"'
    file.write_text(file.read_text().replace("[store]", dead))
    code, errors = refused(file)
    assert code == Exit.CANNOT_START
    assert re.search("cannot start: worker [12]: the store at 127.0.0.1", errors)
    assert "Traceback" not in errors


async def test_a_second_sigterm_ends_the_supervisor_and_all_workers_at_once(tmp_path: Path) -> None:
    faults = Faults(latency_ms=60_000)
    async with running_gateway(
        tmp_path, ["north"], faults=faults, settings="response_timeout = 30", workers=2
    ) as gateway:
        workers = (await gateway.status())["workers"]
        await gateway.post([{"to": "+46700000001", "text": "never answered"}])
        async with asyncio.timeout(5):
            while not (await gateway.status())["carriers"][0]["outstanding"]:  # noqa: ASYNC110  # asked over HTTP
                await asyncio.sleep(0.05)
        assert gateway.process is not None
        process = gateway.process.process
        os.kill(process.pid, signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert process.returncode is None, "it waits for the answer"
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait() == Exit.INTERRUPTED
        assert time.monotonic() - begun < 8
        assert not any(alive(worker["pid"]) for worker in workers)


def test_a_port_that_another_gateway_listens_on_with_reuse_port_is_refused() -> None:
    reserved = bind("127.0.0.1:0", reuse_port=True)
    listen = f"127.0.0.1:{reserved.getsockname()[1]}"
    bind(listen).close()  # nobody listens yet
    with bind(listen, reuse_port=True) as other:
        other.listen()
        with pytest.raises(OSError, match=f"cannot listen on {listen}"):
            bind(listen)
    reserved.close()


async def test_a_worker_without_reports_is_killed_as_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY", 0.01)
    monkeypatch.setattr(module, "STUCK", 5)
    worker = Worker(WorkerIdentity(1, "a.1", "", "", ""), WorkerLocks(tmp_path, "a"), Config, patience=1.0)
    killed: list[signal.Signals] = []
    monkeypatch.setattr(worker, "_signal", killed.append)
    reader = asyncio.StreamReader()
    listening = asyncio.create_task(worker._read_reports(reader))
    for _ in range(4):
        await asyncio.sleep(0.02)
        reader.feed_data(b'{"kind":"alive"}\n')
    assert cast("list[int]", killed) == []
    await asyncio.sleep(0.2)
    assert killed == [signal.SIGKILL]
    reader.feed_eof()
    await listening
    assert worker._end_reason.startswith("stuck")
