"""What the simulated carrier sends: message ids and receipts in every form, replies. Pure.

Bodies are formatted here and not with the codec's template, since both addresses differ in each.
"""

from __future__ import annotations

from random import Random
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from gateway.simulator.faults import AnswerId, Faults, ReceiptId
from gateway.smpp import receipt
from gateway.smpp.pdu import DATA_SM, DELIVER_SM, ESM_UDHI
from gateway.smpp.short_message import ShortMessage
from gateway.smpp.text import SplitMethod, split
from gateway.smpp.tlv import MESSAGE_PAYLOAD, encode_tlv

STATES = {text.decode(): state for state, text in receipt.STATE_TEXTS.items()}

_ID_TLV = Struct(">HH")
_STATE_TLV = b"\x04\x27\x00\x01"
_STATE_TLVS = {state: _STATE_TLV + bytes((state,)) for state in STATES.values()}


class ReceiptTimes(NamedTuple):
    """submit date and done date of a receipt, in ms UTC."""

    submitted: int
    done: int


def write_id(number: int, form: AnswerId) -> bytes:
    """Return the response's message id in ``form``."""
    if form == "dec":
        return b"%d" % number
    if form == "uuid":
        return str(UUID(int=number)).encode()
    return _number(number, form)


def receipt_id(number: int, answered: bytes, form: ReceiptId) -> bytes:
    """Return the receipt's id: formatted anew from ``number``, or ``answered`` changed as careless carriers do."""
    match form:
        case "same":
            return answered
        case "upper":
            return answered.upper()
        case "lower":
            return answered.lower()
        case "stripped":
            return answered.lstrip(b"0")
        case "dec":
            return b"%d" % number
        case _:
            return _number(number, form)


def _number(number: int, form: str) -> bytes:
    if form.startswith("dec"):
        return b"%020d" % number
    digits = b"%016x" % number if form == "hex-padded" else b"%x" % number
    return digits.upper() if form == "HEX" else digits


def pick_state(faults: Faults, random: Random) -> int:
    """Return a state drawn by the weights of ``receipt_states``."""
    weights = faults.receipt_states
    if len(weights) == 1:
        return STATES[next(iter(weights))]
    return STATES[random.choices(list(weights), list(weights.values()))[0]]


def receipt_body(
    faults: Faults, message: ShortMessage, shown_id: bytes, state: int, times: ReceiptTimes
) -> tuple[int, bytes]:
    """Return ``(command_id, body)`` of the receipt for ``message``."""
    text = _text(faults, message, shown_id, state, times)
    if text and (faults.receipt_coding != "plain" or faults.receipt_before):
        text = _encoded(faults, text)
    tlvs = b""
    if faults.receipt_tlvs:
        octet = faults.receipt_message_state
        state_tlv = _STATE_TLVS[state] if octet < 0 else _STATE_TLV + bytes((octet,))
        tlvs = b"%b%b\0%b" % (_ID_TLV.pack(0x001E, len(shown_id) + 1), shown_id, state_tlv)
    if faults.receipt_from or faults.receipt_national:
        message = message._replace(dest=_receipt_source(faults, message.dest))
    if not faults.receipt_swapped:
        message = message._replace(
            source_ton=message.dest_ton,
            source_npi=message.dest_npi,
            source=message.dest,
            dest_ton=message.source_ton,
            dest_npi=message.source_npi,
            dest=message.source,
        )
    stray = bytes.fromhex(faults.receipt_behind) if faults.receipt_behind else b""
    if faults.receipt_via == "data_sm":
        return DATA_SM, _data_body(message, faults, text, tlvs) + stray
    if faults.receipt_via == "payload":
        tlvs, text = encode_tlv(MESSAGE_PAYLOAD, text) + tlvs, b""
    return DELIVER_SM, b"\0%c%c%b\0%c%c%b\0%c\0\0\0\0\0\0%c\0%c%b%b%b" % (
        message.dest_ton,
        message.dest_npi,
        message.dest,
        message.source_ton,
        message.source_npi,
        message.source,
        faults.receipt_esm_class,
        faults.receipt_data_coding,
        len(text),
        text,
        tlvs,
        stray,
    )


def _receipt_source(faults: Faults, number: bytes) -> bytes:
    """Return the recipient's number as receipts write it."""
    if faults.receipt_from:
        return faults.receipt_from.encode()
    code = faults.receipt_national.encode()
    return b"0" + number[len(code) :] if number.startswith(code) else number


def _encoded(faults: Faults, text: bytes) -> bytes:
    """Return a text as careless carriers encode it; UCS-2 is cut to what fits a short_message."""
    if faults.receipt_coding != "plain":
        mark = "\ufeff" if faults.receipt_coding == "ucs2-bom" else ""
        text = (mark + text.decode("latin-1")).encode("utf-16-be")
        if faults.receipt_via == "deliver_sm":
            text = text[:254]
    return bytes.fromhex(faults.receipt_before) + text


def reply_bodies(
    source: bytes, dest: bytes, text: str, reference: int, *, dest_ton: int = 1, long: SplitMethod = SplitMethod.UDH8
) -> list[bytes]:
    """Return the deliver_sm bodies of a text from ``source`` to the app's number ``dest``."""
    cut = split(text, reference=reference, long=long)
    return [
        b"\0\1\1%b\0%c\1%b\0%c\0\0\0\0\0\0%c\0%c%b%b"
        % (
            source,
            dest_ton,
            dest,
            cut.esm_class,
            cut.data_coding,
            len(part.short_message),
            part.short_message,
            part.tlvs,
        )
        for part in cut.parts
    ]


def _data_body(message: ShortMessage, faults: Faults, text: bytes, tlvs: bytes) -> bytes:
    return b"\0%c%c%b\0%c%c%b\0%c\0%c%b%b" % (
        message.dest_ton,
        message.dest_npi,
        message.dest,
        message.source_ton,
        message.source_npi,
        message.source,
        faults.receipt_esm_class,
        faults.receipt_data_coding,
        encode_tlv(MESSAGE_PAYLOAD, text) if text else b"",
        tlvs,
    )


_COUNTS, _TAIL = b"sub:001 dlvrd:001 ", b"stat:%(stat)b err:%(err)b text:%(text)b"
_FORMS = {
    "seconds": b"id:%(id)b " + _COUNTS + b"submit date:%(from12)b done date:%(to12)b " + _TAIL,
    "century": b"id:%(id)b " + _COUNTS + b"submit date:%(from14)b done date:%(to14)b " + _TAIL,
    "no-sub": b"id:%(id)b submit date:%(from10)b done date:%(to10)b " + _TAIL,
    "reordered": b"stat:%(stat)b err:%(err)b id:%(id)b done date:%(to10)b",
    "upper": b"ID:%(id)b SUB:001 DLVRD:001 SUBMIT DATE:%(from10)b DONE DATE:%(to10)b"
    b" STAT:%(stat)b ERR:%(err)b TEXT:%(text)b",
    "no-dates": b"id:%(id)b " + _COUNTS + _TAIL,
    "none": b"",
}
"""Known deviations from appendix B."""


def _text(faults: Faults, message: ShortMessage, shown_id: bytes, state: int, times: ReceiptTimes) -> bytes:
    error = faults.receipt_error.encode()
    plain = not message.data_coding and not message.esm_class & ESM_UDHI
    text = message.short_message[:20] if plain else b""
    offset = faults.receipt_utc_offset
    if faults.receipt_text == "standard":
        return receipt.build(
            shown_id,
            state,
            submitted=times.submitted,
            done=times.done,
            error=error,
            text=text,
            utc_offset_minutes=offset,
        )
    values = {b"id": shown_id, b"stat": receipt.STATE_TEXTS[state], b"err": error, b"text": text}
    for digits in (10, 12, 14):
        values[b"from%d" % digits] = receipt.date_text(times.submitted + offset * 60_000, digits)
        values[b"to%d" % digits] = receipt.date_text(times.done + offset * 60_000, digits)
    return _FORMS[faults.receipt_text] % values
