"""Delivery receipts as carriers really write them (SMPP 3.4, appendix B, and every deviation from it), and their ids.

The TLVs ``receipted_message_id`` and ``message_state`` win; the text fills the gaps. Nothing after ``text:`` is ever
read as a field, since that is the user's own message.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from gateway.smpp.ids import bounded_id
from gateway.smpp.segments import UDHI, TextError, split_header

if TYPE_CHECKING:
    from gateway.smpp.codec import Message

RECEIPTED_MESSAGE_ID = 0x001E
NETWORK_ERROR_CODE = 0x0423
MESSAGE_STATE = 0x0427

ENROUTE, DELIVERED, EXPIRED, DELETED, UNDELIVERABLE, ACCEPTED, UNKNOWN, REJECTED = range(1, 9)
"""message_state values, SMPP 3.4, 5.2.28."""

INTERMEDIATE = frozenset({ENROUTE, ACCEPTED})
"""States after which another receipt may come. (The specification calls ACCEPTED final; carriers do not keep to it.)"""

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

IdForm = Literal["as-is", "hex-to-dec", "dec-to-hex", "auto"]

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
_FROM_TLV = {0: ENROUTE, 9: UNDELIVERABLE} | {state: state for state in STATE_TEXTS}  # SCHEDULED and SKIPPED are 5.0

_RECEIPT_TYPES = frozenset({0x04, 0x20})  # esm_class bits 5-2: delivery receipt, intermediate notification
_USUAL = re.compile(
    rb"id:(\S{1,64}) sub:(\S*) dlvrd:(\S*) submit date:(\d{1,32}) done date:(\d{1,32}) stat:(\w+) err:(\w{0,64})"
    rb"(?: [Tt]ext:(.*))?",
    re.DOTALL,
)
_KEY = re.compile(rb"(?<![^\s,;])(id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text)\s?:", re.IGNORECASE)


class Receipt(NamedTuple):
    """What a carrier says became of a message.

    ``ids``: as they came, the one to trust first, () when the receipt names none; ``state``: message_state 1 to 8;
    ``state_text``: the raw ``stat``, b"" when only the TLV told; dates in ms UTC, 0 when absent or unreadable.
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
        return self.state not in INTERMEDIATE


def is_receipt(message: Message, *, trust_tlv: bool = True, trust_text: bool = False) -> bool:
    """Whether a deliver_sm or data_sm is a receipt and not somebody's reply.

    By esm_class; with ``trust_tlv`` also by receipted_message_id, for carriers that leave esm_class at 0. A text alone
    proves nothing, since anybody can write one, unless the carrier is set so (``trust_text``).
    """
    kind = message.esm_class & 0x3C
    if kind in _RECEIPT_TYPES:
        return True
    if kind:
        return False
    if trust_tlv and message.tlvs and RECEIPTED_MESSAGE_ID in message.tlvs:
        return True
    return trust_text and {b"id", b"stat"} <= _fields(message.payload).keys()


def parse(message: Message, *, utc_offset_minutes: int = 0) -> Receipt | None:
    """The receipt in ``message``, or None when neither an id nor a state can be found. Never raises.

    ``utc_offset_minutes``: the carrier's clock minus UTC, since its dates name no zone.
    """
    text = _plain(message)
    receipt = parse_text(text, utc_offset_minutes=utc_offset_minutes)
    tlvs = message.tlvs
    if not tlvs:
        return receipt if receipt.ids or receipt.state_text else None
    return _with_tlvs(receipt, tlvs)


def parse_text(text: bytes, *, utc_offset_minutes: int = 0) -> Receipt:
    """The fields of a receipt's text alone; what is missing stays empty, an unknown ``stat`` is state UNKNOWN."""
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
    state = _STATES.get(stat) or _STATES.get(stat.upper(), UNKNOWN)
    shift = utc_offset_minutes * 60_000
    submitted, finished = _instant(submit), _instant(done)
    return Receipt(
        (id_,) if id_ else (),
        state,
        stat,
        error,
        submitted - shift if submitted else 0,
        finished - shift if finished else 0,
        sub,
        dlvrd,
        body,
    )


def _with_tlvs(receipt: Receipt, tlvs: dict[int, bytes]) -> Receipt | None:
    """``receipt`` as the text tells it, corrected by the TLVs."""
    ids, state, error = receipt.ids, receipt.state, receipt.error
    told = tlvs.get(RECEIPTED_MESSAGE_ID, b"").rstrip(b"\0")
    if told and ids != (told,) and ids != (told := bounded_id(told),):
        ids = (told, *ids)
    state_octet = tlvs.get(MESSAGE_STATE)
    if state_octet:
        state = _FROM_TLV.get(state_octet[-1], UNKNOWN)
    elif not ids and not receipt.state_text:
        return None
    network = tlvs.get(NETWORK_ERROR_CODE)
    if not error and network is not None and len(network) == 3:
        error = b"%03d" % int.from_bytes(network[1:])
    if state == receipt.state and ids is receipt.ids and error is receipt.error:
        return receipt
    return receipt._replace(ids=ids, state=state, error=error)


def _plain(message: Message) -> bytes:
    """The text as octets: without a user data header, and out of UCS-2 where a carrier wraps receipts in it."""
    text = message.payload
    if message.esm_class & UDHI:
        with suppress(TextError):
            text = split_header(text)[1]
    if message.data_coding == 8 and b"\0" in text:
        return text.decode("utf-16-be", "replace").encode("latin-1", "replace")
    return text.rstrip(b"\0")


def _fields(text: bytes) -> dict[bytes, bytes]:
    """Every ``key:value`` of a receipt text in whatever order, keys in lower case without space, the first one wins."""
    found: dict[bytes, bytes] = {}
    matches = list(_KEY.finditer(text))
    ends = [*(match.start() for match in matches), len(text)]
    for match, end in zip(matches, ends[1:], strict=True):
        key = match[1].lower().translate(None, b" _")
        if key == b"text":
            found[key] = text[match.end() :]
            break
        value = text[match.end() : end].strip()
        if not key.endswith(b"date"):
            value = value.partition(b" ")[0].rstrip(b",;")
        found.setdefault(key, value)
    return found


@lru_cache(maxsize=4096)  # the receipts of one minute share their dates
def _instant(date: bytes) -> int:
    """Ms UTC of YYMMDDhhmm, YYMMDDhhmmss, YYYYMMDDhhmm or YYYYMMDDhhmmss, separators ignored; 0 when it is none."""
    digits = bytes(octet for octet in date if 0x30 <= octet <= 0x39).decode()
    formats = {10: ("20%s00",), 12: ("20%s", "%s00"), 14: ("%s",)}.get(len(digits), ())
    for pattern in formats:
        full = pattern % digits
        try:
            when = datetime.strptime(full, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(when.timestamp() * 1000)
    return 0


# Ids --------------------------------------------------------------------------------------------------------------


def normalise_id(raw: bytes, form: IdForm) -> bytes:
    """The form of a message id from submit_sm_resp (or data_sm_resp) under which receipts will look for it.

    ``form`` says what must happen to the answer's id to become the receipts': nothing (``as-is``), from hexadecimal to
    decimal, from decimal to hexadecimal, or ``auto``: only what is always right, which is lower case and no leading
    zeros; then ``id_forms`` tries both directions.
    """
    plain = raw.strip(b"\0 ")
    if form == "as-is":
        return plain
    key = _canonical(plain)
    if form == "hex-to-dec":
        return _hex_to_dec(key) or key
    if form == "dec-to-hex":
        return _dec_to_hex(key) or key
    return key


def id_forms(raw: bytes, form: IdForm) -> tuple[bytes, ...]:
    """The keys under which the message of a receipt's id may be found: the most likely first, no doubles.

    All but the first are guesses, good only together with the destination.
    """
    plain = raw.strip(b"\0 ")
    key = _canonical(plain)
    others = tuple(other for other in (_dec_to_hex(key), _hex_to_dec(key)) if other)
    if form != "as-is":
        return (key, *others) if key not in others else (key, *(other for other in others if other != key))
    guesses = [plain, key]
    for guess in (plain, key, *others):
        guesses += [guess.lower(), guess.upper()]
    for other in others:
        guesses += [other.rjust(8, b"0"), other.rjust(8, b"0").upper(), other.rjust(10, b"0")]
    return tuple(dict.fromkeys(guesses))


def _canonical(raw: bytes) -> bytes:
    return raw.lower().lstrip(b"0") or raw[-1:]


def _hex_to_dec(key: bytes) -> bytes:
    """Decimal digits of a hexadecimal id of up to 64 bits, b"" when it is none."""
    if len(key) > 16 or not key.isalnum():
        return b""
    try:
        return b"%d" % int(key, 16)
    except ValueError:
        return b""


def _dec_to_hex(key: bytes) -> bytes:
    """Hexadecimal digits of a decimal id of up to 64 bits, b"" when it is none."""
    return b"%x" % int(key) if len(key) <= 20 and key.isdigit() else b""


# Writing ----------------------------------------------------------------------------------------------------------


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
    """The text of a receipt in the form of SMPP 3.4, appendix B; instants in ms UTC, ``text`` cut to 20 octets."""
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
    """An instant (ms UTC) as the date of a receipt: YYMMDDhhmm, with seconds (12), with century and seconds (14)."""
    return _date(instant // 60_000) if digits == 10 else _stamp(instant // 1000)[14 - digits :]


@lru_cache(maxsize=4096)
def _date(minute: int) -> bytes:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%y%m%d%H%M").encode()


@lru_cache(maxsize=4096)
def _stamp(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d%H%M%S").encode()
