from __future__ import annotations

from typing import Any

import pytest

from gateway.config import Carrier
from gateway.model import Match, PartState, ReceiptFact
from gateway.pipeline.receipts import PATIENCE, Receipts, number_of
from gateway.pipeline.report import MAX_RECEIPTS
from gateway.smpp.messages import Message
from tests.pipeline.memory_store import HASHER


class FakeReporter:
    def __init__(self) -> None:
        self.facts: list[ReceiptFact] = []
        self.tickets: list[Any] = []
        self.room = MAX_RECEIPTS
        self.away_since: float | None = None

    def receipts(self, facts: list[ReceiptFact], tickets: list[Any]) -> None:
        self.facts += facts
        self.tickets += tickets

    def take(self) -> tuple[list[ReceiptFact], list[Any]]:
        facts, tickets = self.facts, self.tickets
        self.facts, self.tickets = [], []
        return facts, tickets


class FakeBind:
    def __init__(self) -> None:
        self.answers: list[tuple[int, int]] = []

    def respond(self, command_id: int, sequence: int, status: int) -> None:
        self.answers.append((sequence, status))


def receipts_of(**settings: Any) -> tuple[Receipts, FakeReporter]:
    carrier = Carrier(name="north", hosts=("127.0.0.1:1",), system_id="gw", password="pw", **settings)
    reporter = FakeReporter()
    return Receipts(carrier, HASHER, reporter), reporter  # type: ignore[arg-type]


def deliver(
    text: bytes, sequence: int = 1, *, esm_class: int = 4, source: bytes = b"46700000001", **rest: Any
) -> Message:
    return Message(5, sequence, b"", 1, 1, source, 5, 0, b"shop", esm_class=esm_class, short_message=text, **rest)


DELIVERED = b"id:0A1B sub:001 dlvrd:001 submit date:2611210100 done date:2611210101 stat:DELIVRD err:000 text:hello"

DONE = 1_795_222_860_000
"""01:01 UTC of that day."""


@pytest.mark.parametrize("source", [b"447911123456", b"+447911123456", b"00447911123456", b"4407911123456"])
def test_a_receipt_names_the_recipient_however_the_carrier_writes_the_number(source: bytes) -> None:
    receipts, reporter = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED, source=source)], 0.0)
    assert reporter.take()[0][0].recipient.key == HASHER.recipient("447911123456").key


def test_a_mexican_receipt_without_the_1_belongs_to_the_message_dialled_with_it() -> None:
    receipts, reporter = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED, source=b"525512345678")], 0.0)
    assert reporter.take()[0][0].recipient.key == HASHER.recipient("5215512345678").key


def test_acknowledged_only_when_stored() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 7)], 0.0)
    (fact,), tickets = reporter.take()
    assert bind.answers == []
    assert (fact.carrier, fact.ids, fact.state, fact.error) == ("north", (b"0A1B",), PartState.DELIVERED, "000")
    assert fact.recipient == HASHER.recipient("46700000001")
    receipts.stored([Match.APPLIED], tickets)
    assert bind.answers == [(7, 0)]
    assert receipts.counts["applied"] == 1


@pytest.mark.parametrize(
    ("date", "kept"),
    [
        (b"2611210101", DONE),
        (b"2611220059", DONE + 86_280_000),  # a day ahead: nobody has set its zone
        (b"2611230101", 0),
        (b"2501010101", 0),
        (b"99999999999999", 0),
        (b"99991231235959", 0),
        (b"yesterday", 0),
        (b"", 0),
    ],
)
def test_the_carriers_date_is_kept_when_it_can_be(date: bytes, kept: int) -> None:
    receipts, reporter = receipts_of()
    receipts._clock = lambda: DONE + 60_000
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"2611210101", date))], 0.0)
    (fact,), _ = reporter.take()
    assert (fact.state, fact.at) == (PartState.DELIVERED, kept)


def test_the_carriers_zone_is_taken_off_its_date() -> None:
    receipts, reporter = receipts_of(utc_offset=180)
    receipts._clock = lambda: DONE
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"2611210101", b"2611210401"))], 0.0)
    assert reporter.take()[0][0].at == DONE


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        (b"DELIVRD", PartState.DELIVERED),
        (b"EXPIRED", PartState.EXPIRED),
        (b"UNDELIV", PartState.UNDELIVERED),
        (b"REJECTD", PartState.UNDELIVERED),
        (b"DELETED", PartState.UNDELIVERED),
        (b"UNKNOWN", PartState.UNDELIVERED),
        (b"ENROUTE", PartState.ACCEPTED),
        (b"ACCEPTD", PartState.ACCEPTED),
    ],
)
def test_states(stat: bytes, state: PartState) -> None:
    receipts, reporter = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"DELIVRD", stat))], 0.0)
    assert reporter.facts[0].state is state


def test_other_forms_are_tried_when_nothing_is_found_and_from_then_on_if_they_fit() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 1)], 0.0)
    receipts.stored([Match.PARKED], reporter.take()[1])
    assert bind.answers == []
    (fact,), tickets = reporter.take()
    assert fact.ids[0] == b"0A1B"
    assert b"2587" in fact.ids
    receipts.stored([Match.APPLIED], tickets)
    assert bind.answers == [(1, 0)]
    assert (receipts.counts["parked"], receipts.counts["applied"]) == (0, 1)
    receipts.received(bind, [deliver(DELIVERED, 2)], 0.0)
    assert b"2587" in reporter.facts[0].ids


def test_parked_in_every_form_is_stored_all_the_same() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 1)], 0.0)
    receipts.stored([Match.PARKED], reporter.take()[1])
    receipts.stored([Match.PARKED], reporter.take()[1])
    assert bind.answers == [(1, 0)]
    assert receipts.counts["parked"] == 1
    assert reporter.facts == []


def test_ids_are_tidied_as_the_setting_says() -> None:
    receipts, reporter = receipts_of(id_form="hex-to-dec")
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"0A1B", b"0000002587"))], 0.0)
    assert reporter.facts[0].ids == (b"2587",)


def test_a_reply_is_refused_for_now() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(b"STOP", 9, esm_class=0), deliver(DELIVERED, 10)], 0.0)
    assert bind.answers == [(9, 0x64)]
    assert len(reporter.facts) == 1


def test_an_unreadable_receipt_is_refused_for_good() -> None:
    receipts, _ = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(b"thank you", 9), deliver(DELIVERED, 10, source=b"shop")], 0.0)
    assert bind.answers == [(9, 0x65), (10, 0x65)]
    assert receipts.counts["unreadable"] == 2


def test_refused_while_the_store_is_away_too_long() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    reporter.away_since = 100.0
    receipts.received(bind, [deliver(DELIVERED, 1)], 101.0)
    assert (bind.answers, len(reporter.facts)) == ([], 1)
    receipts.received(bind, [deliver(DELIVERED, 2)], 100.0 + PATIENCE + 0.1)
    assert (bind.answers, len(reporter.facts)) == ([(2, 0x14)], 1)


def test_refused_when_too_many_wait() -> None:
    receipts, reporter = receipts_of()
    bind = FakeBind()
    reporter.room = 0
    receipts.received(bind, [deliver(DELIVERED, 2)], 0.0)
    assert bind.answers == [(2, 0x14)]


def test_numbers() -> None:
    assert number_of(b"46700000001") == "46700000001"
    assert number_of(b"+46700000001") == "46700000001"
    assert number_of(b"0046700000001") == "46700000001"
    assert number_of(b"Acme") == number_of(b"") == ""
