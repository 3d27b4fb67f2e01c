"""From entries of the event stream to what receivers get: who wants what, and the JSON of each event. Pure.

Only what an account wants is taken apart: most events are of moves that nobody asked about, and are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from struct import calcsize
from typing import NamedTuple

import msgspec

from gateway.model import Reason, State
from gateway.store.hooks import Address, Entry, Sight
from gateway.store.ids import text
from gateway.store.layout import EVENT


class Data(msgspec.Struct, gc=False):
    """What happened to which message."""

    message_id: str
    client_ref: str | None
    to: str | None
    status: str
    previous_status: str | None
    reason: str | None
    carrier: str | None
    carrier_message_id: str | None
    smpp_status: int
    receipt_error: str | None
    segments: int
    parts_accepted: int


class WebhookEvent(msgspec.Struct, gc=False):
    """One event as a receiver gets it. ``id`` is the same however often it is posted."""

    id: str
    type: str
    time: str
    account: str
    sequence: int
    data: Data


class Wish(NamedTuple):
    """What an account wants to hear."""

    account: str
    everything: bool = False  # every move, not only the last
    own: bool = True  # the account has a receiver; else only messages that name one are told of


class Told(msgspec.Struct, gc=False):
    """An event that somebody wants."""

    wish: Wish
    id: bytes
    instant: int
    at: int  # place in its entry
    entry: bytes


_encode = msgspec.json.Encoder().encode
_FINAL = calcsize(">16sIBBB")
_LENGTHS = calcsize(">16sIBBBBIB")
_NAMES = {int(state): state.name.lower() for state in State}
_TYPES = {int(state): f"message.{state.name.lower()}" for state in State}
_REASONS = {int(reason): reason.name.lower() if reason else None for reason in Reason}


def wanted(entries: Iterable[Entry], wishes: Mapping[bytes, Wish]) -> list[Told]:
    """The events that accounts want, in order; ``wishes`` by the octets of an account's name."""
    out: list[Told] = []
    size = EVENT.size
    everything = any(wish.everything for wish in wishes.values())
    for _, packed, instant in entries:
        at, end = 0, len(packed)
        while at < end:
            account, carrier, carrier_id, error = packed[at + _LENGTHS : at + size]
            if packed[at + _FINAL] or everything:
                wish = wishes.get(packed[at + size : at + size + account])
                if wish is not None and (wish.everything or packed[at + _FINAL]):
                    out.append(Told(wish, packed[at : at + 16], instant, at, packed))
            at += size + account + carrier + carrier_id + error
    return out


def addressed(told: Iterable[Told], sights: Mapping[bytes, Sight]) -> dict[Address, list[WebhookEvent]]:
    """The events of every queue they belong to, in order."""
    out: dict[Address, list[WebhookEvent]] = {}
    times: dict[int, str] = {}
    for one in told:
        sight = sights.get(one.id)
        url = sight.callback_url if sight is not None else ""
        if not url and not one.wish.own:
            continue
        time = times.get(one.instant)
        if time is None:
            time = times[one.instant] = iso(one.instant)
        address = Address(one.wish.account, url)
        events = out.get(address)
        if events is None:
            events = out[address] = []
        events.append(_event(one, sight, time))
    return out


def _event(one: Told, sight: Sight | None, time: str) -> WebhookEvent:
    packed, at = one.entry, one.at
    _, sequence, state, previous, reason, _, status, accepted, account, carrier, carrier_id, error = EVENT.unpack_from(
        packed, at
    )
    carrier_at = at + EVENT.size + account
    id_at = carrier_at + carrier
    error_at = id_at + carrier_id
    message = text(one.id)
    of_carrier = packed[id_at:error_at].decode("latin-1") if carrier_id else sight.carrier_id if sight else ""
    return WebhookEvent(
        f"{message}.{sequence}",
        _TYPES[state],
        time,
        one.wish.account,
        sequence,
        Data(
            message,
            (sight.client_ref or None) if sight else None,
            f"+{sight.to}" if sight else None,
            _NAMES[state],
            _NAMES[previous] if previous else None,
            _REASONS[reason],
            packed[carrier_at:id_at].decode() if carrier else None,
            of_carrier or None,
            status,
            packed[error_at : error_at + error].decode("utf-8", "replace") if error else None,
            sight.segments if sight else 0,
            accepted,
        ),
    )


def pieces(events: Sequence[WebhookEvent], most: int) -> list[tuple[int, bytes]]:
    """(number of events, JSON objects with commas between them) of at most ``most`` events each."""
    cut = [events[at : at + most] for at in range(0, len(events), most)]
    return [(len(some), _encode(some)[1:-1]) for some in cut]


def iso(instant: int) -> str:
    """ms UTC as RFC 3339."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
