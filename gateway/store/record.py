"""The record of a message as it lies in the store, and as it is read back."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.model import Category, Content, Envelope, PartState, Priority, Reason, Recipient, State


class PartRecord(NamedTuple):
    """One segment at its carrier."""

    index: int
    state: PartState
    carrier_id: bytes


class Step(NamedTuple):
    """One move in the timeline (the first: how it was accepted). An intermediate receipt repeats the state."""

    state: State
    reason: Reason
    at: int
    carrier: str = ""
    status: int = 0
    error: str = ""


class Record(msgspec.Struct, gc=False):
    """All that is known of a message."""

    id: bytes
    state: State
    reason: Reason
    final: bool  # also true for sent and unknown that are final in place
    accepted_at: int
    moved_at: int
    sequence: int  # events raised so far
    category: Category
    priority: Priority
    recipient: Recipient
    account: str
    route: str
    place: int
    attempts: int
    segments: int
    reference_number: int
    resent: bool
    cancel_requested: bool
    due: int  # SCHEDULED, DEFERRED, QUEUED: when take looks at it (0 = at once); SENT, UNKNOWN, final: next look of sweep
    expires: int
    opens: int  # 0 once final, as closes
    closes: int
    lease: int  # the last one; counts while SENDING
    carrier: str  # the last one it was handed to
    pinned: bool  # that carrier has accepted a part
    parts: tuple[PartRecord, ...]
    timeline: tuple[Step, ...]
    envelope: Envelope
    content: Content | None  # None once final
