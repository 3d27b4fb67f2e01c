"""Messages that may be on the wire more than once, and what a receipt without a known id may settle."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from gateway.model import (
    Category,
    Leased,
    Match,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Priority,
    Reason,
    Resolution,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store.codec import read_record
from gateway.store.layout import FORMER_HEAD, HEAD, VERSION
from gateway.store.requests import FormGuess, Lane, OptChange
from tests.store.test_scripts import HOUR, OWNER, UNKNOWN, Desk

DELIVERED, UNDELIVERED, EXPIRED = PartState.DELIVERED, PartState.UNDELIVERED, PartState.EXPIRED
ACCEPTED, PENDING = PartState.ACCEPTED, PartState.PENDING


@pytest.fixture
def desk(store_url: str) -> Iterator[Desk]:
    desk = Desk(store_url)
    desk.reset()
    yield desk
    desk.close()


def lost(desk: Desk, message: NewMessage, **changes: object) -> Leased:
    """The message is accepted, taken by north, and never answered."""
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN, **changes))
    return leased


def resent_by_south(desk: Desk, message: NewMessage) -> tuple[Leased, Leased]:
    """Lost at north, and sent once more, and accepted, by south as b"s"."""
    first = lost(desk, message)
    (second,) = desk.take(carrier="south").leased
    desk.report(desk.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")]))
    return first, second


def test_one_delivered_copy_wins_whatever_the_other_carrier_says(desk: Desk) -> None:
    message = desk.message()
    first, _ = resent_by_south(desk, message)
    desk.report(desk.sent(first, b"n"))  # late, on the link that still lives
    assert [(c.carrier, c.state) for c in desk.record(message).copies] == [("north", ACCEPTED), ("south", ACCEPTED)]
    desk.report(receipts=[desk.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert (desk.record(message).state, desk.record(message).final) == (State.SENT, False)
    desk.report(receipts=[desk.receipt(message.recipient, b"n")])
    assert desk.record(message).state is State.DELIVERED


def test_a_failed_copy_counts_when_every_other_has_failed_too(desk: Desk) -> None:
    message = desk.message()
    first, _ = resent_by_south(desk, message)
    desk.report(desk.sent(first, b"n"))
    desk.report(receipts=[desk.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    desk.report(receipts=[desk.receipt(message.recipient, b"n", state=EXPIRED)])
    assert desk.record(message).state is State.UNDELIVERED


def test_a_failed_copy_counts_at_last_when_nothing_is_heard_of_the_other(desk: Desk) -> None:
    message = desk.message()
    resent_by_south(desk, message)
    desk.report(receipts=[desk.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert desk.record(message).state is State.SENT
    desk.later(73 * HOUR)
    desk.sweep()
    assert (desk.record(message).state, desk.record(message).reason) == (State.UNDELIVERED, Reason.RECEIPT)


def test_a_permanent_refusal_of_the_resend_is_not_final_while_the_first_copy_may_be_out(desk: Desk) -> None:
    message = desk.message()
    first = lost(desk, message)
    (second,) = desk.take(carrier="south").leased
    refused = desk.answer(second, Resolution.REJECTED, carrier="south", reason=Reason.CARRIER_REFUSED, status=11)
    desk.report(refused)
    assert (desk.record(message).state, desk.record(message).final) == (State.UNKNOWN, False)
    desk.report(desk.sent(first, b"n"), receipts=[desk.receipt(message.recipient, b"n")])
    record = desk.record(message)
    assert (record.state, record.carrier) == (State.DELIVERED, "north")


def test_a_resend_that_expires_leaves_the_message_unknown_not_expired(desk: Desk) -> None:
    message = desk.message()
    lost(desk, message)
    desk.later(2 * HOUR + 60_001)
    desk.sweep()
    assert (desk.record(message).state, desk.record(message).final) == (State.UNKNOWN, False)


def test_a_late_refusal_ends_what_was_never_to_be_resent(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    leased = lost(desk, message)
    refused = [PartAnswer(0, PENDING, b"", 11)]
    desk.report(desk.answer(leased, Resolution.REJECTED, parts=refused, reason=Reason.CARRIER_REFUSED, status=11))
    assert desk.record(message).state is State.REJECTED


def test_a_late_refusal_of_the_first_copy_leaves_the_second_alone_to_decide(desk: Desk) -> None:
    message = desk.message()
    first, _ = resent_by_south(desk, message)
    desk.report(desk.answer(first, Resolution.REJECTED, parts=[PartAnswer(0, PENDING, b"", 11)], status=11))
    desk.report(receipts=[desk.receipt(message.recipient, b"s", carrier="south", state=UNDELIVERED)])
    assert desk.record(message).state is State.UNDELIVERED


def test_a_late_answer_while_the_resend_is_on_its_way_counts_for_the_message(desk: Desk) -> None:
    message = desk.message()
    first = lost(desk, message)
    (second,) = desk.take(carrier="south").leased
    desk.report(desk.sent(first, b"n"))
    desk.run(desk.store.untake(OWNER, [(second.id, second.lease)]))  # never written after all
    record = desk.record(message)
    assert (record.state, record.carrier) == (State.SENT, "north")
    assert desk.report(receipts=[desk.receipt(message.recipient, b"n")]) == [Match.APPLIED]


def test_a_repeated_call_adds_no_copy(desk: Desk) -> None:
    message = desk.message()
    first, second = resent_by_south(desk, message)
    desk.report(desk.sent(first, b"n"))
    before = desk.record(message)
    desk.report(desk.sent(first, b"n"))
    desk.report(desk.answer(second, Resolution.SENT, carrier="south", parts=[PartAnswer(0, ACCEPTED, b"s")]))
    assert desk.record(message) == before


def test_the_rest_of_a_long_message_goes_to_the_carrier_that_has_begun_it(desk: Desk) -> None:
    message = desk.message(segments=2)
    desk.accept(message)
    (leased,) = desk.take().leased
    parts = [PartAnswer(0, ACCEPTED, b"a"), PartAnswer(1, PartState.UNKNOWN)]
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=parts))
    assert desk.take(carrier="south").leased == []
    (again,) = desk.take().leased
    assert (again.pinned, again.parts) == ("north", bytes([ACCEPTED, PENDING]))


# ---- a receipt proves that it was sent


def test_a_receipt_without_a_known_id_settles_the_one_message_that_is_unknown(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    lost(desk, message)
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x")]) == [Match.APPLIED]
    assert desk.record(message).state is State.DELIVERED


def test_a_receipt_that_came_before_the_silence_was_over_prevents_the_resend(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.later(1000)
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x")]) == [Match.PARKED]
    desk.later(34_000)
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert desk.record(message).state is State.DELIVERED
    assert desk.take().leased == []
    assert desk.run(desk.store.depths()).parked == 0


def test_a_receipt_that_waits_as_an_orphan_still_proves_what_becomes_unknown_later(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.later(1000)
    desk.report(receipts=[desk.stranger(message.recipient, b"x")])
    desk.later(90_000)
    assert desk.sweep()[5] == 1
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert desk.record(message).state is State.DELIVERED


def test_a_receipt_from_before_the_write_proves_nothing(desk: Desk) -> None:
    message = desk.message()
    desk.report(receipts=[desk.stranger(message.recipient, b"x")])
    desk.later(5000)
    lost(desk, message)
    assert desk.record(message).state is State.QUEUED


def test_a_receipt_waits_while_another_message_to_the_recipient_is_unanswered(desk: Desk) -> None:
    unknown, flying = desk.message(on_unknown=OnUnknown.NEVER), desk.message()
    lost(desk, unknown)
    desk.accept(flying)
    (leased,) = desk.take().leased
    assert desk.report(receipts=[desk.stranger(unknown.recipient, b"x")]) == [Match.PARKED]
    desk.report(desk.sent(leased, b"x"))
    assert desk.record(flying).state is State.DELIVERED
    assert desk.record(unknown).state is State.UNKNOWN


def test_a_receipt_that_two_unknown_messages_may_own_settles_neither(desk: Desk) -> None:
    messages = [desk.message(on_unknown=OnUnknown.NEVER) for _ in range(2)]
    for message in messages:
        lost(desk, message)
    assert desk.report(receipts=[desk.stranger(messages[0].recipient, b"x")]) == [Match.PARKED]
    assert {desk.record(message).state for message in messages} == {State.UNKNOWN}


def test_two_messages_without_an_id_stay_sent_when_a_receipt_may_be_eithers(desk: Desk) -> None:
    messages = [desk.message() for _ in range(2)]
    for message in messages:
        desk.accept(message)
        desk.report(desk.sent(desk.take().leased[0], b""))
    desk.report(receipts=[desk.stranger(messages[0].recipient, b"x")])
    for message in messages:
        record = desk.record(message)
        assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, False)
    desk.later(73 * HOUR)
    desk.sweep()
    record = desk.record(messages[0])
    assert (record.state, record.reason, record.final) == (State.SENT, Reason.AMBIGUOUS_RECEIPT, True)


def test_an_excerpt_of_the_text_tells_two_unknown_messages_apart(desk: Desk) -> None:
    one, other = (desk.message(on_unknown=OnUnknown.NEVER) for _ in range(2))
    lost(desk, one, excerpt=b"one")
    lost(desk, other, excerpt=b"other")
    assert desk.report(receipts=[desk.stranger(one.recipient, b"x", excerpt=b"other")]) == [Match.APPLIED]
    assert (desk.record(one).state, desk.record(other).state) == (State.UNKNOWN, State.DELIVERED)


def test_an_excerpt_of_another_text_proves_nothing(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    lost(desk, message, excerpt=b"mine")
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x", excerpt=b"theirs")]) == [Match.PARKED]
    assert desk.record(message).state is State.UNKNOWN


def test_where_forms_of_ids_are_not_known_yet_a_receipt_proves_nothing(desk: Desk) -> None:
    named, message = desk.message(), desk.message(on_unknown=OnUnknown.NEVER)
    desk.accept(named)
    desk.report(desk.sent(desk.take().leased[0], b"1a"))  # 26, in another form: its receipt would prove the wrong one
    lost(desk, message)
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x", sure=False)]) == [Match.PARKED]
    desk.later(61_000)
    desk.sweep()
    assert desk.record(message).state is State.UNKNOWN


def test_once_a_form_is_learned_the_receipts_that_wait_prove_what_becomes_unknown(desk: Desk) -> None:
    named, message = desk.message(), desk.message()
    desk.accept(named)
    desk.report(desk.sent(desk.take().leased[0], b"1a"), receipts=[desk.receipt(named.recipient, b"1a")])
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.later(1000)
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x", sure=False)]) == [Match.PARKED]
    desk.run(desk.store.flag(b"i:north\0h", 1))
    desk.report(desk.answer(leased, Resolution.UNKNOWN, parts=UNKNOWN))
    assert desk.record(message).state is State.DELIVERED


def test_a_carrier_that_never_gave_an_id_has_no_forms_to_be_learned_first(desk: Desk) -> None:
    message = desk.message(on_unknown=OnUnknown.NEVER)
    lost(desk, message)
    assert desk.report(receipts=[desk.stranger(message.recipient, b"x", sure=False)]) == [Match.APPLIED]


def test_the_receipts_of_all_unknown_parts_settle_a_long_message(desk: Desk) -> None:
    message = desk.message(segments=2, on_unknown=OnUnknown.NEVER)
    desk.accept(message)
    parts = [PartAnswer(index, PartState.UNKNOWN) for index in range(2)]
    desk.report(desk.answer(desk.take().leased[0], Resolution.UNKNOWN, parts=parts))
    desk.report(receipts=[desk.stranger(message.recipient, b"x")])
    assert desk.record(message).state is State.UNKNOWN  # which part it is about nobody can tell
    desk.report(receipts=[desk.stranger(message.recipient, b"y")])
    assert desk.record(message).state is State.DELIVERED


# ---- ids


def test_the_same_id_for_two_open_messages_never_ends_the_wrong_one(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    for message in (one, other):
        desk.accept(message)
        desk.report(desk.sent(desk.take().leased[0], b"7"))
    assert desk.report(receipts=[desk.receipt(one.recipient, b"7")]) == [Match.AMBIGUOUS]
    for message in (one, other):
        assert (desk.record(message).state, desk.record(message).reason) == (State.SENT, Reason.AMBIGUOUS_RECEIPT)


def test_an_id_given_again_counts_for_the_message_that_is_open(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    desk.accept(one)
    desk.report(desk.sent(desk.take().leased[0], b"7"), receipts=[desk.receipt(one.recipient, b"7")])
    desk.accept(other)
    desk.report(desk.sent(desk.take().leased[0], b"7"))
    assert desk.report(receipts=[desk.receipt(one.recipient, b"7", state=UNDELIVERED)]) == [Match.APPLIED]
    assert (desk.record(one).state, desk.record(other).state) == (State.DELIVERED, State.UNDELIVERED)


def test_a_guessed_form_waits_for_its_turn_and_for_permission(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"1a"))
    receipt = desk.stranger(message.recipient, b"26", b"1a", sure=False)
    assert desk.report(receipts=[receipt]) == [Match.PARKED]
    desk.later(59_000)
    partition = message.recipient.partition
    assert desk.run(desk.store.sweep(partition)).guesses == []
    desk.later(2000)
    assert desk.run(desk.store.sweep(partition)).guesses == [FormGuess("north", "h", b"26", b"1a")]
    assert desk.record(message).state is State.SENT
    desk.later(61_000)
    swept = desk.run(desk.store.sweep(partition, {("north", "h"): 1}))
    assert (swept.guesses, swept.matched) == ([], 1)  # the same receipt is evidence once
    assert desk.record(message).state is State.DELIVERED


def test_a_guess_that_leads_to_two_messages_leads_nowhere(desk: Desk) -> None:
    one, other = desk.message(), desk.message()
    for message, given in ((one, b"1a"), (other, b"026")):
        desk.accept(message)
        desk.report(desk.sent(desk.take().leased[0], given))
    desk.report(receipts=[desk.stranger(one.recipient, b"26", b"1a", b"026", sure=False)])
    desk.later(61_000)
    swept = desk.run(desk.store.sweep(one.recipient.partition, {("north", "h"): 1}))
    assert (swept.guesses, swept.matched, swept.orphans) == ([], 0, 1)
    assert swept.strangers == [("north", b"26")]


# ---- what receipts say


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (PartState.RECEIPT_UNKNOWN, Reason.RECEIPT_UNKNOWN),
        (PartState.RECEIPT_UNREADABLE, Reason.RECEIPT_UNREADABLE),
    ],
)
def test_a_receipt_that_says_nothing_leaves_it_sent_and_a_later_one_counts(
    desk: Desk, state: PartState, reason: Reason
) -> None:
    message = desk.message()
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a"))
    receipt = desk.receipt(message.recipient, b"a", state=state)
    assert desk.report(receipts=[receipt, receipt]) == [Match.APPLIED, Match.REPEATED]
    record = desk.record(message)
    assert (record.state, record.reason, record.final) == (State.SENT, reason, False)
    desk.report(receipts=[desk.receipt(message.recipient, b"a")])
    assert desk.record(message).state is State.DELIVERED


def test_one_id_for_all_parts_has_one_receipt_for_all(desk: Desk) -> None:
    message = desk.message(segments=3)
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a", b"a", b"a"))
    assert desk.report(receipts=[desk.receipt(message.recipient, b"a")]) == [Match.APPLIED]
    assert desk.record(message).state is State.DELIVERED


def test_the_receipt_of_the_last_part_speaks_for_all_where_the_carrier_sends_no_other(desk: Desk) -> None:
    message = desk.message(segments=3)
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a", b"b", b"c"))
    whole = msgspec.structs.replace(desk.receipt(message.recipient, b"c"), whole=True)
    desk.report(receipts=[msgspec.structs.replace(whole, ids=(b"a",))])
    assert desk.record(message).state is State.SENT
    desk.report(receipts=[whole])
    assert desk.record(message).state is State.DELIVERED


def test_a_failed_part_ends_the_message_at_once(desk: Desk) -> None:
    message = desk.message(segments=3)
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a", b"b", b"c"))
    desk.report(receipts=[desk.receipt(message.recipient, b"b", state=UNDELIVERED)])
    assert desk.record(message).state is State.UNDELIVERED


# ---- probes


def test_a_probe_risks_one_message_that_may_be_resent_and_was_resent_least(desk: Desk) -> None:
    risky, marketing, fresh = desk.message(), desk.message(on_unknown=OnUnknown.NEVER), desk.message()
    lost(desk, risky)
    desk.accept(marketing, fresh)
    (leased,) = desk.take(probe=True).leased
    assert (leased.id, leased.resent) == (fresh.id, 0)
    (leased,) = desk.take(probe=True).leased
    assert (leased.id, leased.resent) == (risky.id, 1)
    assert desk.take(probe=True).leased == []
    (leased,) = desk.take().leased
    assert leased.id == marketing.id


# ---- the rest of long messages


def test_the_rest_of_a_long_message_is_asked_for_again_and_stops_at_a_revocation(desk: Desk) -> None:
    checks = 7
    message = desk.message(segments=3, category=Category.MARKETING, permission=desk.permission(checks=checks))
    consent = OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.ALLOWS, b"shop/b--", desk.now - 1000)
    desk.run(desk.store.opt([consent]))
    desk.accept(message)
    (leased,) = desk.take().leased
    lease = (leased.id, leased.lease)
    assert desk.run(desk.store.regate(OWNER, [lease])) == [None]
    revoked = OptChange(message.recipient, RuleGroup.CONSENT, RuleStatus.STOPS, b"shop/b--", desk.now)
    desk.run(desk.store.opt([revoked]))
    assert desk.run(desk.store.regate(OWNER, [lease])) == [Reason.CONSENT_REVOKED]
    parts = [PartAnswer(0, ACCEPTED, b"a"), PartAnswer(1, PENDING), PartAnswer(2, PENDING)]
    desk.report(desk.answer(leased, Resolution.BACK, parts=parts, reason=Reason.BIND_LOST))
    record = desk.record(message)
    assert (record.state, record.reason) == (State.FAILED, Reason.CONSENT_REVOKED)
    assert desk.new_events()[-1].parts_accepted == 1
    assert desk.run(desk.store.regate(OWNER, [lease])) == [Reason.NONE]


def test_the_rest_of_a_long_message_does_not_follow_after_the_close(desk: Desk) -> None:
    message = desk.message(segments=2, permission=desk.permission(closes=desk.now + 5000))
    desk.accept(message)
    (leased,) = desk.take().leased
    desk.later(5000)
    assert desk.run(desk.store.regate(OWNER, [(leased.id, leased.lease)])) == [Reason.QUIET_HOURS]


# ---- the form of records


def test_a_record_of_the_first_format_is_read_and_lives_on(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    bucket = desk.link.tags[message.recipient.partition] + b"m:" + message.id[:4].hex().encode()
    partition = message.recipient.partition
    raw = desk.run(desk.link.command(partition, "HGET", bucket, message.id))
    assert raw[2] == VERSION
    cut = HEAD.size - 4  # before the length of copies
    former = raw[:2] + raw[3:cut] + raw[cut + 2 :]
    assert len(former) == len(raw) - 3
    assert len(raw[: HEAD.size]) - 3 == FORMER_HEAD
    desk.run(desk.link.command(partition, "HSET", bucket, message.id, former))
    assert read_record(message.id, former, desk.vault) == read_record(message.id, raw, desk.vault)
    (leased,) = desk.take(lanes=tuple(Lane("north", 0, priority) for priority in Priority)).leased
    assert leased.content == message.content
    desk.report(desk.sent(leased, b"a"), receipts=[desk.receipt(message.recipient, b"a")])
    assert desk.record(message).state is State.DELIVERED
