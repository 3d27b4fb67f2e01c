"""From entries of the event stream to the JSON that endpoints get: which account wants which event. Pure.

Only wanted events are taken apart: most report moves that no account asked for, and are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct, calcsize
from typing import Any, NamedTuple

import msgspec

from gateway.model import EnvelopeHeader, Reason, State
from gateway.store.layout import EVENT, SUMMARY
from gateway.store.webhook_queues import EMPTY_HEADER, MessageSummary, QueueAddress, StreamEntry


class WebhookEventData(msgspec.Struct, gc=False):
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
    """One event as an endpoint gets it. ``id`` is the same however often it is posted."""

    id: str
    type: str
    time: str
    account: str
    sequence: int
    data: WebhookEventData


class Subscription(NamedTuple):
    """Which events an account wants."""

    account: str
    everything: bool = False  # every move, not only the last
    own: bool = True  # the account has a callback_url; else only messages that name a URL have events


class EventRef(NamedTuple):
    """A wanted event, still packed."""

    subscription: Subscription
    id: bytes
    instant: int  # ms UTC
    at: int  # offset in its entry
    entry: bytes


QueueEvents = dict[QueueAddress, list[str]]
"""Events in order, each as JSON, by the queue that they belong to."""

OnUnwritable = Callable[[bytes, Exception], None]
"""Gets an event that cannot be written, from its first octet on, and the reason; the others are written."""

_encode = msgspec.json.Encoder().encode

_EVENT_FIELDS = (
    *("id", "sequence", "state", "previous", "reason", "final", "status", "parts_accepted"),
    *("account_len", "carrier_len", "carrier_id_len", "error_len"),
)
"""Of ``layout.EVENT``, in its order."""

_CODES = re.findall(r"\d*[A-Za-z]", EVENT.format)
_AT = {name: calcsize(">" + "".join(_CODES[:index])) for index, name in enumerate(_EVENT_FIELDS)}
if len(_CODES) != len(_EVENT_FIELDS):
    raise AssertionError("layout.EVENT has other fields")

_SIZE = EVENT.size
_STATE_AT = _AT["state"]
_FINAL_AT = _AT["final"]
_LENGTHS_AT = _AT["account_len"]
_MOVE = Struct(">" + "".join(_CODES[_EVENT_FIELDS.index("state") : _EVENT_FIELDS.index("account_len")]))
_STATUSES = {int(state): state.name.lower() for state in State}
_TYPES = {int(state): f"message.{state.name.lower()}" for state in State}
_REASONS = {int(reason): reason.name.lower() if reason else "" for reason in Reason}


def wanted_events(entries: Iterable[StreamEntry], subscriptions: Mapping[bytes, Subscription]) -> list[EventRef]:
    """Return the events that accounts want, in order. ``subscriptions``: by the octets of an account's name."""
    out: list[EventRef] = []
    size = _SIZE
    everything = any(subscription.everything for subscription in subscriptions.values())
    for packed, instant, _ in entries:
        at, end = 0, len(packed)
        while at < end:
            account, carrier, carrier_id, error = packed[at + _LENGTHS_AT : at + size]
            if packed[at + _FINAL_AT] or everything:
                subscription = subscriptions.get(packed[at + size : at + size + account])
                if subscription is not None and (subscription.everything or packed[at + _FINAL_AT]):
                    out.append(EventRef(subscription, packed[at : at + 16], instant, at, packed))
            at += size + account + carrier + carrier_id + error
    return out


def _raise(event: bytes, error: Exception) -> None:
    raise error


def write_looked_up(
    refs: Iterable[EventRef], summaries: Mapping[bytes, MessageSummary], on_unwritable: OnUnwritable = _raise
) -> QueueEvents:
    """Write events whose messages were looked up (id -> summary), each as a ``WebhookEvent``."""
    writer = _QueueWriter()
    for subscription, message_id, instant, at, packed in refs:
        try:
            writer.write(subscription, packed, at, instant, summaries.get(message_id, _NO_SUMMARY))
        except Exception as error:  # noqa: BLE001 - whatever is odd about one event, the others are written
            on_unwritable(packed[at:], error)
    return writer.queues


def write_summarized(
    entries: Iterable[StreamEntry],
    subscriptions: Mapping[bytes, Subscription],
    open_header: Callable[[bytes], EnvelopeHeader],
    on_unwritable: OnUnwritable = _raise,
) -> QueueEvents | None:
    """Write the wanted events of entries that carry the summaries of their messages, as known at each move.

    None when a wanted event has none: then use ``wanted_events`` and ``write_looked_up``. ``open_header`` decrypts an
    envelope.
    """
    everything = any(subscription.everything for subscription in subscriptions.values())
    writer, size, head, unpack = _QueueWriter(), _SIZE, SUMMARY.size, SUMMARY.unpack_from
    for entry in entries:
        packed, instant, summaries = entry
        if summaries is None or (everything and not _summarizes_all(entry, subscriptions)):
            return None
        at, end = 0, len(summaries)
        while at < end:
            event_at, segments, done_second, carrier_id, envelope = unpack(summaries, at)
            header_at = at + head + carrier_id
            name_at = event_at + size
            subscription = subscriptions.get(packed[name_at : name_at + packed[event_at + _LENGTHS_AT]])
            if subscription is not None and (subscription.everything or packed[event_at + _FINAL_AT]):
                try:
                    first_id = summaries[at + head : header_at].decode("latin-1")
                    header = open_header(summaries[header_at : header_at + envelope])
                    summary = header, segments, first_id, done_second * 1000
                    writer.write(subscription, packed, event_at, instant, summary)
                except Exception as error:  # noqa: BLE001 - as above
                    on_unwritable(packed[event_at:], error)
            at = header_at + envelope
    return writer.queues


def _summarizes_all(entry: StreamEntry, subscriptions: Mapping[bytes, Subscription]) -> bool:
    """Whether an entry has a summary for each wanted event. Not when a subscription is younger than the entry."""
    summaries, at, summarized = entry.summaries or b"", 0, set[int]()
    while at < len(summaries):
        event_at, _, _, carrier_id, envelope = SUMMARY.unpack_from(summaries, at)
        summarized.add(event_at)
        at += SUMMARY.size + carrier_id + envelope
    return all(ref.at in summarized for ref in wanted_events((entry,), subscriptions))


class _QueueWriter:
    """Writes events, and collects them by queue."""

    def __init__(self) -> None:
        self.queues: QueueEvents = {}
        self._lists: dict[tuple[str, str], list[str]] = {}  # the same: a ``QueueAddress`` takes longer to make
        self._times: dict[int, str] = {}
        self._templates: dict[bytes, _Template] = {}

    def write(
        self,
        subscription: Subscription,
        packed: bytes,
        at: int,
        instant: int,
        summary: tuple[EnvelopeHeader, int, str, int],
    ) -> None:
        """Write the event that begins at ``at``. ``summary``: the fields of its message's ``MessageSummary``.

        By way of structs the JSON takes twice as long, and this is most of what an event costs.
        """
        header, segments, first_id, done_at = summary
        if not header.callback_url and not subscription.own:
            return
        account, carrier, carrier_id, error = packed[at + _LENGTHS_AT : at + _SIZE]
        id_at = at + _SIZE + account + carrier
        common = packed[at + _STATE_AT : id_at]
        if error:
            common += packed[id_at + carrier_id : id_at + carrier_id + error]
        template = self._templates.get(common) or self._template(
            common, subscription.account, packed[id_at - carrier : id_at], error
        )
        h, sequence = packed[at : at + 16].hex(), int.from_bytes(packed[at + 16 : at + _STATE_AT], "big")
        message = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        if carrier_id:
            first_id = packed[id_at : id_at + carrier_id].decode("latin-1")
        to = f'"+{header.to}"' if header.to else "null"
        address = subscription.account, header.callback_url
        event = (
            f'{{"id":"{message}.{sequence}",{template.type}{self._times.get(instant) or self._time(instant)}'
            f'{template.account}{sequence},"data":{{"message_id":"{message}","client_ref":{_quoted(header.client_ref)},'
            f'"to":{to},{template.status}{_quoted(first_id)}{template.result}{segments}{template.parts}'
            f"{_date(done_at) if template.dated else ''}"
        )
        if header.metadata is not None:
            event = f'{event[:-2]},"metadata":{_encode(header.metadata).decode()}}}}}'
        (self._lists.get(address) or self._queue(*address)).append(event)

    def _queue(self, account: str, url: str) -> list[str]:
        queue = self.queues[QueueAddress(account, url)] = self._lists[account, url] = []
        return queue

    def _time(self, instant: int) -> str:
        time = self._times[instant] = rfc3339(instant)
        return time

    def _template(self, common: bytes, account: str, carrier: bytes, error_len: int) -> _Template:
        error = common[len(common) - error_len :]
        template = self._templates[common] = _template(account, common, carrier, error)
        return template


class _Template(NamedTuple):
    """The JSON that many events share, around the fields in which they differ."""

    type: str
    account: str
    status: str
    result: str
    parts: str
    dated: bool  # it reports the carrier's receipt: ``parts`` is open for the date in it


_NO_SUMMARY = MessageSummary(EMPTY_HEADER, 0, "")


def _template(account: str, move: bytes, carrier: bytes, error: bytes) -> _Template:
    state, previous, reason, _, status, accepted = _MOVE.unpack_from(move)
    dated = reason == Reason.RECEIPT
    return _Template(
        f'"type":"{_TYPES[state]}","time":"',
        f'","account":{_quoted(account)},"sequence":',
        f'"status":"{_STATUSES[state]}","previous_status":{_quoted(_STATUSES.get(previous, ""))},'
        f'"reason":{_quoted(_REASONS[reason])},"carrier":{_quoted(carrier.decode())},"carrier_message_id":',
        f',"smpp_status":{status},"receipt_error":{_quoted(error.decode("utf-8", "replace"))},"segments":',
        f',"parts_accepted":{accepted},"done_at":{"" if dated else "null}}"}',
        dated,
    )


@lru_cache(maxsize=4096)  # receipts of a minute share their dates
def _date(instant: int) -> str:
    """Return the end of an event that has the carrier's date, if it gave one."""
    return f'"{rfc3339(instant)}"}}}}' if instant else "null}}"


def _quoted(value: str) -> str:
    """Return a JSON string; null for none."""
    if value.isalnum() and value.isascii():
        return f'"{value}"'
    return _encode(value).decode() if value else "null"


def chunks(events: Sequence[str], most: int) -> list[tuple[int, bytes]]:
    """Return (number of events, JSON objects with commas between them) of at most ``most`` events each."""
    cut = [events[at : at + most] for at in range(0, len(events), most)]
    return [(len(some), ",".join(some).encode()) for some in cut]


def rfc3339(instant: int) -> str:
    """Return an instant (ms UTC) as RFC 3339."""
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
