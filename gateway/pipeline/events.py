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

from gateway.model import Reason, State
from gateway.store.hooks import UNSEEN, Address, Cover, Entry, Sight
from gateway.store.layout import EVENT, TOLD


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


class Wish(NamedTuple):
    """What an account wants to hear."""

    account: str
    everything: bool = False  # every move, not only the last
    own: bool = True  # the account has a receiver; else only messages that name one are told of


class Told(NamedTuple):
    """An event that somebody wants."""

    wish: Wish
    id: bytes
    instant: int
    at: int  # place in its entry
    entry: bytes


_Queues = dict[Address, list[str]]

_encode = msgspec.json.Encoder().encode
_SEQUENCE_END = calcsize(">16sI")
_MOVED = Struct(">BBBBIB")  # of layout.EVENT: what lies between the sequence and the lengths
_SIZE = EVENT.size
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
    for packed, instant, _ in entries:
        at, end = 0, len(packed)
        while at < end:
            account, carrier, carrier_id, error = packed[at + _LENGTHS : at + size]
            if packed[at + _FINAL] or everything:
                wish = wishes.get(packed[at + size : at + size + account])
                if wish is not None and (wish.everything or packed[at + _FINAL]):
                    out.append(Told(wish, packed[at : at + 16], instant, at, packed))
            at += size + account + carrier + carrier_id + error
    return out


Spoilt = Callable[[bytes, Exception], None]
"""Hears of an event, from its first octet on, that cannot be written, and why; the others are."""


def _raise(event: bytes, error: Exception) -> None:
    raise error


def addressed(told: Iterable[Told], sights: Mapping[bytes, Sight], spoilt: Spoilt = _raise) -> _Queues:
    """The events of every queue they belong to, in order, each as JSON (a ``WebhookEvent``)."""
    writer = _Writer()
    for wish, one_id, instant, at, packed in told:
        try:
            writer.write(wish, packed, at, instant, sights.get(one_id, _UNSEEN))
        except Exception as error:  # noqa: BLE001 - whatever is odd about one event, the others are told
            spoilt(packed[at:], error)
    return writer.queues


def as_told(
    entries: Iterable[Entry],
    wishes: Mapping[bytes, Wish],
    reveal: Callable[[bytes], Cover],
    spoilt: Spoilt = _raise,
) -> _Queues | None:
    """The same of entries that bring with them what is told of each event, as it was known at its move.

    None when an event that somebody wants does not: then ``wanted``, ``sights`` and ``addressed`` go the longer way.
    ``reveal`` opens a sealed envelope.
    """
    everything = any(wish.everything for wish in wishes.values())
    writer, size, head, unpack = _Writer(), EVENT.size, TOLD.size, TOLD.unpack_from
    for entry in entries:
        packed, instant, told = entry
        if told is None or (everything and not _tells_all(entry, wishes)):
            return None
        at, end = 0, len(told)
        while at < end:
            where, segments, second, carrier_id, envelope = unpack(told, at)
            cover_at = at + head + carrier_id
            name_at = where + size
            wish = wishes.get(packed[name_at : name_at + packed[where + _LENGTHS]])
            if wish is not None and (wish.everything or packed[where + _FINAL]):
                try:
                    first_id = told[at + head : cover_at].decode("latin-1")
                    sight = reveal(told[cover_at : cover_at + envelope]), segments, first_id, second * 1000
                    writer.write(wish, packed, where, instant, sight)
                except Exception as error:  # noqa: BLE001 - as above
                    spoilt(packed[where:], error)
            at = cover_at + envelope
    return writer.queues


def _tells_all(entry: Entry, wishes: Mapping[bytes, Wish]) -> bool:
    """Whether an entry tells of each event that somebody wants. It does not when a wish is younger than it."""
    told, at, places = entry.told or b"", 0, set[int]()
    while at < len(told):
        where, _, _, carrier_id, envelope = TOLD.unpack_from(told, at)
        places.add(where)
        at += TOLD.size + carrier_id + envelope
    return all(one.at in places for one in wanted((entry,), wishes))


class _Writer:
    """Events as they are written, by the queue they belong to."""

    def __init__(self) -> None:
        self.queues: _Queues = {}
        self._lists: dict[tuple[str, str], list[str]] = {}  # the same: an ``Address`` takes longer to make
        self._times: dict[int, str] = {}
        self._forms: dict[bytes, _Form] = {}

    def write(self, wish: Wish, packed: bytes, at: int, instant: int, sight: tuple[Cover, int, str, int]) -> None:
        """The event that begins at ``at``; ``sight``: what it tells of its message (a ``Sight``).

        By way of structs the JSON takes twice as long, and this is most of what an event costs.
        """
        cover, segments, first_id, done_at = sight
        if not cover.callback_url and not wish.own:
            return
        account, carrier, carrier_id, error = packed[at + _LENGTHS : at + _SIZE]
        id_at = at + _SIZE + account + carrier
        common = packed[at + _SEQUENCE_END : id_at]
        if error:
            common += packed[id_at + carrier_id : id_at + carrier_id + error]
        form = self._forms.get(common) or self._form(common, wish.account, packed[id_at - carrier : id_at], error)
        h, sequence = packed[at : at + 16].hex(), int.from_bytes(packed[at + 16 : at + _SEQUENCE_END], "big")
        message = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        if carrier_id:
            first_id = packed[id_at : id_at + carrier_id].decode("latin-1")
        to = f'"+{cover.to}"' if cover.to else "null"
        address = wish.account, cover.callback_url
        event = (
            f'{{"id":"{message}.{sequence}",{form.type}{self._times.get(instant) or self._time(instant)}{form.account}'
            f'{sequence},"data":{{"message_id":"{message}","client_ref":{_quoted(cover.client_ref)},"to":{to},{form.states}'
            f"{_quoted(first_id)}{form.answers}{segments}{form.parts}{_date(done_at) if form.dated else ''}"
        )
        if cover.metadata is not None:
            event = f'{event[:-2]},"metadata":{_encode(cover.metadata).decode()}}}}}'
        (self._lists.get(address) or self._queue(*address)).append(event)

    def _queue(self, account: str, url: str) -> list[str]:
        queue = self.queues[Address(account, url)] = self._lists[account, url] = []
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


_UNSEEN = Sight(UNSEEN, 0, "")


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


def pieces(events: Sequence[str], most: int) -> list[tuple[int, bytes]]:
    """(number of events, JSON objects with commas between them) of at most ``most`` events each."""
    cut = [events[at : at + most] for at in range(0, len(events), most)]
    return [(len(some), ",".join(some).encode()) for some in cut]


def iso(instant: int) -> str:
    """ms UTC as RFC 3339."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
