"""The admin server of a gateway: access, audit, metrics, status and operations on one listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import discovery
from gateway.admin.audit import Audit
from gateway.admin.audit_routes import AuditRoutes
from gateway.admin.auth import AdminGuard
from gateway.admin.carrier_routes import CarrierRoutes
from gateway.admin.message_routes import MessageRoutes
from gateway.admin.metrics.page import MetricsPage
from gateway.admin.queue_routes import QueueRoutes
from gateway.admin.routes import admin_app
from gateway.admin.scopes import ScopeNames
from gateway.admin.status import GatewayStatus
from gateway.admin.tokens import open_tokens
from gateway.admin.worker_access import SupervisorOnly
from gateway.clock import now_ms
from gateway.store.overview import StoreOverview

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import Route

    from gateway.admin.parts import GatewayParts
    from gateway.config import Config

RouteFactory = Callable[[Audit], Iterable["Route"]]
"""Returns the routes of another part, whose actions are recorded in the given audit."""


class AdminServer:
    """``app`` is the application to serve; call ``announce`` once it is served and ``close`` at the end."""

    def __init__(self, parts: GatewayParts, *, routes: Sequence[RouteFactory] = (), private: bool = False) -> None:
        """``private``: the listener is a socket that only the supervisor reaches, which has checked the token.

        Raise OSError when a token must be created and cannot be.
        """
        self._parts = parts
        self._discovery_note: Path | None = None
        self._token_file: Path | None = None
        folder = Path(parts.config().store.data_dir)
        with suppress(OSError):  # then the audit refuses every action and says why
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.audit = Audit(folder)
        overview = StoreOverview(parts.connection, parts.store.partitions)
        self._status = GatewayStatus(parts, overview)
        scopes = ScopeNames(parts.policy_context, parts.store)
        inner = admin_app(
            self,
            [
                *CarrierRoutes(parts.carrier_manager, parts.flags, self.audit).routes(),
                *QueueRoutes(parts, overview, self.audit, scopes, clock=now_ms).routes(),
                *MessageRoutes(parts, overview, scopes, clock=now_ms).routes(),
                *AuditRoutes(self.audit).routes(),
                *MetricsPage(parts, overview, self.audit).routes(),
                *(route for factory in routes for route in factory(self.audit)),
            ],
        )
        self._guard = None if private else self._guarded(inner)
        self.app: SupervisorOnly | AdminGuard = self._guard or SupervisorOnly(inner)

    def __repr__(self) -> str:
        return f"<AdminServer {self._guard.tokens if self._guard else 'private'!r}>"

    def _guarded(self, inner: Starlette) -> AdminGuard:
        tokens, self._token_file = open_tokens(self._parts.config())
        return AdminGuard(tokens, inner, self._is_account)

    def _is_account(self, authorization: bytes) -> bool:
        return self._parts.accounts().knows(authorization)

    def configure(self, config: Config) -> None:
        """Use the tokens of a new configuration. Raise OSError when one must be created and cannot be."""
        if self._guard is not None:
            self._guard.tokens, self._token_file = open_tokens(config)

    def announce(self, url: str, config: str, http: str) -> None:
        """Record address, token file and configuration file for commands of the same user (``discovery``)."""
        if self._guard is not None:
            self._discovery_note = discovery.announce(url, self._token_file, config, http)

    def close(self) -> None:
        """Remove what ``announce`` recorded."""
        discovery.withdraw(self._discovery_note)

    async def ready(self) -> str:
        """Return why the store cannot be written to, "" when it can."""
        return await self._parts.ready()

    async def status(self) -> dict[str, Any]:
        """Return the body of ``GET /status``. Raise StoreError."""
        return await self._status.body()
