"""One worker as its supervisor sees it: a process that is started, listened to, and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import structlog

import gateway
from gateway.cluster.worker_identity import WorkerIdentity
from gateway.cluster.workers.channel import BEAT_EVERY, WorkerOrders, WorkerReport, hear, line
from gateway.cluster.workers.locks import WorkerLocks, hand_over
from gateway.config import Config
from gateway.store.errors import StoreError

BACKOFF = (0.1, 10.0)  # first and longest pause before a dead worker is started again
HEALTHY = 30.0  # up for so long, and the back-off starts from the beginning
STUCK = 30  # seconds without a word, after which it is killed: its loop does not turn any more
LAST_WORDS = 5.0  # seconds that it gets to be gone after its end of the channel is
AT_ONCE = 3.0  # … after a second SIGTERM, before it is killed

log = structlog.get_logger(__name__)


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"  # died; waits for its next start
    STOPPING = "stopping"
    STOPPED = "stopped"


class CannotStart(OSError):
    """A worker did not come up at the supervisor's start; the text says why."""


class Worker:
    """``run`` until ``stop`` was called. ``config`` gives the configuration in force at every start."""

    def __init__(
        self, worker_identity: WorkerIdentity, locks: WorkerLocks, config: Callable[[], Config], *, patience: float
    ) -> None:
        self.worker_identity = worker_identity
        self.state = WorkerState.STARTING
        self.pid = 0
        self.restarts = 0
        self.fault = ""  # why it died last
        self.up = asyncio.Event()
        self._locks = locks
        self._config = config
        self._given: Config | None = None
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._over = asyncio.Event()
        self._since = 0.0
        self._said = ""  # why this life of it ends, as far as we know more than its exit code tells

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.state} pid={self.pid} restarts={self.restarts}>"

    @property
    def name(self) -> str:
        """As operators call it."""
        return str(self.worker_identity.number)

    @property
    def up_s(self) -> float:
        """Seconds since it came up; 0.0 when it is not."""
        return time.monotonic() - self._since if self.state is WorkerState.UP else 0.0

    async def run(self, *, first: bool) -> None:
        """Keep a process in this seat. With ``first`` it must come up, else CannotStart is raised.

        Cancelled, it ends the process within seconds.
        """
        pause = BACKOFF[0]
        try:
            while not self._over.is_set():
                begun = time.monotonic()
                await self._live()
                if self._over.is_set():
                    break
                if first and not self.up.is_set() and not self.restarts:
                    raise CannotStart(f"worker {self.name}: {self.fault}")
                if time.monotonic() - begun > HEALTHY:
                    pause = BACKOFF[0]
                self.restarts += 1
                self._set(WorkerState.DOWN)
                log.error("worker died", worker=self.name, pid=self.pid, problem=self.fault, retry_in=pause)
                await self._rest(pause)
                pause = min(2 * pause, BACKOFF[1])
        finally:
            await self._end_now()
            self._set(WorkerState.STOPPED)

    def stop(self) -> None:
        """No more starts; the process that runs ends in order."""
        self._over.set()
        if self._process is not None:
            self._set(WorkerState.STOPPING)
            self._signal(signal.SIGTERM)

    def taken_over(self) -> None:
        """It works by the configuration in force now."""
        self._given = self._config()

    def restart(self, why: str) -> None:
        """End the process in order; the next one begins with the configuration in force."""
        log.warning("worker is started again", worker=self.name, why=why)
        self._signal(signal.SIGTERM)

    # ---- one life

    async def _live(self) -> None:
        """Start a process and listen until it is gone; ``fault`` then says why."""
        self._set(WorkerState.STARTING)
        self._said = ""
        try:
            channel = await self._spawn()
        except (OSError, StoreError) as error:
            self.fault = str(error)
            return
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        try:
            self._given = self._config()
            writer.write(line(WorkerOrders(self.worker_identity._replace(again=self.restarts > 0), self._given)))
            await self._listen(reader)
        finally:
            writer.close()
        code = await self._reap()
        self.fault = self._said or _words(code)

    async def _spawn(self) -> socket.socket:
        """Our end of the channel to a new process. Raises OSError, StoreRefused."""
        lock = await self._locks.worker(self.worker_identity.number, self._patience)
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.cluster.workers", self.name, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lock),
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends all in order
            )
        except OSError:
            ours.close()
            os.close(lock)
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        hand_over(lock, self.pid)
        if self._over.is_set():
            self.stop()
        return ours

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Until its end of the channel is gone. One that says nothing for long is killed."""
        silent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    async with asyncio.timeout(BEAT_EVERY):
                        said = await reader.readline()
                except TimeoutError:
                    silent += 1  # counted, not measured: when the machine slept, so did it
                    if silent == STUCK:
                        self._said = f"stuck: no word for {STUCK} s"
                        self._signal(signal.SIGKILL)
                    continue
                if not said:
                    return
                silent = 0
                self._heard(hear(said))

    def _heard(self, word: WorkerReport) -> None:
        if word.say == "failed":
            self._said = word.why
        elif word.say == "ready" and not self._over.is_set():
            self._since = time.monotonic()
            self._set(WorkerState.UP)
            log.info("worker is up", worker=self.name, pid=self.pid)
            if self._given is not self._config():
                self.restart("the configuration has changed meanwhile")

    async def _reap(self) -> int:
        """Its exit code; killed when it has hung up and yet does not end."""
        assert self._process is not None
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
        code = await self._process.wait()
        self._process = None
        return code

    async def _end_now(self) -> None:
        """SIGTERM, and SIGKILL when that does not do."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AT_ONCE):
                await self._process.wait()
        self._signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To the process, if it still runs; not by its own method, which would take the exit code from the loop."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _set(self, state: WorkerState) -> None:
        self.state = state
        if state is WorkerState.UP:
            self.up.set()
        elif state is not WorkerState.STOPPING:
            self.up.clear()


def _environment() -> dict[str, str]:
    """Ours, in which the worker finds the package where we found it, also when that is a checkout."""
    home = str(Path(gateway.__file__).parents[1])
    if home in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    more = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{more}" if more else home}


def _words(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}" if code else "ended in order, asked by somebody else"
