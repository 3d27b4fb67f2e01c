from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.api import schemas
from gateway.api.problems import KINDS, problem
from gateway.model import Category, Envelope, Outcome, PartState, Permission, Priority, Reason, State, Verdict
from gateway.store.records import MessageRecord, PartRecord, TimelineStep
from tests.intake.fakes import NOON, SWEDE, hasher

EPOCH = "1970-01-01T00:00:00.001Z"


def record(**more: Any) -> MessageRecord:
    fields: dict[str, Any] = {
        "id": bytes.fromhex("0199c2a400007000800000000000000a"),
        "state": State.UNDELIVERED,
        "reason": Reason.RECEIPT,
        "final": True,
        "accepted_at": NOON,
        "moved_at": NOON + 1500,
        "sequence": 4,
        "category": Category.MARKETING,
        "priority": Priority.MARKETING,
        "recipient": hasher().recipient(SWEDE),
        "account": "shop",
        "route": "+46",
        "place": 0,
        "attempts": 0,
        "segments": 2,
        "reference_number": 7,
        "resent": 1,
        "copies": (),
        "cancel_requested": True,
        "due": NOON + 1,
        "expires": NOON + 60_000,
        "opens": 0,
        "closes": 0,
        "lease": 3,
        "carrier": "north",
        "pinned": True,
        "parts": (
            PartRecord(0, PartState.DELIVERED, b"a1", NOON + 60_000),
            PartRecord(1, PartState.UNDELIVERED, b"\xff"),
        ),
        "timeline": (
            TimelineStep(State.DEFERRED, Reason.QUIET_HOURS, NOON),
            TimelineStep(State.SENT, Reason.NONE, NOON + 1000, "north"),
            TimelineStep(State.UNDELIVERED, Reason.RECEIPT, NOON + 1500, "north", 0, "021"),
        ),
        "envelope": Envelope(
            to=SWEDE, sender="Shop", account="shop", category=2, brand="shop", rules=("quiet_hours:defer",)
        ),
        "content": None,
    }
    return MessageRecord(**fields | more)


def test_a_record_as_its_account_sees_it() -> None:
    seen = msgspec.to_builtins(schemas.message(record()))
    assert (seen["status"], seen["reason"], seen["final"], seen["carrier"]) == ("undelivered", "receipt", True, "north")
    assert (seen["resent"], seen["cancel_requested"], seen["client_ref"]) == (True, True, None)
    assert seen["parts"] == [
        {"index": 0, "status": "delivered", "carrier_message_id": "a1", "done_at": "2026-11-21T12:01:00.000Z"},
        {"index": 1, "status": "undelivered", "carrier_message_id": "\xff"},
    ]
    assert seen["timeline"] == [
        {"time": "2026-11-21T12:00:00.000Z", "status": "deferred", "reason": "quiet_hours"},
        {"time": "2026-11-21T12:00:01.000Z", "status": "sent", "reason": None, "carrier": "north"},
        {
            "time": "2026-11-21T12:00:01.500Z",
            "status": "undelivered",
            "reason": "receipt",
            "carrier": "north",
            "receipt_error": "021",
        },
    ]
    assert seen["decision"]["outcome"] == "defer"
    assert "next_at" not in seen["decision"]


def test_a_waiting_message_has_the_time_it_waits_for() -> None:
    waiting = record(state=State.DEFERRED, reason=Reason.FREQUENCY_CAP, final=False, due=NOON + 3_600_000)
    decision = schemas.message(waiting).decision
    assert (decision.code, decision.next_at) == ("frequency_cap", "2026-11-21T13:00:00.000Z")


@pytest.mark.parametrize(("reason", "outcome"), [(Reason.CONSENT_REVOKED, "reject"), (Reason.CARRIER_REFUSED, "defer")])
def test_a_carrier_s_refusal_is_no_decision_of_policy(reason: Reason, outcome: str) -> None:
    assert schemas.message(record(state=State.REJECTED, reason=reason)).decision.outcome == outcome


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, ""),
        (NOON, "2026-11-21T12:00:00.000Z"),
        (NOON + 7, "2026-11-21T12:00:00.007Z"),
        (1, "1970-01-01T00:00:00.001Z"),
    ],
)
def test_instants(ms: int, text: str) -> None:
    assert schemas.rfc3339(ms) == text


def test_verdicts_that_look_the_same_share_a_decision() -> None:
    verdicts = [
        Verdict(Outcome.ALLOW, Reason.NONE, Permission(0, 1, expires, 0, bytes(8), bytes(8)), policy_version="v1")
        for expires in (1, 2)
    ]
    assert schemas.decision(verdicts[0]) is schemas.decision(verdicts[1])


def test_every_refusal_of_policy_has_its_problem() -> None:
    for reason in Reason:
        if 0 < reason < Reason.SCHEDULED:
            assert KINDS[schemas.CODES[reason]].status == 422


def test_a_problem_leaves_out_what_it_does_not_have() -> None:
    assert msgspec.to_builtins(problem("not_found")) == {
        "type": "urn:smpp-gateway:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "Not found",
        "code": "not_found",
        "retryable": False,
        "compat_code": 20404,
    }
    assert all(400 <= kind.status < 600 and kind.title for kind in KINDS.values())
