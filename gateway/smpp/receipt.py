"""Delivery receipts as carriers write them: SMPP 3.4, appendix B, and the known deviations from it.

The TLVs ``receipted_message_id`` and ``message_state`` take precedence; the text fills the gaps. Nothing after
``text:`` is read as a field, since it is the user's own message. Forms of ids are in ``message_id``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gateway.smpp.message_id import bounded_id
from gateway.smpp.pdu import ESM_INTERMEDIATE, ESM_RECEIPT, ESM_TYPE_MASK, ESM_UDHI
from gateway.smpp.text import TextError, split_header
from gateway.smpp.tlv import MESSAGE_STATE, NETWORK_ERROR_CODE, RECEIPTED_MESSAGE_ID

if TYPE_CHECKING:
    from gateway.smpp.short_message import ShortMessage

ENROUTE, DELIVERED, EXPIRED, DELETED, UNDELIVERABLE, ACCEPTED, UNKNOWN, REJECTED = range(1, 9)
"""message_state values, SMPP 3.4, 5.2.28."""

UNREADABLE = 0
"""State of a receipt without a recognisable state."""

INTERMEDIATE = frozenset({ENROUTE, ACCEPTED})
"""States after which another receipt may come. (ACCEPTED is final in the specification, but not with carriers.)"""

OPEN = INTERMEDIATE | {UNKNOWN, UNREADABLE}
"""States that are not final: intermediate, unknown to the carrier, or unreadable."""

STATE_TEXTS = {
    ENROUTE: b"ENROUTE",
    DELIVERED: b"DELIVRD",
    EXPIRED: b"EXPIRED",
    DELETED: b"DELETED",
    UNDELIVERABLE: b"UNDELIV",
    ACCEPTED: b"ACCEPTD",
    UNKNOWN: b"UNKNOWN",
    REJECTED: b"REJECTD",
}

_STATES = {text: state for state, text in STATE_TEXTS.items()} | {
    b"DELIVERED": DELIVERED,
    b"DELIVER": DELIVERED,
    b"EXPIRE": EXPIRED,
    b"DELETE": DELETED,
    b"UNDELIVERED": UNDELIVERABLE,
    b"UNDELIVERABLE": UNDELIVERABLE,
    b"UNDELIVRD": UNDELIVERABLE,
    b"FAILED": UNDELIVERABLE,
    b"ACCEPTED": ACCEPTED,
    b"ACKED": ACCEPTED,
    b"SENT": ACCEPTED,
    b"REJECTED": REJECTED,
    b"BUFFRED": ENROUTE,
    b"BUFFERED": ENROUTE,
    b"SCHEDULED": ENROUTE,
    b"SKIPPED": UNDELIVERABLE,
}
_STATE_PREFIXES = (
    (b"DELIV", DELIVERED),
    (b"UNDEL", UNDELIVERABLE),
    (b"EXPIR", EXPIRED),
    (b"REJEC", REJECTED),
    (b"DELET", DELETED),
    (b"ACCEP", ACCEPTED),
    (b"ENROU", ENROUTE),
    (b"UNKNO", UNKNOWN),
)
"""Beginnings of states that are truncated or spelled out."""

_TLV_STATES = {bytes((state,)): state for state in STATE_TEXTS if state != UNKNOWN}
_STATES_5_0 = {0: ENROUTE, 9: UNDELIVERABLE}  # SCHEDULED and SKIPPED

_RECEIPT_TYPES = frozenset({ESM_RECEIPT, ESM_INTERMEDIATE})
_USUAL = re.compile(
    rb"id:([^\s\0]{1,64}) sub:(\S*) dlvrd:(\S*) submit date:(\d{1,32}) done date:(\d{1,32}) stat:(\w+) err:(\w{0,64})"
    rb"(?: [Tt]ext:(.*))?",
    re.DOTALL,
)
_BEFORE_ID = re.compile(rb"(?!\W{0,4}text\s?:).{1,16}?(?=id:)", re.DOTALL | re.IGNORECASE)  # stray octets
_STARTS = re.compile(rb"[^0-9A-Za-z ]{0,8}id\s?:", re.IGNORECASE)  # no reply begins like this
_new_tuple = tuple.__new__
_BLANK = b" \t\r\n\0"
_KEY = re.compile(rb"(?<![^\s,;\0])(id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text)\s?:", re.IGNORECASE)


class Receipt(NamedTuple):
    """A parsed delivery receipt.

    ``ids``: unchanged, the most reliable first, () when the receipt has none; ``state``: message_state 1 to 8, or
    UNREADABLE; ``state_text``: the raw ``stat``, b"" when only the TLV has a state; dates in ms UTC, 0 when absent or
    unreadable; ``text``: the excerpt of the message, UTF-8 where the receipt was in UCS-2, else unchanged.
    """

    ids: tuple[bytes, ...]
    state: int
    state_text: bytes = b""
    error: bytes = b""
    submit_date: int = 0
    done_date: int = 0
    sub: bytes = b""
    dlvrd: bytes = b""
    text: bytes = b""

    @property
    def final(self) -> bool:
        return self.state not in OPEN


def is_receipt(message: ShortMessage, *, trust_tlv: bool = True, trust_text: bool = False) -> bool:
    """Whether a deliver_sm or data_sm is a receipt and not a reply.

    By esm_class; with ``trust_tlv`` also by receipted_message_id, for carriers that leave esm_class at 0. A text alone
    proves nothing, since any sender can write it, unless the carrier is configured so (``trust_text``): then it must
    begin with an id and contain a state.
    """
    kind = message.esm_class & ESM_TYPE_MASK
    if kind in _RECEIPT_TYPES:
        return True
    if kind:
        return False
    if trust_tlv and message.tlvs and RECEIPTED_MESSAGE_ID in message.tlvs:
        return True
    if not trust_text or _STARTS.match(message.payload.replace(b"\0", b"")) is None:
        return False
    return any(_complete(parse_text(text)) for text in _readings(message))


def parse(message: ShortMessage, *, clock: tzinfo = UTC) -> Receipt | None:
    """Return the receipt in ``message``, None when it has neither an id nor a state. Never raises.

    ``clock``: the time zone of the carrier's dates, which state none.
    """
    receipt = parse_text(message.payload.rstrip(b"\0"), clock=clock)
    if not _complete(receipt):
        receipt = max((parse_text(text, clock=clock) for text in _readings(message)), key=_rank)  # the first of equals
    tlvs = message.tlvs
    if not tlvs:
        return receipt if receipt.ids or receipt.state_text else None
    return _with_tlvs(receipt, tlvs)


def parse_text(text: bytes, *, clock: tzinfo = UTC) -> Receipt:
    """Return the fields of a receipt's text alone; missing ones are empty, an unknown ``stat`` is UNREADABLE."""
    match = _USUAL.match(text)
    if match is not None:
        id_, sub, dlvrd, submit, done, stat, error, body = match.groups(b"")
    else:
        fields = _fields(text)
        id_, sub, dlvrd, submit, done, stat, error, body = (
            fields.get(key, b"")
            for key in (b"id", b"sub", b"dlvrd", b"submitdate", b"donedate", b"stat", b"err", b"text")
        )
        id_, submit, done, error = bounded_id(id_), submit[:32], done[:32], error[:64]  # a text may have 64 KiB
    state = _STATES.get(stat) or _state(stat)
    submitted = _instant(submit, clock) if submit else 0
    done_at = _instant(done, clock) if done else 0
    return _new_tuple(Receipt, ((id_,) if id_ else (), state, stat, error, submitted, done_at, sub, dlvrd, body))


def _state(text: bytes) -> int:
    """Return the state of a word in any case, truncated or spelled out; UNREADABLE for any other."""
    word = text.upper()
    if word in _STATES:
        return _STATES[word]
    return next((state for beginning, state in _STATE_PREFIXES if word.startswith(beginning)), UNREADABLE)


def _with_tlvs(receipt: Receipt, tlvs: dict[int, bytes]) -> Receipt | None:
    """Return ``receipt``, as read from the text, corrected by the TLVs."""
    ids, error = receipt.ids, receipt.error
    tlv_id = tlvs.get(RECEIPTED_MESSAGE_ID, b"").strip(b"\0 ")
    if tlv_id and ids != (tlv_id,) and ids != (tlv_id := bounded_id(tlv_id),):
        ids = (tlv_id, *ids)
    value = tlvs.get(MESSAGE_STATE)
    state = _TLV_STATES.get(value) or _tlv_state(value, receipt.state) if value else receipt.state
    if not value and not ids and not receipt.state_text:
        return None
    network = tlvs.get(NETWORK_ERROR_CODE)
    if not error and network is not None and len(network) == 3:
        error = b"%03d" % int.from_bytes(network[1:])
    if state == receipt.state and ids is receipt.ids and error is receipt.error:
        return receipt
    return receipt._replace(ids=ids, state=state, error=error)


def _tlv_state(value: bytes, in_text: int) -> int:
    """Return the TLV's state when it is 1 to 8 but not UNKNOWN, else the text's.

    Where the text has none, values of version 5.0, ASCII digits and words are accepted as well.
    """
    word = value[:64].strip(b"\0 ")
    number = int.from_bytes(word)
    if number in STATE_TEXTS and number != UNKNOWN:
        return number
    if in_text != UNREADABLE:
        return in_text
    if number == UNKNOWN:
        return UNKNOWN
    if len(word) == 1 and word.isdigit():
        number = int(word)
    return number if number in STATE_TEXTS else _STATES_5_0.get(number, _state(word))


# ---- readings of the text


def _readings(message: ShortMessage) -> Iterator[bytes]:
    """Yield the text as octets in every plausible reading, unchanged first: esm_class and data_coding are unreliable.

    Then without the octets before ``id:`` (a quote, a length, a byte order mark), decoded from UCS-2, and all that
    without its user data header.
    """
    yield from _unwrapped(message.payload)
    if message.esm_class & ESM_UDHI:
        with suppress(TextError):
            yield from _unwrapped(split_header(message.payload)[1])


def _unwrapped(text: bytes) -> Iterator[bytes]:
    yield text.rstrip(b"\0")
    if junk := _BEFORE_ID.match(text):
        yield text[junk.end() :].rstrip(b"\0")
    if b"\0" in text:
        for codec in ("utf-16-be", "utf-16-le"):  # a stray octet at the beginning shifts one of them
            wide = text.decode(codec, "replace").encode("utf-8", "replace").replace(b"\0", b"")
            junk = _BEFORE_ID.match(wide)
            yield wide[junk.end() :] if junk else wide


def _complete(receipt: Receipt) -> bool:
    return bool(receipt.ids) and receipt.state != UNREADABLE


def _rank(receipt: Receipt) -> int:
    """Rank a reading by how much of a receipt it contains."""
    return 4 * bool(receipt.ids) + 2 * (receipt.state != UNREADABLE) + bool(receipt.state_text)


def _fields(text: bytes) -> dict[bytes, bytes]:
    """Return every ``key:value`` of a receipt text in any order; keys in lower case without space, first one wins."""
    found: dict[bytes, bytes] = {}
    matches = list(_KEY.finditer(text))
    ends = [*(match.start() for match in matches), len(text)]
    for match, end in zip(matches, ends[1:], strict=True):
        key = match[1].lower().translate(None, b" _")
        if key == b"text":
            found[key] = text[match.end() :]
            break
        value = text[match.end() : end].strip(_BLANK)
        if not key.endswith(b"date"):
            value = value.partition(b" ")[0].rstrip(b",;").strip(b"\"'")
        found.setdefault(key, value)
    return found


@lru_cache(maxsize=4096)  # the receipts of one minute share their dates
def _instant(date: bytes, clock: tzinfo) -> int:
    """Return ms UTC of YYMMDDhhmm[ss] or YYYYMMDDhhmm[ss], separators ignored; 0 for anything else."""
    digits = bytes(octet for octet in date if 0x30 <= octet <= 0x39).decode()
    formats = {10: ("20%s00",), 12: ("20%s", "%s00"), 14: ("%s",)}.get(len(digits), ())
    for pattern in formats:
        full = pattern % digits
        try:
            when = datetime.strptime(full, "%Y%m%d%H%M%S").replace(tzinfo=clock)
        except ValueError:
            continue
        return int(when.timestamp() * 1000)
    return 0


# ---- writing


def build(
    message_id: bytes,
    state: int,
    *,
    submitted: int,
    done: int,
    error: bytes = b"000",
    text: bytes = b"",
    utc_offset_minutes: int = 0,
) -> bytes:
    """Return the text of a receipt as in SMPP 3.4, appendix B; instants in ms UTC, ``text`` cut to 20 octets."""
    return b"id:%b sub:001 dlvrd:00%d submit date:%b done date:%b stat:%b err:%b text:%b" % (
        message_id,
        state == DELIVERED,
        _date(submitted // 60_000 + utc_offset_minutes),
        _date(done // 60_000 + utc_offset_minutes),
        STATE_TEXTS[state],
        error,
        text[:20],
    )


def date_text(instant: int, digits: int = 10) -> bytes:
    """Return an instant (ms UTC) as a receipt's date: YYMMDDhhmm, with seconds (12), with century and seconds (14)."""
    return _date(instant // 60_000) if digits == 10 else _stamp(instant // 1000)[14 - digits :]


@lru_cache(maxsize=4096)
def _date(minute: int) -> bytes:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%y%m%d%H%M").encode()


@lru_cache(maxsize=4096)
def _stamp(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d%H%M%S").encode()
