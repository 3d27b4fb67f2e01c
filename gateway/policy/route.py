"""Which route a message takes: the longest prefix, then the most conditions, then the order written.

A route is found once, when the message is accepted; which of its carriers sends is dispatch's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.model import Category


class RouteConditions(NamedTuple):
    """The conditions of one route; what does not matter is left empty."""

    lane: str  # the route's name in the store
    prefix: str = ""  # digits the number starts with
    country: str = ""  # ISO alpha-2 of the number
    sender: str = ""  # as the app wrote it; a * at the end stands for anything
    category: Category | None = None
    account: str = ""

    @property
    def conditions(self) -> int:
        """How particular it is, beside its prefix."""
        return sum((bool(self.country), bool(self.sender), self.category is not None, bool(self.account)))

    def takes(self, region: str, sender: str, category: Category, account: str) -> bool:
        """Whether all conditions but the prefix hold."""
        return (
            (not self.account or self.account == account)
            and (self.category is None or self.category == category)
            and (not self.country or self.country == region)
            and (not self.sender or _matches(self.sender, sender))
        )


class RouteTable:
    """All routes, ready for look-up."""

    def __init__(self, routes: Sequence[RouteConditions]) -> None:
        self.routes = tuple(routes)
        self._by_prefix: dict[str, list[RouteConditions]] = {}
        for route in routes:
            self._by_prefix.setdefault(route.prefix, []).append(route)
        for same in self._by_prefix.values():
            same.sort(key=lambda route: -route.conditions)  # stable: the order written decides among equals
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}, reverse=True))

    def match(self, digits: str, region: str, sender: str, category: Category, account: str) -> RouteConditions | None:
        """The route of a message, or None when none takes it."""
        for length in self._lengths:
            for route in self._by_prefix.get(digits[:length], ()):
                if route.takes(region, sender, category, account):
                    return route
        return None

    def __repr__(self) -> str:
        return f"<RouteTable {' '.join(route.lane for route in self.routes)}>"


def _matches(pattern: str, sender: str) -> bool:
    return sender.startswith(pattern[:-1]) if pattern.endswith("*") else sender == pattern
