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
    """A carrier's faults. A changed field takes effect with the next PDU.

    Times are milliseconds unless the name says otherwise; ``…_every = n`` affects each n-th submit, 0 none.
    """

    # binds
    bind_status: Code = 0  # refuse every bind with this status
    bind_close: bool = False  # … and close the connection right after
    bind_delay_ms: Amount = 0
    bind_silent: bool = False  # never answer a bind
    max_binds: Count = 0  # per system_id; one more is refused with RALYBND
    refuse_connections: bool = False  # reset every new connection

    # answers
    latency_ms: Amount = 0
    jitter_ms: Amount = 0  # up to this much on top, so that responses are reordered
    rate: Amount = 0  # submits a second over all binds; 0 = no limit
    burst: Amount = 0  # how many may come at once; 0 = the rate of a tenth of a second
    rate_status: Code = 0x58
    status_rules: list[StatusRule] = []  # the first that applies counts
    validity_clock: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] | None = None
    """Minutes ahead of UTC of a message centre that ignores the offset in absolute validities: what is past by its own
    clock is refused with 0x62."""
    noresp_every: Count = 0  # accepted and never answered
    empty_id_every: Count = 0  # accepted, answered without an id
    duplicate_answer_every: Count = 0
    drop_every: Count = 0  # cut the connection
    drop_phase: Literal["before_accept", "after_accept", "mid_answer", "after_answer"] = "after_accept"
    drop_mode: Literal["close", "reset"] = "close"
    unbind_every: Count = 0  # send unbind
    id_form: AnswerId = "dec"

    # receipts
    receipts: Literal["on_request", "always", "off"] = "on_request"
    receipt_delay_ms: Amount = 50
    receipt_jitter_ms: Amount = 0
    receipt_before_answer: bool = False
    receipt_copies: Annotated[int, msgspec.Meta(ge=1)] = 1
    receipt_states: dict[StateText, Amount] = msgspec.field(default_factory=lambda: {"DELIVRD": 1.0})  # weights
    receipt_intermediate: StateText | None = None  # sent before the final receipt
    receipt_error: str = "000"
    receipt_id_form: ReceiptId = "same"
    receipt_text: Literal["standard", "seconds", "century", "no-sub", "reordered", "upper", "no-dates", "none"] = (
        "standard"
    )
    receipt_utc_offset: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0  # minutes, of its dates
    receipt_from: str = ""  # source of every receipt instead of the recipient's number
    receipt_swapped: bool = True  # source and destination of the submit are swapped
    receipt_national: str = ""  # country code of numbers that receipts write in national form (0 and the rest)
    receipt_coding: Literal["plain", "ucs2", "ucs2-bom"] = "plain"  # of their texts
    receipt_data_coding: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0  # … and the data_coding of the PDU
    receipt_before: Octets = ""  # octets before the text
    receipt_behind: Octets = ""  # octets after the PDU's last field
    receipt_message_state: Annotated[int, msgspec.Meta(ge=-1, le=255)] = -1  # the TLV's octet; -1 = the true state
    receipt_tlvs: bool = True
    receipt_via: Literal["deliver_sm", "data_sm", "payload"] = "deliver_sm"
    receipt_esm_class: Annotated[int, msgspec.Meta(ge=0, le=255)] = 4
    receipt_bind: Literal["same", "any"] = "same"  # same: the bind that submitted, when it receives
    receipt_retry_ms: Amount = 1000  # after a refusal
    receipt_tries: Count = 5
    receipt_redeliver: bool = True  # send again what was not acknowledged when its bind closed

    # replies
    reply_every: Count = 0  # each n-th message accepted is answered by its recipient
    reply_text: str = "STOP"
    reply_delay_ms: Amount = 200

    # session
    window: Annotated[int, msgspec.Meta(ge=1)] = 500  # deliver_sm outstanding per bind
    ignore_enquire_link: bool = False
    enquire_interval: Amount = 30  # seconds of silence before an enquire_link; 0 = never


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
