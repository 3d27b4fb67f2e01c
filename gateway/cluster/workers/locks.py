"""Locks in the data folder that tell who lives: one of the supervisor, and one of every worker.

A worker inherits its lock, so that it is held exactly as long as the worker lives, whoever started it. A supervisor
that finds workers of a former one waits until they have emptied their windows: two of one name would take each other
for dead.
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

LOOK_EVERY = 0.05
log = structlog.get_logger(__name__)


class WorkerLocks:
    """Those of one supervisor, whose lasting name is ``node``."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node
        self._ours = -1

    def __repr__(self) -> str:
        return f"<WorkerLocks of {self._node} in {self._folder}>"

    def take(self) -> None:
        """Be the only supervisor of this name here. Raises StoreRefused with the pid of the other."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._ours = open_lock(self._folder / f"supervisor-{self._node}.lock")
        except OSError as error:
            raise StoreRefused(f"the data folder {self._folder} cannot be used: {error.strerror}") from error
        if not try_lock(self._ours):
            pid = _pid(self._ours)
            os.close(self._ours)
            self._ours = -1
            raise StoreRefused(
                f"a gateway with the name {self._node} runs on {self._folder} (pid {pid or 'unknown'}): "
                "stop it, or give this one another node and data_dir"
            )
        _note(self._ours, os.getpid())

    async def worker(self, number: int, patience: float) -> int:
        """The lock of a worker that is to begin, once the one before it has ended; the descriptor is the caller's.

        After ``patience`` seconds the one before is killed. Raises StoreRefused when that does not help.
        """
        descriptor = open_lock(self._path(number))
        try:
            for seconds in (patience, 5.0):
                if await _freed(descriptor, number, seconds):
                    os.ftruncate(descriptor, 0)
                    return descriptor
                if pid := _pid(descriptor):
                    log.error("a worker of a former supervisor does not end: killed", worker=str(number), pid=pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            raise StoreRefused(f"a worker that holds {self._path(number)} does not end: kill it by hand")
        except BaseException:
            os.close(descriptor)
            raise

    async def survivors_gone(self, patience: float) -> None:
        """Wait until every worker of a former supervisor has ended. Raises StoreRefused."""
        for descriptor in await asyncio.gather(*(self.worker(number, patience) for number in self._numbers())):
            os.close(descriptor)

    def release(self, *, lasting: bool) -> None:
        """Let another supervisor begin; locks that nobody holds go. ``lasting``: it will have our name."""
        if self._ours < 0:
            return
        for number in self._numbers():
            descriptor = open_lock(self._path(number))
            if try_lock(descriptor):
                self._path(number).unlink(missing_ok=True)
            os.close(descriptor)
        if not lasting:
            (self._folder / f"supervisor-{self._node}.lock").unlink(missing_ok=True)
        os.close(self._ours)
        self._ours = -1

    def _numbers(self) -> list[int]:
        """Of the workers that there are, or were."""
        pattern = re.compile(rf"worker-{re.escape(self._node)}\.(\d+)\.lock")
        return [int(found[1]) for path in self._folder.iterdir() if (found := pattern.fullmatch(path.name))]

    def _path(self, number: int) -> Path:
        return self._folder / f"worker-{self._node}.{number}.lock"


def hand_over(descriptor: int, pid: int) -> None:
    """The worker ``pid`` has inherited the lock: note it, and let go of our copy."""
    _note(descriptor, pid)
    os.close(descriptor)


async def _freed(descriptor: int, number: int, seconds: float) -> bool:
    if try_lock(descriptor):
        return True
    log.warning("waiting for a worker of a former supervisor to end", worker=str(number), pid=_pid(descriptor))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not try_lock(descriptor):  # noqa: ASYNC110 - nothing but its lock tells of its end
                await asyncio.sleep(LOOK_EVERY)
            return True
    return False


def _note(descriptor: int, pid: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{pid}\n".encode(), 0)


def _pid(descriptor: int) -> int:
    """Who holds it; 0 when that is not noted."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
