"""What operators look at and do, on their own listener: carriers and binds, lanes, held messages, breakers, the audit.

Looking is ``GET``, doing is ``POST``; every doing is effective at once, loses nothing and is recorded (``audit``)
before it happens.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import logs
from gateway.admin.audit import Audit
from gateway.admin.explain import Surroundings, explain
from gateway.api import schemas
from gateway.api.problems import FieldProblem, refuse
from gateway.api.requests import decode, malformed
from gateway.api.responses import JsonResponse
from gateway.carriers.mode import CarrierMode
from gateway.carriers.service import CarrierService
from gateway.carriers.views import CarrierView, carrier_view
from gateway.cluster.flags import SharedFlags
from gateway.config import Config
from gateway.intake.policy_context import PolicyContext
from gateway.model import WAITING
from gateway.store import ids
from gateway.store.keys import GLOBAL_SCOPE
from gateway.store.overview import LanesView, StoreOverview
from gateway.store.records import MessageRecord
from gateway.store.requests import QueueDepths

MODES = {"pause": CarrierMode.PAUSED, "drain": CarrierMode.DRAINED, "resume": CarrierMode.RUNNING}
AT_ONCE = 3.0  # seconds that an order about many messages may take; then it is to be repeated
MAX_BODY = 1024 * 1024
MOST_AUDIT = 10_000


class Scope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Whose messages: everybody's, an account's, or those under one of its brands.

    ``scope``: 16 hexadecimal digits, as breakers of accounts are shown that the configuration no longer has.
    """

    account: str = ""
    brand: str = ""
    everybody: bool = False
    scope: str = ""


class Opening(Scope, frozen=True, kw_only=True):
    """A breaker to open, and why: the reason goes into the audit."""

    reason: str = ""


class Release(Scope, frozen=True, kw_only=True):
    """Held messages to be decided again: these, or all of a scope."""

    ids: list[str] = []


class OperationsStore(Protocol):
    """What this needs of the store."""

    partitions: int

    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]: ...
    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"") -> int: ...
    async def depths(self) -> QueueDepths: ...
    async def cancel_account(self, account: str, *, within: float = ...) -> tuple[int, bool]: ...


class OperationsTarget(Protocol):
    """What this needs of the application: all of it may be another after a reload."""

    config: Config
    policy_context: PolicyContext
    flags: SharedFlags

    @property
    def services(self) -> Sequence[CarrierService]: ...


class Operations:
    """``routes`` for the operators' listener."""

    def __init__(
        self,
        house: OperationsTarget,
        store: OperationsStore,
        outlook: StoreOverview,
        audit: Audit,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._house = house
        self._store = store
        self._outlook = outlook
        self._audit = audit
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Operations {self._audit!r}>"

    def routes(self) -> list[Route]:
        """All of them; the order matters to none."""
        post = ["POST"]
        return [
            Route("/carriers", self.carriers),
            Route("/carriers/{name}", self.carrier),
            Route("/carriers/{name}/{verb}", self.control, methods=post),
            Route("/carriers/{name}/binds/{bind}/{verb}", self.control_bind, methods=post),
            Route("/queue", self.queue),
            Route("/queue/cancel", self.cancel, methods=post),
            Route("/held", self.held),
            Route("/held/release", self.release, methods=post),
            Route("/breakers", self.breakers),
            Route("/breakers/open", self.open_breaker, methods=post),
            Route("/breakers/close", self.close_breaker, methods=post),
            Route("/messages/{id}", self.message),
            Route("/audit", self.audit),
        ]

    # ---- carriers

    async def carriers(self, _request: Request) -> Response:
        """``GET /carriers``: all of them, with binds, state and last error."""
        return JsonResponse({"carriers": self._views()})

    async def carrier(self, request: Request) -> Response:
        """``GET /carriers/{name}``."""
        return JsonResponse(self._view(self._service(request)))

    async def control(self, request: Request) -> Response:
        """``POST /carriers/{name}/pause|drain|resume|reconnect``: answers how it stands right after."""
        service, verb = self._service(request), request.path_params["verb"]
        name, controls = service.carrier.name, service.controls
        if verb != "reconnect" and verb not in MODES:
            raise refuse("not_found", f"known are {', '.join(MODES)} and reconnect, not {verb}")
        async with self._audit.action(request, f"carrier.{verb}", name):
            if verb == "reconnect":
                controls.reconnect()
            else:
                await self._house.flags.set_carrier(name, MODES[verb])
                for slot in service.pool.slots if verb == "resume" else ():
                    if slot.mode is not CarrierMode.RUNNING:
                        controls.set_bind(slot, CarrierMode.RUNNING)
        await asyncio.sleep(0)
        return JsonResponse(self._view(service))

    async def control_bind(self, request: Request) -> Response:
        """``POST /carriers/{name}/binds/{number}/pause|drain|resume|reconnect``: one bind, at this worker."""
        service, verb = self._service(request), request.path_params["verb"]
        slot = service.controls.slot(request.path_params["bind"])
        if slot is None:
            raise refuse("not_found", f"{service.carrier.name} has {len(service.pool.slots)} binds, from 1")
        if verb != "reconnect" and verb not in MODES:
            raise refuse("not_found", f"known are {', '.join(MODES)} and reconnect, not {verb}")
        async with self._audit.action(request, f"bind.{verb}", slot.name):
            if verb == "reconnect":
                service.controls.reconnect([slot])
            else:
                service.controls.set_bind(slot, MODES[verb])
        await asyncio.sleep(0)
        return JsonResponse(self._view(service))

    def _service(self, request: Request) -> CarrierService:
        """The one that is asked for; a reload may have two of a name for a moment, of which the newer counts."""
        name = request.path_params["name"]
        for service in reversed(self._house.services):
            if service.carrier.name == name:
                return service
        known = ", ".join(sorted({service.carrier.name for service in self._house.services})) or "none"
        raise refuse("not_found", f"there is no carrier {name}; known are: {known}")

    def _views(self) -> list[CarrierView]:
        return [self._view(service) for service in self._house.services]

    @staticmethod
    def _view(service: CarrierService) -> CarrierView:
        return carrier_view(service, asyncio.get_running_loop().time())

    # ---- what waits

    async def queue(self, _request: Request) -> Response:
        """``GET /queue``: lanes with depth and age of the oldest, by account; and how much of every account waits."""
        view, depths = await self._outlook.lanes(), await self._store.depths()
        bounds = {account.name: account.max_queued for account in self._house.config.accounts}
        return JsonResponse({"lanes": lanes_json(view), "accounts": waiting_json(depths, bounds)})

    async def cancel(self, request: Request) -> Response:
        """``POST /queue/cancel`` ``{account}``: what waits of it ends as canceled; what carriers have goes its way.

        Also of an account that the configuration no longer has. ``more``: it was too much for one request.
        """
        wanted = await _body(request, _SCOPE)
        if not wanted.account or wanted.brand or wanted.everybody or wanted.scope:
            raise malformed([FieldProblem("account", "invalid_value", "name an account, and nothing else")])
        await self._scope(wanted)
        async with self._audit.action(request, "queue.cancel", wanted.account) as result:
            canceled, all_ = await self._store.cancel_account(wanted.account, within=AT_ONCE)
            result["canceled"] = canceled
        return JsonResponse({"canceled": canceled, "more": not all_})

    async def held(self, _request: Request) -> Response:
        """``GET /held``: how many messages of whom are held, since when."""
        now, groups = self._clock(), []
        for one in await self._outlook.held():
            brand = self._words(one.brand_scope).get("brand", "")
            stopping = [scope for scope in (GLOBAL_SCOPE, one.account_scope, one.brand_scope) if self._is_open(scope)]
            groups.append(
                {
                    "account": one.account,
                    "brand": brand,
                    "count": one.count,
                    "oldest_s": round(max(0, now - one.oldest) / 1000, 1),
                    "breakers": [self._words(scope) for scope in stopping],
                }
            )
        return JsonResponse({"held": sum(group["count"] for group in groups), "groups": groups})

    async def release(self, request: Request) -> Response:
        """``POST /held/release`` ``{ids | account, brand | everybody}``: decided again at once; an open breaker holds
        them again."""
        wanted = await _body(request, _RELEASE)
        try:
            chosen = [ids.parse(text) for text in wanted.ids]
        except ValueError as error:
            raise malformed([FieldProblem("ids", "invalid_value", str(error))]) from None
        if any(ids.partition_of(one) >= self._store.partitions for one in chosen):
            raise malformed([FieldProblem("ids", "invalid_value", "one of them is no id of this gateway")])
        named = wanted.account or wanted.everybody or wanted.scope
        scope = b"" if chosen and not named else await self._scope(wanted)
        detail = {"ids": len(chosen) or None, "scope": self._words(scope) if scope else None}
        async with self._audit.action(request, "held.release", "", **detail) as result:
            released = result["released"] = await self._store.release(chosen, scope)
        return JsonResponse({"released": released})

    # ---- breakers

    async def breakers(self, _request: Request) -> Response:
        """``GET /breakers``: those that are open."""
        return JsonResponse({"open": self._open_breakers()})

    async def open_breaker(self, request: Request) -> Response:
        """``POST /breakers/open`` ``{account, brand | everybody, reason}``: their marketing is held, what waits too."""
        wanted = await _body(request, _OPENING)
        scope = await self._scope(wanted)
        async with self._audit.action(request, "breaker.open", scope=self._words(scope), reason=wanted.reason or None):
            await self._house.flags.open_breaker(scope, self._clock())
        return JsonResponse({"open": self._open_breakers()})

    async def close_breaker(self, request: Request) -> Response:
        """``POST /breakers/close`` ``{account, brand | everybody}``: what was held is decided again."""
        scope = await self._scope(await _body(request, _SCOPE))
        async with self._audit.action(request, "breaker.close", scope=self._words(scope)) as result:
            released = result["released"] = await self._house.flags.close_breaker(scope)
        return JsonResponse({"released": released, "open": self._open_breakers()})

    def _open_breakers(self) -> list[dict[str, Any]]:
        return [self._words(scope) | {"since": schemas.rfc3339(at)} for scope, at in self._house.flags.open.items()]

    def _is_open(self, scope: bytes) -> bool:
        return scope in self._house.flags.open

    async def _scope(self, wanted: Scope) -> bytes:
        """8 octets. Raises HttpProblem when it names nobody, or nobody we know."""
        if (wanted.everybody or wanted.scope) and (wanted.account or wanted.brand):
            place = "everybody" if wanted.everybody else "scope"
            raise malformed([FieldProblem(place, "malformed", "stands alone")])
        if wanted.everybody:
            return GLOBAL_SCOPE
        if wanted.scope:
            if not re.fullmatch("[0-9a-f]{16}", wanted.scope):
                raise malformed([FieldProblem("scope", "invalid_value", "has 16 hexadecimal digits")])
            return bytes.fromhex(wanted.scope)
        rights = self._house.policy_context.rights.get(wanted.account)
        if rights is None and any((await self._store.depths()).waiting.get(wanted.account, {}).values()):
            of_account, of_brand = self._house.policy_context.scopes(wanted.account, wanted.brand)
            return of_brand if wanted.brand else of_account  # it is gone, its messages are not
        if rights is None:
            detail = f"there is no account {wanted.account}" if wanted.account else "name an account, or everybody"
            raise malformed([FieldProblem("account", "invalid_value", detail)])
        if not wanted.brand:
            return rights.account_scope
        if wanted.brand not in rights.brand_scopes:
            known = ", ".join(rights.brand_scopes)
            raise malformed([FieldProblem("brand", "invalid_value", f"{wanted.account} has the brands {known}")])
        return rights.brand_scopes[wanted.brand]

    def _words(self, scope: bytes) -> dict[str, Any]:
        """A scope by the names of the configuration; one of an account that it no longer has stays a number."""
        if scope == GLOBAL_SCOPE:
            return {"everybody": True}
        for name, rights in self._house.policy_context.rights.items():
            if rights.account_scope == scope:
                return {"account": name}
            for brand, brand_scope in rights.brand_scopes.items():
                if brand_scope == scope:
                    return {"account": name, "brand": brand}
        return {"scope": scope.hex()}

    # ---- messages and the audit

    async def message(self, request: Request) -> Response:
        """``GET /messages/{id}``: why any account's message is where it is; its number masked, its text never.

        A body gives the carriers as all workers together see them, in place of what this one does.
        """
        try:
            wanted = ids.parse(request.path_params["id"])
        except ValueError:
            raise refuse("not_found", "there is no message with this id") from None
        known = ids.partition_of(wanted) < self._store.partitions
        record = (await self._store.find([wanted]))[0] if known else None
        if record is None:
            raise refuse("not_found", "there is no message with this id (any more); records go hours after the end")
        seen = schemas.message(record)
        seen.to, seen.metadata = logs.mask(seen.to), None
        given = await request.body()
        views = decode(_VIEWS, given) if given else self._views()
        why = explain(record, await self._around(record, views))
        return JsonResponse(
            {"id": seen.id, "account": record.account, "status": seen.status, "why": why, "message": seen}
        )

    async def _around(self, record: MessageRecord, carriers: Sequence[CarrierView]) -> Surroundings:
        house = self._house
        account_scope, brand_scope = house.policy_context.scopes(record.account, record.envelope.brand)
        route = next((route for route in house.config.routes if route.lane == record.route), None)
        views = {view.name: view for view in carriers}
        return Surroundings(
            now=self._clock(),
            lanes={lane.name: lane for lane in (await self._outlook.lanes()).lanes},
            carriers=[views[name] for name in (route.carriers if route else ()) if name in views],
            breakers=[
                _in_words(self._words(scope))
                for scope in (GLOBAL_SCOPE, account_scope, brand_scope)
                if self._is_open(scope)
            ],
            receipt_timeout=house.config.retention.receipt_timeout,
        )

    async def audit(self, request: Request) -> Response:
        """``GET /audit?limit=100&action=carrier``: what operators did, newest first."""
        text = request.query_params.get("limit", "100")
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_AUDIT):
            raise malformed([FieldProblem("limit", "invalid_value", f"from 1 to {MOST_AUDIT}")])
        try:
            entries = await self._audit.tail(int(text), request.query_params.get("action", ""))
        except OSError as error:
            raise refuse("audit_unavailable", f"{self._audit.path.name}: {error.strerror}") from error
        return JsonResponse({"entries": entries})


def lanes_json(view: LanesView) -> list[dict[str, Any]]:
    """Lanes that hold something, the oldest first."""
    found = [
        {
            "lane": lane.name,
            "ready": lane.ready,
            "delayed": lane.delayed,
            "oldest_s": round(view.age(lane.oldest), 1),
            "next_due": schemas.rfc3339(lane.next_due),
            "accounts": [
                {"account": one.account, "ready": one.ready, "oldest_s": round(view.age(one.oldest), 1)}
                for one in sorted(lane.accounts, key=lambda one: -one.ready)
                if one.ready
            ],
        }
        for lane in view.lanes
        if lane.ready or lane.delayed
    ]
    return sorted(found, key=lambda lane: -float(str(lane["oldest_s"])))


def waiting_json(depths: QueueDepths, bounds: Mapping[str, int]) -> list[dict[str, Any]]:
    """Accounts of which anything waits, by status; the fullest first. ``bounds``: ``max_queued`` of those we have."""
    found = [
        {
            "account": name,
            "waiting": sum(states.values()),
            **{state.name.lower(): states.get(state, 0) for state in sorted(WAITING, reverse=True)},
            "max_queued": bounds.get(name),
        }
        for name, states in depths.waiting.items()
        if any(states.values())
    ]
    return sorted(found, key=lambda one: -one["waiting"])


def _in_words(scope: dict[str, Any]) -> str:
    if "everybody" in scope:
        return "everybody's"
    brand = f", brand {scope['brand']}" if "brand" in scope else ""
    return f"account {scope.get('account', scope.get('scope'))}{brand}"


_VIEWS = msgspec.json.Decoder(list[CarrierView])
_SCOPE = msgspec.json.Decoder(Scope)
_OPENING = msgspec.json.Decoder(Opening)
_RELEASE = msgspec.json.Decoder(Release)


async def _body(request: Request, decoder: msgspec.json.Decoder[Any]) -> Any:
    """A typed body; none at all is an empty one. Raises HttpProblem (400, 413)."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise refuse("too_large", f"the body may have {MAX_BODY} octets")
    return decode(decoder, bytes(body) or b"{}")
