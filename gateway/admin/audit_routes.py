"""``GET /audit`` on the admin listener: what operators did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import FieldProblem, refuse
from gateway.api.requests import malformed
from gateway.api.responses import JsonResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.audit import Audit

MAX_ENTRIES = 10_000


class AuditRoutes:
    """Serves the audit on the admin listener (``routes``)."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def __repr__(self) -> str:
        return f"<AuditRoutes {self._audit!r}>"

    def routes(self) -> list[Route]:
        """Return the single route."""
        return [Route("/audit", self.entries)]

    async def entries(self, request: Request) -> Response:
        """``GET /audit?limit=100&action=carrier``: actions whose name starts with ``action``, the newest first."""
        text = request.query_params.get("limit", "100")
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_ENTRIES):
            raise malformed([FieldProblem("limit", "invalid_value", f"must be from 1 to {MAX_ENTRIES}")])
        try:
            entries = await self._audit.tail(int(text), request.query_params.get("action", ""))
        except OSError as error:
            raise refuse("audit_unavailable", f"{self._audit.path.name}: {error.strerror}") from error
        return JsonResponse({"entries": entries})
