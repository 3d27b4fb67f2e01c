"""From entries of the event stream to what receivers get: who wants what, and the JSON of each event. Pure.

Only what an account wants is taken apart: most events are of moves that nobody asked about, and are stepped over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct, calcsize
from typing import Any, NamedTuple

import msgspec

from gateway.model import EnvelopeHeader, Reason, State
from gateway.store.layout import EVENT, TOLD
from gateway.store.webhook_queues import UNSEEN, MessageSummary, QueueAddress, StreamEntry


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
    done_at: str | None
    metadata: Any = msgspec.UNSET  # the message's; left out when it has none


class WebhookEvent(msgspec.Struct, gc=False):
    """One event as a receiver gets it: what ``addressed`` writes. ``id`` is the same however often it is posted."""

    id: str
    type: str
    time: str
    account: str
    sequence: int
    data: Data


class Subscription(NamedTuple):
    """What an account wants to hear."""

    account: str
    everything: bool = False  # every move, not only the last
    own: bool = True  # the account has a receiver; else only messages that name one are told of


class EventRef(NamedTuple):
    """An event that somebody wants."""

    subscription: Subscription
    id: bytes
    instant: int
    at: int  # place in its entry
    entry: bytes


_Queues = dict[QueueAddress, list[str]]

_encode = msgspec.json.Encoder().encode
_SEQUENCE_END = calcsize(">16sI")
_MOVED = Struct(">BBBBIB")  # of layout.EVENT: what lies between the sequence and the lengths
_SIZE = EVENT.size
_FINAL = calcsize(">16sIBBB")
_LENGTHS = calcsize(">16sIBBBBIB")
_NAMES = {int(state): state.name.lower() for state in State}
_TYPES = {int(state): f"message.{state.name.lower()}" for state in State}
_REASONS = {int(reason): reason.name.lower() if reason else "" for reason in Reason}


def wanted(entries: Iterable[StreamEntry], subscriptions: Mapping[bytes, Subscription]) -> list[EventRef]:
    """The events that accounts want, in order; ``subscriptions`` by the octets of an account's name."""
    out: list[EventRef] = []
    size = EVENT.size
    everything = any(subscription.everything for subscription in subscriptions.values())
    for packed, instant, _ in entries:
        at, end = 0, len(packed)
        while at < end:
            account, carrier, carrier_id, error = packed[at + _LENGTHS : at + size]
            if packed[at + _FINAL] or everything:
                subscription = subscriptions.get(packed[at + size : at + size + account])
                if subscription is not None and (subscription.everything or packed[at + _FINAL]):
                    out.append(EventRef(subscription, packed[at : at + 16], instant, at, packed))
            at += size + account + carrier + carrier_id + error
    return out


Spoilt = Callable[[bytes, Exception], None]
"""Hears of an event, from its first octet on, that cannot be written, and why; the others are."""


def _raise(event: bytes, error: Exception) -> None:
    raise error


def addressed(told: Iterable[EventRef], summaries: Mapping[bytes, MessageSummary], spoilt: Spoilt = _raise) -> _Queues:
    """The events of every queue they belong to, in order, each as JSON (a ``WebhookEvent``)."""
    writer = _QueueWriter()
    for subscription, one_id, instant, at, packed in told:
        try:
            writer.write(subscription, packed, at, instant, summaries.get(one_id, _UNSEEN))
        except Exception as error:  # noqa: BLE001 - whatever is odd about one event, the others are told
            spoilt(packed[at:], error)
    return writer.queues


def as_told(
    entries: Iterable[StreamEntry],
    subscriptions: Mapping[bytes, Subscription],
    reveal: Callable[[bytes], EnvelopeHeader],
    spoilt: Spoilt = _raise,
) -> _Queues | None:
    """The same of entries that bring with them what is told of each event, as it was known at its move.

    None when an event that somebody wants does not: then ``wanted``, ``sights`` and ``addressed`` go the longer way.
    ``reveal`` opens a sealed envelope.
    """
    everything = any(subscription.everything for subscription in subscriptions.values())
    writer, size, head, unpack = _QueueWriter(), EVENT.size, TOLD.size, TOLD.unpack_from
    for entry in entries:
        packed, instant, told = entry
        if told is None or (everything and not _tells_all(entry, subscriptions)):
            return None
        at, end = 0, len(told)
        while at < end:
            where, segments, second, carrier_id, envelope = unpack(told, at)
            header_at = at + head + carrier_id
            name_at = where + size
            subscription = subscriptions.get(packed[name_at : name_at + packed[where + _LENGTHS]])
            if subscription is not None and (subscription.everything or packed[where + _FINAL]):
                try:
                    first_id = told[at + head : header_at].decode("latin-1")
                    summary = reveal(told[header_at : header_at + envelope]), segments, first_id, second * 1000
                    writer.write(subscription, packed, where, instant, summary)
                except Exception as error:  # noqa: BLE001 - as above
                    spoilt(packed[where:], error)
            at = header_at + envelope
    return writer.queues


def _tells_all(entry: StreamEntry, subscriptions: Mapping[bytes, Subscription]) -> bool:
    """Whether an entry tells of each event that somebody wants. It does not when a wish is younger than it."""
    told, at, places = entry.told or b"", 0, set[int]()
    while at < len(told):
        where, _, _, carrier_id, envelope = TOLD.unpack_from(told, at)
        places.add(where)
        at += TOLD.size + carrier_id + envelope
    return all(one.at in places for one in wanted((entry,), subscriptions))


class _QueueWriter:
    """Events as they are written, by the queue they belong to."""

    def __init__(self) -> None:
        self.queues: _Queues = {}
        self._lists: dict[tuple[str, str], list[str]] = {}  # the same: an ``QueueAddress`` takes longer to make
        self._times: dict[int, str] = {}
        self._forms: dict[bytes, _Form] = {}

    def write(
        self,
        subscription: Subscription,
        packed: bytes,
        at: int,
        instant: int,
        summary: tuple[EnvelopeHeader, int, str, int],
    ) -> None:
        """The event that begins at ``at``; ``sight``: what it tells of its message (a ``MessageSummary``).

        By way of structs the JSON takes twice as long, and this is most of what an event costs.
        """
        header, segments, first_id, done_at = summary
        if not header.callback_url and not subscription.own:
            return
        account, carrier, carrier_id, error = packed[at + _LENGTHS : at + _SIZE]
        id_at = at + _SIZE + account + carrier
        common = packed[at + _SEQUENCE_END : id_at]
        if error:
            common += packed[id_at + carrier_id : id_at + carrier_id + error]
        form = self._forms.get(common) or self._form(
            common, subscription.account, packed[id_at - carrier : id_at], error
        )
        h, sequence = packed[at : at + 16].hex(), int.from_bytes(packed[at + 16 : at + _SEQUENCE_END], "big")
        message = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        if carrier_id:
            first_id = packed[id_at : id_at + carrier_id].decode("latin-1")
        to = f'"+{header.to}"' if header.to else "null"
        address = subscription.account, header.callback_url
        event = (
            f'{{"id":"{message}.{sequence}",{form.type}{self._times.get(instant) or self._time(instant)}{form.account}'
            f'{sequence},"data":{{"message_id":"{message}","client_ref":{_quoted(header.client_ref)},"to":{to},{form.states}'
            f"{_quoted(first_id)}{form.answers}{segments}{form.parts}{_date(done_at) if form.dated else ''}"
        )
        if header.metadata is not None:
            event = f'{event[:-2]},"metadata":{_encode(header.metadata).decode()}}}}}'
        (self._lists.get(address) or self._queue(*address)).append(event)

    def _queue(self, account: str, url: str) -> list[str]:
        queue = self.queues[QueueAddress(account, url)] = self._lists[account, url] = []
        return queue

    def _time(self, instant: int) -> str:
        time = self._times[instant] = iso(instant)
        return time

    def _form(self, common: bytes, account: str, carrier: bytes, error: int) -> _Form:
        why = common[len(common) - error :]
        form = self._forms[common] = _form(account, common, carrier, why)
        return form


class _Form(NamedTuple):
    """What many events have in common: the JSON around what differs."""

    type: str
    account: str
    states: str
    answers: str
    parts: str
    dated: bool  # it is the carrier's receipt that it tells of: ``parts`` is open for its date


_UNSEEN = MessageSummary(UNSEEN, 0, "")


def _form(account: str, moved: bytes, carrier: bytes, error: bytes) -> _Form:
    state, previous, reason, _, status, accepted = _MOVED.unpack_from(moved)
    dated = reason == Reason.RECEIPT
    return _Form(
        f'"type":"{_TYPES[state]}","time":"',
        f'","account":{_quoted(account)},"sequence":',
        f'"status":"{_NAMES[state]}","previous_status":{_quoted(_NAMES.get(previous, ""))},'
        f'"reason":{_quoted(_REASONS[reason])},"carrier":{_quoted(carrier.decode())},"carrier_message_id":',
        f',"smpp_status":{status},"receipt_error":{_quoted(error.decode("utf-8", "replace"))},"segments":',
        f',"parts_accepted":{accepted},"done_at":{"" if dated else "null}}"}',
        dated,
    )


@lru_cache(maxsize=4096)  # receipts of a minute share their dates
def _date(instant: int) -> str:
    """The end of an event that has the carrier's date, if it gave one."""
    return f'"{iso(instant)}"}}}}' if instant else "null}}"


def _quoted(text_: str) -> str:
    """A JSON string; null for none."""
    if text_.isalnum() and text_.isascii():
        return f'"{text_}"'
    return _encode(text_).decode() if text_ else "null"


def chunks(events: Sequence[str], most: int) -> list[tuple[int, bytes]]:
    """(number of events, JSON objects with commas between them) of at most ``most`` events each."""
    cut = [events[at : at + most] for at in range(0, len(events), most)]
    return [(len(some), ",".join(some).encode()) for some in cut]


def iso(instant: int) -> str:
    """ms UTC as RFC 3339."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
