"""All workers of a supervisor: start, reconfigure, change their number, stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from gateway.api.listener import UNIX
from gateway.cluster.worker_identity import WorkerIdentity
from gateway.cluster.workers.locks import WorkerLocks
from gateway.cluster.workers.requests import WorkerRequest, ask
from gateway.cluster.workers.worker import Worker, WorkerState
from gateway.config import Config

GRACE = 20.0
"""Seconds beyond the longest response timeout that a worker gets to stop in order, before it is killed."""

log = structlog.get_logger(__name__)


class WorkerPool:
    """Starts, reconfigures and stops the workers; iteration gives them by their numbers."""

    def __init__(self, config: Config, locks: WorkerLocks, *, node: str, store: str, http: str, folder: Path) -> None:
        """``store``: its URL; ``http``: host:port of all workers; ``folder``: where their admin sockets are created."""
        self.config = config
        self.http = http
        self._locks = locks
        self._node, self._store, self._folder = node, store, folder
        self._tasks: dict[Worker, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<WorkerPool {len(self.up)} of {len(self._tasks)} up>"

    def __iter__(self) -> Iterator[Worker]:
        return iter(sorted(self._tasks, key=lambda worker: worker.worker_identity.number))

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def up(self) -> list[Worker]:
        """The workers that respond to requests."""
        return [worker for worker in self if worker.state is WorkerState.UP]

    @property
    def patience(self) -> float:
        """Seconds that a worker gets to stop in order."""
        return max((carrier.response_timeout for carrier in self.config.carriers), default=0.0) + GRACE

    @property
    def restarts(self) -> int:
        """Restarts of workers that died."""
        return sum(worker.restarts for worker in self)

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start the workers and return when all are up. One that cannot start ends the group with CannotStart."""
        self._group = group
        for number in range(1, self.config.workers + 1):
            self._start(number, first=True)
        await asyncio.gather(*(worker.up.wait() for worker in self))

    async def apply(self, config: Config) -> None:
        """Apply a new configuration, including the number of workers. A worker that fails to apply it is restarted."""
        self.config = config
        kept = [worker for worker in self.up if worker.worker_identity.number <= config.workers]
        await asyncio.gather(*(self._apply(worker) for worker in kept))
        for number in range(len(self) + 1, config.workers + 1):
            log.info("starting worker", worker=str(number))
            self._start(number, first=False)
        await self._stop([worker for worker in self if worker.worker_identity.number > config.workers])

    async def stop(self) -> None:
        """Stop all workers in order; kill those that take too long."""
        await self._stop(list(self))

    def _start(self, number: int, *, first: bool) -> None:
        assert self._group is not None
        admin = f"{UNIX}{self._folder / f'w{number}'}"
        worker_identity = WorkerIdentity(number, f"{self._node}.{number}", self._store, self.http, admin)
        worker = Worker(worker_identity, self._locks, lambda: self.config, patience=self.patience)
        self._tasks[worker] = self._group.create_task(worker.run(first=first), name=f"worker {number}")

    async def _apply(self, worker: Worker) -> None:
        request = WorkerRequest("/configuration", "POST", msgspec.json.encode(self.config))
        reply = await ask(worker, request, time_limit=False)
        if reply.ok:
            worker.configuration_applied()
        elif worker.state is WorkerState.UP:
            worker.restart(f"it could not apply the configuration: {reply.detail}")

    async def _stop(self, workers: list[Worker]) -> None:
        if not workers:
            return
        for worker in workers:
            worker.stop()
        _, late = await asyncio.wait([self._tasks[worker] for worker in workers], timeout=self.patience)
        for task in late:
            log.error("worker did not stop in time, killed", task=task.get_name(), after=self.patience)
            task.cancel()
        for task in late:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for worker in workers:
            del self._tasks[worker]
