"""Which carriers take a message: the longest prefix, then the most conditions, then the order written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.model import Category


class Route(NamedTuple):
    """One route. ``carriers`` is the order of preference; what does not matter is left empty."""

    name: str  # of its lanes in the store
    carriers: tuple[str, ...]
    prefix: str = ""  # digits the number starts with
    country: str = ""  # ISO alpha-2 of the number
    sender: str = ""  # as the app wrote it; a * at the end stands for anything
    category: Category | None = None
    account: str = ""
    weights: tuple[int, ...] = ()  # shares of the carriers; empty = preference
    overflow: bool = False  # a later carrier takes when the earlier are saturated, not only when they are down

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
    """All routes, ready for look-up.

    A weighted route becomes one route per carrier, each with its own lanes (``name@carrier``) and that carrier first;
    ``match`` shares messages out by their key. So dispatch knows only orders of preference, and a message keeps its
    carrier however often it is decided again.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes: tuple[Route, ...] = tuple(lane for route in routes for lane in _lanes(route))
        self._shares = {route: tuple(_lanes(route)) for route in routes if route.weights}
        self._by_prefix: dict[str, list[Route]] = {}
        for route in routes:
            self._by_prefix.setdefault(route.prefix, []).append(route)
        for same in self._by_prefix.values():
            same.sort(key=lambda route: -route.conditions)  # stable: the order written decides among equals
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}, reverse=True))

    def match(  # noqa: PLR0917  # by position: called once a message
        self, digits: str, region: str, sender: str, category: Category, account: str, key: bytes = b""
    ) -> Route | None:
        """The route of a message, or None. ``key`` (its id, say) chooses among weighted carriers."""
        for length in self._lengths:
            for route in self._by_prefix.get(digits[:length], ()):
                if route.takes(region, sender, category, account):
                    return self._share(route, key) if route.weights else route
        return None

    def _share(self, route: Route, key: bytes) -> Route:
        lanes = self._shares[route]
        at = int.from_bytes(key[-8:], "big") * 0x9E3779B97F4A7C15 % (1 << 64) * sum(route.weights) >> 64
        for lane, weight in zip(lanes, (weight for weight in route.weights if weight), strict=True):
            at -= weight
            if at < 0:
                return lane
        return lanes[-1]

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __repr__(self) -> str:
        return "<RouteTable " + ", ".join(f"{route.name}: {'>'.join(route.carriers)}" for route in self.routes) + ">"


def _lanes(route: Route) -> Iterable[Route]:
    """The routes a route stands for: itself, or one per carrier that has a share."""
    if not route.weights:
        return (route,)
    return tuple(
        route._replace(name=f"{route.name}@{first}", carriers=_first(first, route.carriers), weights=())
        for first, weight in zip(route.carriers, route.weights, strict=True)
        if weight
    )


def _first(first: str, carriers: tuple[str, ...]) -> tuple[str, ...]:
    return (first, *(carrier for carrier in carriers if carrier != first))


def _matches(pattern: str, sender: str) -> bool:
    return sender.startswith(pattern[:-1]) if pattern.endswith("*") else sender == pattern
