"""Every state of a message has a true explanation."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.explain import ExplainContext, explain
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
CONTEXT = ExplainContext(NOW, LANES, [north()], [], receipt_timeout=72 * 3600)


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
    ("one", "expected"),
    [
        (record(State.SCHEDULED, Reason.SCHEDULED, due=NOW + HOUR), "send_at is in the future: it is decided again at"),
        (record(State.DEFERRED, Reason.QUIET_HOURS, due=NOW + 5 * HOUR), "recipient is in quiet hours (Europe/Stock"),
        (
            record(State.DEFERRED, Reason.FREQUENCY_CAP, due=NOW + 5 * HOUR),
            "as many messages as the frequency caps allow",
        ),
        (record(State.HELD, Reason.BREAKER_OPEN), "no breaker that applies to it is open: release it"),
        (record(State.HELD, Reason.BREAKER_OPEN, due=NOW - 5), "has been released"),
        (record(State.HELD, Reason.RESTORED), "the store was restored from a backup: it was accepted before that"),
        (record(State.HELD, Reason.RESTORED), "smpp-gateway held release --restored has all such messages decided"),
        (record(State.HELD, Reason.RESTORED, due=NOW - 5), "has been released"),
        (record(State.QUEUED), "12 ready messages, 7 of them of account shop"),
        (record(State.QUEUED), "north is up at 500/s, 3 of 100 in its window"),
        (record(State.QUEUED, Reason.CARRIER_RETRY, due=NOW + 9000), "refused it temporarily (north: ESME_RTHROTTLED)"),
        (record(State.QUEUED, Reason.CARRIER_RETRY, due=NOW + 9000), "Its next attempt, number 2, is due at"),
        (record(State.SENDING), "taken for the carrier north"),
        (record(State.SENDING, moved_at=NOW - HOUR), "worker may be dead"),
        (record(State.SENT), "its message id there: a1"),
        (record(State.SENT), "waits for it until "),
        (record(State.SENT, Reason.NO_RECEIPT, final=True), "No delivery receipt came in time"),
        (record(State.UNKNOWN, due=NOW + 1000, content=Content("x")), "without one it is sent again"),
        (
            record(State.UNKNOWN, Reason.NO_ANSWER, final=True),
            "No response and no receipt came in time; this state is final",
        ),
        (record(State.DELIVERED, Reason.RECEIPT), "north reported its delivery"),
        (record(State.UNDELIVERED, Reason.RECEIPT), "could not be delivered"),
        (record(State.EXPIRED, Reason.EXPIRED), "expired in the gateway while it was queued"),
        (record(State.EXPIRED, Reason.RECEIPT), "north accepted it and reported that it expired"),
        (record(State.FAILED, Reason.RETRIES_EXHAUSTED), "all attempts were refused"),
        (record(State.FAILED, Reason.PARTIAL), "1 of 1 parts were accepted"),
        (record(State.REJECTED, Reason.CONSENT_MISSING), "consent for this account and brand is not on record"),
        (record(State.REJECTED, Reason.CARRIER_REFUSED), "The last response, from north, was ESME_RTHROTTLED"),
        (record(State.CANCELED, Reason.CANCELED), "It was canceled"),
        (record(State.SENDING, cancel_requested=True), "A cancel was requested"),
        (record(State.DELIVERED, Reason.RECEIPT, resent=1), "submitted once more because no response came"),
        (
            record(State.SENT, resent=2, copies=(CopyRecord(0, PartState.UNKNOWN, "south", b""),)),
            "submitted 2 more times because no response came; the recipient may receive it more than once "
            "(copies: south: no response)",
        ),
        (record(State.SENT, Reason.AMBIGUOUS_RECEIPT), "it is ignored"),
        (
            record(State.SENT, Reason.RECEIPT_UNKNOWN, final=True),
            "A later receipt counts. None came in time; this state is final.",
        ),
        (record(State.UNKNOWN, due=NOW + HOUR), "the gateway gives up at"),
    ],
)
def test_every_state_is_explained(one: MessageRecord, expected: str) -> None:
    assert expected in " ".join(explain(one, CONTEXT))


@pytest.mark.parametrize(
    ("carriers", "expected"),
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
        ([north(taking=False)], "all its binds are paused or drained"),
        ([north(sick=True)], "north is up but does not respond to submits: it is probed one submit at a time"),
    ],
)
def test_the_state_of_its_carriers_is_explained(carriers: list[CarrierView], expected: str) -> None:
    assert expected in " ".join(explain(record(State.QUEUED), CONTEXT._replace(carriers=carriers)))


@pytest.mark.parametrize(
    ("hours", "expected"), [(0, "The done date in its receipt is 2026"), (3, "which is impossible: set utc_offset")]
)
def test_an_impossible_done_date_is_pointed_out(hours: int, expected: str) -> None:
    part = PartRecord(0, PartState.DELIVERED, b"a1", NOW + hours * HOUR)
    assert expected in " ".join(explain(record(State.DELIVERED, Reason.RECEIPT, parts=(part,)), CONTEXT))


def test_a_restored_backup_is_named_with_its_instant() -> None:
    one = record(State.QUEUED)
    context = CONTEXT._replace(restored=one.accepted_at + 1)
    text = " ".join(explain(one, context))
    assert "restored from a backup made at 20" in text
    assert "it will be held when it is to be sent" in text
    assert "backup" not in " ".join(explain(one, CONTEXT._replace(restored=one.accepted_at)))
    assert "backup made at 20" in explain(record(State.HELD, Reason.RESTORED), context)[0]


def test_an_open_breaker_is_named() -> None:
    context = CONTEXT._replace(breakers=["account shop"])
    assert "held by an open breaker (account shop)" in explain(record(State.HELD, Reason.BREAKER_OPEN), context)[0]
    assert "it will be held when it is to be sent" in " ".join(explain(record(State.QUEUED), context))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("reason", Reason)
def test_every_state_and_reason_is_explained_without_the_number(state: State, reason: Reason) -> None:
    said = explain(record(state, reason, timeline=()), CONTEXT._replace(carriers=[]))
    assert said
    assert "46701740605" not in " ".join(said)


def test_the_expiry_of_a_message_that_a_carrier_has_is_not_mentioned() -> None:
    assert any("It expires" in said for said in explain(record(State.QUEUED, expires=NOW + HOUR), CONTEXT))
    for state in (State.SENT, State.UNKNOWN):
        assert not any("It expires" in said for said in explain(record(state, expires=NOW + HOUR), CONTEXT))
    again = record(State.UNKNOWN, expires=NOW + HOUR, content=Content("x"))
    assert any("It expires" in said for said in explain(again, CONTEXT))


def test_the_reason_for_not_sending_again_is_given() -> None:
    assert "It is not sent again: marketing messages never are." in explain(
        record(State.UNKNOWN, category=Category.MARKETING), CONTEXT
    )
    assert any("on_unknown of its carrier forbids" in said for said in explain(record(State.UNKNOWN), CONTEXT))
