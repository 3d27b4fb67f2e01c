"""Builds the components of a supervisor: store, admin listener, workers; started in this order, stopped in reverse."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from gateway import discovery, logs
from gateway.admin.audit import Audit
from gateway.admin.auth import AdminGuard
from gateway.admin.reload_routes import ReloadRoutes
from gateway.admin.reloader import Reloader
from gateway.admin.routes import admin_app
from gateway.admin.tokens import open_tokens
from gateway.api.accounts import Accounts
from gateway.api.listener import HttpListener, bind
from gateway.cluster.worker_identity import is_lasting, lasting_name
from gateway.cluster.workers.api import SupervisorApi
from gateway.cluster.workers.locks import WorkerLocks
from gateway.cluster.workers.metrics import SupervisorMetrics
from gateway.cluster.workers.pool import WorkerPool
from gateway.cluster.workers.requests import WorkerRequest, ask, ask_all, fields
from gateway.config import Config, Source, rulebook
from gateway.policy.rulebook import Rulebook
from gateway.store import crypto
from gateway.store.embedded.runtime import clear, runtime_dir
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreUnavailable
from gateway.systemd import NO_MANAGER, Notifier, notifying
from gateway.version import installed_version

log = structlog.get_logger(__name__)


class WorkerSupervisor:
    """Runs store, admin listener and workers. It accepts no messages itself: its workers do."""

    def __init__(self, config: Config, *, node: str, embedded: EmbeddedServer | None, source: Source | None) -> None:
        """Raise ConfigError (policy data), StoreRefused, OSError (the admin token)."""
        self.config = config
        self.node = node
        self.rules_version = rulebook(config).version
        self._embedded = embedded
        self._started = time.monotonic()
        folder = Path(config.store.data_dir)
        self.locks = WorkerLocks(folder, node)
        self.reloader = Reloader(self, source, supervised=True)
        self.audit = Audit(folder)
        self._runtime = runtime_dir(folder.resolve() / f"workers of {node}")
        self._reserved_port: socket.socket | None = None
        self.pool = self._pool(config.http.listen)
        metrics = SupervisorMetrics(lambda: self.pool, self.audit)
        self._api = SupervisorApi(lambda: self.pool, self.audit, metrics)
        tokens, self._token_file = open_tokens(config)
        routes = [*ReloadRoutes(self.reloader, self.audit).routes(), *self._api.routes()]
        self._guard = AdminGuard(tokens, admin_app(self, routes), self._is_account)
        self._accounts = Accounts(config.accounts, 0.0)
        self.admin = HttpListener(self._guard, config.admin.listen)
        self._discovery_note: Path | None = None

    def __repr__(self) -> str:
        return f"<WorkerSupervisor {self.node} {self.pool!r}>"

    def _pool(self, http: str) -> WorkerPool:
        store = self._embedded.url if self._embedded else self.config.store.url
        return WorkerPool(self.config, self.locks, node=self.node, store=store, http=http, folder=self._runtime)

    def _is_account(self, authorization: bytes) -> bool:
        return self._accounts.knows(authorization)

    # ---- life

    async def run(self, stop: asyncio.Event, on_ready: Callable[[WorkerSupervisor], None] | None = None) -> None:
        """Run the workers until ``stop`` is set, then stop them. Raise StoreRefused, OSError (address), CannotStart."""
        self.locks.acquire()
        await self.admin.start()
        self._discovery_note = discovery.announce(
            self.admin.url, self._token_file, self.reloader.file, self.config.http.listen
        )
        async with asyncio.TaskGroup() as group:
            await _run_unless(stop, self._start(group))
            if on_ready is not None and not stop.is_set():
                on_ready(self)
            await stop.wait()
            log.info("stopping: workers refuse new messages and empty their windows")
            await self.reloader.close()
            await self.pool.stop()
        log.info("stopped")

    async def _start(self, group: asyncio.TaskGroup) -> None:
        """Start the workers and return when all are up."""
        await self.locks.await_former_workers(self.pool.patience)
        self.pool = self._pool(self._reserve_port())
        await self.pool.start(group)
        http, workers = f"http://{self.pool.http}", len(self.pool)
        log.info("gateway is up", version=installed_version(), http=http, admin=self.admin.url, workers=workers)

    async def close(self) -> None:
        """Close the listener and release the locks, whatever state they are in."""
        discovery.withdraw(self._discovery_note)
        await self.admin.stop(0)
        if self._reserved_port is not None:
            self._reserved_port.close()
        self.locks.release(lasting=is_lasting(self.config))
        clear(self._runtime)

    def _reserve_port(self) -> str:
        """Bind the workers' address without listening, which keeps it reserved while no worker lives. Return host:port.

        It is bound first without SO_REUSEPORT: another gateway on the same port would get half of our connections.
        """
        listen = self.config.http.listen
        bind(listen).close()
        self._reserved_port = bind(listen, reuse_port=True)
        host = listen.rpartition(":")[0]
        return f"{host}:{self._reserved_port.getsockname()[1]}"

    # ---- reload (admin.reloader.ReloadTarget)

    async def check_store(self) -> None:
        """Return if every worker can write to the store. Raise StoreUnavailable."""
        for reply in await ask_all(self.pool.up, WorkerRequest("/readyz")):
            if not reply.ok:
                raise StoreUnavailable(f"worker {reply.worker}: {reply.detail}")

    async def count_waiting(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """Return the number of waiting messages of each of these accounts. Raise StoreUnavailable."""
        for worker in self.pool.up:
            reply = await ask(worker, WorkerRequest("/queue"))
            if reply.ok:
                return {
                    one["account"]: one["waiting"] for one in fields(reply)["accounts"] if one["account"] in accounts
                }
        raise StoreUnavailable("no worker can count the waiting messages")

    async def apply(self, config: Config, rules: Rulebook) -> None:
        """Put a checked configuration into force in all workers. Raise OSError (the admin token)."""
        self._guard.tokens, self._token_file = open_tokens(config)
        self._accounts = Accounts(config.accounts, 0.0)
        if config.log.level != self.config.log.level:
            logs.configure(config.log.level, config.log.format)
        self.config = config
        self.rules_version = rules.version
        await self.pool.apply(config)

    # ---- health (api.health.HealthSource)

    async def ready(self) -> str:
        """Return "" when at least one worker accepts messages, else why not.

        One is enough: the kernel hands connections only to workers that listen.
        """
        replies = await ask_all(self.pool.up, WorkerRequest("/readyz"))
        if any(reply.ok for reply in replies):
            return ""
        return next((str(fields(reply).get("detail", "")) for reply in replies), "no worker is up")

    async def status(self) -> dict[str, Any]:
        """Return the body of ``GET /status``. Raise HttpProblem."""
        return {
            **await self._api.status(),
            "node": self.node,
            "uptime_s": round(time.monotonic() - self._started),
            "workers": [
                {
                    "name": worker.name,
                    "node": worker.worker_identity.node,
                    "pid": worker.pid,
                    "state": str(worker.state),
                    "up_s": round(worker.up_s, 1),
                    "restarts": worker.restarts,
                    "last_fault": worker.last_fault,
                }
                for worker in self.pool
            ],
            **({"store": self._embedded.describe()} if self._embedded else {}),
        }


async def _run_unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` until it is done or ``stop`` is set."""
    running, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
    finally:
        running.cancel()
        stopped.cancel()


async def supervise(
    config: Config,
    *,
    source: Source | None = None,
    on_ready: Callable[[WorkerSupervisor], None] | None = None,
    notifier: Notifier = NO_MANAGER,
    stop: asyncio.Event,
) -> None:
    """Run a gateway of several workers until ``stop`` is set; otherwise like ``gateway.app.serve``."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise OSError("several workers share a port, which this system does not support: set workers = 1")
    async with notifying(notifier, stop), _store(config) as embedded:
        supervisor = WorkerSupervisor(config, node=lasting_name(config), embedded=embedded, source=source)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervisor.reloader.signal)
        supervisor.reloader.notifier = notifier

        def ready(supervisor: WorkerSupervisor) -> None:
            notifier.ready(f"{len(supervisor.pool)} workers accept messages at http://{supervisor.pool.http}")
            if on_ready is not None:
                on_ready(supervisor)

        try:
            await supervisor.run(stop, ready)
        finally:
            await supervisor.close()


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[EmbeddedServer | None]:
    """Run the embedded store, if configured, and create the secrets that the workers share. Raise StoreError."""
    folder = Path(config.store.data_dir)
    if not config.privacy.hashing_secret:
        crypto.load_or_create(folder)
    if not config.store.embedded:
        yield None
        return
    embedded = EmbeddedServer(folder, config.store.durability)
    await embedded.start()
    try:
        yield embedded
    finally:
        await embedded.stop()
