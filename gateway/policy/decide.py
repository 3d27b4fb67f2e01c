"""The decision about one message: send now, later or never; and the permission that the gate enforces.

Pure: request, facts about the recipient, instant and rulebook give the verdict. Every rule is evaluated and reported,
not only the first that objects; outcomes rank reject > hold > defer > allow, and among equals the code is that of the
first rule. The same function decides again what ``take`` hands back.

One-time passwords, transactional and emergency messages skip consent, marketing opt-outs, breakers and quiet hours;
an opt-out from everything, suppression and their caps apply to them. In a store restored from a backup every category
is held that was accepted before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from gateway.model import Cap, Category, Check, Facts, Outcome, Permission, Reason, Verdict
from gateway.policy import caps, consent, content
from gateway.policy.numbers import Number, describe
from gateway.policy.quiet_hours import LAST_MINUTE, Window, known_zone, window
from gateway.policy.rulebook import ByCategory, Limits, Rulebook, by_category
from gateway.policy.zones import chosen

__all__ = ["CHECKS", "FOREVER", "Request", "Rulebook", "caps_for", "decide"]

FOREVER = 253_402_300_800_000
"""The year 10000 in ms: the end of an interval that does not close. Exact in a double, 6 octets wide."""

CHECKS = by_category(
    otp=int(Check.ALL_OPT_OUT),
    transactional=int(Check.ALL_OPT_OUT),
    marketing=int(Check.CONSENT | Check.MARKETING_OPT_OUT | Check.ALL_OPT_OUT | Check.BREAKER),
    emergency=int(Check.ALL_OPT_OUT),
)
"""What the gate checks again each time before sending."""

_NO_SCOPE = bytes(8)
_OTP, _MARKETING, _EMERGENCY = Category.OTP, Category.MARKETING, Category.EMERGENCY
_REVOKED, _GRANTED = consent.ConsentState.REVOKED, consent.ConsentState.GRANTED
_ALLOW, _NONE = Outcome.ALLOW, Reason.NONE  # module names: an enum attribute costs 60 ns


class Request(msgspec.Struct, frozen=True, gc=False):
    """The message to decide about. Instants are ms UTC, 0 = not given; strings are "" when not given."""

    digits: str  # E.164 without +, as from parse_e164
    category: Category
    account_scope: bytes
    brand_scope: bytes
    route: str  # from RouteTable.match, "" = none
    segments: int
    accepted_at: int = 0  # when it was accepted, for a repeated decision
    send_at: int = 0
    expires_at: int = 0
    time_zone: str = ""  # IANA; selects one of the zones of the number's country, or adds one
    residence: bool = False  # the app attests that the recipient lives in ``time_zone``
    on_quiet: str = ""  # "defer" | "reject"
    reason: str = ""  # of an emergency
    template_scope: bytes = _NO_SCOPE


class Finding(NamedTuple):
    """The objection of one rule."""

    rule: str
    outcome: Outcome
    code: Reason
    next_at: int = 0

    def __str__(self) -> str:
        return f"{self.rule}:{self.outcome.name.lower()}"


class _DecisionInput:
    """The inputs of one decision, and values that several rules need."""

    __slots__ = ("caps", "expires", "facts", "now", "request", "room_at", "rules", "start", "window", "zones")

    def __init__(self, request: Request, facts: Facts, now: int, rules: Rulebook) -> None:
        self.request, self.facts, self.now, self.rules = request, facts, now, rules
        send_at, category = request.send_at, request.category
        self.start = send_at if send_at > now else now  # the earliest instant at which it could be sent
        self.expires = request.expires_at or (send_at or request.accepted_at or now) + rules.expiry[category]
        self.caps = caps_for(category, request.account_scope, request.brand_scope, rules)
        # When a full cap has room again; 0 = none is full. The count now says nothing about a later start.
        self.room_at = caps.room_at(self.caps, facts, now) if self.caps and self.start == now else 0
        self.zones: tuple[str, ...] = ()
        self.window: Window | None = None


def decide(request: Request, facts: Facts, now: int, rules: Rulebook) -> Verdict:
    """Return the verdict about a message at ``now``. Its permission is valid for every outcome but REJECT."""
    case = _DecisionInput(request, facts, now, rules)
    opens, closes = 0, FOREVER
    category = request.category
    if category is _MARKETING:
        number = describe(request.digits)
        case.zones = _zones(request, number, rules)
        if case.zones:
            earliest = max(case.start, case.room_at)
            profile = rules.profile(request.digits, number.region)
            case.window = window(earliest, case.zones, profile, least=LAST_MINUTE)
        if case.window is not None:
            opens, closes = case.window.opens, case.window.closes - LAST_MINUTE
    findings = [finding for rule in RULES[category] if (finding := rule(case)) is not None]
    permission = Permission(
        opens,
        closes,
        case.expires,
        CHECKS[category],
        request.account_scope,
        request.brand_scope,
        request.template_scope,
        case.caps,
        rules.epoch,
    )
    if not findings:
        return Verdict(_ALLOW, _NONE, permission, 0, (), case.zones, rules.version)
    worst = max(findings, key=lambda finding: finding.outcome)  # max returns the first among equals
    next_at = max(finding.next_at for finding in findings) if worst.outcome is Outcome.DEFER else worst.next_at
    texts = tuple(map(str, findings))
    return Verdict(worst.outcome, worst.code, permission, next_at, texts, case.zones, rules.version)


def _zones(request: Request, number: Number, rules: Rulebook) -> tuple[str, ...]:
    """Return the recipient's possible zones: attested, else named by the app, else the number's, else the default."""
    named = request.time_zone
    if named and not known_zone(named):
        return ()
    if named and request.residence:
        return (named,)
    if named:
        return chosen(named, number.zones, number.region)
    return number.zones or ((rules.default_zone,) if rules.default_zone else ())


def caps_for(category: Category, account_scope: bytes, brand_scope: bytes, rules: Rulebook) -> tuple[Cap, ...]:
    """Return the caps a message counts under: one-time passwords per account (of any brand), the rest per brand.

    Ask the store about them with the facts, so that ``decide`` refuses early what the gate would refuse later.
    """
    limits = rules.caps[category]
    return _caps_of(account_scope if category is _OTP else brand_scope, category, limits) if limits else ()


@lru_cache(maxsize=4096)
def _caps_of(scope: bytes, category: Category, limits: Limits) -> tuple[Cap, ...]:
    counted = caps.count_scope(scope, category)
    return tuple([Cap(counted, limit, seconds) for limit, seconds in limits])


# ---- the rules, in the order of reporting


def _category(case: _DecisionInput) -> Finding | None:
    if case.request.category is _EMERGENCY and not case.request.reason:
        return Finding("emergency_reason", Outcome.REJECT, Reason.CONTENT_REFUSED)
    return None


def _suppression(case: _DecisionInput) -> Finding | None:
    if case.facts.rules and consent.suppressed(case.facts.rules, _is_marketing(case), case.now):
        return Finding("suppression", Outcome.REJECT, Reason.SUPPRESSED)
    return None


def _opt_out(case: _DecisionInput) -> Finding | None:
    scopes = (case.request.brand_scope, case.request.account_scope)
    if case.facts.rules and consent.opted_out(case.facts.rules, scopes, _is_marketing(case), case.now):
        return Finding("opt_out", Outcome.REJECT, Reason.OPTED_OUT)
    return None


def _consent(case: _DecisionInput) -> Finding | None:
    found = consent.consent(case.facts.rules, case.request.brand_scope, case.now)
    if found is _GRANTED:
        return None
    revoked = found is _REVOKED
    return Finding("consent", Outcome.REJECT, Reason.CONSENT_REVOKED if revoked else Reason.CONSENT_MISSING)


def _breaker(case: _DecisionInput) -> Finding | None:
    held, request = case.rules.held, case.request
    if held and not held.isdisjoint(
        (consent.GLOBAL_SCOPE, request.account_scope, request.brand_scope, _template(request))
    ):
        return Finding("breaker", Outcome.HOLD, Reason.BREAKER_OPEN)
    return None


def _restored(case: _DecisionInput) -> Finding | None:
    accepted_at = case.request.accepted_at
    if accepted_at and accepted_at < case.rules.restored:
        return Finding("restored", Outcome.HOLD, Reason.RESTORED)
    return None


def _template_pulled(case: _DecisionInput) -> Finding | None:
    template = case.request.template_scope
    if template != _NO_SCOPE and template in case.rules.pulled:
        return Finding("template_pulled", Outcome.REJECT, Reason.CONTENT_REFUSED)
    return None


def _content(case: _DecisionInput) -> Finding | None:
    fault = content.fault(case.request.segments, case.rules.max_segments)
    return None if fault is None else Finding(fault, Outcome.REJECT, Reason.CONTENT_REFUSED)


def _frequency(case: _DecisionInput) -> Finding | None:
    if not case.room_at:
        return None
    # A late one-time password is of no use, and only refusal stops the bombing.
    late = case.request.category is _OTP or case.room_at >= case.expires
    return Finding("frequency", Outcome.REJECT if late else Outcome.DEFER, Reason.FREQUENCY_CAP, case.room_at)


def _expiry(case: _DecisionInput) -> Finding | None:
    if case.expires <= case.start:
        return Finding("expiry", Outcome.REJECT, Reason.EXPIRED)
    return None


def _schedule(case: _DecisionInput) -> Finding | None:
    if case.request.send_at > case.now:
        return Finding("send_at", Outcome.DEFER, Reason.SCHEDULED, case.request.send_at)
    return None


def _quiet_hours(case: _DecisionInput) -> Finding | None:
    if case.window is None:
        return Finding("zone", Outcome.REJECT, Reason.ZONE_UNKNOWN)
    opens = case.window.opens
    if opens <= case.start:
        return None
    on_quiet = case.request.on_quiet or case.rules.on_quiet
    if on_quiet == "reject" or opens >= case.expires:
        return Finding("quiet_hours", Outcome.REJECT, Reason.QUIET_HOURS)
    return Finding("quiet_hours", Outcome.DEFER, Reason.QUIET_HOURS, opens)


def _route(case: _DecisionInput) -> Finding | None:
    return None if case.request.route else Finding("route", Outcome.REJECT, Reason.NO_ROUTE)


def _is_marketing(case: _DecisionInput) -> bool:
    return case.request.category is _MARKETING


def _template(request: Request) -> bytes:
    return request.template_scope if request.template_scope != _NO_SCOPE else request.account_scope


Rule = Callable[[_DecisionInput], Finding | None]
_FOR_ALL: tuple[Rule, ...] = (_suppression, _opt_out, _restored, _content, _frequency, _expiry, _schedule, _route)

RULES: ByCategory[tuple[Rule, ...]] = by_category(
    otp=_FOR_ALL,
    transactional=(
        _suppression,
        _opt_out,
        _restored,
        _template_pulled,
        _content,
        _frequency,
        _expiry,
        _schedule,
        _route,
    ),
    marketing=(
        _suppression,
        _opt_out,
        _consent,
        _restored,
        _breaker,
        _template_pulled,
        _content,
        _frequency,
        _expiry,
        _quiet_hours,
        _schedule,
        _route,
    ),
    emergency=(_category, *_FOR_ALL),
)
"""The rules that apply to a category, in the order of reporting."""
