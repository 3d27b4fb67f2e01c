"""``POST /reload`` on the admin listener: reload the configuration file, or return what a reload would change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.api.requests import decode
from gateway.api.responses import JsonResponse
from gateway.config import Change, Changes, Config, ConfigError
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.audit import Audit
    from gateway.admin.reloader import Reloader

_CONFIG = msgspec.json.Decoder(Config)

DEFAULT_WAIT = 3.0
"""Seconds that a response waits for carriers to empty their windows."""

MAX_WAIT = 300.0
"""The most seconds that a request may ask for."""


class WorkerConfigRoutes:
    """Applies a configuration that the supervisor of this worker has read and checked (``routes``)."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def routes(self) -> list[Route]:
        """Return the single route."""
        return [Route("/configuration", self.apply, methods=["POST"])]

    async def apply(self, request: Request) -> Response:
        """``POST /configuration``, all of it: 200 once it is in force and removed carriers have ended."""
        config = decode(_CONFIG, await request.body())
        try:
            changes = await self._reloader.apply(config)
        except ConfigError as error:
            raise _invalid(error) from None
        if changes.refused:
            raise _needs_restart(changes.refused)
        return _answer(changes, applied=bool(changes))


class ReloadRoutes:
    """Reloads the configuration file on request, recorded in the audit (``routes``)."""

    def __init__(self, reloader: Reloader, audit: Audit) -> None:
        self._reloader = reloader
        self._audit = audit

    def routes(self) -> list[Route]:
        """Return the single route."""
        return [Route("/reload", self.reload, methods=["POST"])]

    async def reload(self, request: Request) -> Response:
        """``POST /reload[?dry_run=true|?wait=SECONDS]``: 200 with what has changed, or would change.

        ``wait``: seconds to wait for carriers to empty their windows, 3 by default; ``settling`` in the response says
        that they are still at it. 409: a change needs a restart; 422: the file is invalid. Then nothing has changed.
        """
        dry_run = request.query_params.get("dry_run", "false")
        if dry_run not in ("true", "false"):
            raise refuse("malformed", "dry_run must be true or false")
        if dry_run == "true":
            return _answer(await self._changes(0.0, apply=False), applied=False, file=self._reloader.file)
        wait = _seconds(request.query_params.get("wait", str(DEFAULT_WAIT)))
        async with self._audit.action(request, "reload") as result:
            changes = await self._changes(wait, apply=True)
            result["changes"] = [str(change) for change in changes.changed]
        return _answer(changes, applied=bool(changes), file=self._reloader.file)

    async def _changes(self, wait: float, *, apply: bool) -> Changes:
        try:
            changes = await self._reloader.reload(apply=apply, wait=wait)
        except ConfigError as error:
            raise _invalid(error) from None
        except StoreError as error:
            raise refuse("store_unavailable", str(error)) from error
        except OSError as error:  # a certificate or token that vanished after the check
            fault = f"{error.filename or 'a file'}: {error.strerror or error}; fix it and reload again"
            raise refuse("invalid_configuration", f"applied in part: {fault}") from error
        if changes.refused and apply:
            raise _needs_restart(changes.refused)
        return changes


def _seconds(text: str) -> float:
    """Return the seconds. Raise HttpProblem (400)."""
    try:
        wait = float(text)
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= MAX_WAIT:
        raise refuse("malformed", f"wait must be a number of seconds, at most {MAX_WAIT:g}")
    return wait


def _answer(changes: Changes, *, applied: bool, file: str = "") -> Response:
    return JsonResponse({"file": file, "applied": applied, "settling": changes.settling} | changes.as_json())


def _invalid(error: ConfigError) -> HttpProblem:
    faults = [FieldProblem(problem.path or problem.file, "invalid", str(problem)) for problem in error.problems]
    return refuse("invalid_configuration", "nothing has changed", errors=faults)


def _needs_restart(refused: Sequence[Change]) -> HttpProblem:
    faults = [FieldProblem(change.table, "needs_restart", str(change)) for change in refused]
    return refuse("needs_restart", "nothing has changed; restart the gateway to apply these changes", errors=faults)
