"""Messages packed for ``accept`` and ``permit``, and read back as ``take`` hands them out. Layout: ``layout``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from gateway.model import (
    PRIORITY,
    Category,
    DecisionDetail,
    LeasedMessage,
    NewMessage,
    Permission,
    Reason,
    Recipient,
    Redecide,
    State,
)
from gateway.store.crypto import Vault
from gateway.store.errors import StoreRefused
from gateway.store.ids import partition_of, time_of
from gateway.store.layout import (
    CAP,
    CLOSES,
    HEAD,
    PERMISSION,
    RULED_STEP,
    RULED_STEP_OCTETS,
    VERSION,
    RecordHead,
)
from gateway.store.records import cut, open_content, open_envelope, read_parts
from gateway.store.requests import UnreadableMessage

_T = TypeVar("_T")

_encode = msgspec.msgpack.Encoder().encode
_DELAYED = (State.SCHEDULED, State.DEFERRED)
_CATEGORIES = tuple(Category)  # by value: a call of the enum costs as much as a decryption
_FIRST_STEP_TIME = bytes(5)  # the acceptance is 0 ms after the acceptance
_FIRST_STEP_ALONE = _FIRST_STEP_TIME + b"\0"  # nothing follows


def pack_permission(permission: Permission) -> bytes:
    """Return the section that the gate reads."""
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
    """Return caps (scope, limit, window in s) as the gate and ``facts`` read them."""
    return b"".join([CAP.pack(*cap) for cap in caps])


def pack_decision(decision: DecisionDetail) -> bytes:
    """Return the details of a policy decision in at most ``RULED_STEP_OCTETS``; "…" replaces what does not fit."""
    packed = _encode(decision)
    zones, rules = decision.zones or (), decision.rules or ()
    while len(packed) > RULED_STEP_OCTETS and (zones or rules):
        if zones:  # a toll-free number has dozens
            zones = zones[: len(zones) // 2]
            decision = msgspec.structs.replace(decision, zones=(*zones, "…"))
        else:
            rules = rules[:-1]
            decision = msgspec.structs.replace(decision, rules=(*rules, "…"))
        packed = _encode(decision)
    return packed


def pack_new(item: NewMessage, vault: Vault, due: int) -> bytes:
    """Return the record of a new message. Raises struct.error when a value does not fit its field."""
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


def _first_step(item: NewMessage, due: int) -> bytes:
    """Return the timeline of a new message: its acceptance and, when it is delayed, until when."""
    if not due or item.state not in _DELAYED:
        return bytes((item.state, item.reason)) + _FIRST_STEP_ALONE
    decision = pack_decision(DecisionDetail(due))
    rest = b"%b\0%b" % (RULED_STEP.to_bytes(4, "big"), decision)
    return b"%c%c%b%c%b" % (item.state, item.reason, _FIRST_STEP_TIME, len(rest), rest)


def refused_until(item: NewMessage, refused: int) -> int:
    """Return when the record of a REJECTED message is deleted (ms UTC); ``refused``: seconds it is kept."""
    return time_of(item.id) + refused * 1000


def read_leased(message_id: bytes, raw: bytes, lease: int, vault: Vault) -> LeasedMessage:
    """Return a message that ``take`` leased, from its record as it was before the take."""
    head = RecordHead._make(HEAD.unpack_from(raw))
    sections = cut(head, raw)
    envelope = open_envelope(vault.open(sections.envelope))
    return LeasedMessage(
        message_id,
        lease,
        Recipient(envelope.to, sections.recipient, partition_of(message_id)),
        _CATEGORIES[head.category],
        sections.route.decode(),
        head.place,
        head.attempts,
        head.resent,
        sections.carrier.decode() if head.pinned else "",
        head.reference_number,
        bytes([part.state for part in read_parts(sections.parts)]) if sections.parts else b"",
        head.expires,
        int.from_bytes(sections.permission[CLOSES], "big"),
        envelope,
        open_content(vault.open(sections.content)),
        sections.carrier.decode() if head.reason == Reason.TURN else "",
    )


def read_redecide(message_id: bytes, raw: bytes, reason: int, token: int, vault: Vault) -> Redecide:
    """Return a message that ``take`` handed back for a fresh decision, from its record as it was before the take."""
    head = RecordHead._make(HEAD.unpack_from(raw))
    sections = cut(head, raw)
    envelope = open_envelope(vault.open(sections.envelope))
    return Redecide(
        message_id,
        token,
        Recipient(envelope.to, sections.recipient, partition_of(message_id)),
        State(head.state),
        Reason(reason),
        time_of(message_id),
        head.expires,
        sections.route.decode(),
        envelope,
        open_content(vault.open(sections.content)),
    )


def readable(records: Iterable[tuple[bytes, int, Callable[[], _T]]]) -> tuple[list[_T], list[UnreadableMessage]]:
    """Read records one by one, each given as (id, lease or token, reader).

    Return what could be read, and those whose record is damaged or whose encryption key is missing.
    """
    out: list[_T] = []
    unreadable: list[UnreadableMessage] = []
    for message_id, number, read in records:
        try:
            out.append(read())
        except Exception as error:  # noqa: BLE001 - a damaged record may fail in any way, and only by itself
            text = f"{type(error).__name__}: {error}"
            unreadable.append(UnreadableMessage(message_id, number, text, isinstance(error, StoreRefused)))
    return out, unreadable
