"""The record of a message: packed for ``accept``, read back for ``take`` and ``find``. The shapes are in ``layout``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from gateway.model import (
    PRIORITY,
    WAITING,
    Category,
    Content,
    DecisionDetail,
    Envelope,
    LeasedMessage,
    NewMessage,
    PartState,
    Permission,
    Priority,
    Reason,
    Recipient,
    Redecide,
    State,
)
from gateway.store.errors import StoreRefused
from gateway.store.ids import partition_of, time_of
from gateway.store.layout import CAP, COPY, DATED, HEAD, PART, PERMISSION, STOPPED, VERSION, RecordHead, upgraded
from gateway.store.requests import UnreadableMessage

_T = TypeVar("_T")


class SealingVault(Protocol):
    """What seals numbers and texts (see ``gateway.store.crypto``)."""

    def seal(self, plain: bytes) -> bytes: ...
    def open(self, blob: bytes) -> bytes: ...


class PartRecord(NamedTuple):
    """One segment at its carrier."""

    index: int  # type: ignore[assignment]  # the word everybody uses; nobody looks for one in a part
    state: PartState
    carrier_id: bytes
    done_at: int = 0  # when the carrier was done with it, by its own clock (ms UTC); 0: it has not said


class CopyRecord(NamedTuple):
    """One of several copies of a segment that may be on the wire."""

    part: int
    state: PartState
    carrier: str
    carrier_id: bytes


class TimelineStep(NamedTuple):
    """One move in the timeline (the first: how it was accepted). An intermediate receipt repeats the state."""

    state: State
    reason: Reason
    at: int
    carrier: str = ""
    status: int = 0
    error: str = ""
    decision: DecisionDetail | None = None  # what else policy said, when its decision made this step


class MessageRecord(msgspec.Struct, gc=False):
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
    resent: int  # how often what was unknown was queued once more
    cancel_requested: bool
    due: int  # waiting: when take looks at it (0 = at once); SENT, UNKNOWN and final ones: when sweep does
    expires: int
    opens: int  # 0 once final, as closes
    closes: int
    lease: int  # the last one; counts while SENDING
    carrier: str  # the last one it was handed to
    pinned: bool  # that carrier has accepted a part
    parts: tuple[PartRecord, ...]
    copies: tuple[CopyRecord, ...]  # of a message that was resent: what became of every copy but the one in flight
    timeline: tuple[TimelineStep, ...]
    envelope: Envelope
    content: Content | None  # None once final


_encode = msgspec.msgpack.Encoder().encode
_open_envelope = msgspec.msgpack.Decoder(Envelope).decode
_open_decision = msgspec.msgpack.Decoder(DecisionDetail).decode
_open_content = msgspec.msgpack.Decoder(Content).decode
_PUT_OFF = (State.SCHEDULED, State.DEFERRED)
_FIRST_STEP = bytes(6)  # at acceptance: 0 ms after it, nothing more to say
_CATEGORIES = tuple(Category)  # by value; an enum's call costs as much as a decryption step
_PART_STATES = tuple(PartState)
_RULED = 0xFFFFFFFE  # in place of the status: what policy said stands in place of the error
_RULED_MOST = 250  # octets
_INTERMEDIATE = 0xFFFFFFFF  # in place of the status: a step that is no move


def pack_permission(permission: Permission) -> bytes:
    """The section that the gate reads."""
    head = PERMISSION.pack(
        permission.opens,
        permission.closes,
        permission.epoch,
        permission.account_scope,
        permission.brand_scope,
        permission.template_scope,
    )
    return head + pack_caps(permission.caps) if permission.caps else head


def pack_caps(caps: tuple[tuple[bytes, int, int], ...]) -> bytes:
    """Caps as the gate and ``facts`` read them."""
    return b"".join([CAP.pack(*cap) for cap in caps])


def pack_decision(decision: DecisionDetail) -> bytes:
    """What policy said, as a step of the timeline has room for it; an ellipsis stands for what has none."""
    packed = _encode(decision)
    zones, rules = decision.zones or (), decision.rules or ()
    while len(packed) > _RULED_MOST and (zones or rules):
        if zones:  # a toll-free number has dozens
            zones = zones[: len(zones) // 2]
            decision = msgspec.structs.replace(decision, zones=(*zones, "…"))
        else:
            rules = rules[:-1]
            decision = msgspec.structs.replace(decision, rules=(*rules, "…"))
        packed = _encode(decision)
    return packed


def _first_step(item: NewMessage, due: int) -> bytes:
    """How it was accepted, 0 ms after that; and when it is to be decided again, if it is put off."""
    said = b""
    if due and item.state in _PUT_OFF:
        note = pack_decision(DecisionDetail(due))
        said = b"%c%b\0%b" % (5 + len(note), _RULED.to_bytes(4, "big"), note)
    return bytes((item.state, item.reason)) + (_FIRST_STEP[:-1] + said if said else _FIRST_STEP)


def pack_new(item: NewMessage, vault: SealingVault, due: int) -> bytes:
    """The record of a new message. Raises struct.error for what does not fit a field."""
    envelope = vault.seal(_encode(item.envelope))
    account, route, permission = item.envelope.account.encode(), item.route.encode(), item.permission
    final = item.state is State.REJECTED
    granted, content = (b"", b"") if final else (pack_permission(permission), vault.seal(_encode(item.content)))
    step = _first_step(item, due)
    head = HEAD.pack(
        0,  # reference number: given by the store
        VERSION,
        item.state,
        item.reason,
        final,
        0,  # resent
        0,  # cancel
        0,  # reserved
        0,  # pinned
        0 if final else 2 * item.state,  # listed
        item.category,
        permission.checks,
        PRIORITY[item.category],
        item.on_unknown,
        0,  # place
        0,  # attempts
        item.segments,
        item.weight,
        1,  # sequence
        due,
        permission.expires,
        0,  # lease
        len(account),
        len(route),
        len(envelope),
        len(granted),
        len(content),
        0,  # carrier
        0,  # parts
        0,  # copies
        len(step),
    )
    return b"".join((head, item.recipient.key, account, route, envelope, granted, content, step))


class _Sections(NamedTuple):
    """A record cut up."""

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


def _cut(head: RecordHead, raw: bytes) -> _Sections:
    account_at = HEAD.size + 16
    route_at = account_at + head.account_len
    envelope_at = route_at + head.route_len
    permission_at = envelope_at + head.envelope_len
    content_at = permission_at + head.permission_len
    carrier_at = content_at + head.content_len
    parts_at = carrier_at + head.carrier_len
    copies_at = parts_at + head.parts_len
    trail_at = copies_at + head.copies_len
    return _Sections(
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


def read_leased(message_id: bytes, raw: bytes, lease: int, vault: SealingVault) -> LeasedMessage:
    """A message that ``take`` leased, from its record as it was before."""
    head = RecordHead._make(HEAD.unpack_from(raw))
    s = _cut(head, raw)
    envelope = _open_envelope(vault.open(s.envelope))
    return LeasedMessage(
        message_id,
        lease,
        Recipient(envelope.to, s.recipient, partition_of(message_id)),
        _CATEGORIES[head.category],
        s.route.decode(),
        head.place,
        head.attempts,
        head.resent,
        s.carrier.decode() if head.pinned else "",
        head.reference_number,
        bytes([part.state for part in read_parts(s.parts)]) if s.parts else b"",
        head.expires,
        int.from_bytes(s.permission[8:16], "big"),
        envelope,
        _open_content(vault.open(s.content)),
        s.carrier.decode() if head.reason == Reason.TURN else "",
    )


def read_redecide(message_id: bytes, raw: bytes, reason: int, token: int, vault: SealingVault) -> Redecide:
    """A message that ``take`` handed back for a fresh decision, from its record as it was before."""
    head = RecordHead._make(HEAD.unpack_from(raw))
    s = _cut(head, raw)
    envelope = _open_envelope(vault.open(s.envelope))
    return Redecide(
        message_id,
        token,
        Recipient(envelope.to, s.recipient, partition_of(message_id)),
        State(head.state),
        Reason(reason),
        time_of(message_id),
        head.expires,
        s.route.decode(),
        envelope,
        _open_content(vault.open(s.content)),
    )


def readable(records: Iterable[tuple[bytes, int, Callable[[], _T]]]) -> tuple[list[_T], list[UnreadableMessage]]:
    """What (id, lease or token, reader) give; and of which the record is damaged, or its key is gone."""
    out: list[_T] = []
    unread: list[UnreadableMessage] = []
    for one, number, read in records:
        try:
            out.append(read())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            said = f"{type(error).__name__}: {error}"
            unread.append(UnreadableMessage(one, number, said, isinstance(error, StoreRefused)))
    return out, unread


def read_record(message_id: bytes, raw: bytes, vault: SealingVault) -> MessageRecord:
    """All of a record."""
    raw = upgraded(raw)
    h = RecordHead._make(HEAD.unpack_from(raw))
    s = _cut(h, raw)
    accepted = time_of(message_id)
    timeline = _read_trail(s.trail, accepted)
    envelope = _open_envelope(vault.open(s.envelope))
    return MessageRecord(
        id=message_id,
        state=State(h.state),
        reason=Reason(h.reason),
        final=h.final == 1,
        accepted_at=accepted,
        moved_at=_moved_at(timeline, h.final == 1),
        sequence=h.sequence,
        category=Category(h.category),
        priority=Priority(h.priority),
        recipient=Recipient(envelope.to, s.recipient, partition_of(message_id)),
        account=s.account.decode(),
        route=s.route.decode(),
        place=h.place,
        attempts=h.attempts,
        segments=h.segments,
        reference_number=h.reference_number,
        resent=h.resent,
        cancel_requested=0 < h.cancel < STOPPED,
        due=h.due,
        expires=h.expires,
        opens=int.from_bytes(s.permission[:8], "big"),
        closes=int.from_bytes(s.permission[8:16], "big"),
        lease=h.lease,
        carrier=s.carrier.decode(),
        pinned=h.pinned == 1,
        parts=tuple(read_parts(s.parts)),
        copies=tuple(read_copies(s.copies)),
        timeline=tuple(timeline),
        envelope=envelope,
        content=_open_content(vault.open(s.content)) if s.content else None,
    )


def read_parts(packed: bytes) -> list[PartRecord]:
    """The parts section of a record."""
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


def read_copies(packed: bytes) -> list[CopyRecord]:
    """The copies section of a record."""
    copies: list[CopyRecord] = []
    at = 1 + packed[0] if packed else 0  # the mark of the text comes first
    while at < len(packed):
        part, state, _, _, carrier_len, id_len = COPY.unpack_from(packed, at)
        id_at = at + COPY.size + carrier_len
        carrier, at = packed[id_at - carrier_len : id_at].decode(), id_at + id_len
        copies.append(CopyRecord(part, _PART_STATES[state], carrier, packed[id_at:at]))
    return copies


def _read_trail(packed: bytes, accepted: int) -> list[TimelineStep]:
    """Each step: state, reason, ms since acceptance (5 octets), length of the rest: status, carrier, error.

    A carrier is named when it gets the message; what happens to it there is that carrier's word.
    """
    steps: list[TimelineStep] = []
    at, there = 0, ""
    while at < len(packed):
        state, reason, after = State(packed[at]), Reason(packed[at + 1]), int.from_bytes(packed[at + 2 : at + 7], "big")
        end = at + 8 + packed[at + 7]
        rest = packed[at + 8 : end]
        at = end
        status, carrier, error, decision = 0, "", "", None
        if rest:
            status, name_end = int.from_bytes(rest[:4], "big"), 5 + rest[4]
            if status == _RULED:
                status, decision = 0, _open_decision(rest[name_end:])
            else:
                carrier, error = rest[5:name_end].decode(), rest[name_end:].decode("utf-8", "replace")
        if state is State.SENDING:
            there = carrier
        steps.append(TimelineStep(state, reason, accepted + after, carrier or there, status, error, decision))
        if state in WAITING:
            there = ""
    return [step._replace(status=0) if step.status == _INTERMEDIATE else step for step in steps]


_REMARKS = {Reason.RECEIPT, Reason.RECEIPT_UNKNOWN, Reason.RECEIPT_UNREADABLE, Reason.AMBIGUOUS_RECEIPT}


def _moved_at(timeline: list[TimelineStep], final: bool) -> int:
    """The instant of the last step that was a move: what a receipt remarks leaves the state as it is."""
    if final:
        return timeline[-1].at  # nothing is remarked after the end
    moves = (step.at for step in reversed(timeline) if step.reason not in _REMARKS)
    return next(moves, timeline[0].at)


def refused_until(item: NewMessage, refused: int) -> int:
    """When the record of a message refused at the door goes; ``refused``: seconds it is kept."""
    return time_of(item.id) + refused * 1000
