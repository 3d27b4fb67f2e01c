"""Lock files in the data folder that show which processes are alive: one of the supervisor, one of every worker.

A worker inherits its lock, so that it is held exactly as long as the worker lives, whichever supervisor started it. A
supervisor that finds workers of a former one waits until they have emptied their windows: of two workers with one name,
each would take the other for dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import structlog

from gateway.store.embedded.file_lock import open_lock, try_lock
from gateway.store.errors import StoreRefused

POLL_EVERY = 0.05
"""Seconds between two attempts to get a lock that another process holds."""

log = structlog.get_logger(__name__)


class WorkerLocks:
    """The locks of one supervisor, whose lasting name is ``node``."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node
        self._own = -1  # descriptor of the supervisor's own lock

    def __repr__(self) -> str:
        return f"<WorkerLocks of {self._node} in {self._folder}>"

    def acquire(self) -> None:
        """Become the only supervisor of this name. Raise StoreRefused, with the pid of the other one."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own = open_lock(self._folder / f"supervisor-{self._node}.lock")
        except OSError as error:
            raise StoreRefused(f"cannot use the data folder {self._folder}: {error.strerror}") from error
        if not try_lock(self._own):
            pid = _read_pid(self._own)
            os.close(self._own)
            self._own = -1
            raise StoreRefused(
                f"a gateway named {self._node} is running on {self._folder} (pid {pid or 'unknown'}): "
                "stop it, or set another node and data_dir"
            )
        _write_pid(self._own, os.getpid())

    async def acquire_worker(self, number: int, patience: float) -> int:
        """Return the lock of a worker that is to start, once the former one has ended; the caller owns the descriptor.

        After ``patience`` seconds the former worker is killed. Raise StoreRefused if it still holds the lock then.
        """
        descriptor = open_lock(self._path(number))
        try:
            for seconds in (patience, 5.0):
                if await _acquired(descriptor, number, seconds):
                    os.ftruncate(descriptor, 0)
                    return descriptor
                if pid := _read_pid(descriptor):
                    log.error("worker of a former supervisor did not end, killed", worker=str(number), pid=pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            raise StoreRefused(f"the process that holds {self._path(number)} does not end: kill it by hand")
        except BaseException:
            os.close(descriptor)
            raise

    async def await_former_workers(self, patience: float) -> None:
        """Wait until every worker of a former supervisor has ended. Raise StoreRefused."""
        locks = await asyncio.gather(*(self.acquire_worker(number, patience) for number in self._numbers()))
        for descriptor in locks:
            os.close(descriptor)

    def release(self, *, lasting: bool) -> None:
        """Let another supervisor start, and remove the locks that no process holds.

        ``lasting``: the next supervisor will have the same name, so the supervisor's own lock file stays.
        """
        if self._own < 0:
            return
        for number in self._numbers():
            descriptor = open_lock(self._path(number))
            if try_lock(descriptor):
                self._path(number).unlink(missing_ok=True)
            os.close(descriptor)
        if not lasting:
            (self._folder / f"supervisor-{self._node}.lock").unlink(missing_ok=True)
        os.close(self._own)
        self._own = -1

    def _numbers(self) -> list[int]:
        """Return the numbers of present and former workers."""
        pattern = re.compile(rf"worker-{re.escape(self._node)}\.(\d+)\.lock")
        return [int(found[1]) for path in self._folder.iterdir() if (found := pattern.fullmatch(path.name))]

    def _path(self, number: int) -> Path:
        return self._folder / f"worker-{self._node}.{number}.lock"


def hand_over(descriptor: int, pid: int) -> None:
    """Write down that process ``pid`` has inherited the lock, and close our copy of it."""
    _write_pid(descriptor, pid)
    os.close(descriptor)


async def _acquired(descriptor: int, number: int, seconds: float) -> bool:
    if try_lock(descriptor):
        return True
    log.warning("waiting for a worker of a former supervisor to end", worker=str(number), pid=_read_pid(descriptor))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not try_lock(descriptor):  # noqa: ASYNC110 - nothing but its lock shows that it has ended
                await asyncio.sleep(POLL_EVERY)
            return True
    return False


def _write_pid(descriptor: int, pid: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{pid}\n".encode(), 0)


def _read_pid(descriptor: int) -> int:
    """Return the process id in the lock file, 0 when there is none."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
