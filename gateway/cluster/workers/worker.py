"""One worker as its supervisor sees it: a process that is started, watched, and restarted when it dies."""

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
from gateway.cluster.workers.channel import REPORT_EVERY, WorkerOrders, WorkerReport, decode_report, encode_line
from gateway.cluster.workers.locks import WorkerLocks, hand_over
from gateway.config import Config
from gateway.store.errors import StoreError

BACKOFF = (0.1, 10.0)  # first and longest pause before a dead worker is restarted
HEALTHY = 30.0  # seconds up after which the back-off starts from the beginning
STUCK = 30  # seconds without a report after which the worker is killed: its event loop does not run any more
EXIT_TIMEOUT = 5.0  # seconds that the process gets to exit once its end of the channel is closed
KILL_AFTER = 3.0  # seconds between SIGTERM and SIGKILL when the supervisor is to stop at once

log = structlog.get_logger(__name__)


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"  # died; waits for its restart
    STOPPING = "stopping"
    STOPPED = "stopped"


class CannotStart(OSError):
    """A worker did not come up at the supervisor's start; the text says why."""


class Worker:
    """Keeps one worker process running until ``stop``. ``config`` returns the configuration in force.

    ``patience``: seconds to wait for a former process of the same name to end.
    """

    def __init__(
        self, worker_identity: WorkerIdentity, locks: WorkerLocks, config: Callable[[], Config], *, patience: float
    ) -> None:
        self.worker_identity = worker_identity
        self.state = WorkerState.STARTING
        self.pid = 0
        self.restarts = 0
        self.last_fault = ""
        """Why the last process ended, "" while none has."""
        self.up = asyncio.Event()
        self._locks = locks
        self._config = config
        self._applied_config: Config | None = None
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._up_since = 0.0
        self._end_reason = ""  # why the present process ends, when more is known than its exit code

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.state} pid={self.pid} restarts={self.restarts}>"

    @property
    def name(self) -> str:
        """The worker's number, as operators see it."""
        return str(self.worker_identity.number)

    @property
    def up_s(self) -> float:
        """Seconds since it came up; 0.0 when it is not up."""
        return time.monotonic() - self._up_since if self.state is WorkerState.UP else 0.0

    async def run(self, *, first: bool) -> None:
        """Keep a process running. With ``first``, raise CannotStart if it does not come up.

        When cancelled, kill the process within seconds.
        """
        pause = BACKOFF[0]
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                await self._run_process()
                if self._stopping.is_set():
                    break
                if first and not self.up.is_set() and not self.restarts:
                    raise CannotStart(f"worker {self.name}: {self.last_fault}")
                if time.monotonic() - started > HEALTHY:
                    pause = BACKOFF[0]
                self.restarts += 1
                self._set(WorkerState.DOWN)
                log.error("worker died", worker=self.name, pid=self.pid, problem=self.last_fault, retry_in=pause)
                await self._sleep(pause)
                pause = min(2 * pause, BACKOFF[1])
        finally:
            await self._terminate()
            self._set(WorkerState.STOPPED)

    def stop(self) -> None:
        """Let the process stop in order and start no other."""
        self._stopping.set()
        if self._process is not None:
            self._set(WorkerState.STOPPING)
            self._signal(signal.SIGTERM)

    def configuration_applied(self) -> None:
        """Record that the process has applied the configuration in force."""
        self._applied_config = self._config()

    def restart(self, reason: str) -> None:
        """Let the process stop in order; the next one starts with the configuration in force."""
        log.warning("restarting worker", worker=self.name, reason=reason)
        self._signal(signal.SIGTERM)

    # ---- one process

    async def _run_process(self) -> None:
        """Start a process and read its reports until it is gone; ``last_fault`` then says why."""
        self._set(WorkerState.STARTING)
        self._end_reason = ""
        try:
            channel = await self._spawn()
        except (OSError, StoreError) as error:
            self.last_fault = str(error)
            return
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        try:
            self._applied_config = self._config()
            worker_identity = self.worker_identity._replace(restarted=self.restarts > 0)
            writer.write(encode_line(WorkerOrders(worker_identity, self._applied_config)))
            await self._read_reports(reader)
        finally:
            writer.close()
        code = await self._exit_code()
        self.last_fault = self._end_reason or _describe_exit(code)

    async def _spawn(self) -> socket.socket:
        """Start a process and return our end of its channel. Raise OSError, StoreRefused."""
        lock = await self._locks.acquire_worker(self.worker_identity.number, self._patience)
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.cluster.workers", self.name, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lock),
                env=_environment(),
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which stops all workers in order
            )
        except OSError:
            ours.close()
            os.close(lock)
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        hand_over(lock, self.pid)
        if self._stopping.is_set():
            self.stop()
        return ours

    async def _read_reports(self, reader: asyncio.StreamReader) -> None:
        """Return when the worker's end of the channel is closed. Kill a worker that stays silent."""
        silent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    async with asyncio.timeout(REPORT_EVERY):
                        line = await reader.readline()
                except TimeoutError:
                    silent += 1  # counted, not measured: while the machine is suspended, so is the worker
                    if silent == STUCK:
                        self._end_reason = f"stuck: no report for {STUCK} s"
                        self._signal(signal.SIGKILL)
                    continue
                if not line:
                    return
                silent = 0
                self._on_report(decode_report(line))

    def _on_report(self, report: WorkerReport) -> None:
        if report.kind == "failed":
            self._end_reason = report.reason
        elif report.kind == "ready" and not self._stopping.is_set():
            self._up_since = time.monotonic()
            self._set(WorkerState.UP)
            log.info("worker is up", worker=self.name, pid=self.pid)
            if self._applied_config is not self._config():
                self.restart("the configuration changed while it started")

    async def _exit_code(self) -> int:
        """Return the exit code; kill a process that has closed its channel and does not exit."""
        assert self._process is not None
        try:
            async with asyncio.timeout(EXIT_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
        code = await self._process.wait()
        self._process = None
        return code

    async def _terminate(self) -> None:
        """Send SIGTERM, and SIGKILL if the process has not exited within ``KILL_AFTER``."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_AFTER):
                await self._process.wait()
        self._signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process if it runs; not with its own method, which would take the exit code from the loop."""
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
    """Return our environment, with which the worker finds the same package, even when that is a checkout."""
    home = str(Path(gateway.__file__).parents[1])
    if home in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    python_path = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{python_path}" if python_path else home}


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exited with code {code}" if code else "stopped in order, but not by the supervisor"
