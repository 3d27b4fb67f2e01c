"""The PDUs of SMPP 3.4 as tables: one list of mandatory fields per PDU drives both encoding and decoding (section 4).

Counts of what follows (sm_length, number_of_dests, no_unsuccess) are no fields of their own: the kind of the field
that they announce implies the count octet.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

RESP = 0x80000000
"""Set in the command_id of every response."""

BIND_RECEIVER = 0x00000001
BIND_TRANSMITTER = 0x00000002
QUERY_SM = 0x00000003
SUBMIT_SM = 0x00000004
DELIVER_SM = 0x00000005
UNBIND = 0x00000006
REPLACE_SM = 0x00000007
CANCEL_SM = 0x00000008
BIND_TRANSCEIVER = 0x00000009
OUTBIND = 0x0000000B
ENQUIRE_LINK = 0x00000015
SUBMIT_MULTI = 0x00000021
ALERT_NOTIFICATION = 0x00000102
DATA_SM = 0x00000103

GENERIC_NACK = 0x80000000
BIND_RECEIVER_RESP = BIND_RECEIVER | RESP
BIND_TRANSMITTER_RESP = BIND_TRANSMITTER | RESP
QUERY_SM_RESP = QUERY_SM | RESP
SUBMIT_SM_RESP = SUBMIT_SM | RESP
DELIVER_SM_RESP = DELIVER_SM | RESP
UNBIND_RESP = UNBIND | RESP
REPLACE_SM_RESP = REPLACE_SM | RESP
CANCEL_SM_RESP = CANCEL_SM | RESP
BIND_TRANSCEIVER_RESP = BIND_TRANSCEIVER | RESP
ENQUIRE_LINK_RESP = ENQUIRE_LINK | RESP
SUBMIT_MULTI_RESP = SUBMIT_MULTI | RESP
DATA_SM_RESP = DATA_SM | RESP

BINDS = frozenset({BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER})
UNANSWERED = frozenset({ALERT_NOTIFICATION, OUTBIND})
"""Requests that have no response."""

HEADER_LENGTH = 16
MAX_PDU = 70 * 1024
"""Octets of a PDU: a message_payload of 65,535, every mandatory field at its largest, and 5 KiB of other TLVs."""

MAX_ID = 64
"""Octets of a message id, without its NUL."""

MAX_SEQUENCE = 0x7FFFFFFF

# esm_class (section 5.2.12)
ESM_RECEIPT = 0x04
ESM_INTERMEDIATE = 0x20
ESM_TYPE_MASK = 0x3C
ESM_UDHI = 0x40


class FieldKind(Enum):
    """The wire format of a mandatory field."""

    OCTET = "B"  # one octet, an int
    CSTRING = "cstring"  # octets up to a NUL, which counts in the table's size
    SIZED = "sized"  # a count octet, then that many octets
    DESTINATIONS = "destinations"  # a count octet, then Sme | DistributionList each
    UNSUCCESSFUL = "unsuccessful"  # a count octet, then Unsuccess each


class PduField(NamedTuple):
    """One mandatory parameter: its name in the specification, wire format and largest size in octets."""

    name: str
    kind: FieldKind
    size: int


class Sme(NamedTuple):
    """A destination of submit_multi: one number (dest_flag 1)."""

    ton: int
    npi: int
    address: bytes


class DistributionList(NamedTuple):
    """A destination of submit_multi: a list kept at the message centre (dest_flag 2)."""

    name: bytes


class Unsuccess(NamedTuple):
    """A destination that submit_multi failed for, and its command_status."""

    ton: int
    npi: int
    address: bytes
    status: int


class PduLayout(NamedTuple):
    """Name and mandatory fields of a PDU. TLVs may follow wherever there is a body."""

    name: str
    fields: tuple[PduField, ...]


def _octets(*names: str) -> tuple[PduField, ...]:
    return tuple(PduField(name, FieldKind.OCTET, 1) for name in names)


def _string(name: str, size: int) -> tuple[PduField, ...]:
    return (PduField(name, FieldKind.CSTRING, size),)


def _address(prefix: str, address: str, size: int = 21) -> tuple[PduField, ...]:
    return (*_octets(f"{prefix}_ton", f"{prefix}_npi"), *_string(address, size))


_SERVICE = _string("service_type", 6)
_ID = _string("message_id", MAX_ID + 1)
_SOURCE = _address("source_addr", "source_addr")
_DEST = _address("dest_addr", "destination_addr")
_TIMES = (*_string("schedule_delivery_time", 17), *_string("validity_period", 17))
_TEXT = (PduField("short_message", FieldKind.SIZED, 254),)
_SUBMIT_TAIL = (
    *_octets("esm_class", "protocol_id", "priority_flag"),
    *_TIMES,
    *_octets("registered_delivery", "replace_if_present_flag", "data_coding", "sm_default_msg_id"),
    *_TEXT,
)
_BIND = (
    *_string("system_id", 16),
    *_string("password", 65),  # 9 in the specification; carriers issue and take longer ones
    *_string("system_type", 13),
    *_octets("interface_version", "addr_ton", "addr_npi"),
    *_string("address_range", 41),
)
_BIND_RESP = _string("system_id", 16)
_MESSAGE = (*_SERVICE, *_SOURCE, *_DEST, *_SUBMIT_TAIL)

LAYOUTS: dict[int, PduLayout] = {
    BIND_RECEIVER: PduLayout("bind_receiver", _BIND),
    BIND_RECEIVER_RESP: PduLayout("bind_receiver_resp", _BIND_RESP),
    BIND_TRANSMITTER: PduLayout("bind_transmitter", _BIND),
    BIND_TRANSMITTER_RESP: PduLayout("bind_transmitter_resp", _BIND_RESP),
    BIND_TRANSCEIVER: PduLayout("bind_transceiver", _BIND),
    BIND_TRANSCEIVER_RESP: PduLayout("bind_transceiver_resp", _BIND_RESP),
    OUTBIND: PduLayout("outbind", _BIND[:2]),
    UNBIND: PduLayout("unbind", ()),
    UNBIND_RESP: PduLayout("unbind_resp", ()),
    GENERIC_NACK: PduLayout("generic_nack", ()),
    SUBMIT_SM: PduLayout("submit_sm", _MESSAGE),
    SUBMIT_SM_RESP: PduLayout("submit_sm_resp", _ID),
    SUBMIT_MULTI: PduLayout(
        "submit_multi",
        (*_SERVICE, *_SOURCE, PduField("dest_addresses", FieldKind.DESTINATIONS, 254), *_SUBMIT_TAIL),
    ),
    SUBMIT_MULTI_RESP: PduLayout("submit_multi_resp", (*_ID, PduField("unsuccess_smes", FieldKind.UNSUCCESSFUL, 255))),
    DELIVER_SM: PduLayout("deliver_sm", _MESSAGE),
    DELIVER_SM_RESP: PduLayout("deliver_sm_resp", _ID),
    DATA_SM: PduLayout(
        "data_sm",
        (
            *_SERVICE,
            *_address("source_addr", "source_addr", 65),
            *_address("dest_addr", "destination_addr", 65),
            *_octets("esm_class", "registered_delivery", "data_coding"),
        ),
    ),
    DATA_SM_RESP: PduLayout("data_sm_resp", _ID),
    QUERY_SM: PduLayout("query_sm", (*_ID, *_SOURCE)),
    QUERY_SM_RESP: PduLayout(
        "query_sm_resp", (*_ID, *_string("final_date", 17), *_octets("message_state", "error_code"))
    ),
    CANCEL_SM: PduLayout("cancel_sm", (*_SERVICE, *_ID, *_SOURCE, *_DEST)),
    CANCEL_SM_RESP: PduLayout("cancel_sm_resp", ()),
    REPLACE_SM: PduLayout(
        "replace_sm", (*_ID, *_SOURCE, *_TIMES, *_octets("registered_delivery", "sm_default_msg_id"), *_TEXT)
    ),
    REPLACE_SM_RESP: PduLayout("replace_sm_resp", ()),
    ENQUIRE_LINK: PduLayout("enquire_link", ()),
    ENQUIRE_LINK_RESP: PduLayout("enquire_link_resp", ()),
    ALERT_NOTIFICATION: PduLayout(
        "alert_notification",
        (*_address("source_addr", "source_addr", 65), *_address("esme_addr", "esme_addr", 65)),
    ),
}
"""Every PDU of SMPP 3.4, both directions, by command_id."""


def command_name(command_id: int) -> str:
    """Return ``"submit_sm"``, or ``"0x00000110"`` for a command unknown to SMPP 3.4."""
    layout = LAYOUTS.get(command_id)
    return layout.name if layout else f"0x{command_id:08X}"
