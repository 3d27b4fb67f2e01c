"""Why a message is where it is: every state says something true, in words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.explain import Surroundings, explain
from gateway.carriers.views import BindView, CarrierView
from gateway.model import Category, Content, Envelope, PartState, Priority, Reason, Recipient, State
from gateway.store.overview import LaneView, WaitingMessages
from gateway.store.records import CopyRecord, MessageRecord, PartRecord, TimelineStep

NOW = 1_795_262_400_000
HOUR = 3_600_000


def north(**changes: Any) -> CarrierView:
    bind = BindView("north/1", "transceiver", "running", "bound_trx", up=True)
    fields: dict[str, Any] = {
        **{"name": "north", "mode": "running", "up": 1, "taking": True, "window": 100, "outstanding": 3},
        **{"rate": 500.0, "ceiling": 500.0, "slowed": False, "decreases": 0, "leased": 0, "submitted": 9},
        **{"accepted": 9, "refused": {}, "unanswered": 0, "receipts": {}, "store_away_s": 0.0, "binds": [bind]},
    }
    return CarrierView(**(fields | changes))


LANES = {"+46#0:1": LaneView("+46#0:1", 0, 0, (WaitingMessages("shop", 7, NOW), WaitingMessages("other", 5, NOW)))}
AROUND = Surroundings(NOW, LANES, [north()], [], receipt_timeout=72 * 3600)


def record(state: State, reason: Reason = Reason.NONE, **changes: Any) -> MessageRecord:
    fields: dict[str, Any] = {
        **{"id": bytes(16), "state": state, "reason": reason, "final": state >= State.DELIVERED},
        **{"accepted_at": NOW - HOUR, "moved_at": NOW - 2000, "sequence": 2, "category": Category.TRANSACTIONAL},
        **{"priority": Priority.TRANSACTIONAL, "recipient": Recipient("46701740605", bytes(16), 0)},
        **{"account": "shop", "route": "+46", "place": 0, "attempts": 1, "segments": 1, "reference_number": 0},
        **{
            "resent": 0,
            "copies": (),
            "cancel_requested": False,
            "due": 0,
            "expires": NOW + HOUR,
            "opens": 0,
            "closes": 0,
        },
        **{"lease": 1, "carrier": "north", "pinned": False, "parts": (PartRecord(0, PartState.ACCEPTED, b"a1"),)},
        **{
            "timeline": (
                TimelineStep(State.QUEUED, Reason.NONE, NOW - HOUR),
                TimelineStep(state, reason, NOW - 2000, "north", 0x58),
            )
        },
        **{
            "envelope": Envelope("46701740605", "Shop", "shop", 1, "shop", zones=("Europe/Stockholm",)),
            "content": None,
        },
    }
    return MessageRecord(**(fields | changes))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (record(State.SCHEDULED, Reason.SCHEDULED, due=NOW + HOUR), "send_at lies ahead: it is decided again at"),
        (record(State.DEFERRED, Reason.QUIET_HOURS, due=NOW + 5 * HOUR), "quiet hours at the recipient (Europe/Stock"),
        (record(State.DEFERRED, Reason.FREQUENCY_CAP, due=NOW + 5 * HOUR), "as many messages as the caps allow"),
        (record(State.HELD, Reason.BREAKER_OPEN), "no breaker that concerns it is open: release it"),
        (record(State.HELD, Reason.BREAKER_OPEN, due=NOW - 5), "has been released"),
        (record(State.QUEUED), "12 wait, 7 of them of account shop"),
        (record(State.QUEUED), "north is up at 500/s, 3 of 100 in its windows"),
        (record(State.QUEUED, Reason.CARRIER_RETRY, due=NOW + 9000), "refused it for now (north: ESME_RTHROTTLED)"),
        (record(State.QUEUED, Reason.CARRIER_RETRY, due=NOW + 9000), "(in 9 s), attempt 2"),
        (record(State.SENDING), "at the carrier north"),
        (record(State.SENDING, moved_at=NOW - HOUR), "worker may be dead"),
        (record(State.SENT), "its id there: a1"),
        (record(State.SENT), "waited for until "),
        (record(State.SENT, Reason.NO_RECEIPT, final=True), "No delivery receipt came in time"),
        (record(State.UNKNOWN, due=NOW + 1000, content=Content("x")), "without one it is sent again"),
        (record(State.UNKNOWN, Reason.NO_ANSWER, final=True), "It stays so"),
        (record(State.DELIVERED, Reason.RECEIPT), "north reported it delivered"),
        (record(State.UNDELIVERED, Reason.RECEIPT), "could not be delivered"),
        (record(State.EXPIRED, Reason.EXPIRED), "expired here while it was queued"),
        (record(State.EXPIRED, Reason.RECEIPT), "north accepted it and let it expire"),
        (record(State.FAILED, Reason.RETRIES_EXHAUSTED), "every retry was refused"),
        (record(State.FAILED, Reason.PARTIAL), "1 of 1 parts were accepted"),
        (record(State.REJECTED, Reason.CONSENT_MISSING), "no consent of this recipient"),
        (record(State.REJECTED, Reason.CARRIER_REFUSED), "The last answer, of north, was ESME_RTHROTTLED"),
        (record(State.CANCELED, Reason.CANCELED), "It was canceled"),
        (record(State.SENDING, cancel_requested=True), "A cancel was asked for"),
        (record(State.DELIVERED, Reason.RECEIPT, resent=1), "submitted once more, since no answer came"),
        (
            record(State.SENT, resent=2, copies=(CopyRecord(0, PartState.UNKNOWN, "south", b""),)),
            "submitted 2 times more, since no answer came; the recipient may have it more than once "
            "(copies: south: never answered)",
        ),
        (record(State.SENT, Reason.AMBIGUOUS_RECEIPT), "it decides nothing"),
        (record(State.SENT, Reason.RECEIPT_UNKNOWN, final=True), "A later one counts. That was its end."),
        (record(State.UNKNOWN, due=NOW + HOUR), "it is given up"),
    ],
)
def test_each_state_in_words(one: MessageRecord, words: str) -> None:
    assert words in " ".join(explain(one, AROUND))


@pytest.mark.parametrize(
    ("carriers", "words"),
    [
        ([], 'No carrier serves the route "+46"'),
        (
            [north(mode="paused", taking=False)],
            "No carrier of its route takes messages: north is paused by an operator",
        ),
        (
            [north(up=0, taking=False, binds=[BindView("n", "t", "running", "down", up=False, last_error="refused")])],
            "north is down (refused)",
        ),
        ([north(rate=20.0, slowed=True)], "slowed from 500/s by throttling"),
        ([north(taking=False)], "its binds are told to take nothing"),
        ([north(sick=True)], "north is up but answers no submits: one at a time is tried"),
    ],
)
def test_what_its_carriers_do(carriers: list[CarrierView], words: str) -> None:
    assert words in " ".join(explain(record(State.QUEUED), AROUND._replace(carriers=carriers)))


@pytest.mark.parametrize(("hours", "words"), [(0, "was done with it at 2026"), (3, "which cannot be: set utc_offset")])
def test_the_date_in_its_receipt(hours: int, words: str) -> None:
    part = PartRecord(0, PartState.DELIVERED, b"a1", NOW + hours * HOUR)
    assert words in " ".join(explain(record(State.DELIVERED, Reason.RECEIPT, parts=(part,)), AROUND))


def test_an_open_breaker() -> None:
    around = AROUND._replace(breakers=["account shop"])
    assert "held by an open breaker: account shop" in explain(record(State.HELD, Reason.BREAKER_OPEN), around)[0]
    assert "it will be held when its turn comes" in " ".join(explain(record(State.QUEUED), around))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reason", Reason)
def test_there_is_always_something_to_say_and_never_a_number(state: State, reason: Reason) -> None:
    said = explain(record(state, reason, timeline=()), AROUND._replace(carriers=[]))
    assert said
    assert "46701740605" not in " ".join(said)


def test_what_a_carrier_has_accepted_expires_here_no_more() -> None:
    assert any("It expires" in said for said in explain(record(State.QUEUED, expires=NOW + HOUR), AROUND))
    for state in (State.SENT, State.UNKNOWN):
        assert not any("It expires" in said for said in explain(record(state, expires=NOW + HOUR), AROUND))
    again = record(State.UNKNOWN, expires=NOW + HOUR, content=Content("x"))
    assert any("It expires" in said for said in explain(again, AROUND))


def test_why_a_message_is_not_sent_again() -> None:
    assert "It is not sent again: advertising never is." in explain(
        record(State.UNKNOWN, category=Category.MARKETING), AROUND
    )
    assert any("on_unknown of its carrier forbids" in said for said in explain(record(State.UNKNOWN), AROUND))
