from __future__ import annotations

from gateway.carriers.lanes import (
    DOWN_AFTER,
    SATURATED_AFTER,
    SLACK,
    CarrierHealth,
    CarrierLanes,
    RouteShares,
    last_place,
)
from gateway.config import Route
from gateway.model import Priority

PREFERENCE = Route(carriers=("a", "b", "c"))
OVERFLOW = Route(to="+46", carriers=("a", "b"), overflow=True)
SHARED = Route(to="+1", carriers=("a", "b"), weights=(3, 1))


def board_of(*up: str) -> CarrierHealth:
    health = CarrierHealth(["a", "b", "c"], 0.0)
    for carrier in up:
        health.set_up(carrier, True, 0.0)
    return health


def places(carrier: str, route: Route, health: CarrierHealth, now: float) -> list[int]:
    return [lane.place for lane in CarrierLanes(carrier, [route], health, {}).now(now) if lane.priority is Priority.OTP]


def test_each_carrier_serves_its_own_place() -> None:
    health = board_of("a", "b", "c")
    assert [places(carrier, PREFERENCE, health, 100.0) for carrier in "abc"] == [[0], [1], [2]]


def test_a_later_carrier_takes_over_while_the_earlier_are_down() -> None:
    health = board_of("b", "c")
    assert places("b", PREFERENCE, health, DOWN_AFTER - 0.1) == [1]
    assert places("b", PREFERENCE, health, DOWN_AFTER) == [1, 0]
    assert places("c", PREFERENCE, health, DOWN_AFTER) == [2]
    health.set_up("b", False, 10.0)
    assert places("c", PREFERENCE, health, 10.0 + DOWN_AFTER) == [2, 1, 0]
    health.set_up("a", True, 20.0)
    assert places("c", PREFERENCE, health, 20.0) == [2, 1]


def test_overflow_helps_a_saturated_carrier() -> None:
    health = board_of("a", "b", "c")
    health.set_full("a", True, 1.0)
    assert places("b", OVERFLOW, health, 1.0 + SATURATED_AFTER) == [1, 0]
    assert places("b", PREFERENCE, health, 1.0 + SATURATED_AFTER) == [1]
    health.set_full("a", False, 2.0)
    assert places("b", OVERFLOW, health, 9.0) == [1]


def test_lanes_come_by_priority_first() -> None:
    lanes = CarrierLanes("a", [PREFERENCE, OVERFLOW], board_of("a", "b", "c"), {}).now(0.0)
    assert [(lane.route, lane.priority) for lane in lanes[:3]] == [
        ("*", Priority.OTP),
        ("+46", Priority.OTP),
        ("*", Priority.TRANSACTIONAL),
    ]


def test_weights_share() -> None:
    health = board_of("a", "b")
    shares: dict[str, RouteShares] = {}
    lanes = {carrier: CarrierLanes(carrier, [SHARED], health, shares) for carrier in "ab"}
    sent = {"a": 0, "b": 0}
    for _ in range(4000):
        for carrier in "ab":
            if lanes[carrier].now(0.0):
                lanes[carrier].taken({"+1": 10})
                sent[carrier] += 10
    assert abs(sent["a"] / sent["b"] - 3) < 0.1


def test_weights_do_not_wait_for_a_carrier_that_is_down() -> None:
    health = board_of("a")
    lanes = CarrierLanes("a", [SHARED], health, {})
    lanes.taken({"+1": 10 * SLACK})
    assert lanes.now(DOWN_AFTER - 0.1) == ()
    assert lanes.now(DOWN_AFTER)


def test_a_carrier_that_was_down_does_not_catch_up() -> None:
    health = board_of("a", "b")
    shares: dict[str, RouteShares] = {}
    a, b = (CarrierLanes(carrier, [SHARED], health, shares) for carrier in "ab")
    health.set_up("b", False, 0.0)
    a.taken({"+1": 1_000_000})
    assert a.now(50.0)
    health.set_up("b", True, 100.0)
    assert b.now(100.0)
    b.taken({"+1": 3 * SLACK})
    assert a.now(100.0)


def test_the_last_place() -> None:
    assert [last_place(PREFERENCE, carrier) for carrier in "abc"] == [2, 2, 0]
    lanes = CarrierLanes("c", [PREFERENCE], board_of("c"), {})
    assert lanes.last("*", 0)
    assert not CarrierLanes("a", [PREFERENCE], board_of("a"), {}).last("*", 0)
    assert lanes.last("gone from the configuration", 0)


def test_weights_do_not_wait_for_a_carrier_that_only_other_gateways_have() -> None:
    """Each of two gateways has one carrier of a shared route: both go on, or nothing would be sent at all."""
    for mine, others in ("ab", "ba"):
        health = board_of("a", "b")
        lanes = CarrierLanes(mine, [SHARED], health, {})
        lanes.taken({SHARED.lane: 100 * SLACK})
        assert not lanes.now(100.0)
        health.set_away(others, True)
        assert (health.away(others), health.down(others, 100.0)) == (True, False)
        assert lanes.now(100.0)
