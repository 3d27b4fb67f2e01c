"""Recipients' choices: ``/v1/consents/{to}`` and ``/v1/suppressions/{to}``, stored before they are answered.

Consent belongs to (account, brand), and only marketing requires it. A suppression is an opt-out that the account
records: from its marketing or from everything it sends, for one brand or for all of them. What an operator suppressed
for all accounts is shown but cannot be lifted here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import FieldProblem, refuse
from gateway.api.requests import MAX_SINGLE, check_type, decode, destination, malformed, read_body, read_head
from gateway.api.responses import JsonResponse
from gateway.api.schemas import rfc3339
from gateway.config import Account
from gateway.model import Recipient, RuleGroup, RuleStatus
from gateway.store.keys import GLOBAL_SCOPE, Hasher
from gateway.store.requests import OptChange, OptRecord

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore

SKEW = 300_000
"""How far ahead ``occurred_at`` may lie, ms: the app's clock is off."""

Text = Annotated[str, Meta(max_length=2000)]
Short = Annotated[str, Meta(max_length=64)]
Instant = Annotated[datetime, Meta(tz=True)]
Body = TypeVar("Body")


class ConsentBody(msgspec.Struct, forbid_unknown_fields=True):
    """A consent given or withdrawn. ``method`` and ``evidence`` are required to grant."""

    status: Literal["granted", "revoked"]
    method: Short = ""  # web_form, keyword, paper, …
    evidence: Text = ""  # the words agreed to, or where they are kept
    category: Literal["marketing"] = "marketing"
    channel: Literal["sms"] = "sms"
    brand: Short | None = None
    occurred_at: Instant | None = None
    expires_at: Instant | None = None
    locale: Short = ""
    actor: Short = ""
    ip: Short = ""
    user_agent: Annotated[str, Meta(max_length=500)] = ""
    source_url: Text = ""


class SuppressionBody(msgspec.Struct, forbid_unknown_fields=True):
    """An opt-out that the account records."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    scope: Literal["marketing", "all"] = "marketing"
    brand: Short | None = None


class RuleDetail(msgspec.Struct, omit_defaults=True):
    """What is kept, encrypted, beside a rule."""

    recorded_at: int
    account: str = ""
    method: str = ""
    evidence: str = ""
    reason: str = ""
    locale: str = ""
    actor: str = ""
    ip: str = ""
    user_agent: str = ""
    source_url: str = ""


class ConsentView(msgspec.Struct, omit_defaults=True):
    """A consent as its account sees it. ``applied``: only in the response to a PUT."""

    to: str
    brand: str
    category: str
    channel: str
    status: str
    occurred_at: str
    recorded_at: str
    expires_at: str = ""
    method: str = ""
    evidence: str = ""
    locale: str = ""
    actor: str = ""
    ip: str = ""
    user_agent: str = ""
    source_url: str = ""
    applied: bool | None = None


class SuppressionView(msgspec.Struct, omit_defaults=True):
    """An opt-out in force. ``by``: ``brand`` | ``account`` | ``operator`` (for all accounts)."""

    to: str
    scope: str
    by: str
    since: str
    brand: str = ""
    reason: str = ""
    applied: bool | None = None


class ConsentsView(msgspec.Struct):
    """All consents on record for one recipient."""

    consents: list[ConsentView]


class SuppressionsView(msgspec.Struct):
    """All opt-outs in force for one recipient."""

    suppressions: list[SuppressionView]


class Caller(NamedTuple):
    """The caller of a request, the recipient it is about, and the caller's scopes."""

    account: Account
    recipient: Recipient
    account_scope: bytes
    brands: dict[bytes, str]  # brand scope -> brand


SCOPES = {"marketing": RuleGroup.MARKETING, "all": RuleGroup.ALL}
_GROUPS = {group: name for name, group in SCOPES.items()}
_TO_GRANT = (("method", '"web_form"'), ("evidence", '"Yes, send me offers", the words agreed to'))
_consent = msgspec.json.Decoder(ConsentBody)
_suppression = msgspec.json.Decoder(SuppressionBody)
_detail = msgspec.json.Decoder(RuleDetail)
_encode = msgspec.json.Encoder().encode


class Recipients:
    """The routes of consents and suppressions."""

    def __init__(
        self, store: MessageStore, hasher: Hasher, caller: Callable[[Request], Account], clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._caller = caller
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/consents/{to}", self.put_consent, methods=["PUT"]),
            Route("/v1/consents/{to}", self.get_consents),
            Route("/v1/suppressions/{to}", self.put_suppression, methods=["PUT"]),
            Route("/v1/suppressions/{to}", self.get_suppressions),
            Route("/v1/suppressions/{to}", self.delete_suppression, methods=["DELETE"]),
        ]

    async def put_consent(self, request: Request) -> Response:
        """Record a consent granted or revoked; the latest by ``occurred_at`` counts, and a tie is a revocation."""
        caller = self._resolve(request)
        body = await _body(request, _consent)
        scope = self._brand_scope(caller, body.brand)
        now = self._clock()
        granted = body.status == "granted"
        if granted and not (body.method and body.evidence):
            missing = [
                FieldProblem(name, "malformed", f"required to grant, such as {example}") for name, example in _TO_GRANT
            ]
            raise malformed([fault for fault in missing if not getattr(body, fault.field)])
        at, until = self._instants(body, now)
        detail = RuleDetail(
            now,
            account=caller.account.name,
            method=body.method,
            evidence=body.evidence,
            locale=body.locale,
            actor=body.actor,
            ip=body.ip,
            user_agent=body.user_agent,
            source_url=body.source_url,
        )
        status = RuleStatus.ALLOWS if granted else RuleStatus.STOPS
        change = OptChange(
            caller.recipient,
            group=RuleGroup.CONSENT,
            status=status,
            scope=scope,
            at=at,
            until=until,
            detail=_encode(detail),
        )
        (applied,) = await self._store.opt([change])
        view = _consent_view(caller, OptRecord(*change[1:]))
        view.applied = applied
        return JsonResponse(view)

    async def get_consents(self, request: Request) -> Response:
        """Return every consent on record for this recipient and the account's brands."""
        caller = self._resolve(request)
        found = await self._store.opts(caller.recipient)
        mine = [rule for rule in found if rule.group == RuleGroup.CONSENT and rule.scope in caller.brands]
        return JsonResponse(ConsentsView([_consent_view(caller, rule) for rule in mine]))

    async def put_suppression(self, request: Request) -> Response:
        """Record an opt-out, as of now."""
        caller = self._resolve(request)
        body = await _body(request, _suppression)
        scope = caller.account_scope if body.brand is None else self._brand_scope(caller, body.brand)
        now = self._clock()
        detail = _encode(RuleDetail(now, account=caller.account.name, reason=body.reason))
        change = OptChange(
            caller.recipient,
            group=SCOPES[body.scope],
            status=RuleStatus.STOPS,
            scope=scope,
            at=now,
            until=0,
            detail=detail,
        )
        (applied,) = await self._store.opt([change])
        view = _suppression_view(caller, OptRecord(*change[1:]))
        view.applied = applied
        return JsonResponse(view)

    async def get_suppressions(self, request: Request) -> Response:
        """Return every opt-out in force against this account's messages to the recipient."""
        caller = self._resolve(request)
        in_force = [
            _suppression_view(caller, rule)
            for rule in await self._store.opts(caller.recipient)
            if _in_force(rule, self._clock()) and rule.scope in {caller.account_scope, GLOBAL_SCOPE, *caller.brands}
        ]
        return JsonResponse(SuppressionsView(in_force))

    async def delete_suppression(self, request: Request) -> Response:
        """Lift the account's opt-outs: ``?scope=`` and ``?brand=`` narrow it. 204, also when there was none."""
        caller = self._resolve(request)
        groups, scopes = self._to_lift(request, caller)
        now = self._clock()
        detail = _encode(RuleDetail(now, account=caller.account.name, reason="lifted"))
        changes = [
            # at least a millisecond after the opt-out, which wins a tie
            OptChange(
                caller.recipient,
                group=rule.group,
                status=RuleStatus.ALLOWS,
                scope=rule.scope,
                at=max(now, rule.at + 1),
                until=0,
                detail=detail,
            )
            for rule in await self._store.opts(caller.recipient)
            if _in_force(rule, now) and rule.group in groups and rule.scope in scopes
        ]
        if changes:
            await self._store.opt(changes)
        return Response(status_code=204)

    def _resolve(self, request: Request) -> Caller:
        account = self._caller(request)
        recipient = self._hasher.recipient(destination(request.path_params["to"], account.default_country))
        scope = self._hasher.scope
        brands = {scope(account.name, brand): brand for brand in {*account.brands, account.brand}}
        return Caller(account, recipient, scope(account.name), brands)

    def _brand_scope(self, caller: Caller, brand: str | None) -> bytes:
        scope = self._hasher.scope(caller.account.name, caller.account.brand if brand is None else brand)
        if scope not in caller.brands:
            fault = FieldProblem("brand", "brand_not_allowed", "this account may not use this brand")
            raise refuse("brand_not_allowed", errors=[fault])
        return scope

    def _instants(self, body: ConsentBody, now: int) -> tuple[int, int]:
        at = now if body.occurred_at is None else _ms(body.occurred_at)
        until = 0 if body.expires_at is None else _ms(body.expires_at)
        if not 0 < at <= now + SKEW:
            raise malformed([FieldProblem("occurred_at", "invalid_value", "must not be in the future, or before 1970")])
        if until and until <= at:
            raise malformed([FieldProblem("expires_at", "invalid_value", "must be after occurred_at")])
        return min(at, now), until

    def _to_lift(self, request: Request, caller: Caller) -> tuple[set[RuleGroup], set[bytes]]:
        scope, brand = request.query_params.get("scope"), request.query_params.get("brand")
        if scope is not None and scope not in SCOPES:
            raise malformed([FieldProblem("scope", "invalid_value", "must be marketing or all")])
        groups = set(SCOPES.values()) if scope is None else {SCOPES[scope]}
        return groups, {caller.account_scope, *caller.brands} if brand is None else {self._brand_scope(caller, brand)}


async def _body(request: Request, decoder: msgspec.json.Decoder[Body]) -> Body:
    head = read_head(request.scope["headers"])
    check_type(head)
    return decode(decoder, await read_body(head, request.receive, MAX_SINGLE))


def _in_force(rule: OptRecord, now: int) -> bool:
    return rule.group in _GROUPS and rule.status == RuleStatus.STOPS and (rule.until == 0 or now < rule.until)


def _consent_view(caller: Caller, rule: OptRecord) -> ConsentView:
    detail = _detail.decode(rule.detail) if rule.detail else RuleDetail(rule.at)
    return ConsentView(
        to="+" + caller.recipient.digits,
        brand=caller.brands[rule.scope],
        category="marketing",
        channel="sms",
        status="granted" if rule.status == RuleStatus.ALLOWS else "revoked",
        occurred_at=rfc3339(rule.at),
        recorded_at=rfc3339(detail.recorded_at),
        expires_at=rfc3339(rule.until),
        **{name: getattr(detail, name) for name in _EVIDENCE},
    )


_EVIDENCE = ("method", "evidence", "locale", "actor", "ip", "user_agent", "source_url")


def _suppression_view(caller: Caller, rule: OptRecord) -> SuppressionView:
    detail = _detail.decode(rule.detail) if rule.detail else RuleDetail(rule.at)
    by = "operator" if rule.scope == GLOBAL_SCOPE else "account" if rule.scope == caller.account_scope else "brand"
    return SuppressionView(
        to="+" + caller.recipient.digits,
        scope=_GROUPS[rule.group],
        by=by,
        since=rfc3339(rule.at),
        brand=caller.brands.get(rule.scope, ""),
        reason="" if by == "operator" else detail.reason,
    )


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
