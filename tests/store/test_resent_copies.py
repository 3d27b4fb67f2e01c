"""Messages that may be on the wire more than once, and what a receipt without a known id may settle."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.model import (
    Category,
    LeasedMessage,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Priority,
    Reason,
    ReceiptMatch,
    Resolution,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store.layout import FORMER_HEAD, HEAD, VERSION
from gateway.store.records import read_record
from gateway.store.requests import FormGuess, Lane, OptChange
from tests.store.message_driver import HOUR, OWNER, UNKNOWN, MessageDriver

DELIVERED, UNDELIVERED, EXPIRED = PartState.DELIVERED, PartState.UNDELIVERED, PartState.EXPIRED
ACCEPTED, PENDING = PartState.ACCEPTED, PartState.PENDING


@pytest.fixture
def driver(store_url: str) -> Iterator[MessageDriver]:
    driver = MessageDriver(store_url)
    driver.reset()
    yield driver
    driver.close()


def lost(driver: MessageDriver, message: NewMessage, **changes: object) -> LeasedMessage:
    """The message is accepted, taken by north, and never answered."""
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN, **changes))
    return leased


def resent_by_south(driver: MessageDriver, message: NewMessage) -> tuple[LeasedMessage, LeasedMessage]:
    """Lost at north, and sent once more, and accepted, by south as b"s"."""
    first = lost(driver, message)
    (second,) = driver.take(carrier="south").leased
    driver.report(driver.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")]))
    return first, second


def test_one_delivered_copy_wins_whatever_the_other_carrier_says(driver: MessageDriver) -> None:
    message = driver.message()
    first, _ = resent_by_south(driver, message)
    driver.report(driver.sent(first, b"n"))  # late, on the link that still lives
    assert [(c.carrier, c.state) for c in driver.record(message).copies] == [("north", ACCEPTED), ("south", ACCEPTED)]
    driver.report(receipts=[driver.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert (driver.record(message).state, driver.record(message).final) == (State.SENT, False)
    driver.report(receipts=[driver.receipt(message.recipient, b"n")])
    assert driver.record(message).state is State.DELIVERED


def test_a_failed_copy_counts_when_every_other_has_failed_too(driver: MessageDriver) -> None:
    message = driver.message()
    first, _ = resent_by_south(driver, message)
    driver.report(driver.sent(first, b"n"))
    driver.report(receipts=[driver.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    driver.report(receipts=[driver.receipt(message.recipient, b"n", state=EXPIRED)])
    assert driver.record(message).state is State.UNDELIVERED


def test_a_failed_copy_counts_when_the_other_gets_no_receipt_in_time(driver: MessageDriver) -> None:
    message = driver.message()
    resent_by_south(driver, message)
    driver.report(receipts=[driver.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert driver.record(message).state is State.SENT
    driver.later(73 * HOUR)
    driver.sweep()
    assert (driver.record(message).state, driver.record(message).reason) == (State.UNDELIVERED, Reason.RECEIPT)


def test_a_permanent_refusal_of_the_resend_is_not_final_while_the_first_copy_may_be_out(driver: MessageDriver) -> None:
    message = driver.message()
    first = lost(driver, message)
    (second,) = driver.take(carrier="south").leased
    refused = driver.answer(second, Resolution.REJECTED, carrier="south", reason=Reason.CARRIER_REFUSED, status=11)
    driver.report(refused)
    assert (driver.record(message).state, driver.record(message).final) == (State.UNKNOWN, False)
    driver.report(driver.sent(first, b"n"), receipts=[driver.receipt(message.recipient, b"n")])
    record = driver.record(message)
    assert (record.state, record.carrier) == (State.DELIVERED, "north")


def test_a_resend_that_expires_leaves_the_message_unknown_not_expired(driver: MessageDriver) -> None:
    message = driver.message()
    lost(driver, message)
    driver.later(2 * HOUR + 60_001)
    driver.sweep()
    assert (driver.record(message).state, driver.record(message).final) == (State.UNKNOWN, False)


def test_a_late_refusal_ends_what_was_never_to_be_resent(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    leased = lost(driver, message)
    refused = [PartAnswer(0, PENDING, b"", 11)]
    driver.report(driver.answer(leased, Resolution.REJECTED, parts=refused, reason=Reason.CARRIER_REFUSED, status=11))
    assert driver.record(message).state is State.REJECTED


def test_a_late_refusal_of_the_first_copy_leaves_the_second_alone_to_decide(driver: MessageDriver) -> None:
    message = driver.message()
    first, _ = resent_by_south(driver, message)
    driver.report(driver.answer(first, Resolution.REJECTED, parts=[PartAnswer(0, PENDING, b"", 11)], status=11))
    driver.report(receipts=[driver.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert driver.record(message).state is State.UNDELIVERED


def test_a_late_answer_while_the_resend_is_on_its_way_counts_for_the_message(driver: MessageDriver) -> None:
    message = driver.message()
    first = lost(driver, message)
    (second,) = driver.take(carrier="south").leased
    driver.report(driver.sent(first, b"n"))
    driver.run(driver.store.untake(OWNER, [(second.id, second.lease)]))  # never written after all
    record = driver.record(message)
    assert (record.state, record.carrier) == (State.SENT, "north")
    assert driver.report(receipts=[driver.receipt(message.recipient, b"n")]) == [ReceiptMatch.APPLIED]


def test_a_repeated_call_adds_no_copy(driver: MessageDriver) -> None:
    message = driver.message()
    first, second = resent_by_south(driver, message)
    driver.report(driver.sent(first, b"n"))
    before = driver.record(message)
    driver.report(driver.sent(first, b"n"))
    driver.report(driver.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")]))
    assert driver.record(message) == before


def test_the_rest_of_a_long_message_goes_to_the_carrier_that_has_begun_it(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    driver.accept(message)
    (leased,) = driver.take().leased
    parts = [PartAnswer(0, ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=parts))
    assert driver.take(carrier="south").leased == []
    (again,) = driver.take().leased
    assert (again.pinned, again.parts) == ("north", bytes([ACCEPTED, PENDING]))


# ---- a receipt proves that it was sent


def test_a_receipt_without_a_known_id_settles_the_one_message_that_is_unknown(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    lost(driver, message)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED


def test_a_receipt_that_came_before_the_silence_was_over_prevents_the_resend(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.later(1000)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")]) == [ReceiptMatch.PARKED]
    driver.later(34_000)
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert driver.record(message).state is State.DELIVERED
    assert driver.take().leased == []
    assert driver.run(driver.store.depths()).parked == 0


def test_a_receipt_that_waits_as_an_orphan_still_proves_what_becomes_unknown_later(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.later(1000)
    driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")])
    driver.later(90_000)
    assert driver.sweep()[5] == 1
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert driver.record(message).state is State.DELIVERED


def test_a_receipt_from_before_the_write_proves_nothing(driver: MessageDriver) -> None:
    message = driver.message()
    driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")])
    driver.later(5000)
    lost(driver, message)
    assert driver.record(message).state is State.QUEUED


def test_a_receipt_waits_while_another_message_to_the_recipient_is_unanswered(driver: MessageDriver) -> None:
    unknown, flying = driver.message(on_unknown=OnUnknown.NEVER), driver.message()
    lost(driver, unknown)
    driver.accept(flying)
    (leased,) = driver.take().leased
    assert driver.report(receipts=[driver.unmatched_receipt(unknown.recipient, b"x")]) == [ReceiptMatch.PARKED]
    driver.report(driver.sent(leased, b"x"))
    assert driver.record(flying).state is State.DELIVERED
    assert driver.record(unknown).state is State.UNKNOWN


def test_a_receipt_that_two_unknown_messages_may_own_settles_neither(driver: MessageDriver) -> None:
    messages = [driver.message(on_unknown=OnUnknown.NEVER) for _ in range(2)]
    for message in messages:
        lost(driver, message)
    assert driver.report(receipts=[driver.unmatched_receipt(messages[0].recipient, b"x")]) == [ReceiptMatch.PARKED]
    assert {driver.record(message).state for message in messages} == {State.UNKNOWN}


def test_two_messages_without_an_id_stay_sent_when_a_receipt_may_be_eithers(driver: MessageDriver) -> None:
    messages = [driver.message() for _ in range(2)]
    for message in messages:
        driver.accept(message)
        driver.report(driver.sent(driver.take().leased[0], b""))
    driver.report(receipts=[driver.unmatched_receipt(messages[0].recipient, b"x")])
    for message in messages:
        record = driver.record(message)
        assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, False)
    driver.later(73 * HOUR)
    driver.sweep()
    record = driver.record(messages[0])
    assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, True)


def test_an_excerpt_of_the_text_tells_two_unknown_messages_apart(driver: MessageDriver) -> None:
    one, other = (driver.message(on_unknown=OnUnknown.NEVER) for _ in range(2))
    lost(driver, one, excerpt=b"one")
    lost(driver, other, excerpt=b"other")
    assert driver.report(receipts=[driver.unmatched_receipt(one.recipient, b"x", excerpt=b"other")]) == [
        ReceiptMatch.APPLIED
    ]
    assert (driver.record(one).state, driver.record(other).state) == (State.UNKNOWN, State.DELIVERED)


def test_an_excerpt_of_another_text_proves_nothing(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    lost(driver, message, excerpt=b"mine")
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x", excerpt=b"theirs")]) == [
        ReceiptMatch.PARKED
    ]
    assert driver.record(message).state is State.UNKNOWN


def test_where_forms_of_ids_are_not_known_yet_a_receipt_proves_nothing(driver: MessageDriver) -> None:
    named, message = driver.message(), driver.message(on_unknown=OnUnknown.NEVER)
    driver.accept(named)
    driver.report(
        driver.sent(driver.take().leased[0], b"1a")
    )  # 26, in another form: its receipt would prove the wrong one
    lost(driver, message)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x", sure=False)]) == [
        ReceiptMatch.PARKED
    ]
    driver.later(61_000)
    driver.sweep()
    assert driver.record(message).state is State.UNKNOWN


def test_once_a_form_is_learned_the_receipts_that_wait_prove_what_becomes_unknown(driver: MessageDriver) -> None:
    named, message = driver.message(), driver.message()
    driver.accept(named)
    driver.report(driver.sent(driver.take().leased[0], b"1a"), receipts=[driver.receipt(named.recipient, b"1a")])
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.later(1000)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x", sure=False)]) == [
        ReceiptMatch.PARKED
    ]
    driver.run(driver.store.flag(b"i:north\0h", 1))
    driver.report(driver.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert driver.record(message).state is State.DELIVERED


def test_a_carrier_that_never_gave_an_id_has_no_forms_to_be_learned_first(driver: MessageDriver) -> None:
    message = driver.message(on_unknown=OnUnknown.NEVER)
    lost(driver, message)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x", sure=False)]) == [
        ReceiptMatch.APPLIED
    ]


def test_the_receipts_of_all_unknown_parts_settle_a_long_message(driver: MessageDriver) -> None:
    message = driver.message(segments=2, on_unknown=OnUnknown.NEVER)
    driver.accept(message)
    parts = [PartAnswer(index, PartState.UNKNOWN) for index in range(2)]
    driver.report(driver.answer(driver.take().leased[0], Resolution.UNKNOWN, parts=parts))
    driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"x")])
    assert driver.record(message).state is State.UNKNOWN  # which part it is about cannot be known
    driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"y")])
    assert driver.record(message).state is State.DELIVERED


# ---- ids


def test_the_same_id_for_two_open_messages_never_ends_the_wrong_one(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    for message in (one, other):
        driver.accept(message)
        driver.report(driver.sent(driver.take().leased[0], b"7"))
    assert driver.report(receipts=[driver.receipt(one.recipient, b"7")]) == [ReceiptMatch.AMBIGUOUS]
    for message in (one, other):
        assert (driver.record(message).state, driver.record(message).reason) == (State.SENT, Reason.AMBIGUOUS_RECEIPT)


def test_an_id_given_again_counts_for_the_message_that_is_open(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    driver.accept(one)
    driver.report(driver.sent(driver.take().leased[0], b"7"), receipts=[driver.receipt(one.recipient, b"7")])
    driver.accept(other)
    driver.report(driver.sent(driver.take().leased[0], b"7"))
    assert driver.report(receipts=[driver.receipt(one.recipient, b"7", state=UNDELIVERED)]) == [ReceiptMatch.APPLIED]
    assert (driver.record(one).state, driver.record(other).state) == (State.DELIVERED, State.UNDELIVERED)


def test_a_guessed_form_waits_for_its_turn_and_for_permission(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"1a"))
    receipt = driver.unmatched_receipt(message.recipient, b"26", b"1a", sure=False)
    assert driver.report(receipts=[receipt]) == [ReceiptMatch.PARKED]
    driver.later(59_000)
    partition = message.recipient.partition
    assert driver.run(driver.store.sweep(partition)).guesses == []
    driver.later(2000)
    assert driver.run(driver.store.sweep(partition)).guesses == [FormGuess("north", "h", b"26", b"1a")]
    assert driver.record(message).state is State.SENT
    driver.later(61_000)
    swept = driver.run(driver.store.sweep(partition, {("north", "h"): 1}))
    assert (swept.guesses, swept.matched) == ([], 1)  # the same receipt is evidence once
    assert driver.record(message).state is State.DELIVERED


def test_a_guess_that_leads_to_two_messages_matches_neither(driver: MessageDriver) -> None:
    one, other = driver.message(), driver.message()
    for message, given in ((one, b"1a"), (other, b"026")):
        driver.accept(message)
        driver.report(driver.sent(driver.take().leased[0], given))
    driver.report(receipts=[driver.unmatched_receipt(one.recipient, b"26", b"1a", b"026", sure=False)])
    driver.later(61_000)
    swept = driver.run(driver.store.sweep(one.recipient.partition, {("north", "h"): 1}))
    assert (swept.guesses, swept.matched, swept.orphans) == ([], 0, 1)
    assert swept.unmatched == [("north", b"26")]


# ---- what receipts say


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (PartState.RECEIPT_UNKNOWN, Reason.RECEIPT_UNKNOWN),
        (PartState.RECEIPT_UNREADABLE, Reason.RECEIPT_UNREADABLE),
    ],
)
def test_a_receipt_that_says_nothing_leaves_it_sent_and_a_later_one_counts(
    driver: MessageDriver, state: PartState, reason: Reason
) -> None:
    message = driver.message()
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a"))
    receipt = driver.receipt(message.recipient, b"a", state=state)
    assert driver.report(receipts=[receipt, receipt]) == [ReceiptMatch.APPLIED, ReceiptMatch.REPEATED]
    record = driver.record(message)
    assert (record.state, record.reason, record.final) == (State.SENT, reason, False)
    driver.report(receipts=[driver.receipt(message.recipient, b"a")])
    assert driver.record(message).state is State.DELIVERED


def test_one_id_for_all_parts_has_one_receipt_for_all(driver: MessageDriver) -> None:
    message = driver.message(segments=3)
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a", b"a", b"a"))
    assert driver.report(receipts=[driver.receipt(message.recipient, b"a")]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED


def test_the_receipt_of_the_last_part_speaks_for_all_where_the_carrier_sends_no_other(driver: MessageDriver) -> None:
    message = driver.message(segments=3)
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a", b"b", b"c"))
    whole = msgspec.structs.replace(driver.receipt(message.recipient, b"c"), whole=True)
    driver.report(receipts=[msgspec.structs.replace(whole, ids=(b"a",))])
    assert driver.record(message).state is State.SENT
    driver.report(receipts=[whole])
    assert driver.record(message).state is State.DELIVERED


def test_a_failed_part_ends_the_message_at_once(driver: MessageDriver) -> None:
    message = driver.message(segments=3)
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a", b"b", b"c"))
    driver.report(receipts=[driver.receipt(message.recipient, b"b", state=UNDELIVERED)])
    assert driver.record(message).state is State.UNDELIVERED


# ---- probes


def test_a_probe_risks_one_message_that_may_be_resent_and_was_resent_least(driver: MessageDriver) -> None:
    risky, marketing, fresh = driver.message(), driver.message(on_unknown=OnUnknown.NEVER), driver.message()
    lost(driver, risky)
    driver.accept(marketing, fresh)
    (leased,) = driver.take(probe=True).leased
    assert (leased.id, leased.resent) == (fresh.id, 0)
    (leased,) = driver.take(probe=True).leased
    assert (leased.id, leased.resent) == (risky.id, 1)
    assert driver.take(probe=True).leased == []
    (leased,) = driver.take().leased
    assert leased.id == marketing.id


# ---- the rest of long messages


def test_the_rest_of_a_long_message_is_asked_for_again_and_stops_at_a_revocation(driver: MessageDriver) -> None:
    checks = 7
    message = driver.message(segments=3, category=Category.MARKETING, permission=driver.permission(checks=checks))
    consent = OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.ALLOWS, b"shop/b--", driver.now - 1000)
    driver.run(driver.store.opt([consent]))
    driver.accept(message)
    (leased,) = driver.take().leased
    lease = (leased.id, leased.lease)
    assert driver.run(driver.store.regate(OWNER, [lease])) == [None]
    revoked = OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.STOPS, b"shop/b--", driver.now)
    driver.run(driver.store.opt([revoked]))
    assert driver.run(driver.store.regate(OWNER, [lease])) == [Reason.CONSENT_REVOKED]
    parts = [PartAnswer(0, ACCEPTED, b"a"), PartAnswer(1, PENDING), PartAnswer(2, PENDING)]
    driver.report(driver.answer(leased, Resolution.BACK, parts=parts, reason=Reason.BIND_LOST))
    record = driver.record(message)
    assert (record.state, record.reason) == (State.FAILED, Reason.CONSENT_REVOKED)
    assert driver.new_events()[-1].parts_accepted == 1
    assert driver.run(driver.store.regate(OWNER, [lease])) == [Reason.NONE]


def test_the_rest_of_a_long_message_does_not_follow_after_the_close(driver: MessageDriver) -> None:
    message = driver.message(segments=2, permission=driver.permission(closes=driver.now + 5000))
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.later(5000)
    assert driver.run(driver.store.regate(OWNER, [(leased.id, leased.lease)])) == [Reason.QUIET_HOURS]


# ---- the form of records


def test_a_record_of_the_first_format_is_read_and_lives_on(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    bucket = driver.link.tags[message.recipient.partition] + b"m:" + message.id[:4].hex().encode()
    partition = message.recipient.partition
    raw = driver.run(driver.link.command(partition, "HGET", bucket, message.id))
    assert raw[2] == VERSION
    cut = HEAD.size - 4  # before the length of copies
    former = raw[:2] + raw[3:cut] + raw[cut + 2 :]
    assert len(former) == len(raw) - 3
    assert len(raw[: HEAD.size]) - 3 == FORMER_HEAD
    driver.run(driver.link.command(partition, "HSET", bucket, message.id, former))
    assert read_record(message.id, former, driver.vault) == read_record(message.id, raw, driver.vault)
    (leased,) = driver.take(lanes=tuple(Lane("north", 0, priority) for priority in Priority)).leased
    assert leased.content == message.content
    driver.report(driver.sent(leased, b"a"), receipts=[driver.receipt(message.recipient, b"a")])
    assert driver.record(message).state is State.DELIVERED
