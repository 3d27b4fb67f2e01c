"""What intake and fresh decisions decide by: rulebook, routes and the rights of accounts. A reload sets new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config import Account
from gateway.config.addresses import AddressGuard
from gateway.intake.coding import NO_DEMAND, RouteDemand
from gateway.intake.submission import AccountRights, template_scope
from gateway.model import Category, Outcome, Permission, Reason, State, Verdict
from gateway.policy.decide import Rulebook
from gateway.policy.numbers import describe
from gateway.policy.route import RouteTable
from gateway.store.keys import Hasher
from gateway.store.records import MessageRecord, TimelineStep

_STATES = {Outcome.ALLOW: State.QUEUED, Outcome.HOLD: State.HELD, Outcome.REJECT: State.REJECTED}


class PolicyContext:
    """Whoever starts a batch uses the desk as it is then; every attribute is replaced whole."""

    def __init__(
        self,
        accounts: Iterable[Account],
        rules: Rulebook,
        routes: RouteTable,
        hasher: Hasher,
        networks: Iterable[str] = (),
    ) -> None:
        self.hasher = hasher
        self.rules = rules
        self.routes = routes
        self.demands: Mapping[str, RouteDemand] = {}
        self.rights: dict[str, AccountRights] = {}
        self.velocity = False  # some account has limits of its own by destination
        self.set_accounts(accounts, networks)

    def __repr__(self) -> str:
        return f"<PolicyContext rules {self.rules.version} epoch {self.rules.epoch}, {len(self.rights)} accounts>"

    def set_accounts(self, accounts: Iterable[Account], networks: Iterable[str] = ()) -> None:
        """The accounts of a (new) configuration, and the private networks that have receivers of events."""
        guard = AddressGuard(networks)
        self.rights = {account.name: AccountRights(account, self.hasher, guard) for account in accounts}
        self.velocity = any(rights.velocity for rights in self.rights.values())

    def scopes(self, account: str, brand: str) -> tuple[bytes, bytes]:
        """Account scope and brand scope, also of an account that the configuration no longer has."""
        rights = self.rights.get(account)
        if rights is not None and brand in rights.brand_scopes:
            return rights.account_scope, rights.brand_scopes[brand]
        return self.hasher.scope(account), self.hasher.scope(account, brand)

    def template_scope(self, account: str, template: str) -> bytes:
        """The scope of a template, eight zero octets when the message was made from none."""
        return template_scope(self.hasher, account, template) if template else bytes(8)

    def route(self, digits: str, sender: str, category: Category, account: str, region: str | None = None) -> str:
        """The lane that leads to a destination, "" when no route does. ``region``: of the number, where it is known."""
        if region is None:
            region = describe(digits).region
        found = self.routes.match(digits, region, sender, category, account)
        return "" if found is None else found.lane

    def demand(self, lane: str) -> RouteDemand:
        """What the carrier that a lane leads to first asks of a message."""
        return self.demands.get(lane, NO_DEMAND)

    def has_lane(self, lane: str) -> bool:
        """Whether a route of this name (still) exists."""
        return any(route.lane == lane for route in self.routes.routes)


def state_of(verdict: Verdict) -> State:
    """Where a message goes after this verdict."""
    if verdict.outcome is Outcome.DEFER:
        return State.SCHEDULED if verdict.code is Reason.SCHEDULED else State.DEFERRED
    return _STATES[verdict.outcome]


_NO_PERMISSION = Permission(0, 0, 0, 0, bytes(8), bytes(8))
_OUTCOMES = {
    State.SCHEDULED: Outcome.DEFER,
    State.DEFERRED: Outcome.DEFER,
    State.HELD: Outcome.HOLD,
    State.REJECTED: Outcome.REJECT,
}


def verdict_of(record: MessageRecord) -> Verdict:
    """What policy says of a stored message: its latest word where that holds it up, else what it said at the door.

    For reading; it permits nothing.
    """
    state, code, step = record.state, record.reason, record.timeline[-1] if record.timeline else None
    if (state not in _OUTCOMES or code > Reason.SCHEDULED) and record.timeline:
        step = record.timeline[0]
        state, code = step.state, step.reason
    next_at = record.due if record.state in {State.SCHEDULED, State.DEFERRED} else 0
    rules, zones, version = said_with(step, record)
    return Verdict(_OUTCOMES.get(state, Outcome.ALLOW), code, _NO_PERMISSION, next_at, rules, zones, version)


GATE_RULES = {
    Reason.OPTED_OUT: ("opt_out:reject",),
    Reason.CONSENT_MISSING: ("consent:reject",),
    Reason.CONSENT_REVOKED: ("consent:reject",),
    Reason.CONTENT_REFUSED: ("template_pulled:reject",),
}
"""What the gate refuses by itself, in the moment before a message would leave."""


def said_with(step: TimelineStep | None, record: MessageRecord) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Rules, zones and policy version of the decision that made a step; none is the first."""
    e = record.envelope
    if step is None or step.decision is None:
        if step is not None and step is not record.timeline[0]:
            return GATE_RULES.get(step.reason, ()), (), ""
        return tuple(e.rules), tuple(e.zones), e.policy_version
    rules, zones, version = step.decision.rules, step.decision.zones, step.decision.policy_version
    return (
        tuple(e.rules) if rules is None else rules,
        tuple(e.zones) if zones is None else zones,
        e.policy_version if version is None else version,
    )
