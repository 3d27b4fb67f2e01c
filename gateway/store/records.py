"""The record of a message, read in full. Its layout is in ``layout``; what ``take`` hands out is read in ``codec``."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.model import (
    WAITING,
    Category,
    Content,
    DecisionDetail,
    Envelope,
    PartState,
    Priority,
    Reason,
    Recipient,
    State,
)
from gateway.store.crypto import Vault
from gateway.store.ids import partition_of, time_of
from gateway.store.layout import (
    CLOSES,
    COPY,
    DATED,
    HEAD,
    INTERMEDIATE_STEP,
    OPENS,
    PART,
    RULED_STEP,
    STOPPED,
    RecordHead,
    upgraded,
)


class PartRecord(NamedTuple):
    """One segment at its carrier."""

    index: int  # type: ignore[assignment]  # the usual word; nobody calls tuple.index on a part
    state: PartState
    carrier_id: bytes
    done_at: int = 0  # done date of the final receipt, by the carrier's clock (ms UTC); 0 = not given


class CopyRecord(NamedTuple):
    """One of several copies of a segment that may have been sent."""

    part: int
    state: PartState
    carrier: str
    carrier_id: bytes


class TimelineStep(NamedTuple):
    """One move in the timeline; the first is the acceptance. An intermediate receipt repeats the state."""

    state: State
    reason: Reason
    at: int
    carrier: str = ""
    status: int = 0
    error: str = ""
    decision: DecisionDetail | None = None  # details of the policy decision that made this step


class MessageRecord(msgspec.Struct, gc=False):
    """Everything the store has of a message."""

    id: bytes
    state: State
    reason: Reason
    final: bool  # also true for SENT and UNKNOWN whose time for receipts is over
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
    resent: int  # how often it was queued again after an unknown outcome
    cancel_requested: bool
    due: int  # waiting: when take looks at it (0 = at once); SENT, UNKNOWN and final states: when sweep does
    expires: int
    opens: int  # 0 in a final state, as closes
    closes: int
    lease: int  # the last one; valid while SENDING
    carrier: str  # the last one it was handed to
    pinned: bool  # that carrier has accepted a part
    parts: tuple[PartRecord, ...]
    copies: tuple[CopyRecord, ...]  # of a message that was resent: every copy but the one in flight
    timeline: tuple[TimelineStep, ...]
    envelope: Envelope
    content: Content | None  # None in a final state


class Sections(NamedTuple):
    """What follows the head of a record, section by section."""

    recipient: bytes
    account: bytes
    route: bytes
    envelope: bytes
    permission: bytes
    content: bytes
    carrier: bytes
    parts: bytes
    copies: bytes
    trail: bytes


open_envelope = msgspec.msgpack.Decoder(Envelope).decode
open_content = msgspec.msgpack.Decoder(Content).decode
_open_decision = msgspec.msgpack.Decoder(DecisionDetail).decode
_PART_STATES = tuple(PartState)  # by value: faster than a call of the enum

_REMARKS = {Reason.RECEIPT, Reason.RECEIPT_UNKNOWN, Reason.RECEIPT_UNREADABLE, Reason.AMBIGUOUS_RECEIPT}


def read_record(message_id: bytes, raw: bytes, vault: Vault) -> MessageRecord:
    """Return a record in full. Raises StoreRefused when a sealed section does not open."""
    raw = upgraded(raw)
    head = RecordHead._make(HEAD.unpack_from(raw))
    sections = cut(head, raw)
    accepted_at = time_of(message_id)
    timeline = _read_trail(sections.trail, accepted_at)
    envelope = open_envelope(vault.open(sections.envelope))
    return MessageRecord(
        id=message_id,
        state=State(head.state),
        reason=Reason(head.reason),
        final=head.final == 1,
        accepted_at=accepted_at,
        moved_at=_moved_at(timeline, head.final == 1),
        sequence=head.sequence,
        category=Category(head.category),
        priority=Priority(head.priority),
        recipient=Recipient(envelope.to, sections.recipient, partition_of(message_id)),
        account=sections.account.decode(),
        route=sections.route.decode(),
        place=head.place,
        attempts=head.attempts,
        segments=head.segments,
        reference_number=head.reference_number,
        resent=head.resent,
        cancel_requested=0 < head.cancel < STOPPED,
        due=head.due,
        expires=head.expires,
        opens=int.from_bytes(sections.permission[OPENS], "big"),
        closes=int.from_bytes(sections.permission[CLOSES], "big"),
        lease=head.lease,
        carrier=sections.carrier.decode(),
        pinned=head.pinned == 1,
        parts=tuple(read_parts(sections.parts)),
        copies=tuple(_read_copies(sections.copies)),
        timeline=tuple(timeline),
        envelope=envelope,
        content=open_content(vault.open(sections.content)) if sections.content else None,
    )


def cut(head: RecordHead, raw: bytes) -> Sections:
    """Return the sections of a record."""
    account_at = HEAD.size + 16
    route_at = account_at + head.account_len
    envelope_at = route_at + head.route_len
    permission_at = envelope_at + head.envelope_len
    content_at = permission_at + head.permission_len
    carrier_at = content_at + head.content_len
    parts_at = carrier_at + head.carrier_len
    copies_at = parts_at + head.parts_len
    trail_at = copies_at + head.copies_len
    return Sections(
        raw[HEAD.size : account_at],
        raw[account_at:route_at],
        raw[route_at:envelope_at],
        raw[envelope_at:permission_at],
        raw[permission_at:content_at],
        raw[content_at:carrier_at],
        raw[carrier_at:parts_at],
        raw[parts_at:copies_at],
        raw[copies_at:trail_at],
        raw[trail_at:],
    )


def read_parts(packed: bytes) -> list[PartRecord]:
    """Return the parts of a record, in order."""
    parts: list[PartRecord] = []
    at = 0
    while at < len(packed):
        state, _, length = PART.unpack_from(packed, at)
        at += PART.size + length
        carrier_id, done = packed[at - length : at], 0
        if state >= DATED:
            state, done, at = state - DATED, int.from_bytes(packed[at : at + 4], "big") * 1000, at + 4
        parts.append(PartRecord(len(parts), _PART_STATES[state], carrier_id, done))
    return parts


def _read_copies(packed: bytes) -> list[CopyRecord]:
    copies: list[CopyRecord] = []
    at = 1 + packed[0] if packed else 0  # the excerpt of the text comes first
    while at < len(packed):
        part, state, _, _, carrier_len, id_len = COPY.unpack_from(packed, at)
        id_at = at + COPY.size + carrier_len
        carrier, at = packed[id_at - carrier_len : id_at].decode(), id_at + id_len
        copies.append(CopyRecord(part, _PART_STATES[state], carrier, packed[id_at:at]))
    return copies


def _read_trail(packed: bytes, accepted_at: int) -> list[TimelineStep]:
    """Return the steps of the timeline (``layout``: trail).

    The packed step names the carrier only when the message is handed to it; here every step at it does.
    """
    steps: list[TimelineStep] = []
    at, carrier_then = 0, ""
    while at < len(packed):
        state, reason, after = State(packed[at]), Reason(packed[at + 1]), int.from_bytes(packed[at + 2 : at + 7], "big")
        end = at + 8 + packed[at + 7]
        rest = packed[at + 8 : end]
        at = end
        status, carrier, error, decision = 0, "", "", None
        if rest:
            status, name_end = int.from_bytes(rest[:4], "big"), 5 + rest[4]
            if status == RULED_STEP:
                status, decision = 0, _open_decision(rest[name_end:])
            else:
                carrier, error = rest[5:name_end].decode(), rest[name_end:].decode("utf-8", "replace")
        if state is State.SENDING:
            carrier_then = carrier
        steps.append(TimelineStep(state, reason, accepted_at + after, carrier or carrier_then, status, error, decision))
        if state in WAITING:
            carrier_then = ""
    return [step._replace(status=0) if step.status == INTERMEDIATE_STEP else step for step in steps]


def _moved_at(timeline: list[TimelineStep], final: bool) -> int:
    """Return the instant of the last step that changed the state; a remark of a receipt does not."""
    if final:
        return timeline[-1].at  # no remarks after a final state
    moves = (step.at for step in reversed(timeline) if step.reason not in _REMARKS)
    return next(moves, timeline[0].at)
