"""Each promise of the store by a short story, on a real server whose clock belongs to the test.

The state machine under ``tests/model`` goes everywhere; these say in plain words what it must find.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from gateway.model import (
    Cap,
    Category,
    Check,
    Content,
    Envelope,
    Leased,
    Match,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Permission,
    Permit,
    Priority,
    Reason,
    ReceiptDetail,
    ReceiptFact,
    Recipient,
    Resolution,
    RuleGroup,
    RuleStatus,
    State,
    SubmitResult,
)
from gateway.store import keys
from gateway.store.errors import StoreFull
from gateway.store.ids import new_ids
from gateway.store.layout import FunctionConstant
from gateway.store.owner import LeaseOwner
from gateway.store.requests import CancelResult, Lane, OptChange, TakeRequest, TakeResult
from tests.model.world import World
from tests.servers import Server

HOUR = 3_600_000
OWNER = LeaseOwner("node", "one")
SCOPE = b"shop----"
BRAND = b"shop/b--"
TEMPLATE = b"template"


class Desk(World):
    """A world with short words for what the stories do."""

    def message(self, digits: str = "46700000001", **changes: Any) -> NewMessage:
        recipient = self.hasher.recipient(digits)
        permission = changes.pop("permission", None) or self.permission()
        account, category = changes.pop("account", "shop"), changes.get("category", Category.TRANSACTIONAL)
        message = NewMessage(
            new_ids(self.now, [recipient.partition])[0],
            recipient,
            State.QUEUED,
            Reason.NONE,
            0,
            category,
            OnUnknown.RESEND,
            "north",
            1,
            1,
            permission,
            Envelope(digits, "Shop", account, int(category), "b"),
            Content("hello"),
        )
        return msgspec.structs.replace(message, **changes)

    def permission(self, **changes: Any) -> Permission:
        checks = changes.pop("checks", 0)
        granted = Permission(self.now, self.now + HOUR, self.now + 2 * HOUR, checks, SCOPE, BRAND, TEMPLATE)
        return msgspec.structs.replace(granted, **changes)

    def accept(self, *messages: NewMessage) -> list[Any]:
        return self.run(self.store.accept(messages))

    def take(self, limit: int = 10, **changes: Any) -> TakeResult:
        """From the partition of the usual recipient."""
        where: dict[str, Any] = {"partition": self.hasher.recipient("46700000001").partition, "carrier": "north"}
        lanes = changes.pop("lanes", tuple(Lane("north", 0, priority) for priority in Priority))
        owner = changes.pop("owner", OWNER)
        (taken,) = self.run(self.store.take(owner, [TakeRequest(**where | changes, lanes=lanes, limit=limit)]))
        return taken

    def answer(self, leased: Leased, fate: Resolution, **changes: Any) -> SubmitResult:
        parts = changes.pop("parts", [PartAnswer(0, PartState.PENDING, b"", 8)])
        answer = SubmitResult(leased.id, leased.lease, "north", fate, Reason.NONE, 0, 0, len(parts), parts)
        return msgspec.structs.replace(answer, **changes)

    def sent(self, leased: Leased, *ids: bytes) -> SubmitResult:
        parts = [PartAnswer(index, PartState.ACCEPTED, carrier_id) for index, carrier_id in enumerate(ids)]
        return self.answer(leased, Resolution.SENT, parts=parts)

    def report(self, *answers: SubmitResult, receipts: Sequence[ReceiptFact] = ()) -> list[Match]:
        return self.run(self.store.progress(OWNER, answers, receipts))

    def receipt(
        self, recipient: Recipient, *ids: bytes, state: PartState = PartState.DELIVERED, carrier: str = "north"
    ) -> ReceiptFact:
        return ReceiptFact(carrier, ids, recipient, state, "000")

    def stranger(self, recipient: Recipient, *ids: bytes, **changes: Any) -> ReceiptFact:
        """A receipt whose id is not known, told in detail: all that a gateway knows of it."""
        guesses = tuple(enumerate(ids[1:], 1))
        told = {"host": "h", "excerpt": b"", "sure": True, "early": False}
        told |= {name: changes.pop(name) for name in told if name in changes}
        detail = ReceiptDetail(guesses, **told)
        return msgspec.structs.replace(self.receipt(recipient, ids[0], **changes), detail=detail)

    def record(self, message: NewMessage | Leased) -> Any:
        (found,) = self.run(self.store.find([message.id]))
        return found

    def sweep(self) -> list[int]:
        """Every partition until nothing is due; the sums."""
        total = [0] * 6
        for partition in range(self.store.partitions):
            more = True
            while more:
                swept = self.run(self.store.sweep(partition))
                *counts, more = swept[:7]
                total = [a + b for a, b in zip(total, counts, strict=True)]
        return total

    def later(self, ms: int) -> None:
        self.set_clock(self.now + ms)


def test_a_message_lives_from_accept_to_delivered(desk: Desk) -> None:
    message = desk.message()
    assert desk.accept(message) == [(message.id, True)]
    (leased,) = desk.take().leased
    assert (leased.envelope, leased.content, leased.recipient) == (
        message.envelope,
        message.content,
        message.recipient,
    )
    desk.later(20)
    desk.report(desk.sent(leased, b"id-1"))
    desk.later(20)
    assert desk.report(receipts=[desk.receipt(message.recipient, b"id-1")]) == [Match.APPLIED]

    record = desk.record(message)
    assert (record.state, record.final, record.content) == (State.DELIVERED, True, None)
    assert [(step.state, step.at - record.accepted_at) for step in record.timeline] == [
        (State.QUEUED, 0),
        (State.SENDING, 0),
        (State.SENT, 20),
        (State.DELIVERED, 40),
    ]
    assert record.parts[0].carrier_id == b"id-1"
    events = desk.new_events()
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    last = events[-1]
    assert (last.account, last.carrier, last.carrier_id, last.error) == ("shop", "north", b"id-1", "000")
    assert [event.final for event in events] == [False, False, False, True]


def test_repeats_change_nothing(desk: Desk) -> None:
    message = desk.message(reference=b"r" * 16)
    desk.accept(message)
    assert desk.accept(message, message) == [(message.id, False)] * 2
    (leased,) = desk.take().leased
    sent, receipt = desk.sent(leased, b"id-1"), desk.receipt(message.recipient, b"id-1")
    desk.report(sent)
    desk.report(sent, receipts=[receipt, receipt])
    assert desk.report(sent, receipts=[receipt]) == [Match.REPEATED]
    assert [event.state for event in desk.new_events()] == [
        State.QUEUED,
        State.SENDING,
        State.SENT,
        State.DELIVERED,
    ]


def test_a_reference_is_accepted_once_within_72_hours(desk: Desk) -> None:
    first, reference = desk.message(reference=b"r" * 16), b"r" * 16
    refused = desk.message(reference=reference, state=State.REJECTED, reason=Reason.OPTED_OUT)
    assert [one.new for one in desk.accept(refused, first)] == [True, True]
    again = desk.message(reference=reference)
    assert desk.accept(again) == [(first.id, False)]
    assert desk.run(desk.store.by_reference(first.recipient, reference)) == first.id
    desk.later(72 * HOUR)
    assert desk.run(desk.store.by_reference(first.recipient, reference)) is None
    assert desk.accept(desk.message(reference=reference))[0].new


def test_an_account_may_call_thousands_alike(desk: Desk) -> None:
    """What does not fit into the list of a client_ref is found by its whole reference all the same."""
    messages = []
    for number in range(400):
        recipient = desk.hasher.recipient(f"4670000{number:04d}")
        reference = desk.hasher.reference("shop", recipient, "campaign")
        messages.append(desk.message(recipient.digits, reference=reference))
    assert all(one.new for one in desk.accept(*messages[:300]))
    assert all(one.new for one in desk.accept(*messages[300:]))
    again = [msgspec.structs.replace(m, id=new_ids(desk.now, [m.recipient.partition])[0]) for m in messages]
    assert desk.accept(*again) == [(message.id, False) for message in messages]
    found = desk.run(desk.store.mentions("shop", "campaign"))
    assert set(found) < {message.id for message in messages}
    assert len(found) == 64 * desk.store.partitions


def test_a_small_account_does_not_wait_for_a_large_one(desk: Desk) -> None:
    desk.accept(*[desk.message() for _ in range(300)])
    desk.take(limit=100)
    small = [desk.message(account="small") for _ in range(10)]
    desk.accept(*small)
    taken = desk.take(limit=50).leased
    assert {one.id for one in taken} >= {one.id for one in small}


def test_weights_share_a_lane(desk: Desk) -> None:
    desk.accept(*[desk.message(account=name, weight=w) for name, w in [("a", 1), ("b", 3)] for _ in range(400)])
    counts = {"a": 0, "b": 0}
    for _ in range(8):
        for leased in desk.take(limit=50).leased:
            counts[leased.envelope.account] += 1
    assert 2.4 <= counts["b"] / counts["a"] <= 3.6


def test_one_time_passwords_go_first_and_have_room_kept(desk: Desk) -> None:
    desk.accept(*[desk.message(category=Category.MARKETING) for _ in range(20)])
    assert len(desk.take(limit=10, keep=4).leased) == 6
    password = desk.message(category=Category.OTP)
    desk.accept(password)
    taken = desk.take(limit=4, keep=4)
    assert [one.id for one in taken.leased] == [password.id]
    assert taken.more


def test_a_take_counts_parts(desk: Desk) -> None:
    desk.accept(*[desk.message(segments=3) for _ in range(10)])
    leased = desk.take(limit=7).leased
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
def test_a_word_stops_what_is_queued(desk: Desk, group: RuleGroup, scope: bytes, checks: Check, reason: Reason) -> None:
    message = desk.message(permission=desk.permission(checks=checks))
    if checks & Check.CONSENT:
        desk.run(
            desk.store.opt([OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.ALLOWS, BRAND, desk.now - 1)])
        )
    desk.accept(message)
    change = OptChange(message.recipient, group, RuleStatus.STOPS, scope, desk.now, 0, b"STOP")
    assert desk.run(desk.store.opt([change, change])) == [True, False]
    taken = desk.take()
    assert (taken.leased, taken.dropped) == ([], 1)
    assert (desk.record(message).state, desk.record(message).reason) == (State.REJECTED, reason)
    assert desk.run(desk.store.opts(message.recipient))[-1].detail == b"STOP"


def test_consent_that_is_missing_stops_it(desk: Desk) -> None:
    message = desk.message(permission=desk.permission(checks=Check.CONSENT))
    desk.accept(message)
    assert desk.take().dropped == 1
    assert desk.record(message).reason is Reason.CONSENT_MISSING


def test_an_older_word_does_not_undo_a_later_one(desk: Desk) -> None:
    who = desk.hasher.recipient("46700000001")

    def word(status: RuleStatus, at: int) -> OptChange:
        return OptChange(who, RuleGroup.ALL, status, SCOPE, at)

    stop, allow = RuleStatus.STOPS, RuleStatus.ALLOWS
    changes = [word(allow, 5), word(stop, 5), word(allow, 5), word(allow, 4), word(allow, 6)]
    assert desk.run(desk.store.opt(changes)) == [True, True, False, False, True]
    (facts,) = desk.run(desk.store.facts([who]))
    assert [(rule.status, rule.at) for rule in facts.rules] == [(allow, 6)]


def test_caps_hold_across_retries_and_are_given_back(desk: Desk) -> None:
    cap = Cap(b"brandcap", 1, 3600)
    first, second = (desk.message(permission=desk.permission(caps=(cap,))) for _ in range(2))
    desk.accept(first, second)
    taken = desk.take()
    assert [one.id for one in taken.leased] == [first.id]
    assert [(one.id, one.reason) for one in taken.redecide] == [(second.id, Reason.FREQUENCY_CAP)]
    assert desk.run(desk.store.facts([first.recipient], [[cap]]))[0].used == (1,)
    desk.report(desk.answer(taken.leased[0], Resolution.BACK))
    (leased,) = desk.take().leased
    assert leased.id == first.id  # its own reservation lets it through
    desk.report(desk.answer(leased, Resolution.REJECTED, reason=Reason.CARRIER_REFUSED))
    assert desk.run(desk.store.facts([first.recipient], [[cap]]))[0].used == (0,)
    desk.later(5000)
    assert [one.id for one in desk.take().leased] == [second.id]


def test_outside_its_interval_it_is_decided_afresh(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.later(HOUR)
    (again,) = desk.take().redecide
    assert (again.reason, again.token, again.content) == (Reason.QUIET_HOURS, desk.now + 5000, message.content)
    assert desk.take().next_due == again.token
    deferred = Permit(
        message.id, again.token, State.DEFERRED, Reason.QUIET_HOURS, desk.now + 60_000, "", desk.permission()
    )
    assert desk.run(desk.store.permit([deferred])) == [True]
    assert desk.run(desk.store.permit([deferred])) == [False]
    desk.later(60_000)
    (woken,) = desk.take().redecide
    assert (woken.state, woken.reason) == (State.DEFERRED, Reason.QUIET_HOURS)
    granted = Permit(message.id, woken.token, State.QUEUED, Reason.NONE, 0, "south", desk.permission())
    assert desk.run(desk.store.permit([granted])) == [True]
    (leased,) = desk.take(lanes=(Lane("south", 0, Priority.TRANSACTIONAL),)).leased
    assert leased.closes == granted.permission.closes


def test_a_decision_that_the_gate_would_hand_back_is_not_carried_out(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.run(desk.store.flag(keys.EPOCH, 2))
    (again,) = desk.take().redecide
    stale = Permit(message.id, again.token, State.QUEUED, Reason.NONE, 0, "", desk.permission(epoch=1))
    ahead = desk.permission(epoch=2, opens=desk.now + 50)
    early = Permit(message.id, again.token, State.QUEUED, Reason.NONE, 0, "", ahead)
    assert desk.run(desk.store.permit([stale, early])) == [False, True]
    taken = desk.take()
    assert (taken.leased, taken.redecide, taken.next_due) == ([], [], ahead.opens)
    desk.later(50)
    assert [one.id for one in desk.take().leased] == [message.id]


def test_a_decider_that_dies_loses_nothing(desk: Desk) -> None:
    message = desk.message(state=State.SCHEDULED, due=desk.now)
    desk.accept(message)
    (first,) = desk.take().redecide
    assert desk.take().redecide == []
    desk.later(5000)
    (second,) = desk.take().redecide
    assert (second.id, second.token) == (first.id, first.token + 5000)


def test_flags_act_on_what_is_queued(desk: Desk) -> None:
    old, template = desk.message(), desk.message()
    desk.accept(old)
    desk.run(desk.store.flag(keys.EPOCH, 1))
    assert [one.reason for one in desk.take().redecide] == [Reason.NONE]
    desk.run(desk.store.flag(keys.EPOCH, 0))
    desk.run(desk.store.flag(keys.pulled(TEMPLATE), 1))
    desk.accept(template)
    assert desk.take().dropped == 1
    assert desk.record(template).reason is Reason.CONTENT_REFUSED
    assert desk.run(desk.store.flags()) == {keys.pulled(TEMPLATE): 1}


def test_held_messages_wait_for_their_release(desk: Desk) -> None:
    held, other = (desk.message(state=State.HELD, reason=Reason.BREAKER_OPEN) for _ in range(2))
    desk.accept(held, other)
    assert desk.take().redecide == []
    assert desk.run(desk.store.release([held.id])) == 1
    assert [one.id for one in desk.take().redecide] == [held.id]
    assert desk.record(held).state is State.HELD
    assert desk.run(desk.store.release(scope=SCOPE)) == 1
    assert [one.id for one in desk.take().redecide] == [other.id]


def test_untaken_messages_keep_their_order(desk: Desk) -> None:
    messages = [desk.message() for _ in range(6)]
    desk.accept(*messages)
    leased = desk.take(limit=4).leased
    desk.run(desk.store.untake(OWNER, [(one.id, one.lease) for one in leased[1:]]))
    assert [one.id for one in desk.take().leased] == [one.id for one in messages[1:]]
    assert desk.run(desk.store.depths()).ready == []


def test_a_retry_waits_and_the_next_carrier_has_its_own_lane(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.RETRY, due=desk.now + 1000, reason=Reason.CARRIER_RETRY))
    assert desk.take().next_due == desk.now + 1000
    desk.later(1000)
    (leased,) = desk.take().leased
    assert leased.attempts == 1
    desk.report(desk.answer(leased, Resolution.NEXT, reason=Reason.NEXT_CARRIER))
    assert desk.take().leased == []
    (leased,) = desk.take(carrier="south", lanes=(Lane("north", 1, Priority.TRANSACTIONAL),)).leased
    assert (leased.place, leased.attempts) == (1, 0)
    desk.report(desk.answer(leased, Resolution.NEXT, carrier="south", last_place=True))
    assert desk.record(message).reason is Reason.ROUTES_EXHAUSTED


def test_what_a_carrier_has_begun_only_it_may_end(desk: Desk) -> None:
    message = desk.message(segments=2)
    desk.accept(message)
    (leased,) = desk.take().leased
    parts = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.PENDING, b"", 88)]
    desk.report(desk.answer(leased, Resolution.BACK, parts=parts, reason=Reason.THROTTLED))
    assert desk.take(carrier="south").leased == []
    (leased,) = desk.take().leased
    assert (leased.pinned, leased.parts) == ("north", bytes([PartState.ACCEPTED, PartState.PENDING]))
    refused = [PartAnswer(1, PartState.PENDING, b"", 11)]
    desk.report(desk.answer(leased, Resolution.REJECTED, parts=refused, total=2, reason=Reason.CARRIER_REFUSED))
    record = desk.record(message)
    assert (record.state, record.reason) == (State.FAILED, Reason.PARTIAL)
    assert desk.new_events()[-1].parts_accepted == 1


UNKNOWN = [PartAnswer(0, PartState.UNKNOWN)]


def test_an_unknown_is_resent_so_often_and_then_left_unknown_until_receipts_have_had_their_time(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    for resent in range(4):
        (leased,) = desk.take().leased
        assert leased.resent == resent
        desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN, reason=Reason.BIND_LOST))
    record = desk.record(message)
    assert (record.state, record.final, record.reason) == (State.UNKNOWN, False, Reason.NO_ANSWER)
    assert record.content is None  # nobody needs its text any more
    states = [event.state for event in desk.new_events()]
    assert states[-4:] == [State.UNKNOWN, State.QUEUED, State.SENDING, State.UNKNOWN]
    desk.later(72 * HOUR + 60_000)
    desk.sweep()
    record = desk.record(message)
    assert (record.state, record.final, record.reason) == (State.UNKNOWN, True, Reason.NO_ANSWER)


def test_the_stricter_word_about_unknowns_wins(desk: Desk) -> None:
    held, never = desk.message(), desk.message(on_unknown=OnUnknown.NEVER)
    desk.accept(held, never)
    desk.report(
        *[
            desk.answer(one, Resolution.UNKNOWN, parts=UNKNOWN, on_unknown=OnUnknown.HOLD, reason=Reason.BIND_LOST)
            for one in desk.take().leased
        ]
    )
    for one in (held, never):
        assert (desk.record(one).state, desk.record(one).final) == (State.UNKNOWN, False)
    desk.later(700_000)
    desk.sweep()
    assert (desk.record(held).state, desk.record(held).reason) == (State.QUEUED, Reason.RESEND)
    assert desk.record(never).state is State.UNKNOWN
    desk.later(72 * HOUR)
    desk.sweep()
    assert (desk.record(never).state, desk.record(never).final) == (State.UNKNOWN, True)


def test_a_late_answer_overtakes_a_resend(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    desk.report(desk.sent(leased, b"late"))
    assert desk.record(message).state is State.SENT
    assert desk.take().leased == []
    assert desk.report(receipts=[desk.receipt(message.recipient, b"late")]) == [Match.APPLIED]


def test_what_a_late_answer_shows_to_be_begun_waits_for_its_carrier_alone(desk: Desk) -> None:
    message = desk.message(segments=2)
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN * 2))
    (again,) = desk.take().leased
    refused = [PartAnswer(0, PartState.PENDING), PartAnswer(1, PartState.PENDING)]
    desk.report(desk.answer(again, Resolution.RETRY, due=desk.now + 1000, parts=refused))
    late = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=late))
    desk.later(1001)
    others = tuple(Lane("north", 1, priority) for priority in Priority)  # where its carrier looks, and nobody else
    (rest,) = desk.take(lanes=others).leased
    assert (rest.id, rest.pinned) == (message.id, "north")


def test_a_receipt_may_come_before_its_answer(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    assert desk.report(receipts=[desk.receipt(message.recipient, b"x1", b"0x1")]) == [Match.PARKED]
    desk.report(desk.sent(leased, b"0x1"))  # a fall-back form of the id matches as well
    assert desk.record(message).state is State.DELIVERED
    assert desk.run(desk.store.depths()).parked == 0


def test_a_receipt_needs_the_right_recipient_and_carrier(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"7"))
    stranger = desk.hasher.recipient("46709999999")
    receipts = [
        desk.receipt(stranger, b"7"),
        desk.receipt(message.recipient, b"7", carrier="south"),
        desk.receipt(message.recipient, b"007", b"7"),
    ]
    assert desk.report(receipts=receipts) == [Match.PARKED, Match.PARKED, Match.APPLIED]
    desk.later(61_000)
    assert desk.sweep()[5] == 2  # orphans
    assert desk.sweep()[5] == 0


def test_a_receipt_tells_what_no_answer_told(desk: Desk) -> None:
    """One part was answered, the other never: its receipt shows that the carrier has both."""
    message = desk.message(segments=2, on_unknown=OnUnknown.HOLD)
    desk.accept(message)
    parts = [PartAnswer(0, PartState.ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    desk.report(desk.answer(desk.take().leased[0], Resolution.UNKNOWN, parts=parts))
    assert desk.report(receipts=[desk.stranger(message.recipient, b"b")]) == [Match.APPLIED]
    assert desk.record(message).state is State.SENT
    desk.report(receipts=[desk.receipt(message.recipient, b"a")])
    assert desk.record(message).state is State.DELIVERED


def test_the_worst_part_decides(desk: Desk) -> None:
    message = desk.message(segments=2)
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a", b"b"))
    assert desk.report(receipts=[desk.receipt(message.recipient, b"b")]) == [Match.APPLIED]
    assert desk.record(message).state is State.SENT
    desk.report(receipts=[desk.receipt(message.recipient, b"a", state=PartState.UNDELIVERED)])
    assert desk.record(message).state is State.UNDELIVERED


def test_an_intermediate_receipt_is_noted_once(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a"))
    intermediate = desk.receipt(message.recipient, b"a", state=PartState.ACCEPTED)
    assert desk.report(receipts=[intermediate] * 2) == [Match.APPLIED, Match.REPEATED]
    record = desk.record(message)
    assert record.state is State.SENT
    assert (record.timeline[-1].reason, record.timeline[-1].error) == (Reason.RECEIPT, "000")


def test_cancel_stops_what_waits_and_marks_what_does_not(desk: Desk) -> None:
    waiting, sending, away = desk.message(), desk.message(), desk.message()
    desk.accept(sending)
    (leased,) = desk.take().leased
    desk.accept(waiting)
    ids = [waiting.id, sending.id, away.id]
    expected = [CancelResult.CANCELED, CancelResult.REQUESTED, CancelResult.MISSING]
    assert desk.run(desk.store.cancel(ids)) == expected
    assert desk.run(desk.store.cancel(ids)) == expected
    assert desk.take().leased == []
    desk.report(desk.answer(leased, Resolution.RETRY, due=desk.now + 1))
    assert desk.record(sending).state is State.CANCELED
    assert desk.run(desk.store.cancel([sending.id])) == [CancelResult.CANCELED]


def test_a_dead_owners_leases_become_unknown(desk: Desk) -> None:
    again, never = desk.message(), desk.message(on_unknown=OnUnknown.NEVER)
    desk.accept(again, never)
    desk.take()
    stranger, successor = LeaseOwner("other", "x"), LeaseOwner("node", "two")
    desk.run(desk.store.beat(OWNER))
    assert desk.run(desk.store.reclaim(OWNER, stranger)) == (0, 0, 0, True)
    assert desk.run(desk.store.reclaim(OWNER, successor)) == (1, 1, 0, False)
    assert desk.run(desk.store.reclaim(OWNER, successor)) == (0, 0, 0, False)
    assert [one.id for one in desk.take(owner=successor).leased] == [again.id]
    assert [seen.owner for seen in desk.run(desk.store.owners())] == [successor]


def test_a_stranger_may_reclaim_after_ten_silent_seconds(desk: Desk) -> None:
    desk.accept(desk.message())
    desk.take()
    desk.later(10_000)
    assert desk.run(desk.store.reclaim(OWNER.name, LeaseOwner("other", "x"))).queued == 1


def test_time_ends_and_deletes(desk: Desk) -> None:
    waiting = desk.message(digits="46700000002")
    sent = desk.message(permission=desk.permission(expires=desk.now + 200 * HOUR))
    desk.accept(waiting, sent)
    desk.report(desk.sent(desk.take().leased[0], b"a"))
    desk.later(2 * HOUR + 61_000)
    assert desk.sweep()[1] == 1
    assert desk.record(waiting).state is State.EXPIRED
    desk.later(6 * HOUR + 61_000)
    assert desk.sweep()[3] == 1
    assert desk.record(waiting) is None
    desk.later(64 * HOUR)
    assert desk.sweep()[2] == 1
    assert (desk.record(sent).state, desk.record(sent).final) == (State.SENT, True)
    assert desk.record(sent).reason is Reason.NO_RECEIPT
    desk.later(7 * HOUR)
    desk.sweep()
    left = {key.split(b"}")[1][:2] for key in desk.run(desk.link.everywhere("KEYS", "*"))[0] if b"}" in key}
    assert left & {b"m:", b"i:", b"y:", b"x:", b"k", b"u:"} == set()


def test_events_go_when_their_consumers_are_done(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.take()
    partition = message.recipient.partition
    (first, _), (second, _) = desk.run(desk.store.events(partition))
    assert desk.run(desk.store.trim(partition, first)) == 1
    assert [entry for entry, _ in desk.run(desk.store.events(partition))] == [second]


def test_the_timeline_is_bounded(desk: Desk) -> None:
    message = desk.message(permission=desk.permission(expires=desk.now + 90 * HOUR))
    desk.accept(message)
    for _ in range(200):
        desk.report(desk.answer(desk.take().leased[0], Resolution.BACK, reason=Reason.THROTTLED, status=88))
    record = desk.record(message)
    assert record.sequence == 401
    assert len(record.timeline) < 100
    assert (record.timeline[0].state, record.timeline[0].at) == (State.QUEUED, record.accepted_at)
    assert (record.timeline[-1].reason, record.timeline[-1].status) == (Reason.THROTTLED, 88)


def test_a_full_memory_refuses_new_messages_only(single_server: Server, desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    single_server.run("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull):
            desk.accept(desk.message())
        (leased,) = desk.take().leased
        desk.report(desk.sent(leased, b"a"))
        change = OptChange(message.recipient, RuleGroup.ALL, RuleStatus.STOPS, SCOPE, desk.now)
        assert desk.run(desk.store.opt([change])) == [True]
    finally:
        single_server.run("CONFIG", "SET", "maxmemory", "0")


def test_nothing_readable_is_stored(single_server: Server, desk: Desk) -> None:
    desk.accept(desk.message())
    desk.report(desk.sent(desk.take().leased[0], b"a"))
    for key in single_server.run("KEYS", "*"):
        dumped = single_server.client.dump(key)
        assert b"46700000001" not in key
        assert b"46700000001" not in (dumped or b"")
        assert b"hello" not in (dumped or b"")


def test_receipts_of_nobody_hold_up_the_store_for_a_few_at_a_time(desk: Desk) -> None:
    recipient = desk.message().recipient
    desk.report(
        receipts=[desk.stranger(recipient, b"%d" % number) for number in range(FunctionConstant.PARKED_TRIED + 5)]
    )
    desk.later(61_000)
    first, second = (desk.run(desk.store.sweep(recipient.partition)) for _ in range(2))
    assert (first.orphans, first.more, second.orphans, second.more) == (FunctionConstant.PARKED_TRIED, True, 5, False)
