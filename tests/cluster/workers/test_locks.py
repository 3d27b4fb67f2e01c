"""Locks, not process ids in files, show which supervisors and workers are alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cluster.workers.locks import WorkerLocks, hand_over
from gateway.store.errors import StoreRefused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_second_supervisor_of_the_same_name_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first, second = WorkerLocks(tmp_path, "host"), WorkerLocks(tmp_path, "host")
    first.acquire()
    with pytest.raises(StoreRefused, match=rf"named host is running on .* \(pid {os.getpid()}\)"):
        second.acquire()
    WorkerLocks(tmp_path, "other").acquire()
    os.close(await first.acquire_worker(1, 1.0))
    first.release(lasting=True)
    assert names(tmp_path) == ["supervisor-host.lock", "supervisor-other.lock"]
    second.acquire()
    second.release(lasting=False)
    assert names(tmp_path) == ["supervisor-other.lock"]


def sleeper(descriptor: int, seconds: float) -> subprocess.Popen[bytes]:
    """A process that holds a lock it has inherited."""
    command = [sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"]
    return subprocess.Popen(command, pass_fds=(descriptor,))


async def test_a_worker_lock_is_acquired_once_the_former_worker_has_ended(tmp_path: Path) -> None:
    locks = WorkerLocks(tmp_path, "host")
    lock = await locks.acquire_worker(1, 1.0)
    former = sleeper(lock, 0.5)
    hand_over(lock, former.pid)
    os.close(await WorkerLocks(tmp_path, "host").acquire_worker(1, 10.0))
    assert former.wait() == 0


async def test_a_former_worker_that_does_not_end_in_time_is_killed_whatever_its_number(tmp_path: Path) -> None:
    locks = WorkerLocks(tmp_path, "host")
    lock = await locks.acquire_worker(7, 1.0)
    former = sleeper(lock, 60)
    hand_over(lock, former.pid)
    await WorkerLocks(tmp_path, "host.7").await_former_workers(0.1)  # a name that only begins alike
    assert former.poll() is None
    await WorkerLocks(tmp_path, "host").await_former_workers(0.1)
    assert former.wait() == -9
