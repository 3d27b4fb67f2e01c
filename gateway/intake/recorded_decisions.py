"""What policy decided about a stored message, read from its record."""

from __future__ import annotations

from typing import NamedTuple

from gateway.model import Outcome, Permission, Reason, State, Verdict
from gateway.store.records import MessageRecord, TimelineStep

GATE_RULES = {
    Reason.OPTED_OUT: ("opt_out:reject",),
    Reason.CONSENT_MISSING: ("consent:reject",),
    Reason.CONSENT_REVOKED: ("consent:reject",),
    Reason.CONTENT_REFUSED: ("template_pulled:reject",),
}
"""The rules that the gate applies by itself, in the moment before a message would leave."""

_NO_PERMISSION = Permission(0, 0, 0, 0, bytes(8), bytes(8))
_OUTCOMES = {
    State.SCHEDULED: Outcome.DEFER,
    State.DEFERRED: Outcome.DEFER,
    State.HELD: Outcome.HOLD,
    State.REJECTED: Outcome.REJECT,
}


class DecisionGrounds(NamedTuple):
    """What a decision was based on."""

    rules: tuple[str, ...]
    zones: tuple[str, ...]
    policy_version: str


def verdict_of(record: MessageRecord) -> Verdict:
    """Return the latest decision where that holds the message up, else the one that intake made.

    For reading: its permission permits nothing.
    """
    state, code, step = record.state, record.reason, record.timeline[-1] if record.timeline else None
    if (state not in _OUTCOMES or code > Reason.SCHEDULED) and record.timeline:
        step = record.timeline[0]
        state, code = step.state, step.reason
    next_at = record.due if record.state in {State.SCHEDULED, State.DEFERRED} else 0
    rules, zones, version = grounds_of(step, record)
    return Verdict(
        outcome=_OUTCOMES.get(state, Outcome.ALLOW),
        code=code,
        permission=_NO_PERMISSION,
        next_at=next_at,
        rules=rules,
        zones=zones,
        policy_version=version,
    )


def grounds_of(step: TimelineStep | None, record: MessageRecord) -> DecisionGrounds:
    """Return the grounds of the decision that made a step; of the first one when ``step`` is None."""
    e = record.envelope
    if step is None or step.decision is None:
        if step is not None and step is not record.timeline[0]:
            return DecisionGrounds(GATE_RULES.get(step.reason, ()), (), "")
        return DecisionGrounds(tuple(e.rules), tuple(e.zones), e.policy_version)
    rules, zones, version = step.decision.rules, step.decision.zones, step.decision.policy_version
    return DecisionGrounds(
        tuple(e.rules) if rules is None else rules,
        tuple(e.zones) if zones is None else zones,
        e.policy_version if version is None else version,
    )
