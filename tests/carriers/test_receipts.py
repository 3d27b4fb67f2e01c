from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.carriers.progress import MAX_RECEIPTS
from gateway.carriers.receipt_number import number_of
from gateway.carriers.receipts import STORE_WAIT, ReceiptHandler
from gateway.cluster.receipt_id_forms import ENOUGH, ReceiptIdForms
from gateway.config import Carrier
from gateway.model import PartState, ReceiptFact, ReceiptMatch
from gateway.smpp.message_id import FormKind
from gateway.smpp.short_message import ShortMessage
from gateway.store.arguments import pack_receipt
from gateway.store.requests import FormGuess
from tests.carriers.memory_store import HASHER


class FakeProgressWriter:
    def __init__(self) -> None:
        self.facts: list[ReceiptFact] = []
        self.tickets: list[Any] = []
        self.room = MAX_RECEIPTS
        self.away_since: float | None = None

    def add_receipts(self, facts: list[ReceiptFact], tickets: list[Any]) -> None:
        self.facts += facts
        self.tickets += tickets

    def take(self) -> tuple[list[ReceiptFact], list[Any]]:
        facts, tickets = self.facts, self.tickets
        self.facts, self.tickets = [], []
        return facts, tickets


class FakeBind:
    peer = "127.0.0.1:1"

    def __init__(self) -> None:
        self.answers: list[tuple[int, int]] = []
        self.about_ours = 0

    def respond(self, command_id: int, sequence: int, status: int) -> None:
        self.answers.append((sequence, status))

    def useful(self, count: int) -> None:
        self.about_ours += count


def receipts_of(**settings: Any) -> tuple[ReceiptHandler, FakeProgressWriter]:
    carrier = Carrier(name="north", hosts=("127.0.0.1:1",), system_id="gw", password="pw", **settings)
    progress_writer = FakeProgressWriter()
    return ReceiptHandler(carrier, HASHER, progress_writer, ReceiptIdForms(progress_writer)), progress_writer  # type: ignore[arg-type]


def deliver(
    text: bytes, sequence: int = 1, *, esm_class: int = 4, source: bytes = b"46700000001", **rest: Any
) -> ShortMessage:
    return ShortMessage(5, sequence, b"", 1, 1, source, 5, 0, b"shop", esm_class=esm_class, short_message=text, **rest)


EXAMPLES = int(os.environ.get("RECEIPT_EXAMPLES", "200"))
"""Of the fuzz; RECEIPT_EXAMPLES=100000 runs it for minutes."""

DELIVERED = b"id:0A1B sub:001 dlvrd:001 submit date:2611210100 done date:2611210101 stat:DELIVRD err:000 text:hello"

DONE = 1_795_222_860_000
"""01:01 UTC of that day."""


@pytest.mark.parametrize("source", [b"447911123456", b"+447911123456", b"00447911123456", b"4407911123456"])
def test_a_receipt_names_the_recipient_however_the_carrier_writes_the_number(source: bytes) -> None:
    receipts, progress_writer = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED, source=source)], 0.0)
    assert progress_writer.take()[0][0].recipient.key == HASHER.recipient("447911123456").key


def test_a_mexican_receipt_without_the_1_belongs_to_the_message_dialled_with_it() -> None:
    receipts, progress_writer = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED, source=b"525512345678")], 0.0)
    assert progress_writer.take()[0][0].recipient.key == HASHER.recipient("5215512345678").key


def test_acknowledged_only_when_stored() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 7)], 0.0)
    (fact,), tickets = progress_writer.take()
    assert bind.answers == []
    assert (fact.carrier, fact.ids, fact.state, fact.error) == ("north", (b"0A1B",), PartState.DELIVERED, "000")
    assert fact.recipient == HASHER.recipient("46700000001")
    receipts.stored([ReceiptMatch.APPLIED], tickets)
    assert bind.answers == [(7, 0)]
    assert receipts.counts["applied"] == 1


@pytest.mark.parametrize(
    ("date", "kept"),
    [
        (b"2611210101", DONE),
        (b"2611220059", DONE + 86_280_000),  # a day ahead: its zone is not configured
        (b"2611230101", 0),
        (b"2501010101", 0),
        (b"99999999999999", 0),
        (b"99991231235959", 0),
        (b"yesterday", 0),
        (b"", 0),
    ],
)
def test_the_carriers_date_is_kept_when_it_can_be(date: bytes, kept: int) -> None:
    receipts, progress_writer = receipts_of()
    receipts._clock = lambda: DONE + 60_000
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"2611210101", date))], 0.0)
    (fact,), _ = progress_writer.take()
    assert (fact.state, fact.at) == (PartState.DELIVERED, kept)


def test_the_carriers_zone_is_taken_off_its_date() -> None:
    receipts, progress_writer = receipts_of(utc_offset=180)
    receipts._clock = lambda: DONE
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"2611210101", b"2611210401"))], 0.0)
    assert progress_writer.take()[0][0].at == DONE


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        (b"DELIVRD", PartState.DELIVERED),
        (b"EXPIRED", PartState.EXPIRED),
        (b"UNDELIV", PartState.UNDELIVERED),
        (b"REJECTD", PartState.UNDELIVERED),
        (b"DELETED", PartState.UNDELIVERED),
        (b"UNKNOWN", PartState.RECEIPT_UNKNOWN),
        (b"WHATEVER", PartState.RECEIPT_UNREADABLE),
        (b"ENROUTE", PartState.ACCEPTED),
        (b"ACCEPTD", PartState.ACCEPTED),
    ],
)
def test_states(stat: bytes, state: PartState) -> None:
    receipts, progress_writer = receipts_of()
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"DELIVRD", stat))], 0.0)
    assert progress_writer.facts[0].state is state


def test_a_receipt_of_an_unknown_id_is_looked_up_in_detail_before_it_is_acknowledged() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED.replace(b"text:hello", b"text:Your code is 123"), 1)], 0.0)
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    assert bind.answers == []
    (fact,), tickets = progress_writer.take()
    assert fact.ids == (b"0A1B",)
    assert fact.detail is not None
    assert (FormKind.DECIMAL, b"2587") in fact.detail.guesses
    assert (fact.detail.host, fact.detail.sure) == (bind.peer, False)
    assert fact.detail.excerpt == HASHER.excerpt("Your code is 123456, goes on")
    receipts.stored([ReceiptMatch.APPLIED], tickets)
    assert bind.answers == [(1, 0)]
    assert (receipts.counts["parked"], receipts.counts["applied"]) == (0, 1)


def test_a_form_that_was_learned_is_looked_up_first() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    guess = FormGuess("north", bind.peer, b"2587", b"a1b")
    receipts.forms.guessed([guess] * ENOUGH)
    receipts.received(bind, [deliver(DELIVERED.replace(b"0A1B", b"2587"), 2)], 0.0)
    assert progress_writer.facts[0].ids == (b"a1b", b"2587")


def test_with_the_form_set_nothing_is_guessed_and_nothing_learned() -> None:
    receipts, progress_writer = receipts_of(id_form="as-is")
    receipts.received(FakeBind(), [deliver(DELIVERED, 1)], 0.0)
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    (fact,), _ = progress_writer.take()
    assert fact.detail is not None
    assert (fact.detail.guesses, fact.detail.sure) == ((), True)
    assert receipts.forms.allowed() == {}


def test_receipts_matched_by_plain_ids_show_that_unknown_ids_match_no_message() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 1)], 0.0)
    receipts.stored([ReceiptMatch.APPLIED], progress_writer.take()[1])
    receipts.received(bind, [deliver(DELIVERED.replace(b"0A1B", b"7"), 2)], 0.0)
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    (fact,), _ = progress_writer.take()
    assert fact.detail is not None
    assert fact.detail.sure


def test_until_a_form_is_learned_the_other_forms_are_sent_with_the_receipt() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    for number in range(ENOUGH + 1):
        receipts.received(bind, [deliver(DELIVERED.replace(b"0A1B", b"16"), number)], 0.0)
        (fact,), tickets = progress_writer.take()
        if number < ENOUGH:
            assert fact.detail is not None
            assert fact.detail.early
            assert b"22" in [one for _, one in fact.detail.guesses]
        else:
            assert fact.detail is None
        receipts.stored([ReceiptMatch.APPLIED], tickets)


def test_a_receipt_parked_under_every_form_counts_as_stored() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(DELIVERED, 1)], 0.0)
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    assert bind.answers == [(1, 0)]
    assert receipts.counts["parked"] == 1
    assert progress_writer.facts == []


def test_ids_are_normalised_as_id_form_says() -> None:
    receipts, progress_writer = receipts_of(id_form="hex-to-dec")
    receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"0A1B", b"0000002587"))], 0.0)
    assert progress_writer.facts[0].ids == (b"2587",)


def test_a_reply_is_refused_temporarily() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(b"STOP", 9, esm_class=0), deliver(DELIVERED, 10)], 0.0)
    assert bind.answers == [(9, 0x64)]
    assert len(progress_writer.facts) == 1


def test_an_unreadable_receipt_is_refused_permanently() -> None:
    receipts, _ = receipts_of()
    bind = FakeBind()
    receipts.received(bind, [deliver(b"thank you", 9), deliver(DELIVERED, 10, source=b"shop")], 0.0)
    assert bind.answers == [(9, 0x65), (10, 0x65)]
    assert (receipts.counts["unreadable"], receipts.counts["numberless"]) == (1, 1)


@pytest.mark.parametrize(
    ("message", "kind", "status", "field", "words"),
    [
        (deliver(b"thank you", 9), "unreadable", 0x65, "short_message", "neither an id nor a state"),
        (deliver(DELIVERED, 9, source=b"shop"), "numberless", 0x65, "source_addr", "is alphanumeric"),
        (deliver(DELIVERED, 9, source=b""), "numberless", 0x65, "source_addr", "is empty"),
        (deliver(DELIVERED, 9, source=b"0701740605"), "numberless", 0x65, "source_addr", "in national format"),
        (deliver(DELIVERED, 9, source=b"72000"), "numberless", 0x65, "source_addr", "has 5 digits"),
        (deliver(b"STOP", 9, esm_class=0), "replies", 0x64, "esm_class", "marks no receipt"),
        (deliver(DELIVERED, 9, esm_class=0), "receipt_texts", 0x64, "esm_class", "but the text is one"),
        (deliver(b"STOP", 9, esm_class=0)._replace(command_id=0x103), "replies", 0x64, "esm_class", "marks no receipt"),
    ],
)
def test_every_refusal_names_pdu_field_and_why(
    message: ShortMessage, kind: str, status: int, field: str, words: str
) -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    with capture_logs() as lines:
        receipts.received(bind, [message], 0.0)
    assert (bind.answers, progress_writer.facts, receipts.counts[kind]) == ([(9, status)], [], 1)
    (line,) = lines
    assert (line["carrier"], line["kind"], line["field"], line["sequence"]) == ("north", kind, field, 9)
    assert line["pdu"] == ("data_sm" if message.command_id == 0x103 else "deliver_sm")
    assert words in line["why"]
    assert "46700000001" not in str(line) and "0701740605" not in str(line)


def test_refusals_are_logged_once_a_minute_for_each_kind_and_all_counted() -> None:
    receipts, _ = receipts_of()
    with capture_logs() as lines:
        for second in range(61):
            receipts.received(FakeBind(), [deliver(b"what", 1), deliver(b"STOP", 2, esm_class=0)], float(second))
    assert [(line["kind"], line["count"]) for line in lines] == [
        ("unreadable", 1), ("replies", 1), ("unreadable", 61), ("replies", 61),
    ]  # fmt: skip


def test_the_remedy_is_the_setting_that_would_have_read_it() -> None:
    with capture_logs() as lines:
        receipts_of()[0].received(FakeBind(), [deliver(DELIVERED, esm_class=0)], 0.0)
        receipts_of()[0].received(FakeBind(), [deliver(DELIVERED, source=b"0701740605")], 0.0)
    assert "receipt_text = true" in lines[0]["remedy"]
    assert 'receipt_key = "id"' in lines[1]["remedy"] and "country" in lines[1]["remedy"]
    for keys in ({"receipt_text": True}, {"country": "SE"}, {"receipt_key": "id"}):
        receipts, progress_writer = receipts_of(**keys)
        message = (
            deliver(DELIVERED, esm_class=0) if "receipt_text" in keys else deliver(DELIVERED, source=b"070-1740605")
        )
        receipts.received(FakeBind(), [message], 0.0)
        assert len(progress_writer.facts) == 1, keys


def test_a_receipts_text_is_no_receipt_by_itself() -> None:
    receipts, progress_writer = receipts_of(receipt_text=True)
    receipts.received(FakeBind(), [deliver(b"my id:7 was stat:DELIVRD?", esm_class=0)], 0.0)
    receipts.received(FakeBind(), [deliver(b"id:7 please", esm_class=0)], 0.0)
    assert (progress_writer.facts, receipts.counts["replies"]) == ([], 2)


# Whose number ------------------------------------------------------------------------------------------------------

SENDER, RECIPIENT = b"46790000000", b"46700000001"


def turned(sequence: int = 1) -> ShortMessage:
    """A receipt whose addresses are those of the submit."""
    return deliver(DELIVERED, sequence, source=SENDER)._replace(dest=RECIPIENT, dest_ton=1)


def usual(sequence: int = 1) -> ShortMessage:
    return deliver(DELIVERED, sequence, source=RECIPIENT)._replace(dest=SENDER, dest_ton=1)


def test_the_destination_is_looked_up_when_the_source_has_nothing_and_first_from_then_on() -> None:
    receipts, progress_writer = receipts_of(id_form="as-is")
    bind = FakeBind()
    receipts.received(bind, [turned(7)], 0.0)
    (fact,), tickets = progress_writer.take()
    assert fact.recipient == HASHER.recipient(SENDER.decode())
    receipts.stored([ReceiptMatch.PARKED], tickets)
    assert bind.answers == []
    (fact,), tickets = progress_writer.take()
    assert (fact.recipient, fact.ids) == (HASHER.recipient(RECIPIENT.decode()), (b"0A1B",))
    receipts.stored([ReceiptMatch.APPLIED], tickets)
    assert bind.answers == [(7, 0)]
    receipts.received(bind, [turned(8)], 0.0)
    (fact,), tickets = progress_writer.take()
    assert fact.recipient == HASHER.recipient(RECIPIENT.decode())
    receipts.stored([ReceiptMatch.PARKED], tickets)
    (told,), tickets = progress_writer.take()
    assert (told.recipient, bool(told.detail)) == (fact.recipient, True)
    receipts.stored([ReceiptMatch.PARKED], tickets)
    assert (bind.answers, progress_writer.facts) == ([(7, 0), (8, 0)], [])


def test_receipts_of_a_carrier_known_to_swap_addresses_are_looked_up_once() -> None:
    receipts, progress_writer = receipts_of(id_form="as-is")
    bind = FakeBind()
    receipts.received(bind, [usual(1)], 0.0)
    receipts.stored([ReceiptMatch.APPLIED], progress_writer.take()[1])
    receipts.received(bind, [usual(2)], 0.0)
    receipts.stored([ReceiptMatch.PARKED], progress_writer.take()[1])
    (told,), tickets = progress_writer.take()
    assert told.detail, "not looked up for the other number"
    receipts.stored([ReceiptMatch.PARKED], tickets)
    assert (bind.answers, progress_writer.facts) == ([(1, 0), (2, 0)], [])


@pytest.mark.parametrize("source", [b"", b"SHOP", b"72000", b"0701740605"])
def test_a_source_that_is_no_number_leaves_the_destination(source: bytes) -> None:
    receipts, progress_writer = receipts_of()
    receipts.received(FakeBind(), [turned()._replace(source=source)], 0.0)
    assert [fact.recipient for fact in progress_writer.facts] == [HASHER.recipient(RECIPIENT.decode())]


@pytest.mark.parametrize(
    ("address", "ton", "country", "digits"),
    [
        (b"46700000001", 1, "", "46700000001"),
        (b"+46700000001", 0, "", "46700000001"),
        (b"0046700000001", 0, "", "46700000001"),
        (b"+46 70-000 00 01", 0, "", "46700000001"),
        (b"46700000001\0", 0, "", "46700000001"),
        (b"0701740605", 0, "SE", "46701740605"),
        (b"701740605", 2, "SE", "46701740605"),  # type of number national
        (b"13800138000", 2, "CN", "8613800138000"),
        (b"89161234567", 2, "RU", "79161234567"),  # its trunk prefix is no 0
        (b"0701740605", 0, "", ""),
        (b"46701740605", 2, "", "46701740605"),  # carriers do not mean it
        (b"46701740605", 2, "SE", "46701740605"),
        (b"0", 0, "SE", ""),
        (b"72000", 0, "SE", ""),
        (b"1234567890123456", 1, "", ""),
        (b"Acme", 5, "", ""),
        (b"\xff\xfe", 0, "", ""),
        (b"", 0, "", ""),
    ],
)
def test_numbers(address: bytes, ton: int, country: str, digits: str) -> None:
    assert number_of(address, ton, country) == digits


# ------------------------------------------------------------------------------------------------------------------


def test_refused_while_the_store_is_away_too_long() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    progress_writer.away_since = 100.0
    receipts.received(bind, [deliver(DELIVERED, 1)], 101.0)
    assert (bind.answers, len(progress_writer.facts)) == ([], 1)
    receipts.received(bind, [deliver(DELIVERED, 2)], 100.0 + STORE_WAIT + 0.1)
    assert (bind.answers, len(progress_writer.facts)) == ([(2, 0x14)], 1)


def test_refused_when_too_many_wait() -> None:
    receipts, progress_writer = receipts_of()
    bind = FakeBind()
    progress_writer.room = 0
    receipts.received(bind, [deliver(DELIVERED, 2)], 0.0)
    assert bind.answers == [(2, 0x14)]


@pytest.mark.parametrize(
    ("zone", "date", "instant"),
    [
        ("Europe/Berlin", b"2607010200", datetime(2026, 7, 1, 0, 0, tzinfo=UTC)),
        ("Europe/Berlin", b"2612010100", datetime(2026, 12, 1, 0, 0, tzinfo=UTC)),  # no daylight saving
        ("Asia/Kathmandu", b"2607010545", datetime(2026, 7, 1, 0, 0, tzinfo=UTC)),
    ],
)
def test_dates_are_read_by_the_zone_of_the_carrier(zone: str, date: bytes, instant: datetime) -> None:
    at = int(instant.timestamp() * 1000)
    for keys in ({"time_zone": zone}, {"time_zone": "Asia/Tokyo", "utc_offset": zone}):
        receipts, progress_writer = receipts_of(**keys)
        receipts._clock = lambda: at + 60_000
        receipts.received(FakeBind(), [deliver(DELIVERED.replace(b"2611210101", date))], 0.0)
        assert progress_writer.facts[0].at == at


@given(
    st.builds(
        ShortMessage,
        st.sampled_from([5, 0x103]),
        st.just(1),
        st.just(b""),
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=20),
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=20),
        esm_class=st.integers(0, 255),
        data_coding=st.integers(0, 255),
        short_message=st.binary(max_size=254) | st.binary(max_size=30).map(lambda junk: DELIVERED + junk),
        tlvs=st.none() | st.dictionaries(st.sampled_from([0x1E, 0x0423, 0x0427, 0x0424]), st.binary(max_size=300)),
    ),
    st.sampled_from([{}, {"receipt_key": "id"}, {"receipt_text": True, "country": "SE", "id_form": "hex-to-dec"}]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_whatever_comes_off_the_wire_is_stored_or_refused_and_fits_a_record(
    message: ShortMessage, keys: dict[str, Any]
) -> None:
    receipts, progress_writer = receipts_of(**keys)
    bind = FakeBind()
    receipts.received(bind, [message], 0.0)
    assert len(bind.answers) + len(progress_writer.facts) == 1
    for fact in progress_writer.facts:
        assert len(pack_receipt(fact, {"north": 0})) < 8192
    while progress_writer.facts:  # looked up again, for another recipient or in detail, until it is stored
        facts, tickets = progress_writer.take()
        receipts.stored([ReceiptMatch.PARKED], tickets)
        assert all(len(pack_receipt(fact, {"north": 0})) < 8192 for fact in (*facts, *progress_writer.facts))


def test_a_bind_is_credited_for_its_receipts_that_matched_messages() -> None:
    """What is only parked, repeated or refused was of no use to anybody."""
    receipts, progress_writer = receipts_of(receipt_key="id")
    one, two = FakeBind(), FakeBind()
    receipts.received(one, [deliver(DELIVERED, n) for n in range(4)], 0.0)
    receipts.received(two, [deliver(DELIVERED, 9), deliver(b"hello", 10, esm_class=0)], 0.0)
    _, tickets = progress_writer.take()
    receipts.stored(
        [
            ReceiptMatch.APPLIED,
            ReceiptMatch.PARKED,
            ReceiptMatch.REPEATED,
            ReceiptMatch.APPLIED,
            ReceiptMatch.AMBIGUOUS,
        ],
        tickets,
    )
    assert (one.about_ours, two.about_ours) == (2, 0)
