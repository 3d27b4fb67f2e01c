"""The faults of a simulated carrier, as data. The defaults are a carrier without faults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec.structs import fields

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Octets = Annotated[str, msgspec.Meta(pattern="^([0-9a-fA-F]{2})*$")]  # hexadecimal digits
Code = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]

StateText = Literal["ENROUTE", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD"]
AnswerId = Literal["dec", "hex", "HEX", "dec-padded", "hex-padded", "uuid"]
ReceiptId = Literal["same", "dec", "hex", "HEX", "dec-padded", "hex-padded", "upper", "lower", "stripped"]


class StatusRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Answer a submit with ``status`` when every condition given holds."""

    status: Code
    every: Count = 0  # each n-th submit
    prob: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0  # this share of them, at random
    first: Count = 0  # the first n submits of each (destination, text), so that a retry succeeds
    dest: str = ""  # prefix of the destination, without +
    validity: Literal["", "any", "absolute", "relative"] = ""  # a validity_period of this form


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """A carrier's faults; ``MEANINGS`` says what each does. A changed field takes effect with the next PDU.

    Times are milliseconds unless the name says otherwise; ``…_every = n`` affects each n-th submit, 0 none.
    """

    # binds
    bind_status: Code = 0
    bind_close: bool = False
    bind_delay_ms: Amount = 0
    bind_silent: bool = False
    max_binds: Count = 0
    refuse_connections: bool = False

    # answers
    latency_ms: Amount = 0
    jitter_ms: Amount = 0
    rate: Amount = 0
    burst: Amount = 0
    rate_status: Code = 0x58
    status_rules: list[StatusRule] = []
    validity_clock: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] | None = None
    noresp_every: Count = 0
    empty_id_every: Count = 0
    duplicate_answer_every: Count = 0
    drop_every: Count = 0
    drop_phase: Literal["before_accept", "after_accept", "mid_answer", "after_answer"] = "after_accept"
    drop_mode: Literal["close", "reset"] = "close"
    unbind_every: Count = 0
    id_form: AnswerId = "dec"

    # receipts
    receipts: Literal["on_request", "always", "off"] = "on_request"
    receipt_delay_ms: Amount = 50
    receipt_jitter_ms: Amount = 0
    receipt_before_answer: bool = False
    receipt_copies: Annotated[int, msgspec.Meta(ge=1)] = 1
    receipt_states: dict[StateText, Amount] = msgspec.field(default_factory=lambda: {"DELIVRD": 1.0})
    receipt_intermediate: StateText | None = None
    receipt_error: str = "000"
    receipt_id_form: ReceiptId = "same"
    receipt_text: Literal["standard", "seconds", "century", "no-sub", "reordered", "upper", "no-dates", "none"] = (
        "standard"
    )
    receipt_utc_offset: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    receipt_from: str = ""
    receipt_swapped: bool = True
    receipt_national: str = ""
    receipt_coding: Literal["plain", "ucs2", "ucs2-bom"] = "plain"
    receipt_data_coding: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    receipt_before: Octets = ""
    receipt_behind: Octets = ""
    receipt_message_state: Annotated[int, msgspec.Meta(ge=-1, le=255)] = -1
    receipt_tlvs: bool = True
    receipt_via: Literal["deliver_sm", "data_sm", "payload"] = "deliver_sm"
    receipt_esm_class: Annotated[int, msgspec.Meta(ge=0, le=255)] = 4
    receipt_bind: Literal["same", "any"] = "same"
    receipt_retry_ms: Amount = 1000
    receipt_tries: Count = 5
    receipt_redeliver: bool = True

    # replies
    reply_every: Count = 0
    reply_text: str = "STOP"
    reply_delay_ms: Amount = 200

    # session
    window: Annotated[int, msgspec.Meta(ge=1)] = 500
    ignore_enquire_link: bool = False
    enquire_interval: Amount = 30


MEANINGS = {
    "bind_status": "refuse every bind with this command_status",
    "bind_close": "close the connection right after a refused bind",
    "bind_delay_ms": "delay of every bind response",
    "bind_silent": "never respond to a bind",
    "max_binds": "binds per system_id; one more is refused with ESME_RALYBND; 0: any number",
    "refuse_connections": "reset every new connection",
    "latency_ms": "delay of every response",
    "jitter_ms": "up to this much more, at random, so that responses are reordered",
    "rate": "submits per second over all binds, beyond which they are throttled; 0: no limit",
    "burst": "submits that may arrive at once; 0: a tenth of a second's",
    "rate_status": "command_status of a throttled submit (88: ESME_RTHROTTLED)",
    "status_rules": "refuse some submits; the first rule that applies counts: "
    '[{"status": 8, "every": 10}], or prob, first, dest, validity as conditions',
    "validity_clock": "if given: minutes that its clock is ahead of UTC; it ignores the offset in absolute validities, "
    "and refuses those in its past with ESME_RINVEXPIRY",
    "noresp_every": "every n-th submit is accepted without a response",
    "empty_id_every": "every n-th submit is accepted with an empty message_id",
    "duplicate_answer_every": "every n-th submit gets its response twice",
    "drop_every": "every n-th submit cuts the connection",
    "drop_phase": "when drop_every cuts: before or after accepting the submit, within or after its response",
    "drop_mode": "how drop_every cuts",
    "unbind_every": "every n-th submit is followed by an unbind",
    "id_form": "form of message_id in responses",
    "receipts": "which submits get a receipt; on_request: as registered_delivery says",
    "receipt_delay_ms": "time from accepting a submit to its receipt",
    "receipt_jitter_ms": "up to this much more, at random",
    "receipt_before_answer": "send the receipt at once, before the response",
    "receipt_copies": "how often each receipt is sent",
    "receipt_states": "states in receipts, with their weights",
    "receipt_intermediate": "a state reported before the final one, like ENROUTE",
    "receipt_error": "err: in the text",
    "receipt_id_form": "form of the id in receipts; same: as in the response",
    "receipt_text": "form of the text; standard: SMPP 3.4, appendix B",
    "receipt_utc_offset": "minutes that the dates in the text are ahead of UTC",
    "receipt_from": "source address of every receipt, instead of the recipient's number",
    "receipt_swapped": "swap source and destination of the submit; false: leave them",
    "receipt_national": "country code of numbers that receipts write in national form, with a leading 0",
    "receipt_coding": "encoding of the text",
    "receipt_data_coding": "data_coding of receipts",
    "receipt_before": "octets before the text, in hexadecimal",
    "receipt_behind": "octets after the PDU's last field, in hexadecimal",
    "receipt_message_state": "value of the message_state TLV; -1: the true state",
    "receipt_tlvs": "add receipted_message_id and message_state",
    "receipt_via": "PDU of receipts; payload: deliver_sm with message_payload",
    "receipt_esm_class": "esm_class of receipts",
    "receipt_bind": "which bind gets a receipt; same: the one that submitted, if it receives",
    "receipt_retry_ms": "delay until a receipt that the gateway refused is sent again",
    "receipt_tries": "how often it is sent at most",
    "receipt_redeliver": "send receipts again that were not acknowledged when their bind closed",
    "reply_every": "the recipient of every n-th accepted message replies",
    "reply_text": "text of these replies",
    "reply_delay_ms": "time from accepting a message to the reply",
    "window": "outstanding deliver_sm per bind",
    "ignore_enquire_link": "never respond to enquire_link",
    "enquire_interval": "seconds of silence before an enquire_link; 0: never",
}
"""What each fault does, for ``smpp-gateway simulate --list``."""


def read_faults(options: Iterable[str]) -> Faults:
    """Return faults from ``name=value`` options of a command line; lists and objects in JSON.

    Raise ValueError that names the option and what is wrong with it.
    """
    values: dict[str, object] = {}
    for option in options:
        name, sign, text = option.partition("=")
        if not sign:
            raise ValueError(f"{option!r}: expected name=value")
        name = name.replace("-", "_")
        if name not in Faults.__struct_fields__:
            raise ValueError(f"unknown fault {name!r}; {_hint(name)}")
        try:
            values[name] = _value(text)
            msgspec.convert({name: values[name]}, Faults, strict=False)
        except msgspec.DecodeError as error:  # invalid JSON, or (its subclass ValidationError) invalid for the field
            allowed = f"; one of {', '.join(choices(name))}" if choices(name) else ""
            raise ValueError(f"{option!r}: {error}{allowed}") from error
    return msgspec.convert(values, Faults, strict=False)


def choices(name: str) -> list[str]:
    """Return the allowed words of a fault, [] when it is no choice among words."""
    kind = next(field.type for field in fields(Faults) if field.name == name)
    return [str(word) for word in get_args(kind)] if get_origin(kind) is Literal else []


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, Faults.__struct_fields__, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(Faults.__struct_fields__)}"


def _value(text: str) -> object:
    """Return a hexadecimal number, parsed JSON, or the text itself, which msgspec converts to the field's type."""
    if text.startswith(("[", "{")):
        return msgspec.json.decode(text)
    if re.fullmatch("0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    return text
