"""The JSON shapes of the HTTP contract, as structs with precomputed encoders, and what turns our values into them.

Instants are RFC 3339 in UTC with milliseconds; ids are uuid text; numbers are E.164 with ``+``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway.model import Category, Outcome, Reason, State, Verdict
from gateway.pipeline.desk import verdict_of
from gateway.store import ids
from gateway.store.record import Record, Step

OUTCOMES = {outcome: outcome.name.lower() for outcome in Outcome}
CODES = {reason: "" if reason is Reason.NONE else reason.name.lower() for reason in Reason}
STATUSES = {state: state.name.lower() for state in State}


class Decision(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """Policy's answer as applications see it."""

    outcome: str
    code: str | None
    zones: tuple[str, ...]
    rules: tuple[str, ...]
    policy_version: str
    next_at: str = ""


class Submitted(msgspec.Struct, omit_defaults=True, gc=False):
    """One accepted message; ``index`` only in the answer to a batch."""

    id: str
    status: str
    segments: int
    encoding: str
    to: str
    client_ref: str | None
    decision: Decision
    duplicate: bool = False
    index: int | None = None


class Refused(msgspec.Struct, gc=False):
    """One message of a batch that was not accepted."""

    index: int
    problem: Any


class BatchAnswer(msgspec.Struct, gc=False):
    """The answer to a batch, results in the order sent."""

    accepted: int
    refused: int
    results: list[Submitted | Refused]


def rfc3339(ms: int) -> str:
    """An instant as text: ``2026-11-21T08:00:00.000Z``; "" for 0, which means none."""
    if not ms:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


_Key = tuple[Outcome, Reason, int, tuple[str, ...], tuple[str, ...], str]


def decision(verdict: Verdict) -> Decision:
    """A verdict as applications see it. Verdicts that look the same share one object."""
    v = verdict
    return _decision((v.outcome, v.code, v.next_at, v.zones, v.rules, v.policy_version))


@lru_cache(maxsize=4096)
def _decision(key: _Key) -> Decision:
    outcome, code, next_at, zones, rules, version = key
    return Decision(OUTCOMES[outcome], CODES[code] or None, zones, rules, version, rfc3339(next_at))


class Part(msgspec.Struct, frozen=True, gc=False):
    """One segment at its carrier. ``carrier_message_id`` is the carrier's own id in its normal form."""

    index: int
    status: str
    carrier_message_id: str


class Move(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """One line of the timeline."""

    time: str
    status: str
    reason: str | None
    carrier: str = ""
    smpp_status: int = 0
    receipt_error: str = ""


class Message(msgspec.Struct, omit_defaults=True, gc=False):
    """Everything an account may know of its message; the text is not among it."""

    id: str
    status: str
    final: bool
    reason: str | None
    to: str
    sender: str = msgspec.field(name="from")
    category: str
    brand: str
    client_ref: str | None
    segments: int
    encoding: str
    accepted_at: str
    updated_at: str
    decision: Decision
    parts: list[Part]
    timeline: list[Move]
    expires_at: str = ""
    cancel_requested: bool = False
    resent: bool = False
    carrier: str = ""
    route: str = ""
    metadata: Any = None


def message(record: Record) -> Message:
    """A record as its account sees it."""
    e = record.envelope
    return Message(
        id=ids.text(record.id),
        status=STATUSES[record.state],
        final=record.final,
        reason=CODES[record.reason] or None,
        to="+" + e.to,
        sender=e.sender,
        category=Category(e.category).name.lower(),
        brand=e.brand,
        client_ref=e.client_ref or None,
        segments=record.segments,
        encoding=e.encoding,
        accepted_at=rfc3339(record.accepted_at),
        updated_at=rfc3339(record.moved_at),
        decision=decision(verdict_of(record)),
        parts=[Part(p.index, p.state.name.lower(), p.carrier_id.decode("latin-1")) for p in record.parts],
        timeline=[_move(step) for step in record.timeline],
        expires_at=rfc3339(record.expires),
        cancel_requested=record.cancel_requested,
        resent=record.resent,
        carrier=record.carrier,
        route=record.route,
        metadata=e.metadata,
    )


def _move(step: Step) -> Move:
    return Move(
        rfc3339(step.at), STATUSES[step.state], CODES[step.reason] or None, step.carrier, step.status, step.error
    )
