"""``POST /reload`` on the operators' listener: take over the configuration file, or say what that would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.audit import Audit
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.api.requests import decode
from gateway.api.responses import JsonResponse
from gateway.config import Change, Changes, Config, ConfigError
from gateway.store.errors import StoreError

_CONFIG = msgspec.json.Decoder(Config)
SETTLE = 3.0
"""Seconds that an answer waits for carriers to empty their windows."""
LONGEST = 300.0
"""The most that may be asked for."""


class Reloading(Protocol):
    """Who does it (``gateway.admin.reloader.Reloader``)."""

    @property
    def file(self) -> str:
        """What is read, "" when there is none."""

    async def reload(self, *, apply: bool = True, wait: float | None = None) -> Changes:
        """Raises ConfigError, StoreError."""


class TakesConfig(Protocol):
    """Who takes over a configuration that is at hand (``gateway.admin.reloader.Reloader``)."""

    async def take(self, config: Config, *, apply: bool = True, wait: float | None = None) -> Changes:
        """Raises ConfigError, StoreError."""


class TakeOverRoutes:
    """``routes`` for the socket of a worker: its supervisor has read and checked the file."""

    def __init__(self, reloader: TakesConfig) -> None:
        self._reloader = reloader

    def routes(self) -> list[Route]:
        """One."""
        return [Route("/configuration", self.take_over, methods=["POST"])]

    async def take_over(self, request: Request) -> Response:
        """``POST /configuration``, the whole of it: 200 once it is in force and carriers that had to end have ended."""
        config = decode(_CONFIG, await request.body())
        try:
            changes = await self._reloader.take(config)
        except ConfigError as error:
            raise _unusable(error) from None
        if changes.refused:
            raise _needs_restart(changes.refused)
        return _answer(changes, applied=bool(changes))


class ReloadRoutes:
    """``routes`` for the operators' listener; whatever is done goes into the audit."""

    def __init__(self, reloader: Reloading, audit: Audit) -> None:
        self._reloader = reloader
        self._audit = audit

    def routes(self) -> list[Route]:
        """One."""
        return [Route("/reload", self.reload, methods=["POST"])]

    async def reload(self, request: Request) -> Response:
        """``POST /reload[?dry_run=true|?wait=SECONDS]``: 200 with what has changed, or would.

        ``wait``: for carriers to empty their windows, 3 seconds when it is not said; ``settling`` says that it goes on.
        409 when something needs a restart, 422 when the file cannot be used: then nothing has changed.
        """
        dry = request.query_params.get("dry_run", "false")
        if dry not in ("true", "false"):
            raise refuse("malformed", "dry_run is true or false")
        if dry == "true":
            return _answer(await self._changes(0.0, apply=False), applied=False, file=self._reloader.file)
        wait = _seconds(request.query_params.get("wait", str(SETTLE)))
        async with self._audit.action(request, "reload") as result:
            changes = await self._changes(wait, apply=True)
            result["changes"] = [str(change) for change in changes.changed]
        return _answer(changes, applied=bool(changes), file=self._reloader.file)

    async def _changes(self, wait: float, *, apply: bool) -> Changes:
        try:
            changes = await self._reloader.reload(apply=apply, wait=wait)
        except ConfigError as error:
            raise _unusable(error) from None
        except StoreError as error:
            raise refuse("store_unavailable", str(error)) from error
        except OSError as error:  # a certificate or token that went after it was checked
            fault = f"{error.filename or 'a file'}: {error.strerror or error}; mend that and reload again"
            raise refuse("invalid_configuration", f"taken over in part: {fault}") from error
        if changes.refused and apply:
            raise _needs_restart(changes.refused)
        return changes


def _seconds(text: str) -> float:
    """Raises HttpProblem."""
    try:
        wait = float(text)
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= LONGEST:
        raise refuse("malformed", f"wait is a number of seconds, {LONGEST:g} at most")
    return wait


def _answer(changes: Changes, *, applied: bool, file: str = "") -> Response:
    return JsonResponse({"file": file, "applied": applied, "settling": changes.settling} | changes.as_json())


def _unusable(error: ConfigError) -> HttpProblem:
    faults = [FieldProblem(problem.path or problem.file, "invalid", str(problem)) for problem in error.problems]
    return refuse("invalid_configuration", "nothing has changed", errors=faults)


def _needs_restart(refused: Sequence[Change]) -> HttpProblem:
    faults = [FieldProblem(change.table, "needs_restart", str(change)) for change in refused]
    return refuse("needs_restart", "nothing has changed; restart the gateway for these", errors=faults)
