"""Each promise of the store by a short story, on a real server whose clock belongs to the test.

The state machine under ``tests/model`` goes everywhere; these say in plain words what it must find.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from gateway.model import (
    Cap,
    Category,
    Check,
    OnUnknown,
    PartAnswer,
    PartState,
    Permit,
    Priority,
    Reason,
    ReceiptMatch,
    Resolution,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store import keys
from gateway.store.errors import StoreFull
from gateway.store.ids import new_ids
from gateway.store.layout import FunctionConstant
from gateway.store.owner import LeaseOwner
from gateway.store.requests import CancelResult, Lane, OptChange
from tests.servers import Server
from tests.store.message_driver import BRAND, HOUR, OWNER, SCOPE, TEMPLATE, UNKNOWN, MessageDriver


def test_a_message_lives_from_accept_to_delivered(driver: MessageDriver) -> None:
    message = driver.message()
    assert driver.accept(message) == [(message.id, True)]
    (leased,) = driver.take().leased
    assert (leased.envelope, leased.content, leased.recipient) == (
        message.envelope,
        message.content,
        message.recipient,
    )
    driver.later(20)
    driver.report(driver.sent(leased, b"id-1"))
    driver.later(20)
    assert driver.report(receipts=[driver.receipt(message.recipient, b"id-1")]) == [ReceiptMatch.APPLIED]

    record = driver.record(message)
    assert (record.state, record.final, record.content) == (State.DELIVERED, True, None)
    assert [(step.state, step.at - record.accepted_at) for step in record.timeline] == [
        (State.QUEUED, 0),
        (State.SENDING, 0),
        (State.SENT, 20),
        (State.DELIVERED, 40),
    ]
    assert record.parts[0].carrier_id == b"id-1"
    events = driver.new_events()
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    last = events[-1]
    assert (last.account, last.carrier, last.carrier_id, last.error) == ("shop", "north", b"id-1", "000")
    assert [event.final for event in events] == [False, False, False, True]


def test_repeats_change_nothing(driver: MessageDriver) -> None:
    message = driver.message(reference=b"r" * 16)
    driver.accept(message)
    assert driver.accept(message, message) == [(message.id, False)] * 2
    (leased,) = driver.take().leased
    sent, receipt = driver.sent(leased, b"id-1"), driver.receipt(message.recipient, b"id-1")
    driver.report(sent)
    driver.report(sent, receipts=[receipt, receipt])
    assert driver.report(sent, receipts=[receipt]) == [ReceiptMatch.REPEATED]
    assert [event.state for event in driver.new_events()] == [
        State.QUEUED,
        State.SENDING,
        State.SENT,
        State.DELIVERED,
    ]


def test_a_reference_is_accepted_once_within_72_hours(driver: MessageDriver) -> None:
    first, reference = driver.message(reference=b"r" * 16), b"r" * 16
    refused = driver.message(reference=reference, state=State.REJECTED, reason=Reason.OPTED_OUT)
    assert [one.new for one in driver.accept(refused, first)] == [True, True]
    again = driver.message(reference=reference)
    assert driver.accept(again) == [(first.id, False)]
    assert driver.run(driver.store.by_reference(first.recipient, reference)) == first.id
    driver.later(72 * HOUR)
    assert driver.run(driver.store.by_reference(first.recipient, reference)) is None
    assert driver.accept(driver.message(reference=reference))[0].new


def test_an_account_may_give_thousands_of_messages_one_client_ref(driver: MessageDriver) -> None:
    """What does not fit into the list of a client_ref is found by its whole reference all the same."""
    messages = []
    for number in range(400):
        recipient = driver.hasher.recipient(f"4670000{number:04d}")
        reference = driver.hasher.reference("shop", recipient, "campaign")
        messages.append(driver.message(recipient.digits, reference=reference))
    assert all(one.new for one in driver.accept(*messages[:300]))
    assert all(one.new for one in driver.accept(*messages[300:]))
    again = [msgspec.structs.replace(m, id=new_ids(driver.now, [m.recipient.partition])[0]) for m in messages]
    assert driver.accept(*again) == [(message.id, False) for message in messages]
    found = driver.run(driver.store.mentions("shop", "campaign"))
    assert set(found) < {message.id for message in messages}
    assert len(found) == 64 * driver.store.partitions


def test_a_small_account_does_not_wait_for_a_large_one(driver: MessageDriver) -> None:
    driver.accept(*[driver.message() for _ in range(300)])
    driver.take(limit=100)
    small = [driver.message(account="small") for _ in range(10)]
    driver.accept(*small)
    taken = driver.take(limit=50).leased
    assert {one.id for one in taken} >= {one.id for one in small}


def test_weights_share_a_lane(driver: MessageDriver) -> None:
    driver.accept(*[driver.message(account=name, weight=w) for name, w in [("a", 1), ("b", 3)] for _ in range(400)])
    counts = {"a": 0, "b": 0}
    for _ in range(8):
        for leased in driver.take(limit=50).leased:
            counts[leased.envelope.account] += 1
    assert 2.4 <= counts["b"] / counts["a"] <= 3.6


def test_one_time_passwords_go_first_and_have_room_kept(driver: MessageDriver) -> None:
    driver.accept(*[driver.message(category=Category.MARKETING) for _ in range(20)])
    assert len(driver.take(limit=10, keep=4).leased) == 6
    password = driver.message(category=Category.OTP)
    driver.accept(password)
    taken = driver.take(limit=4, keep=4)
    assert [one.id for one in taken.leased] == [password.id]
    assert taken.more


def test_a_take_counts_parts(driver: MessageDriver) -> None:
    driver.accept(*[driver.message(segments=3) for _ in range(10)])
    leased = driver.take(limit=7).leased
    assert len(leased) == 3  # the third overshoots, as the last
    numbers = [one.reference_number for one in leased]
    assert [(b - a) % 65536 for a, b in pairwise(numbers)] == [1, 1]


@pytest.mark.parametrize(
    ("group", "scope", "checks", "reason"),
    [
        (RuleGroup.ALL, keys.GLOBAL_SCOPE, Check.ALL_OPT_OUT, Reason.OPTED_OUT),
        (RuleGroup.MARKETING, SCOPE, Check.MARKETING_OPT_OUT, Reason.OPTED_OUT),
        (RuleGroup.MARKETING, BRAND, Check.MARKETING_OPT_OUT, Reason.OPTED_OUT),
        (RuleGroup.CONSENT, BRAND, Check.CONSENT, Reason.CONSENT_REVOKED),
    ],
)
def test_an_opt_out_or_revoked_consent_stops_a_queued_message(
    driver: MessageDriver, group: RuleGroup, scope: bytes, checks: Check, reason: Reason
) -> None:
    message = driver.message(permission=driver.permission(checks=checks))
    if checks & Check.CONSENT:
        driver.run(
            driver.store.opt(
                [OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.ALLOWS, BRAND, driver.now - 1)]
            )
        )
    driver.accept(message)
    change = OptChange(message.recipient, group, RuleStatus.STOPS, scope, driver.now, 0, b"STOP")
    assert driver.run(driver.store.opt([change, change])) == [True, False]
    taken = driver.take()
    assert (taken.leased, taken.dropped) == ([], 1)
    assert (driver.record(message).state, driver.record(message).reason) == (State.REJECTED, reason)
    assert driver.run(driver.store.opts(message.recipient))[-1].detail == b"STOP"


def test_consent_that_is_missing_stops_it(driver: MessageDriver) -> None:
    message = driver.message(permission=driver.permission(checks=Check.CONSENT))
    driver.accept(message)
    assert driver.take().dropped == 1
    assert driver.record(message).reason is Reason.CONSENT_MISSING


def test_an_older_consent_change_does_not_undo_a_later_one(driver: MessageDriver) -> None:
    who = driver.hasher.recipient("46700000001")

    def word(status: RuleStatus, at: int) -> OptChange:
        return OptChange(who, RuleGroup.ALL, status, SCOPE, at)

    stop, allow = RuleStatus.STOPS, RuleStatus.ALLOWS
    changes = [word(allow, 5), word(stop, 5), word(allow, 5), word(allow, 4), word(allow, 6)]
    assert driver.run(driver.store.opt(changes)) == [True, True, False, False, True]
    (facts,) = driver.run(driver.store.facts([who]))
    assert [(rule.status, rule.at) for rule in facts.rules] == [(allow, 6)]


def test_caps_hold_across_retries_and_are_given_back(driver: MessageDriver) -> None:
    cap = Cap(b"brandcap", 1, 3600)
    first, second = (driver.message(permission=driver.permission(caps=(cap,))) for _ in range(2))
    driver.accept(first, second)
    taken = driver.take()
    assert [one.id for one in taken.leased] == [first.id]
    assert [(one.id, one.reason) for one in taken.redecide] == [(second.id, Reason.FREQUENCY_CAP)]
    assert driver.run(driver.store.facts([first.recipient], [[cap]]))[0].used == (1,)
    driver.report(driver.answer(taken.leased[0], Resolution.BACK))
    (leased,) = driver.take().leased
    assert leased.id == first.id  # its own reservation lets it through
    driver.report(driver.answer(leased, Resolution.REJECTED, reason=Reason.CARRIER_REFUSED))
    assert driver.run(driver.store.facts([first.recipient], [[cap]]))[0].used == (0,)
    driver.later(5000)
    assert [one.id for one in driver.take().leased] == [second.id]


def test_outside_its_interval_it_is_decided_afresh(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.later(HOUR)
    (again,) = driver.take().redecide
    assert (again.reason, again.token, again.content) == (Reason.QUIET_HOURS, driver.now + 5000, message.content)
    assert driver.take().next_due == again.token
    deferred = Permit(
        message.id, again.token, State.DEFERRED, Reason.QUIET_HOURS, driver.now + 60_000, "", driver.permission()
    )
    assert driver.run(driver.store.permit([deferred])) == [True]
    assert driver.run(driver.store.permit([deferred])) == [False]
    driver.later(60_000)
    (woken,) = driver.take().redecide
    assert (woken.state, woken.reason) == (State.DEFERRED, Reason.QUIET_HOURS)
    granted = Permit(message.id, woken.token, State.QUEUED, Reason.NONE, 0, "south", driver.permission())
    assert driver.run(driver.store.permit([granted])) == [True]
    (leased,) = driver.take(lanes=(Lane("south", 0, Priority.TRANSACTIONAL),)).leased
    assert leased.closes == granted.permission.closes


def test_a_decision_that_the_gate_would_hand_back_is_not_carried_out(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.run(driver.store.flag(keys.EPOCH, 2))
    (again,) = driver.take().redecide
    stale = Permit(message.id, again.token, State.QUEUED, Reason.NONE, 0, "", driver.permission(epoch=1))
    ahead = driver.permission(epoch=2, opens=driver.now + 50)
    early = Permit(message.id, again.token, State.QUEUED, Reason.NONE, 0, "", ahead)
    assert driver.run(driver.store.permit([stale, early])) == [False, True]
    taken = driver.take()
    assert (taken.leased, taken.redecide, taken.next_due) == ([], [], ahead.opens)
    driver.later(50)
    assert [one.id for one in driver.take().leased] == [message.id]


def test_a_decider_that_dies_loses_nothing(driver: MessageDriver) -> None:
    message = driver.message(state=State.SCHEDULED, due=driver.now)
    driver.accept(message)
    (first,) = driver.take().redecide
    assert driver.take().redecide == []
    driver.later(5000)
    (second,) = driver.take().redecide
    assert (second.id, second.token) == (first.id, first.token + 5000)


def test_flags_act_on_what_is_queued(driver: MessageDriver) -> None:
    old, template = driver.message(), driver.message()
    driver.accept(old)
    driver.run(driver.store.flag(keys.EPOCH, 1))
    assert [one.reason for one in driver.take().redecide] == [Reason.NONE]
    driver.run(driver.store.flag(keys.EPOCH, 0))
    driver.run(driver.store.flag(keys.pulled(TEMPLATE), 1))
    driver.accept(template)
    assert driver.take().dropped == 1
    assert driver.record(template).reason is Reason.CONTENT_REFUSED
    assert driver.run(driver.store.flags()) == {keys.pulled(TEMPLATE): 1}


def test_held_messages_wait_for_their_release(driver: MessageDriver) -> None:
    held, other = (driver.message(state=State.HELD, reason=Reason.BREAKER_OPEN) for _ in range(2))
    driver.accept(held, other)
    assert driver.take().redecide == []
    assert driver.run(driver.store.release([held.id])) == 1
    assert [one.id for one in driver.take().redecide] == [held.id]
    assert driver.record(held).state is State.HELD
    assert driver.run(driver.store.release(scope=SCOPE)) == 1
    assert [one.id for one in driver.take().redecide] == [other.id]


@pytest.mark.parametrize("category", list(Category))
def test_what_was_accepted_before_the_restored_backup_comes_back_for_a_decision(
    driver: MessageDriver, category: Category
) -> None:
    before = driver.message(category=category)
    driver.accept(before)
    driver.later(1)
    driver.run(driver.store.flag(keys.RESTORED, driver.now))
    after = driver.message(category=category)
    driver.accept(after)
    taken = driver.take()
    assert [one.id for one in taken.leased] == [after.id]
    assert [(one.id, one.reason) for one in taken.redecide] == [(before.id, Reason.RESTORED)]


def test_expiry_and_opt_outs_count_before_the_restored_backup(driver: MessageDriver) -> None:
    stopped, expired = driver.message(permission=driver.permission(checks=4)), driver.message("46700000001")
    driver.accept(stopped, expired)
    driver.run(driver.store.opt([OptChange(stopped.recipient, RuleGroup.ALL, RuleStatus.STOPS, bytes(8), driver.now)]))
    driver.later(1)
    driver.run(driver.store.flag(keys.RESTORED, driver.now))
    assert [one.id for one in driver.take().redecide] == [expired.id]
    assert driver.record(stopped).reason is Reason.OPTED_OUT
    driver.later(3 * HOUR)
    driver.take()
    driver.sweep()
    assert driver.record(expired).state is State.EXPIRED


def test_a_decision_that_comes_behind_the_release_of_a_restored_backup_holds_nothing(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.later(1)
    driver.run(driver.store.flag(keys.RESTORED, driver.now))
    (handed_back,) = driver.take().redecide
    permit = Permit(message.id, handed_back.token, State.HELD, Reason.RESTORED, 0, "north", driver.permission())
    driver.run(driver.store.flag(keys.RESTORED, 0))
    assert driver.run(driver.store.release(reason=Reason.RESTORED)) == 0  # it is not held yet
    assert driver.run(driver.store.permit([permit])) == [False]
    driver.later(5000)
    assert [one.id for one in driver.take().leased] == [message.id]


def test_what_a_restored_backup_holds_is_released_by_its_reason(driver: MessageDriver) -> None:
    restored, breaker = (
        driver.message(state=State.HELD, reason=reason) for reason in (Reason.RESTORED, Reason.BREAKER_OPEN)
    )
    driver.accept(restored, breaker)
    assert driver.run(driver.store.release(reason=Reason.RESTORED)) == 1
    assert [one.id for one in driver.take().redecide] == [restored.id]
    assert driver.run(driver.store.release(reason=Reason.RESTORED)) == 0


def test_untaken_messages_keep_their_order(driver: MessageDriver) -> None:
    messages = [driver.message() for _ in range(6)]
    driver.accept(*messages)
    leased = driver.take(limit=4).leased
    driver.run(driver.store.untake(OWNER, [(one.id, one.lease) for one in leased[1:]]))
    assert [one.id for one in driver.take().leased] == [one.id for one in messages[1:]]
    assert driver.run(driver.store.depths()).ready == []


def test_a_retry_waits_and_the_next_carrier_has_its_own_lane(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.RETRY, due=driver.now + 1000, reason=Reason.CARRIER_RETRY))
    assert driver.take().next_due == driver.now + 1000
    driver.later(1000)
    (leased,) = driver.take().leased
    assert leased.attempts == 1
    driver.report(driver.answer(leased, Resolution.NEXT, reason=Reason.NEXT_CARRIER))
    assert driver.take().leased == []
    (leased,) = driver.take(carrier="south", lanes=(Lane("north", 1, Priority.TRANSACTIONAL),)).leased
    assert (leased.place, leased.attempts) == (1, 0)
    driver.report(driver.answer(leased, Resolution.NEXT, carrier="south", last_place=True))
    assert driver.record(message).reason is Reason.ROUTES_EXHAUSTED


def test_a_message_with_accepted_parts_stays_with_its_carrier(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    driver.accept(message)
    (leased,) = driver.take().leased
    parts = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.PENDING, b"", 88)]
    driver.report(driver.answer(leased, Resolution.BACK, parts=parts, reason=Reason.THROTTLED))
    assert driver.take(carrier="south").leased == []
    (leased,) = driver.take().leased
    assert (leased.pinned, leased.parts) == ("north", bytes([PartState.ACCEPTED, PartState.PENDING]))
    refused = [PartAnswer(1, PartState.PENDING, b"", 11)]
    driver.report(driver.answer(leased, Resolution.REJECTED, parts=refused, total=2, reason=Reason.CARRIER_REFUSED))
    record = driver.record(message)
    assert (record.state, record.reason) == (State.FAILED, Reason.PARTIAL)
    assert driver.new_events()[-1].parts_accepted == 1


def test_an_unknown_is_resent_so_often_and_then_left_unknown_until_receipts_have_had_their_time(
    driver: MessageDriver,
) -> None:
    message = driver.message()
    driver.accept(message)
    for resent in range(4):
        (leased,) = driver.take().leased
        assert leased.resent == resent
        driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN, reason=Reason.BIND_LOST))
    record = driver.record(message)
    assert (record.state, record.final, record.reason) == (State.UNKNOWN, False, Reason.NO_ANSWER)
    assert record.content is None  # its text is not needed any more
    states = [event.state for event in driver.new_events()]
    assert states[-4:] == [State.UNKNOWN, State.QUEUED, State.SENDING, State.UNKNOWN]
    driver.later(72 * HOUR + 60_000)
    driver.sweep()
    record = driver.record(message)
    assert (record.state, record.final, record.reason) == (State.UNKNOWN, True, Reason.NO_ANSWER)


def test_the_stricter_on_unknown_of_message_and_carrier_wins(driver: MessageDriver) -> None:
    held, never = driver.message(), driver.message(on_unknown=OnUnknown.NEVER)
    driver.accept(held, never)
    driver.report(
        *[
            driver.answer(one, Resolution.UNKNOWN, parts=UNKNOWN, on_unknown=OnUnknown.HOLD, reason=Reason.BIND_LOST)
            for one in driver.take().leased
        ]
    )
    for one in (held, never):
        assert (driver.record(one).state, driver.record(one).final) == (State.UNKNOWN, False)
    driver.later(700_000)
    driver.sweep()
    assert (driver.record(held).state, driver.record(held).reason) == (State.QUEUED, Reason.RESEND)
    assert driver.record(never).state is State.UNKNOWN
    driver.later(72 * HOUR)
    driver.sweep()
    assert (driver.record(never).state, driver.record(never).final) == (State.UNKNOWN, True)


def test_a_late_answer_overtakes_a_resend(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    driver.report(driver.sent(leased, b"late"))
    assert driver.record(message).state is State.SENT
    assert driver.take().leased == []
    assert driver.report(receipts=[driver.receipt(message.recipient, b"late")]) == [ReceiptMatch.APPLIED]


def test_what_a_late_answer_shows_to_be_begun_waits_for_its_carrier_alone(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN * 2))
    (again,) = driver.take().leased
    refused = [PartAnswer(0, PartState.PENDING), PartAnswer(1, PartState.PENDING)]
    driver.report(driver.answer(again, Resolution.RETRY, due=driver.now + 1000, parts=refused))
    late = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=late))
    driver.later(1001)
    others = tuple(Lane("north", 1, priority) for priority in Priority)  # the lane that only its carrier serves
    (rest,) = driver.take(lanes=others).leased
    assert (rest.id, rest.pinned) == (message.id, "north")


def test_a_receipt_may_come_before_its_answer(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    assert driver.report(receipts=[driver.receipt(message.recipient, b"x1", b"0x1")]) == [ReceiptMatch.PARKED]
    driver.report(driver.sent(leased, b"0x1"))  # a fall-back form of the id matches as well
    assert driver.record(message).state is State.DELIVERED
    assert driver.run(driver.store.depths()).parked == 0


def test_a_receipt_needs_the_right_recipient_and_carrier(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"7"))
    stranger = driver.hasher.recipient("46709999999")
    receipts = [
        driver.receipt(stranger, b"7"),
        driver.receipt(message.recipient, b"7", carrier="south"),
        driver.receipt(message.recipient, b"007", b"7"),
    ]
    assert driver.report(receipts=receipts) == [ReceiptMatch.PARKED, ReceiptMatch.PARKED, ReceiptMatch.APPLIED]
    driver.later(61_000)
    assert driver.sweep()[5] == 2  # orphans
    assert driver.sweep()[5] == 0


def test_a_receipt_brings_the_id_that_no_answer_brought(driver: MessageDriver) -> None:
    """One part was answered, the other never: its receipt shows that the carrier has both."""
    message = driver.message(segments=2, on_unknown=OnUnknown.HOLD)
    driver.accept(message)
    parts = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    driver.report(driver.answer(driver.take().leased[0], Resolution.UNKNOWN, parts=parts))
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"b")]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.SENT
    driver.report(receipts=[driver.receipt(message.recipient, b"a")])
    assert driver.record(message).state is State.DELIVERED


def test_the_worst_part_decides(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a", b"b"))
    assert driver.report(receipts=[driver.receipt(message.recipient, b"b")]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.SENT
    driver.report(receipts=[driver.receipt(message.recipient, b"a", state=PartState.UNDELIVERED)])
    assert driver.record(message).state is State.UNDELIVERED


def test_an_intermediate_receipt_is_noted_once(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a"))
    intermediate = driver.receipt(message.recipient, b"a", state=PartState.ACCEPTED)
    assert driver.report(receipts=[intermediate] * 2) == [ReceiptMatch.APPLIED, ReceiptMatch.REPEATED]
    record = driver.record(message)
    assert record.state is State.SENT
    assert (record.timeline[-1].reason, record.timeline[-1].error) == (Reason.RECEIPT, "000")


def test_cancel_stops_what_waits_and_marks_what_does_not(driver: MessageDriver) -> None:
    waiting, sending, away = driver.message(), driver.message(), driver.message()
    driver.accept(sending)
    (leased,) = driver.take().leased
    driver.accept(waiting)
    ids = [waiting.id, sending.id, away.id]
    expected = [CancelResult.CANCELED, CancelResult.REQUESTED, CancelResult.MISSING]
    assert driver.run(driver.store.cancel(ids)) == expected
    assert driver.run(driver.store.cancel(ids)) == expected
    assert driver.take().leased == []
    driver.report(driver.answer(leased, Resolution.RETRY, due=driver.now + 1))
    assert driver.record(sending).state is State.CANCELED
    assert driver.run(driver.store.cancel([sending.id])) == [CancelResult.CANCELED]


def test_a_dead_owners_leases_become_unknown(driver: MessageDriver) -> None:
    again, never = driver.message(), driver.message(on_unknown=OnUnknown.NEVER)
    driver.accept(again, never)
    driver.take()
    stranger, successor = LeaseOwner("other", "x"), LeaseOwner("node", "two")
    driver.run(driver.store.beat(OWNER))
    assert driver.run(driver.store.reclaim(OWNER, stranger)) == (0, 0, 0, True)
    assert driver.run(driver.store.reclaim(OWNER, successor)) == (1, 1, 0, False)
    assert driver.run(driver.store.reclaim(OWNER, successor)) == (0, 0, 0, False)
    assert [one.id for one in driver.take(owner=successor).leased] == [again.id]
    assert [seen.owner for seen in driver.run(driver.store.owners())] == [successor]


def test_another_node_may_reclaim_after_ten_seconds_without_a_heartbeat(driver: MessageDriver) -> None:
    driver.accept(driver.message())
    driver.take()
    driver.later(10_000)
    assert driver.run(driver.store.reclaim(OWNER.name, LeaseOwner("other", "x"))).queued == 1


def test_time_ends_and_deletes(driver: MessageDriver) -> None:
    waiting = driver.message(digits="46700000002")
    sent = driver.message(permission=driver.permission(expires=driver.now + 200 * HOUR))
    driver.accept(waiting, sent)
    driver.report(driver.sent(driver.take().leased[0], b"a"))
    driver.later(2 * HOUR + 61_000)
    assert driver.sweep()[1] == 1
    assert driver.record(waiting).state is State.EXPIRED
    driver.later(6 * HOUR + 61_000)
    assert driver.sweep()[3] == 1
    assert driver.record(waiting) is None
    driver.later(64 * HOUR)
    assert driver.sweep()[2] == 1
    assert (driver.record(sent).state, driver.record(sent).final) == (State.SENT, True)
    assert driver.record(sent).reason is Reason.NO_RECEIPT
    driver.later(7 * HOUR)
    driver.sweep()
    left = {key.split(b"}")[1][:2] for key in driver.run(driver.link.everywhere("KEYS", "*"))[0] if b"}" in key}
    assert left & {b"m:", b"i:", b"y:", b"x:", b"k", b"u:"} == set()


def test_the_timeline_is_bounded(driver: MessageDriver) -> None:
    message = driver.message(permission=driver.permission(expires=driver.now + 90 * HOUR))
    driver.accept(message)
    for _ in range(200):
        driver.report(driver.answer(driver.take().leased[0], Resolution.BACK, reason=Reason.THROTTLED, status=88))
    record = driver.record(message)
    assert record.sequence == 401
    assert len(record.timeline) < 100
    assert (record.timeline[0].state, record.timeline[0].at) == (State.QUEUED, record.accepted_at)
    assert (record.timeline[-1].reason, record.timeline[-1].status) == (Reason.THROTTLED, 88)


def test_a_full_memory_refuses_new_messages_only(single_server: Server, driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    single_server.run("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull):
            driver.accept(driver.message())
        (leased,) = driver.take().leased
        driver.report(driver.sent(leased, b"a"))
        change = OptChange(message.recipient, RuleGroup.ALL, RuleStatus.STOPS, SCOPE, driver.now)
        assert driver.run(driver.store.opt([change])) == [True]
    finally:
        single_server.run("CONFIG", "SET", "maxmemory", "0")


def test_nothing_readable_is_stored(single_server: Server, driver: MessageDriver) -> None:
    driver.accept(driver.message())
    driver.report(driver.sent(driver.take().leased[0], b"a"))
    for key in single_server.run("KEYS", "*"):
        dumped = single_server.client.dump(key)
        assert b"46700000001" not in key
        assert b"46700000001" not in (dumped or b"")
        assert b"hello" not in (dumped or b"")


def test_unmatched_receipts_are_tried_a_few_at_a_time(driver: MessageDriver) -> None:
    recipient = driver.message().recipient
    driver.report(
        receipts=[
            driver.unmatched_receipt(recipient, b"%d" % number) for number in range(FunctionConstant.PARKED_TRIED + 5)
        ]
    )
    driver.later(61_000)
    first, second = (driver.run(driver.store.sweep(recipient.partition)) for _ in range(2))
    assert (first.orphans, first.more, second.orphans, second.more) == (FunctionConstant.PARKED_TRIED, True, 5, False)
