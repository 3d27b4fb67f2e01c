"""What decisions are made by: rulebook, routes and the rights of accounts. A reload replaces them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config import Account
from gateway.config.addresses import AddressGuard
from gateway.intake.coding import NO_DEMAND, RouteDemand
from gateway.intake.rights import AccountRights, template_scope
from gateway.model import Category, Outcome, Reason, State, Verdict
from gateway.policy.decide import Rulebook
from gateway.policy.numbers import describe
from gateway.policy.route import RouteTable
from gateway.store.keys import Hasher

_STATES = {Outcome.ALLOW: State.QUEUED, Outcome.HOLD: State.HELD, Outcome.REJECT: State.REJECTED}


class PolicyContext:
    """The rules in force. Every attribute is replaced whole, so a batch may read each as it is at that moment."""

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
        self.velocity = False  # whether an account has velocity limits of its own
        self.set_accounts(accounts, networks)

    def __repr__(self) -> str:
        return f"<PolicyContext rules {self.rules.version} epoch {self.rules.epoch}, {len(self.rights)} accounts>"

    def set_accounts(self, accounts: Iterable[Account], networks: Iterable[str] = ()) -> None:
        """Use these accounts from now on. ``networks``: private networks that events may be posted to."""
        guard = AddressGuard(networks)
        self.rights = {account.name: AccountRights(account, self.hasher, guard) for account in accounts}
        self.velocity = any(rights.velocity for rights in self.rights.values())

    def scopes(self, account: str, brand: str) -> tuple[bytes, bytes]:
        """Return account scope and brand scope, also of an account that has left the configuration."""
        rights = self.rights.get(account)
        if rights is not None and brand in rights.brand_scopes:
            return rights.account_scope, rights.brand_scopes[brand]
        return self.hasher.scope(account), self.hasher.scope(account, brand)

    def template_scope(self, account: str, template: str) -> bytes:
        """Return the scope of a template; eight zero octets for a message without one."""
        return template_scope(self.hasher, account, template) if template else bytes(8)

    def route(self, digits: str, sender: str, category: Category, account: str, region: str | None = None) -> str:
        """Return the lane to a destination, "" when no route leads there. ``region``: of the number, if known."""
        if region is None:
            region = describe(digits).region
        found = self.routes.match(digits, region, sender, category, account)
        return "" if found is None else found.lane

    def demand(self, lane: str) -> RouteDemand:
        """Return what the carrier that a lane leads to first requires of a message."""
        return self.demands.get(lane, NO_DEMAND)

    def has_lane(self, lane: str) -> bool:
        """Return whether a route of this name still exists."""
        return any(route.lane == lane for route in self.routes.routes)


def state_of(verdict: Verdict) -> State:
    """Return the state of a message after this verdict."""
    if verdict.outcome is Outcome.DEFER:
        return State.SCHEDULED if verdict.code is Reason.SCHEDULED else State.DEFERRED
    return _STATES[verdict.outcome]
