from __future__ import annotations

from gateway.config import Route
from gateway.model import Priority
from gateway.pipeline.lanes import DOWN_AFTER, SATURATED_AFTER, SLACK, Board, Lanes, Shares, last_place

PREFERENCE = Route(carriers=("a", "b", "c"))
OVERFLOW = Route(to="+46", carriers=("a", "b"), overflow=True)
SHARED = Route(to="+1", carriers=("a", "b"), weights=(3, 1))


def board_of(*up: str) -> Board:
    board = Board(["a", "b", "c"], 0.0)
    for carrier in up:
        board.set_up(carrier, True, 0.0)
    return board


def places(carrier: str, route: Route, board: Board, now: float) -> list[int]:
    return [lane.place for lane in Lanes(carrier, [route], board, {}).now(now) if lane.priority is Priority.OTP]


def test_each_carrier_serves_its_own_place() -> None:
    board = board_of("a", "b", "c")
    assert [places(carrier, PREFERENCE, board, 100.0) for carrier in "abc"] == [[0], [1], [2]]


def test_a_later_carrier_takes_over_while_the_earlier_are_down() -> None:
    board = board_of("b", "c")
    assert places("b", PREFERENCE, board, DOWN_AFTER - 0.1) == [1]
    assert places("b", PREFERENCE, board, DOWN_AFTER) == [1, 0]
    assert places("c", PREFERENCE, board, DOWN_AFTER) == [2]
    board.set_up("b", False, 10.0)
    assert places("c", PREFERENCE, board, 10.0 + DOWN_AFTER) == [2, 1, 0]
    board.set_up("a", True, 20.0)
    assert places("c", PREFERENCE, board, 20.0) == [2, 1]


def test_overflow_helps_a_saturated_carrier() -> None:
    board = board_of("a", "b", "c")
    board.set_full("a", True, 1.0)
    assert places("b", OVERFLOW, board, 1.0 + SATURATED_AFTER) == [1, 0]
    assert places("b", PREFERENCE, board, 1.0 + SATURATED_AFTER) == [1]
    board.set_full("a", False, 2.0)
    assert places("b", OVERFLOW, board, 9.0) == [1]


def test_lanes_come_by_priority_first() -> None:
    lanes = Lanes("a", [PREFERENCE, OVERFLOW], board_of("a", "b", "c"), {}).now(0.0)
    assert [(lane.route, lane.priority) for lane in lanes[:3]] == [
        ("*", Priority.OTP),
        ("+46", Priority.OTP),
        ("*", Priority.TRANSACTIONAL),
    ]


def test_weights_share() -> None:
    board = board_of("a", "b")
    shares: dict[str, Shares] = {}
    lanes = {carrier: Lanes(carrier, [SHARED], board, shares) for carrier in "ab"}
    sent = {"a": 0, "b": 0}
    for _ in range(4000):
        for carrier in "ab":
            if lanes[carrier].now(0.0):
                lanes[carrier].taken({"+1": 10})
                sent[carrier] += 10
    assert abs(sent["a"] / sent["b"] - 3) < 0.1


def test_weights_do_not_wait_for_a_carrier_that_is_down() -> None:
    board = board_of("a")
    lanes = Lanes("a", [SHARED], board, {})
    lanes.taken({"+1": 10 * SLACK})
    assert lanes.now(DOWN_AFTER - 0.1) == ()
    assert lanes.now(DOWN_AFTER)


def test_a_carrier_that_was_down_does_not_get_it_all_back() -> None:
    board = board_of("a", "b")
    shares: dict[str, Shares] = {}
    a, b = (Lanes(carrier, [SHARED], board, shares) for carrier in "ab")
    board.set_up("b", False, 0.0)
    a.taken({"+1": 1_000_000})
    assert a.now(50.0)
    board.set_up("b", True, 100.0)
    assert b.now(100.0)
    b.taken({"+1": 3 * SLACK})
    assert a.now(100.0)


def test_the_last_place() -> None:
    assert [last_place(PREFERENCE, carrier) for carrier in "abc"] == [2, 2, 0]
    lanes = Lanes("c", [PREFERENCE], board_of("c"), {})
    assert lanes.last("*", 0)
    assert not Lanes("a", [PREFERENCE], board_of("a"), {}).last("*", 0)
    assert lanes.last("gone from the configuration", 0)


def test_weights_do_not_wait_for_a_carrier_that_only_other_gateways_have() -> None:
    """Each of two gateways has one carrier of a shared route: both go on, or nothing would be sent at all."""
    for mine, others in ("ab", "ba"):
        board = board_of("a", "b")
        lanes = Lanes(mine, [SHARED], board, {})
        lanes.taken({SHARED.lane: 100 * SLACK})
        assert not lanes.now(100.0)
        board.set_away(others, True)
        assert (board.away(others), board.down(others, 100.0)) == (True, False)
        assert lanes.now(100.0)
