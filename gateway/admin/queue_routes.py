"""Waiting messages on the admin listener: lanes, cancel, held messages, breakers.

Every action takes effect at once, loses no message, and is recorded (``audit``) before it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.request_body import decode_body
from gateway.admin.scopes import ScopeChoice, ScopeNames
from gateway.api import schemas
from gateway.api.problems import FieldProblem
from gateway.api.requests import malformed
from gateway.api.responses import JsonResponse
from gateway.model import WAITING
from gateway.store import ids
from gateway.store.keys import GLOBAL_SCOPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.audit import Audit
    from gateway.admin.parts import GatewayParts
    from gateway.store.overview import LanesView, StoreOverview
    from gateway.store.requests import QueueDepths

CANCEL_WITHIN = 3.0
"""Seconds that a cancel may take in one request; the rest is left to the next request (``more``)."""


class BreakerOpening(ScopeChoice, frozen=True, kw_only=True):
    """A breaker to open; the reason is recorded in the audit."""

    reason: str = ""


class HeldRelease(ScopeChoice, frozen=True, kw_only=True):
    """Held messages to decide again: those with these ids, all of a scope, or those of a restored backup."""

    ids: list[str] = msgspec.field(default_factory=list)
    restored: bool = False


class QueueRoutes:
    """Shows and controls what waits on the admin listener (``routes``)."""

    def __init__(
        self,
        parts: GatewayParts,
        overview: StoreOverview,
        audit: Audit,
        scopes: ScopeNames,
        *,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` returns milliseconds UTC."""
        self._config = parts.config
        self._store = parts.store
        self._flags = parts.flags
        self._overview = overview
        self._audit = audit
        self._scopes = scopes
        self._clock = clock

    def __repr__(self) -> str:
        return f"<QueueRoutes {self._audit!r}>"

    def routes(self) -> list[Route]:
        """Return all routes."""
        post = ["POST"]
        return [
            Route("/queue", self.queue),
            Route("/queue/cancel", self.cancel, methods=post),
            Route("/held", self.held),
            Route("/held/release", self.release, methods=post),
            Route("/breakers", self.breakers),
            Route("/breakers/open", self.open_breaker, methods=post),
            Route("/breakers/close", self.close_breaker, methods=post),
        ]

    # ---- waiting messages

    async def queue(self, _request: Request) -> Response:
        """``GET /queue``: lanes with depth and oldest age by account, and the waiting messages of every account."""
        view, depths = await self._overview.lanes(), await self._store.depths()
        limits = {account.name: account.max_queued for account in self._config().accounts}
        return JsonResponse({"lanes": lanes_json(view), "accounts": waiting_json(depths, limits)})

    async def cancel(self, request: Request) -> Response:
        """``POST /queue/cancel`` ``{account}``: cancel what waits; what is at carriers already is not affected.

        The account may be one that the configuration no longer has. ``more`` in the response: repeat the request, not
        everything was canceled in time.
        """
        choice = await decode_body(request, _SCOPE)
        if not choice.account or choice.brand or choice.everybody or choice.scope:
            raise malformed([FieldProblem("account", "invalid_value", "name an account, and nothing else")])
        await self._scopes.resolve(choice)
        async with self._audit.action(request, "queue.cancel", choice.account) as result:
            canceled, complete = await self._store.cancel_account(choice.account, within=CANCEL_WITHIN)
            result["canceled"] = canceled
        return JsonResponse({"canceled": canceled, "more": not complete})

    # ---- held messages

    async def held(self, _request: Request) -> Response:
        """``GET /held``: held messages by account and brand, the oldest age, and the breakers that hold them.

        ``restored``: messages accepted before this instant are held as well, as the store was restored from a backup.
        """
        now, groups = self._clock(), []
        for one in await self._overview.held():
            holding = [
                scope for scope in (GLOBAL_SCOPE, one.account_scope, one.brand_scope) if scope in self._flags.open
            ]
            groups.append(
                {
                    "account": one.account,
                    "brand": self._scopes.describe(one.brand_scope).get("brand", ""),
                    "count": one.count,
                    "oldest_s": round(max(0, now - one.oldest) / 1000, 1),
                    "breakers": [self._scopes.describe(scope) for scope in holding],
                }
            )
        held = sum(group["count"] for group in groups)
        return JsonResponse({"held": held, "groups": groups, "restored": schemas.rfc3339(self._flags.restored)})

    async def release(self, request: Request) -> Response:
        """``POST /held/release`` ``{ids | account, brand | everybody}``: decide held messages again at once.

        A breaker that is still open holds them again. ``{restored: true}``: what was accepted before the backup that
        the store was restored from may be sent from now on, and what was held for it is decided again.
        """
        choice = await decode_body(request, _RELEASE)
        if choice.restored:
            return await self._release_restored(request, choice)
        try:
            chosen = [ids.parse(text) for text in choice.ids]
        except ValueError as error:
            raise malformed([FieldProblem("ids", "invalid_value", str(error))]) from None
        if any(ids.partition_of(one) >= self._store.partitions for one in chosen):
            raise malformed([FieldProblem("ids", "invalid_value", "one of them is no message id of this gateway")])
        named = choice.account or choice.everybody or choice.scope
        scope = b"" if chosen and not named else await self._scopes.resolve(choice)
        detail = {"ids": len(chosen) or None, "scope": self._scopes.describe(scope) if scope else None}
        async with self._audit.action(request, "held.release", "", **detail) as result:
            released = result["released"] = await self._store.release(chosen, scope)
        return JsonResponse({"released": released})

    async def _release_restored(self, request: Request, choice: HeldRelease) -> Response:
        if choice != HeldRelease(restored=True):
            raise malformed([FieldProblem("restored", "malformed", "cannot be combined with ids or a scope")])
        before = schemas.rfc3339(self._flags.restored) or None
        async with self._audit.action(request, "held.release", "restored", before=before) as result:
            released = result["released"] = await self._flags.release_restored()
        return JsonResponse({"released": released})

    # ---- breakers

    async def breakers(self, _request: Request) -> Response:
        """``GET /breakers``: the open ones."""
        return JsonResponse({"open": self._open_breakers()})

    async def open_breaker(self, request: Request) -> Response:
        """``POST /breakers/open`` ``{account, brand | everybody, reason}``: hold marketing, waiting too."""
        choice = await decode_body(request, _OPENING)
        scope = await self._scopes.resolve(choice)
        names, reason = self._scopes.describe(scope), choice.reason or None
        async with self._audit.action(request, "breaker.open", scope=names, reason=reason):
            await self._flags.open_breaker(scope, self._clock())
        return JsonResponse({"open": self._open_breakers()})

    async def close_breaker(self, request: Request) -> Response:
        """``POST /breakers/close`` ``{account, brand | everybody}``: release what it held for a new decision."""
        scope = await self._scopes.resolve(await decode_body(request, _SCOPE))
        async with self._audit.action(request, "breaker.close", scope=self._scopes.describe(scope)) as result:
            released = result["released"] = await self._flags.close_breaker(scope)
        return JsonResponse({"released": released, "open": self._open_breakers()})

    def _open_breakers(self) -> list[dict[str, Any]]:
        return [
            self._scopes.describe(scope) | {"since": schemas.rfc3339(since)}
            for scope, since in self._flags.open.items()
        ]


def lanes_json(view: LanesView) -> list[dict[str, Any]]:
    """Return the lanes that hold messages, the one with the oldest message first."""
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


def waiting_json(depths: QueueDepths, limits: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the accounts with waiting messages, by status, the most messages first.

    ``limits``: ``max_queued`` of the configured accounts; the others get null.
    """
    found = [
        {
            "account": name,
            "waiting": sum(states.values()),
            **{state.name.lower(): states.get(state, 0) for state in sorted(WAITING, reverse=True)},
            "max_queued": limits.get(name),
        }
        for name, states in depths.waiting.items()
        if any(states.values())
    ]
    return sorted(found, key=lambda one: -one["waiting"])


_SCOPE = msgspec.json.Decoder(ScopeChoice)
_OPENING = msgspec.json.Decoder(BreakerOpening)
_RELEASE = msgspec.json.Decoder(HeldRelease)
