"""All workers of a supervisor: started together, told of a new configuration, fewer or more of them, ended in order."""

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
from gateway.cluster.workers.requests import WorkerRequest, ask, fields
from gateway.cluster.workers.worker import Worker, WorkerState
from gateway.config import Config

GRACE = 20.0
"""Seconds beyond the longest response timeout that a worker gets to end in order, before it is killed."""

log = structlog.get_logger(__name__)


class WorkerPool:
    """``begin``, ``take_over`` and ``end``; iterating gives the workers in the order of their seats."""

    def __init__(self, config: Config, locks: WorkerLocks, *, node: str, store: str, http: str, folder: Path) -> None:
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
        """Those that can be asked."""
        return [worker for worker in self if worker.state is WorkerState.UP]

    @property
    def patience(self) -> float:
        """Seconds that a worker gets to end in order."""
        return max((carrier.response_timeout for carrier in self.config.carriers), default=0.0) + GRACE

    @property
    def restarts(self) -> int:
        """Times that a worker had to be started again."""
        return sum(worker.restarts for worker in self)

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Start them; returns when all are up. One that cannot start ends the group with CannotStart."""
        self._group = group
        for number in range(1, self.config.workers + 1):
            self._start(number, first=True)
        await asyncio.gather(*(worker.up.wait() for worker in self))

    async def take_over(self, config: Config) -> None:
        """Let all work by a new configuration, as many as it says. One that fails to is started again with it."""
        self.config = config
        await asyncio.gather(
            *(self._tell(worker) for worker in self.up if worker.worker_identity.number <= config.workers)
        )
        for number in range(len(self) + 1, config.workers + 1):
            log.info("worker begins", worker=str(number))
            self._start(number, first=False)
        await self._end([worker for worker in self if worker.worker_identity.number > config.workers])

    async def end(self) -> None:
        """End all in order; one that takes too long is killed."""
        await self._end(list(self))

    def _start(self, number: int, *, first: bool) -> None:
        assert self._group is not None
        door = f"{UNIX}{self._folder / f'w{number}'}"
        worker_identity = WorkerIdentity(number, f"{self._node}.{number}", self._store, self.http, door)
        worker = Worker(worker_identity, self._locks, lambda: self.config, patience=self.patience)
        self._tasks[worker] = self._group.create_task(worker.run(first=first), name=f"worker {number}")

    async def _tell(self, worker: Worker) -> None:
        question = WorkerRequest("/configuration", "POST", msgspec.json.encode(self.config))
        reply = await ask(worker, question, long=True)
        if reply.ok:
            worker.taken_over()
        elif worker.state is WorkerState.UP:
            why = fields(reply).get("detail") or reply.body.decode(errors="replace")
            worker.restart(f"it could not take over the configuration: {why}")

    async def _end(self, workers: list[Worker]) -> None:
        if not workers:
            return
        for worker in workers:
            worker.stop()
        _, late = await asyncio.wait([self._tasks[worker] for worker in workers], timeout=self.patience)
        for task in late:
            log.error("a worker does not end in time: killed", task=task.get_name(), after=self.patience)
            task.cancel()
        for task in late:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for worker in workers:
            del self._tasks[worker]
