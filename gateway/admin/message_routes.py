"""``GET /messages/{id}`` on the admin listener: a message of any account and why it is in its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from gateway import logs
from gateway.admin.carrier_routes import carrier_views
from gateway.admin.explain import ExplainContext, explain
from gateway.admin.request_body import read_body
from gateway.api import schemas
from gateway.api.problems import refuse
from gateway.api.requests import decode
from gateway.api.responses import JsonResponse
from gateway.carriers.views import CarrierView
from gateway.store import ids
from gateway.store.keys import GLOBAL_SCOPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.parts import GatewayParts
    from gateway.admin.scopes import ScopeNames
    from gateway.store.overview import StoreOverview
    from gateway.store.records import MessageRecord

MAX_VIEWS = 16 * 1024 * 1024
"""Octets of the carriers' states that a supervisor sends along."""


class MessageRoutes:
    """Explains messages on the admin listener (``routes``)."""

    def __init__(
        self, parts: GatewayParts, overview: StoreOverview, scopes: ScopeNames, *, clock: Callable[[], int]
    ) -> None:
        """``clock`` returns milliseconds UTC."""
        self._parts = parts
        self._overview = overview
        self._scopes = scopes
        self._clock = clock

    def __repr__(self) -> str:
        return f"<MessageRoutes {self._overview!r}>"

    def routes(self) -> list[Route]:
        """Return the single route."""
        return [Route("/messages/{id}", self.message)]

    async def message(self, request: Request) -> Response:
        """``GET /messages/{id}``: the message with an explanation; its number is masked, its text never shown.

        A supervisor sends as the body the carriers as all workers together see them, to use instead of this worker's.
        """
        try:
            message_id = ids.parse(request.path_params["id"])
        except ValueError:
            raise refuse("not_found", "there is no message with this id") from None
        store = self._parts.store
        known = ids.partition_of(message_id) < store.partitions
        record = (await store.find([message_id]))[0] if known else None
        if record is None:
            raise refuse(
                "not_found", "there is no message with this id; records of final messages are deleted after some hours"
            )
        shown = schemas.message(record)
        shown.to, shown.metadata = logs.mask(shown.to), None
        body = await read_body(request, MAX_VIEWS)
        views = decode(_VIEWS, body) if body else carrier_views(self._parts.carrier_manager)
        why = explain(record, await self._context(record, views))
        return JsonResponse(
            {"id": shown.id, "account": record.account, "status": shown.status, "why": why, "message": shown}
        )

    async def _context(self, record: MessageRecord, carriers: Sequence[CarrierView]) -> ExplainContext:
        parts = self._parts
        config = parts.config()
        account_scope, brand_scope = parts.policy_context.scopes(record.account, record.envelope.brand)
        route = next((route for route in config.routes if route.lane == record.route), None)
        views = {view.name: view for view in carriers}
        return ExplainContext(
            now=self._clock(),
            lanes={lane.name: lane for lane in (await self._overview.lanes()).lanes},
            carriers=[views[name] for name in (route.carriers if route else ()) if name in views],
            breakers=[
                self._scopes.phrase(scope)
                for scope in (GLOBAL_SCOPE, account_scope, brand_scope)
                if scope in parts.flags.open
            ],
            receipt_timeout=config.retention.receipt_timeout,
            restored=parts.flags.restored,
        )


_VIEWS = msgspec.json.Decoder(list[CarrierView])
