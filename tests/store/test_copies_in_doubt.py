"""Where one copy's news must not be taken for another's: what random walks against the model found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.model import Cap, Match, OnUnknown, PartAnswer, PartState, Reason, Resolution, State
from tests.store.test_copies import ACCEPTED, PENDING, UNDELIVERED, lost
from tests.store.test_scripts import HOUR, OWNER, UNKNOWN, Desk


@pytest.fixture
def desk(store_url: str) -> Iterator[Desk]:
    desk = Desk(store_url)
    desk.reset()
    yield desk
    desk.close()


def test_what_the_gate_has_stopped_is_not_final_while_its_part_may_be_out(desk: Desk) -> None:
    message = desk.message(segments=2, permission=desk.permission(closes=desk.now + 5000))
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.later(5000)
    desk.run(desk.store.regate(OWNER, [(leased.id, leased.lease)]))
    desk.report(
        desk.answer(leased, Resolution.UNKNOWN, parts=[PartAnswer(0, PartState.UNKNOWN), PartAnswer(1, PENDING)])
    )
    record = desk.record(message)
    assert (record.state, record.reason, record.final) == (State.UNKNOWN, Reason.QUIET_HOURS, False)


def test_a_resend_that_was_lost_too_keeps_a_failure_of_the_first_from_counting(desk: Desk) -> None:
    message = desk.message()
    first = lost(desk, message)
    (second,) = desk.take(carrier="south").leased
    desk.report(desk.answer(second, Resolution.UNKNOWN, carrier="south", parts=UNKNOWN, on_unknown=OnUnknown.NEVER))
    failed = desk.receipt(message.recipient, b"n", state=UNDELIVERED)
    desk.report(desk.sent(first, b"n"), receipts=[failed])
    assert (desk.record(message).state, desk.record(message).final) == (State.SENT, False)
    late = desk.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")])
    desk.report(late, receipts=[desk.receipt(message.recipient, b"s", carrier="south")])
    assert desk.record(message).state is State.DELIVERED


def test_a_failure_heard_during_a_resend_ends_it_when_it_comes_back_unwritten(desk: Desk) -> None:
    message = desk.message()
    first = lost(desk, message)
    (second,) = desk.take(carrier="south").leased
    desk.report(desk.sent(first, b"n"), receipts=[desk.receipt(message.recipient, b"n", state=UNDELIVERED)])
    assert desk.record(message).state is State.SENDING
    desk.run(desk.store.untake(OWNER, [(second.id, second.lease)]))
    assert desk.record(message).state is State.UNDELIVERED


def test_a_receipt_that_waited_for_an_id_given_twice_at_once_ends_neither(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    desk.report(receipts=[desk.receipt(one.recipient, b"7")])
    desk.accept(one, other)
    leased = desk.take().leased
    desk.report(*[desk.sent(item, b"7") for item in leased])
    for message in (one, other):
        assert (desk.record(message).state, desk.record(message).reason) == (State.SENT, Reason.AMBIGUOUS_RECEIPT)


def test_an_id_given_in_the_very_call_of_its_receipt_counts_beside_an_older_one(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    desk.accept(one)
    desk.report(desk.sent(desk.take().leased[0], b"7"))
    desk.accept(other)
    (leased,) = desk.take().leased
    assert desk.report(desk.sent(leased, b"7"), receipts=[desk.receipt(one.recipient, b"7")]) == [Match.AMBIGUOUS]
    assert desk.record(one).state is State.SENT


def test_an_id_of_many_open_messages_stays_ambiguous(desk: Desk) -> None:
    messages = [desk.message() for _ in range(5)]
    for message in messages:
        desk.accept(message)
        desk.report(desk.sent(desk.take().leased[0], b"7"))
    assert desk.report(receipts=[desk.receipt(messages[0].recipient, b"7")]) == [Match.AMBIGUOUS]
    assert {desk.record(message).state for message in messages} == {State.SENT}


def test_an_id_leads_to_the_second_message_when_the_record_of_the_first_is_gone(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    for message in (one, other):
        desk.accept(message)
        desk.report(desk.sent(desk.take().leased[0], b"7"))
        if message is one:
            desk.report(receipts=[desk.receipt(one.recipient, b"7")])
    desk.later(7 * HOUR)
    desk.sweep()
    assert desk.record(one) is None
    assert desk.report(receipts=[desk.receipt(other.recipient, b"7")]) == [Match.APPLIED]


def test_a_receipt_from_between_a_refusal_and_the_write_proves_nothing(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    desk.accept(message)
    desk.report(desk.answer(desk.take().leased[0], Resolution.BACK, reason=Reason.THROTTLED))
    desk.later(5000)
    desk.report(receipts=[desk.stranger(message.recipient, b"x")])
    desk.later(5000)
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert desk.record(message).state is State.UNKNOWN


def test_the_same_receipt_twice_for_a_whole_message_is_one(desk: Desk) -> None:
    message = desk.message(segments=2)
    desk.accept(message)
    (first,) = desk.take().leased
    desk.report(desk.answer(first, Resolution.UNKNOWN, parts=[PartAnswer(n, PartState.UNKNOWN) for n in range(2)]))
    (second,) = desk.take().leased
    desk.report(desk.sent(second, b"a", b"b"))
    failed = msgspec.structs.replace(desk.receipt(message.recipient, b"b", state=UNDELIVERED), whole=True)
    assert desk.report(receipts=[failed, failed]) == [Match.APPLIED, Match.REPEATED]
    assert desk.record(message).state is State.SENT  # the first copies are open


def test_the_answers_word_about_an_id_counts_whatever_a_receipt_seemed_to_tell(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    leased = lost(desk, message)
    unknown = desk.stranger(message.recipient, b"x", state=PartState.RECEIPT_UNKNOWN)
    assert desk.report(receipts=[unknown]) == [Match.APPLIED]
    assert (desk.record(message).state, desk.record(message).reason) == (State.SENT, Reason.RECEIPT_UNKNOWN)
    desk.report(desk.sent(leased, b"n"), receipts=[desk.receipt(message.recipient, b"n")])
    assert desk.record(message).state is State.DELIVERED


def test_what_one_receipt_proves_leaves_the_other_to_the_other_message(desk: Desk) -> None:
    one, other = (desk.message(on_unknown=OnUnknown.NEVER) for _ in range(2))
    lost(desk, one, excerpt=b"one")
    lost(desk, other)
    either, mine = desk.stranger(one.recipient, b"x"), desk.stranger(one.recipient, b"y", excerpt=b"other")
    assert desk.report(receipts=[either]) == [Match.PARKED]
    assert desk.report(receipts=[mine]) == [Match.APPLIED]
    assert {desk.record(message).state for message in (one, other)} == {State.DELIVERED}


def test_the_caps_of_a_copy_that_may_be_out_stand_and_those_of_one_refused_late_do_not(desk: Desk) -> None:
    caps = (Cap(b"scope---", 1, 3600),)
    canceled = desk.message(permission=desk.permission(caps=caps))
    lost(desk, canceled)
    desk.run(desk.store.cancel([canceled.id]))
    other = desk.message(permission=desk.permission(caps=caps), on_unknown=OnUnknown.NEVER)
    desk.accept(other)
    assert desk.take().redecide
    desk.later(3_601_000)
    late = desk.message(permission=desk.permission(caps=caps), on_unknown=OnUnknown.NEVER)
    leased = lost(desk, late)
    desk.report(desk.answer(leased, Resolution.REJECTED, parts=[PartAnswer(0, PENDING, b"", 11)], status=11))
    assert desk.record(late).state is State.REJECTED
    again = desk.message(permission=desk.permission(caps=caps))
    desk.accept(again)
    assert [item.id for item in desk.take().leased] == [again.id]


def test_while_a_form_is_not_learned_an_id_that_another_message_may_have_in_it_ends_neither(desk: Desk) -> None:
    """Ids are counters, receipts may be in hexadecimal: "10" is the tenth, or the sixteenth."""
    messages = [desk.message(), desk.message()]
    desk.accept(*messages)
    tenth, sixteenth = desk.take().leased
    desk.report(desk.sent(tenth, b"10"), desk.sent(sixteenth, b"16"))
    early = desk.stranger(tenth.recipient, b"10", b"16", early=True)
    assert desk.report(receipts=[early]) == [Match.AMBIGUOUS]
    for leased in (tenth, sixteenth):
        record = desk.record(leased)
        assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, False)
    known = desk.receipt(tenth.recipient, b"10")  # once it is known that ids come as they are
    assert desk.report(receipts=[known]) == [Match.APPLIED]
    assert desk.report(receipts=[desk.stranger(tenth.recipient, b"16", b"22", early=True)]) == [Match.APPLIED]
    assert {desk.record(message).state for message in messages} == {State.DELIVERED}


def test_what_is_told_before_the_look_up_proves_nothing(desk: Desk) -> None:
    message = desk.message()
    leased = lost(desk, message)
    early = desk.stranger(leased.recipient, b"n1", early=True)
    assert desk.report(receipts=[early]) == [Match.PARKED]
    assert desk.record(message).state is State.QUEUED
    assert desk.report(receipts=[desk.stranger(leased.recipient, b"n1")]) == [Match.APPLIED]
    assert desk.record(message).state is State.DELIVERED
