"""What operators see of the lanes and of held messages, on a real server whose clock belongs to the test."""

from __future__ import annotations

from gateway.model import State
from gateway.store.overview import HeldMessages, StoreOverview, WaitingMessages
from tests.store.test_scripts import BRAND, SCOPE, Desk


def outlook(desk: Desk) -> StoreOverview:
    return StoreOverview(desk.link, desk.store.partitions)


def test_an_empty_store_says_so(desk: Desk) -> None:
    view = desk.run(outlook(desk).lanes())
    assert (view.lanes, view.oldest_held, view.age(0)) == ((), 0, 0.0)
    assert desk.run(outlook(desk).held()) == []


def test_lanes_with_depth_and_age_of_the_oldest(desk: Desk) -> None:
    first = desk.now
    old = [desk.message(f"4670000000{n}") for n in range(4)]
    desk.accept(*old)
    desk.later(5000)
    desk.accept(*(desk.message(f"4670000001{n}", account="other") for n in range(3)))
    desk.accept(desk.message(state=State.DEFERRED, due=desk.now + 60_000))
    view = desk.run(outlook(desk).lanes())
    (lane,) = view.lanes
    assert (lane.name, lane.ready, lane.delayed, lane.next_due) == ("north#0:1", 7, 1, desk.now + 60_000)
    assert sorted(lane.accounts) == [WaitingMessages("other", 3, first + 5000), WaitingMessages("shop", 4, first)]
    assert view.age(lane.oldest) == 5.0
    desk.run(desk.store.cancel([message.id for message in old]))  # they lie there until a take skips them
    (lane,) = desk.run(outlook(desk).lanes()).lanes
    assert (lane.oldest, lane.ready) == (first + 5000, 7)


def test_behind_many_that_are_gone_the_age_is_that_of_the_last_looked_at(desk: Desk) -> None:
    messages = [desk.message(f"467{n:08}") for n in range(120)]
    desk.accept(*messages)
    desk.run(desk.store.cancel([message.id for message in messages[:-1]]))
    (lane,) = desk.run(outlook(desk).lanes()).lanes
    assert lane.oldest == desk.now


def test_whose_messages_are_held(desk: Desk) -> None:
    first = desk.now
    held = {"state": State.HELD, "category": 2}
    desk.accept(*(desk.message(f"467{n:08}", **held) for n in range(1200)))
    desk.later(1000)
    other = desk.permission()
    desk.accept(desk.message("46711111111", account="other", permission=other, **held))
    assert desk.run(outlook(desk).held()) == [
        HeldMessages("other", SCOPE, BRAND, 1, first + 1000),
        HeldMessages("shop", SCOPE, BRAND, 1200, first),
    ]
    assert desk.run(outlook(desk).lanes()).oldest_held == first
    assert desk.run(desk.store.release(scope=BRAND)) == 1201
    assert desk.run(outlook(desk).held()) == []
