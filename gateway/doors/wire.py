"""The JSON shapes of the HTTP contract, as structs with precomputed encoders, and what turns our values into them.

Instants are RFC 3339 in UTC with milliseconds; ids are uuid text; numbers are E.164 with ``+``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway.model import Outcome, Reason, State, Verdict

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
