"""The server's clock is set an hour back or forth: nothing is lost, sent twice or delayed by it."""

from __future__ import annotations

import pytest

from gateway.model import OnUnknown, Reason, ReceiptMatch, State
from gateway.store.owner import LeaseOwner
from tests.store.message_driver import HOUR, OWNER, MessageDriver

DAY = 24 * HOUR


@pytest.mark.parametrize("steps", [(-HOUR, HOUR), (HOUR, -HOUR), (-HOUR, -HOUR)])
def test_clock_changes_lose_and_duplicate_no_message(driver: MessageDriver, steps: tuple[int, int]) -> None:
    wide = driver.permission(opens=0, closes=driver.now + DAY, expires=driver.now + DAY)
    first, second = driver.message(permission=wide), driver.message(permission=wide)
    driver.accept(first)
    driver.later(steps[0])
    assert driver.accept(first, second) == [(first.id, False), (second.id, True)]
    leased = driver.take().leased
    assert {one.id for one in leased} == {first.id, second.id}
    driver.later(steps[1])
    assert driver.take().leased == []
    driver.report(*[driver.sent(one, one.id[-6:]) for one in leased])
    driver.sweep()
    for one in leased:
        assert driver.report(receipts=[driver.receipt(one.recipient, one.id[-6:])]) == [ReceiptMatch.APPLIED]
        assert driver.record(one).state is State.DELIVERED
    assert [event.final for event in driver.new_events()].count(True) == 2


def test_a_reference_of_tomorrow_is_known_today(driver: MessageDriver) -> None:
    """The clock was ahead, over midnight, and is set right."""
    driver.set_clock(driver.now // DAY * DAY + DAY + 1000)
    first = driver.message(reference=b"r" * 16)
    driver.accept(first)
    driver.later(-HOUR)
    assert driver.accept(driver.message(reference=b"r" * 16)) == [(first.id, False)]
    assert driver.run(driver.store.by_reference(first.recipient, b"r" * 16)) == first.id


def test_an_owner_that_died_before_the_clock_was_set_back_is_soon_dead(driver: MessageDriver) -> None:
    wide = driver.permission(opens=0, closes=driver.now + DAY, expires=driver.now + DAY)
    message = driver.message(permission=wide, on_unknown=OnUnknown.RESEND)
    driver.accept(message)
    driver.take()
    driver.later(-HOUR)
    other = LeaseOwner("other", "one")
    assert driver.run(driver.store.reclaim(OWNER, other)).alive
    driver.later(10_000)
    assert driver.run(driver.store.reclaim(OWNER, other)).queued == 1
    assert driver.record(message).reason is Reason.RESEND
