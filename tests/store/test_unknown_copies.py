"""Where one copy's news must not be taken for another's: what random walks against the model found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.model import Cap, OnUnknown, PartAnswer, PartState, Reason, ReceiptMatch, Resolution, State
from tests.store.message_driver import HOUR, OWNER, UNKNOWN, MessageDriver
from tests.store.test_resent_copies import ACCEPTED, PENDING, UNDELIVERED, lost


@pytest.fixture
def driver(store_url: str) -> Iterator[MessageDriver]:
    driver = MessageDriver(store_url)
    driver.reset()
    yield driver
    driver.close()


def test_what_the_gate_has_stopped_is_not_final_while_its_part_may_be_out(driver: MessageDriver) -> None:
    message = driver.message(segments=2, permission=driver.permission(closes=driver.now + 5000))
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.later(5000)
    driver.run(driver.store.regate(OWNER, [(leased.id, leased.lease)]))
    driver.report(
        driver.answer(leased, Resolution.UNKNOWN, parts=[PartAnswer(0, PartState.UNKNOWN), PartAnswer(1, PENDING)])
    )
    record = driver.record(message)
    assert (record.state, record.reason, record.final) == (State.UNKNOWN, Reason.QUIET_HOURS, False)


def test_a_resend_that_was_lost_too_keeps_a_failure_of_the_first_from_counting(driver: MessageDriver) -> None:
    message = driver.message()
    first = lost(driver, message)
    (second,) = driver.take(carrier="south").leased
    driver.report(driver.answer(second, Resolution.UNKNOWN, carrier="south", parts=UNKNOWN, on_unknown=OnUnknown.NEVER))
    failed = driver.receipt(message.recipient, b"n", state=UNDELIVERED)
    driver.report(driver.sent(first, b"n"), receipts=[failed])
    assert (driver.record(message).state, driver.record(message).final) == (State.SENT, False)
    late = driver.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")])
    driver.report(late, receipts=[driver.receipt(message.recipient, b"s", carrier="south")])
    assert driver.record(message).state is State.DELIVERED


def test_a_failure_during_a_resend_ends_it_when_it_comes_back_unwritten(driver: MessageDriver) -> None:
    message = driver.message()
    first = lost(driver, message)
    (second,) = driver.take(carrier="south").leased
    driver.report(driver.sent(first, b"n"), receipts=[driver.receipt(message.recipient, b"n", state=UNDELIVERED)])
    assert driver.record(message).state is State.SENDING
    driver.run(driver.store.untake(OWNER, [(second.id, second.lease)]))
    assert driver.record(message).state is State.UNDELIVERED


def test_a_receipt_that_waited_for_an_id_given_twice_at_once_ends_neither(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    driver.report(receipts=[driver.receipt(one.recipient, b"7")])
    driver.accept(one, other)
    leased = driver.take().leased
    driver.report(*[driver.sent(item, b"7") for item in leased])
    for message in (one, other):
        assert (driver.record(message).state, driver.record(message).reason) == (State.SENT, Reason.AMBIGUOUS_RECEIPT)


def test_an_id_given_in_the_very_call_of_its_receipt_counts_beside_an_older_one(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    driver.accept(one)
    driver.report(driver.sent(driver.take().leased[0], b"7"))
    driver.accept(other)
    (leased,) = driver.take().leased
    assert driver.report(driver.sent(leased, b"7"), receipts=[driver.receipt(one.recipient, b"7")]) == [
        ReceiptMatch.AMBIGUOUS
    ]
    assert driver.record(one).state is State.SENT


def test_an_id_of_many_open_messages_stays_ambiguous(driver: MessageDriver) -> None:
    messages = [driver.message() for _ in range(5)]
    for message in messages:
        driver.accept(message)
        driver.report(driver.sent(driver.take().leased[0], b"7"))
    assert driver.report(receipts=[driver.receipt(messages[0].recipient, b"7")]) == [ReceiptMatch.AMBIGUOUS]
    assert {driver.record(message).state for message in messages} == {State.SENT}


def test_an_id_leads_to_the_second_message_when_the_record_of_the_first_is_gone(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    for message in (one, other):
        driver.accept(message)
        driver.report(driver.sent(driver.take().leased[0], b"7"))
        if message is one:
            driver.report(receipts=[driver.receipt(one.recipient, b"7")])
    driver.later(7 * HOUR)
    driver.sweep()
    assert driver.record(one) is None
    assert driver.report(receipts=[driver.receipt(other.recipient, b"7")]) == [ReceiptMatch.APPLIED]


def test_a_receipt_from_between_a_refusal_and_the_write_proves_nothing(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    driver.accept(message)
    driver.report(driver.answer(driver.take().leased[0], Resolution.BACK, reason=Reason.THROTTLED))
    driver.later(5000)
    driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")])
    driver.later(5000)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert driver.record(message).state is State.UNKNOWN


def test_the_same_receipt_twice_for_a_whole_message_is_one(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    driver.accept(message)
    (first,) = driver.take().leased
    driver.report(driver.answer(first, Resolution.UNKNOWN, parts=[PartAnswer(n, PartState.UNKNOWN) for n in range(2)]))
    (second,) = driver.take().leased
    driver.report(driver.sent(second, b"a", b"b"))
    failed = msgspec.structs.replace(driver.receipt(message.recipient, b"b", state=UNDELIVERED), whole=True)
    assert driver.report(receipts=[failed, failed]) == [ReceiptMatch.APPLIED, ReceiptMatch.REPEATED]
    assert driver.record(message).state is State.SENT  # the first copies are open


def test_the_id_in_an_answer_replaces_the_one_that_a_receipt_suggested(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    leased = lost(driver, message)
    unknown = driver.unmatched_receipt(message.recipient, b"x", state=PartState.RECEIPT_UNKNOWN)
    assert driver.report(receipts=[unknown]) == [ReceiptMatch.APPLIED]
    assert (driver.record(message).state, driver.record(message).reason) == (State.SENT, Reason.RECEIPT_UNKNOWN)
    driver.report(driver.sent(leased, b"n"), receipts=[driver.receipt(message.recipient, b"n")])
    assert driver.record(message).state is State.DELIVERED


def test_what_one_receipt_proves_leaves_the_other_to_the_other_message(driver: MessageDriver) -> None:
    one, other = (driver.message(on_unknown=OnUnknown.NEVER) for _ in range(2))
    lost(driver, one, mark=b"one")
    lost(driver, other)
    either, mine = (
        driver.unmatched_receipt(one.recipient, b"x"),
        driver.unmatched_receipt(one.recipient, b"y", mark=b"other"),
    )
    assert driver.report(receipts=[either]) == [ReceiptMatch.PARKED]
    assert driver.report(receipts=[mine]) == [ReceiptMatch.APPLIED]
    assert {driver.record(message).state for message in (one, other)} == {State.DELIVERED}


def test_the_caps_of_a_copy_that_may_be_out_stand_and_those_of_one_refused_late_do_not(driver: MessageDriver) -> None:
    caps = (Cap(b"scope---", 1, 3600),)
    canceled = driver.message(permission=driver.permission(caps=caps))
    lost(driver, canceled)
    driver.run(driver.store.cancel([canceled.id]))
    other = driver.message(permission=driver.permission(caps=caps), on_unknown=OnUnknown.NEVER)
    driver.accept(other)
    assert driver.take().redecide
    driver.later(3_601_000)
    late = driver.message(permission=driver.permission(caps=caps), on_unknown=OnUnknown.NEVER)
    leased = lost(driver, late)
    driver.report(driver.answer(leased, Resolution.REJECTED, parts=[PartAnswer(0, PENDING, b"", 11)], status=11))
    assert driver.record(late).state is State.REJECTED
    again = driver.message(permission=driver.permission(caps=caps))
    driver.accept(again)
    assert [item.id for item in driver.take().leased] == [again.id]


def test_while_a_form_is_not_learned_an_id_that_another_message_may_have_in_it_ends_neither(
    driver: MessageDriver,
) -> None:
    """Ids are counters, receipts may be in hexadecimal: "10" is the tenth, or the sixteenth."""
    messages = [driver.message(), driver.message()]
    driver.accept(*messages)
    tenth, sixteenth = driver.take().leased
    driver.report(driver.sent(tenth, b"10"), driver.sent(sixteenth, b"16"))
    early = driver.unmatched_receipt(tenth.recipient, b"10", b"16", early=True)
    assert driver.report(receipts=[early]) == [ReceiptMatch.AMBIGUOUS]
    for leased in (tenth, sixteenth):
        record = driver.record(leased)
        assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, False)
    known = driver.receipt(tenth.recipient, b"10")  # once it is known that ids come as they are
    assert driver.report(receipts=[known]) == [ReceiptMatch.APPLIED]
    assert driver.report(receipts=[driver.unmatched_receipt(tenth.recipient, b"16", b"22", early=True)]) == [
        ReceiptMatch.APPLIED
    ]
    assert {driver.record(message).state for message in messages} == {State.DELIVERED}


def test_details_sent_before_the_look_up_prove_nothing(driver: MessageDriver) -> None:
    message = driver.message()
    leased = lost(driver, message)
    early = driver.unmatched_receipt(leased.recipient, b"n1", early=True)
    assert driver.report(receipts=[early]) == [ReceiptMatch.PARKED]
    assert driver.record(message).state is State.QUEUED
    assert driver.report(receipts=[driver.unmatched_receipt(leased.recipient, b"n1")]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED
