"""The applications' HTTP interface: the submit routes (``submit``) in front, everything else here, on Starlette."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import schemas
from gateway.api.accounts import Accounts
from gateway.api.admission import Admission
from gateway.api.docs import DocsRoutes
from gateway.api.health import HealthRoutes, HealthSource
from gateway.api.problems import refuse
from gateway.api.recipients import Recipients
from gateway.api.requests import destination, query, read_head
from gateway.api.responses import HANDLERS, JsonResponse
from gateway.api.submit import SubmitHandler
from gateway.clock import now_ms
from gateway.config import Account
from gateway.store import ids
from gateway.store.keys import Hasher
from gateway.store.records import MessageRecord
from gateway.store.requests import CancelResult

if TYPE_CHECKING:
    from gateway.intake.idempotency import IdempotentRequests
    from gateway.intake.service import Intake
    from gateway.store.messages import MessageStore

MAX_FOUND = 100
"""Messages returned for one reference, at most."""

MAX_KEPT = 64
"""Messages that the store keeps under one reference, of a day and partition: fewer are certainly all there are."""

Clock = Callable[[], int]


async def only_post(_request: Request) -> Response:
    """Refuse other methods on a route that ``SubmitHandler`` serves: else "batch" would be taken for an id."""
    raise refuse("method_not_allowed", "allowed methods: POST", headers=((b"allow", b"POST"),))


class HttpApi:
    """``app`` is the ASGI application to serve. A reload replaces ``accounts``."""

    def __init__(
        self,
        accounts: Accounts,
        intake: Intake,
        idempotent_requests: IdempotentRequests,
        store: MessageStore,
        hasher: Hasher,
        *,
        health: HealthSource,
        version: str = "unknown",
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._hasher = hasher
        recipients = Recipients(store, hasher, self.caller, clock)
        fallback = Starlette(
            routes=[
                *HealthRoutes(health).routes(),
                *DocsRoutes(version).routes(),
                Route("/v1/messages", self.find),
                Route("/v1/messages", only_post, methods=["POST"]),  # never called: 405 names POST too
                Route("/v1/messages/batch", only_post, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]),
                Route("/v1/messages/{id}", self.read),
                Route("/v1/messages/{id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/messages/{id}/decisions", self.decisions),
                *recipients.routes(),
            ],
            exception_handlers=HANDLERS,
        )
        fallback.router.redirect_slashes = False
        self._admission = Admission(accounts)
        self.app = SubmitHandler(self._admission, intake, idempotent_requests, fallback)

    @property
    def accounts(self) -> Accounts:
        """The accounts whose keys are valid."""
        return self._admission.accounts

    @accounts.setter
    def accounts(self, accounts: Accounts) -> None:
        self._admission.accounts = accounts

    def close(self) -> None:
        """Accept no new messages from now on; reading goes on."""
        self._admission.closing = True

    def caller(self, request: Request) -> Account:
        """Return the account whose key the request has. Raises HttpProblem (401)."""
        return self.accounts.caller(read_head(request.scope["headers"]).authorization)

    async def read(self, request: Request) -> Response:
        """``GET /v1/messages/{id}``: the record with parts, carrier ids and timeline."""
        return JsonResponse(schemas.message(await self._own(request)))

    async def find(self, request: Request) -> Response:
        """``GET /v1/messages?client_ref=…[&to=…]``: the messages accepted under a reference within 72 hours.

        Without ``to`` those of every recipient, the oldest first, at most ``MAX_FOUND``; ``more``: there may be others.
        """
        account = self.caller(request)
        reference, to = query(request.query_params, "client_ref", 128), request.query_params.get("to")
        if to is None:
            found = await self._store.mentions(account.name, reference)
        else:
            recipient = self._hasher.recipient(destination(to, account.default_country))
            name = self._hasher.reference(account.name, recipient, reference)
            first = await self._store.by_reference(recipient, name)
            found = [first] if first else []
        records = await self._store.find(found[:MAX_FOUND]) if found else []
        mine = [record for record in records if record is not None and record.account == account.name]
        return JsonResponse(
            schemas.FoundView([schemas.message(record) for record in mine], more=len(found) >= MAX_KEPT)
        )

    async def decisions(self, request: Request) -> Response:
        """``GET /v1/messages/{id}/decisions``: every decision of policy, from intake to the last fresh one."""
        return JsonResponse(schemas.decisions(await self._own(request)))

    async def cancel(self, request: Request) -> Response:
        """``POST /v1/messages/{id}/cancel``: 200 canceled, 202 cancel_requested, 409 final."""
        record = await self._own(request)
        (result,) = await self._store.cancel([record.id])
        if result is CancelResult.MISSING:
            raise refuse("not_found")
        if result is CancelResult.FINAL:
            raise refuse("already_final", id=ids.text(record.id))
        if result is CancelResult.CANCELED:
            return JsonResponse(schemas.CanceledView(ids.text(record.id), "canceled"))
        return JsonResponse(schemas.CanceledView(ids.text(record.id), "cancel_requested"), 202)

    async def _own(self, request: Request) -> MessageRecord:
        """Return the record of the path's id. Raises HttpProblem (404), also for another account's message."""
        account = self.caller(request)
        try:
            wanted = ids.parse(request.path_params["id"])
        except ValueError:
            raise refuse("not_found", "no message has this id") from None
        if ids.partition_of(wanted) >= self._hasher.partitions:
            raise refuse("not_found", "no message has this id")
        (record,) = await self._store.find([wanted])
        if record is None or record.account != account.name:
            raise refuse("not_found", "no message has this id")
        return record
