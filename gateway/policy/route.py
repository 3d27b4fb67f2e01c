"""The route of a message: by longest prefix, then most conditions, then order in the configuration.

A route is chosen once, when the message is accepted; the dispatcher chooses among its carriers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.model import Category


class RouteConditions(NamedTuple):
    """The conditions of one route; empty means any."""

    lane: str  # the route's name in the store
    prefix: str = ""  # leading digits of the number
    country: str = ""  # ISO alpha-2 of the number
    sender: str = ""  # as the app wrote it; a trailing * matches anything
    category: Category | None = None
    account: str = ""

    @property
    def conditions(self) -> int:
        """Number of conditions beside the prefix."""
        return sum((bool(self.country), bool(self.sender), self.category is not None, bool(self.account)))

    def matches(self, region: str, sender: str, category: Category, account: str) -> bool:
        """Whether all conditions but the prefix match."""
        return (
            (not self.account or self.account == account)
            and (self.category is None or self.category == category)
            and (not self.country or self.country == region)
            and (not self.sender or _matches(self.sender, sender))
        )


class RouteTable:
    """All routes, indexed by prefix."""

    def __init__(self, routes: Sequence[RouteConditions]) -> None:
        self.routes = tuple(routes)
        self._by_prefix: dict[str, list[RouteConditions]] = {}
        for route in routes:
            self._by_prefix.setdefault(route.prefix, []).append(route)
        for same in self._by_prefix.values():
            same.sort(key=lambda route: -route.conditions)  # stable: configured order decides among equals
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}, reverse=True))

    def match(self, digits: str, region: str, sender: str, category: Category, account: str) -> RouteConditions | None:
        """Return the route of a message, None when none matches."""
        for length in self._lengths:
            for route in self._by_prefix.get(digits[:length], ()):
                if route.matches(region, sender, category, account):
                    return route
        return None

    def __repr__(self) -> str:
        return f"<RouteTable {' '.join(route.lane for route in self.routes)}>"


def _matches(pattern: str, sender: str) -> bool:
    return sender.startswith(pattern[:-1]) if pattern.endswith("*") else sender == pattern
