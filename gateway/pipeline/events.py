"""From entries of the event stream to what receivers get: who wants what, and the JSON of each event. Pure.

Only what an account wants is taken apart: most events are of moves that nobody asked about, and are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from struct import Struct, calcsize
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
    """One event as a receiver gets it: what ``addressed`` writes. ``id`` is the same however often it is posted."""

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
_SEQUENCE_END = calcsize(">16sI")
_MOVED = Struct(">BBBBIB")  # of layout.EVENT: what lies between the sequence and the lengths
_FINAL = calcsize(">16sIBBB")
_LENGTHS = calcsize(">16sIBBBBIB")
_NAMES = {int(state): state.name.lower() for state in State}
_TYPES = {int(state): f"message.{state.name.lower()}" for state in State}
_REASONS = {int(reason): reason.name.lower() if reason else "" for reason in Reason}


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


def addressed(told: Iterable[Told], sights: Mapping[bytes, Sight]) -> dict[Address, list[str]]:
    """The events of every queue they belong to, in order, each as JSON (a ``WebhookEvent``)."""
    out: dict[Address, list[str]] = {}
    times: dict[int, str] = {}
    forms: dict[bytes, _Form] = {}
    for one in told:
        sight = sights.get(one.id, _UNSEEN)
        url = sight.callback_url
        if not url and not one.wish.own:
            continue
        time = times.get(one.instant)
        if time is None:
            time = times[one.instant] = iso(one.instant)
        address = Address(one.wish.account, url)
        events = out.get(address)
        if events is None:
            events = out[address] = []
        events.append(_event(one, sight, time, forms))
    return out


class _Form(NamedTuple):
    """What many events have in common: the JSON around what differs."""

    type: str
    account: str
    states: str
    answers: str
    parts: str


_UNSEEN = Sight("", "", "", 0, "")


def _event(one: Told, sight: Sight, time: str, forms: dict[bytes, _Form]) -> str:
    """The JSON of one event. (By way of structs it takes twice as long, and this is most of what an event costs.)"""
    packed, at = one.entry, one.at
    account, carrier, carrier_id, error = packed[at + _LENGTHS : at + EVENT.size]
    id_at = at + EVENT.size + account + carrier
    error_at = id_at + carrier_id
    common = packed[at + _SEQUENCE_END : id_at]
    if error:
        common += packed[error_at : error_at + error]
    form = forms.get(common)
    if form is None:
        why = packed[error_at : error_at + error]
        form = forms[common] = _form(one.wish.account, common, packed[id_at - carrier : id_at], why)
    message, sequence = text(one.id), int.from_bytes(packed[at + 16 : at + _SEQUENCE_END], "big")
    of_carrier = packed[id_at:error_at].decode("latin-1") if carrier_id else sight.carrier_id
    to = f'"+{sight.to}"' if sight.to else "null"
    return (
        f'{{"id":"{message}.{sequence}",{form.type}{time}{form.account}{sequence},"data":{{"message_id":"{message}",'
        f'"client_ref":{_quoted(sight.client_ref)},"to":{to},{form.states}{_quoted(of_carrier)}{form.answers}'
        f"{sight.segments}{form.parts}"
    )


def _form(account: str, moved: bytes, carrier: bytes, error: bytes) -> _Form:
    state, previous, reason, _, status, accepted = _MOVED.unpack_from(moved)
    return _Form(
        f'"type":"{_TYPES[state]}","time":"',
        f'","account":{_quoted(account)},"sequence":',
        f'"status":"{_NAMES[state]}","previous_status":{_quoted(_NAMES.get(previous, ""))},'
        f'"reason":{_quoted(_REASONS[reason])},"carrier":{_quoted(carrier.decode())},"carrier_message_id":',
        f',"smpp_status":{status},"receipt_error":{_quoted(error.decode("utf-8", "replace"))},"segments":',
        f',"parts_accepted":{accepted}}}}}',
    )


def _quoted(text_: str) -> str:
    """A JSON string; null for none."""
    if text_.isalnum() and text_.isascii():
        return f'"{text_}"'
    return _encode(text_).decode() if text_ else "null"


def pieces(events: Sequence[str], most: int) -> list[tuple[int, bytes]]:
    """(number of events, JSON objects with commas between them) of at most ``most`` events each."""
    cut = [events[at : at + most] for at in range(0, len(events), most)]
    return [(len(some), ",".join(some).encode()) for some in cut]


def iso(instant: int) -> str:
    """ms UTC as RFC 3339."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
