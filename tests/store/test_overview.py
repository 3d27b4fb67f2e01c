"""What operators see of the lanes and of held messages, on a real server whose clock belongs to the test."""

from __future__ import annotations

from gateway.model import State
from gateway.store.overview import HeldMessages, StoreOverview, WaitingMessages
from tests.store.message_driver import BRAND, SCOPE, MessageDriver


def overview(driver: MessageDriver) -> StoreOverview:
    return StoreOverview(driver.link, driver.store.partitions)


def test_an_empty_store_says_so(driver: MessageDriver) -> None:
    view = driver.run(overview(driver).lanes())
    assert (view.lanes, view.oldest_held, view.age(0)) == ((), 0, 0.0)
    assert driver.run(overview(driver).held()) == []


def test_lanes_with_depth_and_age_of_the_oldest(driver: MessageDriver) -> None:
    first = driver.now
    old = [driver.message(f"4670000000{n}") for n in range(4)]
    driver.accept(*old)
    driver.later(5000)
    driver.accept(*(driver.message(f"4670000001{n}", account="other") for n in range(3)))
    driver.accept(driver.message(state=State.DEFERRED, due=driver.now + 60_000))
    view = driver.run(overview(driver).lanes())
    (lane,) = view.lanes
    assert (lane.name, lane.ready, lane.delayed, lane.next_due) == ("north#0:1", 7, 1, driver.now + 60_000)
    assert sorted(lane.accounts) == [WaitingMessages("other", 3, first + 5000), WaitingMessages("shop", 4, first)]
    assert view.age(lane.oldest) == 5.0
    driver.run(driver.store.cancel([message.id for message in old]))  # they lie there until a take skips them
    (lane,) = driver.run(overview(driver).lanes()).lanes
    assert (lane.oldest, lane.ready) == (first + 5000, 7)


def test_behind_many_that_are_gone_the_age_is_that_of_the_last_looked_at(driver: MessageDriver) -> None:
    messages = [driver.message(f"467{n:08}") for n in range(120)]
    driver.accept(*messages)
    driver.run(driver.store.cancel([message.id for message in messages[:-1]]))
    (lane,) = driver.run(overview(driver).lanes()).lanes
    assert lane.oldest == driver.now


def test_held_messages_are_counted_by_account_and_brand(driver: MessageDriver) -> None:
    first = driver.now
    held = {"state": State.HELD, "category": 2}
    driver.accept(*(driver.message(f"467{n:08}", **held) for n in range(1200)))
    driver.later(1000)
    other = driver.permission()
    driver.accept(driver.message("46711111111", account="other", permission=other, **held))
    assert driver.run(overview(driver).held()) == [
        HeldMessages("other", SCOPE, BRAND, 1, first + 1000),
        HeldMessages("shop", SCOPE, BRAND, 1200, first),
    ]
    assert driver.run(overview(driver).lanes()).oldest_held == first
    assert driver.run(driver.store.release(scope=BRAND)) == 1201
    assert driver.run(overview(driver).held()) == []
