"""Decides which lanes a carrier serves now. A lane is a route, a place (how many of its carriers were tried) and a
priority.

A route's carriers are an order of preference: the lane of place k belongs to carrier k, and a later carrier takes from
it only while every carrier in between is down (or, with ``overflow``, saturated). With ``weights`` all carriers share
every lane of the route, each as far as its share of the messages goes. Nothing is ever moved between lanes for this:
a carrier that is down simply does not take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.model import Priority
from gateway.store.requests import Lane

if TYPE_CHECKING:
    from gateway.config import Route

DOWN_AFTER = 3.0
"""Seconds without a bind before later carriers take over: a bind that is lost and made again must not move traffic."""

SATURATED_AFTER = 1.0
"""Seconds without room before ``overflow`` lets the next carrier help."""

SLACK = 64
"""With ``weights``: messages per unit of weight that a carrier may be ahead of the others."""


class CarrierHealth:
    """What is known of every carrier: since when it has no bind, since when no room, whether it is sick.

    Shared by all dispatchers.
    """

    __slots__ = ("_away", "_down", "_full", "_sick")

    def __init__(self, carriers: Sequence[str], now: float) -> None:
        self._down: dict[str, float] = dict.fromkeys(carriers, now)
        self._full: dict[str, float] = {}
        self._away: set[str] = set()
        self._sick: set[str] = set()

    def set_up(self, carrier: str, up: bool, now: float) -> None:
        """Set whether ``carrier`` has a bind that takes messages."""
        if up:
            self._down.pop(carrier, None)
        else:
            self._down.setdefault(carrier, now)

    def set_away(self, carrier: str, away: bool) -> None:
        """Set whether only other gateways have binds of ``carrier`` up: it is not down, and nothing is sent here."""
        (self._away.add if away else self._away.discard)(carrier)

    def set_sick(self, carrier: str, sick: bool) -> None:
        """Set whether ``carrier`` answers nothing: then later carriers take over at once."""
        (self._sick.add if sick else self._sick.discard)(carrier)

    def set_full(self, carrier: str, full: bool, now: float) -> None:
        """Set whether ``carrier`` has neither window nor permits left."""
        if full:
            self._full.setdefault(carrier, now)
        else:
            self._full.pop(carrier, None)

    def down(self, carrier: str, now: float) -> bool:
        """Whether ``carrier`` answers nothing, or has been without a bind long enough for others to take over."""
        if carrier in self._sick:
            return True
        since = self._down.get(carrier)
        return since is not None and now - since >= DOWN_AFTER

    def away(self, carrier: str) -> bool:
        """Whether other gateways alone send by ``carrier``."""
        return carrier in self._away

    def saturated(self, carrier: str, now: float) -> bool:
        """Whether ``carrier`` has been without room long enough for others to help."""
        since = self._full.get(carrier)
        return since is not None and now - since >= SATURATED_AFTER


class RouteShares:
    """How many messages each carrier of a weighted route has taken, relative to its weight."""

    __slots__ = ("_taken", "_weights")

    def __init__(self, carriers: Sequence[str], weights: Sequence[int]) -> None:
        self._weights = dict(zip(carriers, weights, strict=True))
        self._taken = dict.fromkeys(self._weights, 0.0)

    def add(self, carrier: str, count: int) -> None:
        """Count messages that ``carrier`` took."""
        weight = self._weights.get(carrier)
        if weight:
            self._taken[carrier] += count / weight

    def ahead(self, carrier: str, others: Sequence[str]) -> bool:
        """Whether ``carrier`` has had its share and must wait for ``others`` (those that can take)."""
        rivals = [self._taken[other] for other in others if other != carrier and self._weights[other]]
        return bool(rivals) and self._taken[carrier] > min(rivals) + SLACK

    def excuse(self, absent: Sequence[str], able: Sequence[str]) -> None:
        """Bring carriers that cannot take now level with the others, so that they do not catch up later."""
        least = min((self._taken[carrier] for carrier in able), default=0.0)
        for carrier in absent:
            self._taken[carrier] = max(self._taken[carrier], least)


class CarrierLanes:
    """The lanes that one carrier serves."""

    __slots__ = ("_carrier", "_health", "_mine", "_places", "_shares")

    def __init__(
        self, carrier: str, routes: Sequence[Route], health: CarrierHealth, shares: dict[str, RouteShares]
    ) -> None:
        self._carrier = carrier
        self._health = health
        self._shares = shares  # by route; one dictionary for all dispatchers
        self.set_routes(routes)

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Serve the routes of a (new) configuration from now on."""
        self._mine = [route for route in routes if self._carrier in route.carriers]
        self._places = {route.lane: last_place(route, self._carrier) for route in self._mine}
        for route in self._mine:
            if route.weights:
                self._shares.setdefault(route.lane, RouteShares(route.carriers, route.weights))

    def now(self, now: float) -> tuple[Lane, ...]:
        """Return the lanes to take from at this instant: one-time passwords of all routes first, then by priority."""
        served = [(route.lane, place) for route in self._mine for place in self._serves(route, now)]
        return tuple(Lane(name, place, priority) for priority in Priority for name, place in served)

    def fresh(self, route: str, now: float) -> bool:
        """Whether this carrier takes messages of ``route`` that no carrier has had yet."""
        return any(one.lane == route and 0 in self._serves(one, now) for one in self._mine)

    def last(self, route: str, place: int) -> bool:
        """Whether a message of ``route`` that this carrier refuses at ``place`` has no further carrier to go to."""
        return place >= self._places.get(route, 0)

    def taken(self, counts: dict[str, int]) -> None:
        """Count the messages taken of each route, for the weights."""
        for route, count in counts.items():
            shares = self._shares.get(route)
            if shares is not None:
                shares.add(self._carrier, count)

    def _serves(self, route: Route, now: float) -> list[int]:
        """Return the places of ``route`` whose lanes this carrier serves now."""
        if route.weights:
            return self._shared(route, now)
        mine = route.carriers.index(self._carrier)
        places = [mine]
        for place in range(mine - 1, -1, -1):
            other = route.carriers[place]
            if not (self._health.down(other, now) or (route.overflow and self._health.saturated(other, now))):
                break
            places.append(place)
        return places

    def _shared(self, route: Route, now: float) -> list[int]:
        if not route.weights[route.carriers.index(self._carrier)]:
            return []
        health = self._health
        absent = [
            other
            for other in route.carriers
            if health.down(other, now) or health.saturated(other, now) or health.away(other)
        ]
        able = [other for other in route.carriers if other not in absent]
        shares = self._shares[route.lane]
        shares.excuse(absent, able)
        if shares.ahead(self._carrier, able):
            return []
        return list(range(_shared_places(route)))


def lanes_of(route: Route) -> list[str]:
    """Return the names, as in the store, of all lanes of a route that one of its carriers may serve.

    The second kind holds messages of which a carrier has accepted a part: no other carrier may send the rest.
    """
    if route.weights:
        places, carriers = _shared_places(route), [c for c, w in zip(route.carriers, route.weights, strict=True) if w]
    else:
        places, carriers = len(route.carriers), list(route.carriers)
    return [
        name
        for priority in Priority
        for name in (
            *(Lane(route.lane, place, priority).name for place in range(places)),
            *(f"{route.lane}@{carrier}:{int(priority)}" for carrier in carriers),
        )
    ]


def last_place(route: Route, carrier: str) -> int:
    """Return the place from which a refusal by ``carrier`` is final.

    In order of preference that is the carrier's own place if no other follows. Where carriers share, any of them may
    have taken any place, so each gets another chance before the route is exhausted.
    """
    if route.weights:
        return _shared_places(route) - 1
    mine = route.carriers.index(carrier)
    return len(route.carriers) - 1 if mine < len(route.carriers) - 1 else 0


def _shared_places(route: Route) -> int:
    carriers = sum(1 for weight in route.weights if weight)
    return 1 if carriers < 2 else 2 * carriers
