"""The applications' HTTP interface: the two submit routes in front (``submit``), everything else here, by Starlette."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import schemas
from gateway.api.accounts import Accounts
from gateway.api.docs import DocsRoutes
from gateway.api.health import HealthRoutes, HealthSource
from gateway.api.problems import refuse
from gateway.api.recipients import Recipients, RuleStore
from gateway.api.requests import destination, query, read_head
from gateway.api.responses import HANDLERS, JsonResponse
from gateway.api.submit import Runner, SubmitHandler, SubmitIntake
from gateway.clock import now_ms
from gateway.config import Account
from gateway.model import Recipient
from gateway.store import ids
from gateway.store.keys import Hasher
from gateway.store.records import MessageRecord
from gateway.store.requests import CancelResult

MAX_FOUND = 100
SURE = 64
"""Fewer messages than these under one reference are all there are: the store keeps so many of a day and partition."""
Clock = Callable[[], int]


class Records(Protocol):
    """What reading and cancelling need of the store."""

    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]: ...
    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None: ...
    async def mentions(self, account: str, client_ref: str) -> list[bytes]: ...
    async def cancel(self, ids: Sequence[bytes]) -> list[CancelResult]: ...


class ApiStore(Records, RuleStore, Protocol):
    """What the whole interface needs of the store."""


async def only_post(_request: Request) -> Response:
    """What else is tried on a route that ``SubmitHandler`` serves: else "batch" would pass for a message's id."""
    raise refuse("method_not_allowed", "allowed here: POST", headers=((b"allow", b"POST"),))


class HttpApi:
    """The application to listen with. ``accounts`` is replaced on a reload, ``closing`` set before the end."""

    def __init__(
        self,
        accounts: Accounts,
        taker: SubmitIntake,
        runs: Runner,
        store: ApiStore,
        hasher: Hasher,
        *,
        house: HealthSource,
        version: str = "unknown",
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._hasher = hasher
        recipients = Recipients(store, hasher, self.caller, clock)
        behind = Starlette(
            routes=[
                *HealthRoutes(house).routes(),
                *DocsRoutes(version).routes(),
                Route("/v1/messages", self.look_up),
                Route("/v1/messages", only_post, methods=["POST"]),  # never asked: names POST among what is allowed
                Route("/v1/messages/batch", only_post, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]),
                Route("/v1/messages/{id}", self.read),
                Route("/v1/messages/{id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/messages/{id}/decisions", self.decisions),
                *recipients.routes(),
            ],
            exception_handlers=HANDLERS,
        )
        behind.router.redirect_slashes = False
        self.app = SubmitHandler(accounts, taker, runs, behind)

    @property
    def accounts(self) -> Accounts:
        """Whose keys open the door."""
        return self.app.accounts

    @accounts.setter
    def accounts(self, accounts: Accounts) -> None:
        self.app.accounts = accounts

    def close(self) -> None:
        """Take no new messages from now on; reading goes on."""
        self.app.closing = True

    def caller(self, request: Request) -> Account:
        """The account whose key came with the request. Raises HttpProblem (401)."""
        return self.accounts.caller(read_head(request.scope["headers"]).authorization)

    async def read(self, request: Request) -> Response:
        """``GET /v1/messages/{id}``: the record with parts, carrier ids and timeline."""
        return JsonResponse(schemas.message(await self._own(request)))

    async def look_up(self, request: Request) -> Response:
        """``GET /v1/messages?client_ref=…[&to=…]``: what was accepted under a reference within 72 hours.

        Without ``to`` every recipient's, the oldest first, at most ``MAX_FOUND``; ``more``: there may be others.
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
        return JsonResponse(schemas.FoundView([schemas.message(record) for record in mine], more=len(found) >= SURE))

    async def decisions(self, request: Request) -> Response:
        """``GET /v1/messages/{id}/decisions``: what policy said, from the door to the last hand-out."""
        return JsonResponse(schemas.decisions(await self._own(request)))

    async def cancel(self, request: Request) -> Response:
        """``POST /v1/messages/{id}/cancel``: 200 canceled, 202 cancel_requested, 409 final."""
        record = await self._own(request)
        (done,) = await self._store.cancel([record.id])
        if done is CancelResult.MISSING:
            raise refuse("not_found")
        if done is CancelResult.FINAL:
            raise refuse("already_final", id=ids.text(record.id))
        if done is CancelResult.CANCELED:
            return JsonResponse(schemas.CanceledView(ids.text(record.id), "canceled"))
        return JsonResponse(schemas.CanceledView(ids.text(record.id), "cancel_requested"), 202)

    async def _own(self, request: Request) -> MessageRecord:
        """The record asked for, if it is the caller's. Raises HttpProblem (404, another's too)."""
        account = self.caller(request)
        try:
            wanted = ids.parse(request.path_params["id"])
        except ValueError:
            raise refuse("not_found", "there is no message with this id") from None
        if ids.partition_of(wanted) >= self._hasher.partitions:
            raise refuse("not_found", "there is no message with this id")
        (record,) = await self._store.find([wanted])
        if record is None or record.account != account.name:
            raise refuse("not_found", "there is no message with this id")
        return record
