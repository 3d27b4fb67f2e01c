"""The JSON objects of the HTTP contract as structs, and the functions that make them of stored records.

Instants are RFC 3339 in UTC with milliseconds, ids are UUIDs as text, numbers are E.164 with ``+``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway.intake.recorded_decisions import grounds_of, verdict_of
from gateway.model import Category, Outcome, Reason, State, Verdict
from gateway.store import ids
from gateway.store.records import CopyRecord, MessageRecord, PartRecord, TimelineStep

OUTCOMES = {outcome: outcome.name.lower() for outcome in Outcome}
CODES = {reason: "" if reason is Reason.NONE else reason.name.lower() for reason in Reason}
STATUSES = {state: state.name.lower() for state in State}


class DecisionView(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A decision of policy."""

    outcome: str
    code: str | None
    zones: tuple[str, ...]
    rules: tuple[str, ...]
    policy_version: str
    next_at: str = ""


class SubmittedView(msgspec.Struct, omit_defaults=True, gc=False):
    """An accepted message. ``index``: in the response to a batch; ``replaced``: when ``smart`` changed the text."""

    id: str
    status: str
    segments: int
    encoding: str
    to: str
    client_ref: str | None
    decision: DecisionView
    duplicate: bool = False
    index: int | None = None
    replaced: dict[str, str] | None = None


class RefusedView(msgspec.Struct, gc=False):
    """A message of a batch that was not accepted. ``problem`` is a ``problems.ProblemDetails``."""

    index: int
    problem: Any


class BatchAnswer(msgspec.Struct, gc=False):
    """The response to a batch, results in the order sent."""

    accepted: int
    refused: int
    results: list[SubmittedView | RefusedView]


_YEAR_10000 = 253_402_300_800_000


def rfc3339(ms: int) -> str:
    """Return an instant as text, ``2026-11-21T08:00:00.000Z``; "" for 0 and from the year 10000 on, which mean none."""
    if not 0 < ms < _YEAR_10000:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


_Key = tuple[Outcome, Reason, int, tuple[str, ...], tuple[str, ...], str]


def decision(verdict: Verdict) -> DecisionView:
    """Return a verdict in the form of the contract. Equal verdicts share one object."""
    v = verdict
    next_at = v.next_at if v.outcome is Outcome.DEFER else 0
    return _decision((v.outcome, v.code, next_at, v.zones, v.rules, v.policy_version))


@lru_cache(maxsize=4096)
def _decision(key: _Key) -> DecisionView:
    outcome, code, next_at, zones, rules, version = key
    return DecisionView(OUTCOMES[outcome], CODES[code] or None, zones, rules, version, rfc3339(next_at))


class PartView(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A segment at its carrier. ``carrier_message_id``: the carrier's id in its normal form; ``done_at``: the done date
    of its receipt, converted to UTC."""

    index: int
    status: str
    carrier_message_id: str
    done_at: str = ""


class MoveView(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A step of the timeline."""

    time: str
    status: str
    reason: str | None
    carrier: str = ""
    smpp_status: int = 0
    receipt_error: str = ""


class CopyView(msgspec.Struct, frozen=True, gc=False):
    """One of several submits of a part, made because an earlier one was not answered."""

    part: int
    status: str
    carrier: str
    carrier_message_id: str


class MessageView(msgspec.Struct, omit_defaults=True, gc=False):
    """A message as its account sees it; the text is not included."""

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
    decision: DecisionView
    parts: list[PartView]
    timeline: list[MoveView]
    expires_at: str = ""
    cancel_requested: bool = False
    resent: bool = False
    copies: list[CopyView] = []
    carrier: str = ""
    route: str = ""
    metadata: Any = None


class FoundView(msgspec.Struct, omit_defaults=True, gc=False):
    """The messages found. ``more``: there may be others, which a search with ``to`` finds."""

    messages: list[MessageView]
    more: bool = False


class HealthView(msgspec.Struct, gc=False):
    """The state of a gateway that works: ``ok`` or ``ready``."""

    status: str


class CanceledView(msgspec.Struct, gc=False):
    """The status after a cancel: ``canceled``, or ``cancel_requested`` when a carrier already has the message."""

    id: str
    status: str


class PermittedView(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """What the last decision permits: sending from ``opens`` until just before ``closes``, if that is given."""

    opens: str
    closes: str = ""
    expires_at: str = ""


class DecisionRecordView(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """One decision. ``by``: ``door`` when the message was submitted, ``gate`` for every decision after that."""

    time: str
    by: str
    outcome: str
    code: str | None
    status: str
    rules: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    policy_version: str = ""
    next_at: str = ""


class DecisionsView(msgspec.Struct, omit_defaults=True, gc=False):
    """Every policy decision about a message, oldest first."""

    id: str
    status: str
    decisions: list[DecisionRecordView]
    permitted: PermittedView | None = None


def decisions(record: MessageRecord) -> DecisionsView:
    """Return the steps of the timeline that policy decided, each with its grounds."""
    first, *rest = record.timeline
    found = [
        _decision_record(first, "door", record),
        *(_decision_record(step, "gate", record) for step in _by_policy(first, rest)),
    ]
    if record.state in {State.SCHEDULED, State.DEFERRED}:
        found[-1] = msgspec.structs.replace(found[-1], next_at=rfc3339(record.due))
    granted = PermittedView(rfc3339(record.opens), rfc3339(record.closes), rfc3339(record.expires))
    return DecisionsView(
        ids.text(record.id), STATUSES[record.state], found, granted if record.opens and not record.final else None
    )


def _decision_record(step: TimelineStep, by: str, record: MessageRecord) -> DecisionRecordView:
    next_at = step.decision.next_at if step.decision else 0
    return DecisionRecordView(rfc3339(step.at), by, *_outcome_of(step), *grounds_of(step, record), rfc3339(next_at))


_HELD_UP = {
    State.SCHEDULED: Outcome.DEFER,
    State.DEFERRED: Outcome.DEFER,
    State.HELD: Outcome.HOLD,
    State.REJECTED: Outcome.REJECT,
}


def _outcome_of(step: TimelineStep) -> tuple[str, str | None, str]:
    """Return outcome, code and status of a step."""
    return OUTCOMES[_HELD_UP.get(step.state, Outcome.ALLOW)], CODES[step.reason] or None, STATUSES[step.state]


def _by_policy(first: TimelineStep, rest: list[TimelineStep]) -> Iterator[TimelineStep]:
    """Yield the steps that a decision made: held up or refused by policy, or released after that."""
    before = first.state
    for step in rest:
        policy = step.reason <= Reason.SCHEDULED
        if (step.state in _HELD_UP and policy) or (step.state is State.QUEUED and before in _HELD_UP):
            yield step
        before = step.state


def message(record: MessageRecord) -> MessageView:
    """Return a record as its account sees it."""
    e = record.envelope
    return MessageView(
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
        parts=[_part(part) for part in record.parts],
        timeline=[_move(step) for step in record.timeline],
        expires_at=rfc3339(record.expires),
        cancel_requested=record.cancel_requested,
        resent=record.resent > 0,
        copies=[_copy(copy) for copy in record.copies],
        carrier=record.carrier,
        route=record.route,
        metadata=e.metadata,
    )


def _part(part: PartRecord) -> PartView:
    name = part.carrier_id.decode("latin-1")
    return PartView(part.index, part.state.name.lower(), name, rfc3339(part.done_at))


def _copy(copy: CopyRecord) -> CopyView:
    return CopyView(copy.part, copy.state.name.lower(), copy.carrier, copy.carrier_id.decode("latin-1"))


def _move(step: TimelineStep) -> MoveView:
    return MoveView(
        rfc3339(step.at), STATUSES[step.state], CODES[step.reason] or None, step.carrier, step.status, step.error
    )
