"""The server's clock is set, an hour back or forth: nothing is lost, nothing is sent twice, nobody waits for it."""

from __future__ import annotations

import pytest

from gateway.model import OnUnknown, Reason, ReceiptMatch, State
from gateway.store.owner import LeaseOwner
from tests.store.test_scripts import HOUR, OWNER, Desk

DAY = 24 * HOUR


@pytest.mark.parametrize("steps", [(-HOUR, HOUR), (HOUR, -HOUR), (-HOUR, -HOUR)])
def test_a_message_goes_its_way_once_whatever_the_clock_does(desk: Desk, steps: tuple[int, int]) -> None:
    wide = desk.permission(opens=0, closes=desk.now + DAY, expires=desk.now + DAY)
    first, second = desk.message(permission=wide), desk.message(permission=wide)
    desk.accept(first)
    desk.later(steps[0])
    assert desk.accept(first, second) == [(first.id, False), (second.id, True)]
    leased = desk.take().leased
    assert {one.id for one in leased} == {first.id, second.id}
    desk.later(steps[1])
    assert desk.take().leased == []
    desk.report(*[desk.sent(one, one.id[-6:]) for one in leased])
    desk.sweep()
    for one in leased:
        assert desk.report(receipts=[desk.receipt(one.recipient, one.id[-6:])]) == [ReceiptMatch.APPLIED]
        assert desk.record(one).state is State.DELIVERED
    assert [event.final for event in desk.new_events()].count(True) == 2


def test_a_reference_of_tomorrow_is_known_today(desk: Desk) -> None:
    """The clock was ahead, over midnight, and is set right."""
    desk.set_clock(desk.now // DAY * DAY + DAY + 1000)
    first = desk.message(reference=b"r" * 16)
    desk.accept(first)
    desk.later(-HOUR)
    assert desk.accept(desk.message(reference=b"r" * 16)) == [(first.id, False)]
    assert desk.run(desk.store.by_reference(first.recipient, b"r" * 16)) == first.id


def test_who_died_before_the_clock_was_set_back_is_not_alive_for_an_hour(desk: Desk) -> None:
    wide = desk.permission(opens=0, closes=desk.now + DAY, expires=desk.now + DAY)
    message = desk.message(permission=wide, on_unknown=OnUnknown.RESEND)
    desk.accept(message)
    desk.take()
    desk.later(-HOUR)
    other = LeaseOwner("other", "one")
    assert desk.run(desk.store.reclaim(OWNER, other)).alive
    desk.later(10_000)
    assert desk.run(desk.store.reclaim(OWNER, other)).queued == 1
    assert desk.record(message).reason is Reason.RESEND
