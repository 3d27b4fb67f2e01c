"""The operators' side of a running gateway, built in one place: door, tokens, audit, metrics, what they see and do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Route

from gateway import discovery
from gateway.admin.audit import Audit
from gateway.admin.auth import AdminGuard
from gateway.admin.metrics.loop_lag import LoopLag
from gateway.admin.metrics.page import MetricsPage, MetricsSources
from gateway.admin.metrics.shared_limits import ShareMetrics
from gateway.admin.operations import Operations, lanes_json
from gateway.admin.routes import admin_app
from gateway.admin.tokens import open_tokens
from gateway.admin.worker_access import SupervisorOnly
from gateway.api.request_metrics import RequestMetrics
from gateway.carriers.views import carrier_view
from gateway.intake.service import now_ms
from gateway.store.overview import StoreOverview
from gateway.store.redis.connection import StoreConnection
from gateway.store.redis.timed import TimedConnection
from gateway.store.webhook_queues import WebhookQueues

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from gateway.app import App
    from gateway.config import Config


@dataclass
class Measurements:
    """What measures on the way, and so is built before the parts that it measures."""

    link: TimedConnection
    lag: LoopLag

    @classmethod
    def on(cls, link: StoreConnection) -> Measurements:
        """Meters of this connection to the store."""
        return cls(TimedConnection(link), LoopLag())


Room = Callable[[Audit], Iterable[Route]]
"""Routes of another part, whose actions go into the audit too."""


class AdminServer:
    """``door`` is the application to listen with; ``announce`` and ``close`` go with the listener."""

    def __init__(
        self,
        app: App,
        link: StoreConnection,
        meters: Measurements,
        *,
        webhook_queues: WebhookQueues,
        http: RequestMetrics,
        version: str,
        rooms: Sequence[Room] = (),
        private: bool = False,
    ) -> None:
        """``private``: the door is on a socket that only our supervisor reaches, which has asked for the token."""
        self._app = app
        self._link = link
        self._version = version
        self._since = time.monotonic()
        self._note: Path | None = None
        self._token_file: Path | None = None
        folder = Path(app.config.store.data_dir)
        with suppress(OSError):  # then the audit refuses what operators want to do, and says why
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._outlook = StoreOverview(meters.link, app.store.partitions)
        self.audit = Audit(folder)
        operations = Operations(app, app.store, self._outlook, self.audit, clock=now_ms)
        self.metrics = MetricsPage(
            MetricsSources(
                version=version,
                node=app.owner.node,
                intake=app.intake.counters,
                http=http,
                services=lambda: app.services,
                heartbeat=app.heartbeat,
                swept=app.sweeper.counts,
                webhooks=app.webhooks.deliveries,
                flags=app.flags,
                audit=self.audit,
                lag=meters.lag,
                supervision=app.supervision,
                link=meters.link,
                store=app.store,
                outlook=self._outlook,
                servers=self._servers,
                queues=webhook_queues.queues,
            )
        )
        more = [route for room in rooms for route in room(self.audit)]
        self.metrics.register(ShareMetrics(app.shares, app.shared))
        behind = admin_app(app, [*operations.routes(), *self.metrics.routes(), *more])
        self._guard = None if private else self._guarded(behind)
        self.door: SupervisorOnly | AdminGuard = self._guard or SupervisorOnly(behind)

    def __repr__(self) -> str:
        return f"<AdminServer {self._guard.tokens if self._guard else 'private'!r}>"

    def _guarded(self, behind: Starlette) -> AdminGuard:
        tokens, self._token_file = open_tokens(self._app.config)
        return AdminGuard(tokens, behind, self._is_account)

    def _is_account(self, authorization: bytes) -> bool:
        return self._app.api.accounts.knows(authorization)

    def configure(self, config: Config) -> None:
        """Tokens of another configuration count from now on. Raises OSError when one must be made and cannot."""
        if self._guard is not None:
            self._guard.tokens, self._token_file = open_tokens(config)

    def announce(self, url: str, config: str, http: str) -> None:
        """Note for commands of the same user where we listen, where the token is and by which file we run."""
        if self._guard is not None:
            self._note = discovery.announce(url, self._token_file, config, http)

    def close(self) -> None:
        """Take the note away."""
        discovery.withdraw(self._note)

    async def status(self, loop: AbstractEventLoop) -> dict[str, Any]:
        """Everything at a glance."""
        return {"version": self._version, "store": self._app.store_words, **self._own(loop), **await self._waiting()}

    def _own(self, loop: AbstractEventLoop) -> dict[str, Any]:
        """What this process is and has done."""
        app = self._app
        return {
            "node": app.owner.name,
            "uptime_s": round(time.monotonic() - self._since),
            "policy": {"version": app.policy_context.rules.version, "epoch": app.policy_context.rules.epoch},
            "carriers": [carrier_view(service, loop.time()) for service in app.services],
            "gateways": app.shares.members,
            "accounts": {
                name: {"rate": one.rate, "share": round(one.share.held, 1), "gateways": one.share.members}
                for name, one in app.api.accounts.rate_limits().items()
            },
            "intake": _by_result(app.intake.counters.counts),
            "swept": dict(app.sweeper.counts),
            "faults": app.supervision.told(),
        }

    async def _waiting(self) -> dict[str, Any]:
        """What the store holds. Raises StoreError."""
        view, depths = await self._outlook.lanes(), await self._app.store.depths()
        return {
            "lanes": lanes_json(view),
            "held": depths.held,
            "breakers_open": len(self._app.flags.open),
            "leases": depths.leases,
            "parked_receipts": depths.parked,
        }

    async def _servers(self) -> list[tuple[str, Mapping[str, float]]]:
        """What every server of the store says of its memory and its log. Raises StoreError."""
        nodes = self._link.primaries
        said = [b"".join([await node.command(b"INFO", part) for part in (b"memory", b"persistence")]) for node in nodes]
        names = ["embedded" if self._app.config.store.embedded else node.name for node in nodes]
        return [(name, _numbers(text)) for name, text in zip(names, said, strict=True)]


def _numbers(info: bytes) -> dict[str, float]:
    """The fields of an INFO that are numbers, or ``ok`` (1) or ``err`` (0)."""
    found: dict[str, float] = {}
    for line in info.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon and value.isdigit():
            found[name] = float(value)
        elif value in ("ok", "err"):
            found[name] = float(value == "ok")
    return found


def _by_result(counts: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, result, code), count in counts.items():
        name = f"{result}: {code}" if code else result
        found[name] = found.get(name, 0) + count
    return found
