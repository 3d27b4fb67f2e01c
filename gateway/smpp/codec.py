"""Any PDU of SMPP 3.4 to octets and back, driven by the field tables of ``pdu``.

The tables are folded once, at import, into steps: a run of octets becomes one Struct. ``short_message`` has a faster
codec for the messages of the hot path.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any

from gateway.smpp.errors import LocalError, PeerError
from gateway.smpp.pdu import (
    HEADER_LENGTH,
    LAYOUTS,
    RESP,
    DistributionList,
    FieldKind,
    PduField,
    Sme,
    Unsuccess,
    command_name,
)
from gateway.smpp.status import CommandStatus
from gateway.smpp.tlv import MESSAGE_PAYLOAD, encode_tlvs, scan

HEADER = Struct(">IIII")
"""command_length, command_id, command_status, sequence_number."""

_LENGTH = Struct(">I")


class Pdu:
    """One PDU: header, mandatory fields by their name in the specification, TLVs in order with duplicates.

    ``fields`` is empty for a response without a body. ``error`` is set when the body of a response was malformed: only
    the header and the fields read before the fault are valid.
    """

    __slots__ = ("command_id", "error", "fields", "sequence", "status", "tlvs")

    def __init__(
        self,
        command_id: int,
        status: int = 0,
        sequence: int = 0,
        fields: dict[str, Any] | None = None,
        tlvs: list[tuple[int, bytes]] | None = None,
    ) -> None:
        self.command_id = command_id
        self.status = status
        self.sequence = sequence
        self.fields: dict[str, Any] = {} if fields is None else fields
        self.tlvs: list[tuple[int, bytes]] = [] if tlvs is None else tlvs
        self.error: PeerError | None = None

    @property
    def name(self) -> str:
        """Name of the command in the specification."""
        return command_name(self.command_id)

    def tlv(self, tag: int) -> bytes | None:
        """Return the first value under ``tag``, None when there is none."""
        for found, value in self.tlvs:
            if found == tag:
                return value
        return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pdu):
            return NotImplemented
        mine = (self.command_id, self.status, self.sequence, self.fields, self.tlvs)
        return mine == (other.command_id, other.status, other.sequence, other.fields, other.tlvs)

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __repr__(self) -> str:
        return f"<Pdu {self.name} status={self.status} sequence={self.sequence}>"  # fields may hold a password


# ---- decoding: a step reads one field (or a run of octets) and returns where the next one begins

_Reader = Callable[[bytes, int, int, Pdu], int]

_OVERLONG: dict[str, int] = {
    "service_type": CommandStatus.ESME_RINVSERTYP,
    "source_addr": CommandStatus.ESME_RINVSRCADR,
    "destination_addr": CommandStatus.ESME_RINVDSTADR,
    "dest_addresses": CommandStatus.ESME_RINVDSTADR,
    "schedule_delivery_time": CommandStatus.ESME_RINVSCHED,
    "validity_period": CommandStatus.ESME_RINVEXPIRY,
    "message_id": CommandStatus.ESME_RINVMSGID,
    "system_id": CommandStatus.ESME_RINVSYSID,
    "password": CommandStatus.ESME_RINVPASWD,
    "system_type": CommandStatus.ESME_RINVSYSTYP,
}
"""Status for a string longer than its field; RINVCMDLEN for fields that have none of their own."""


_LISTED_ADDRESS = PduField("dest_addresses", FieldKind.CSTRING, 21)
"""One number or list name of submit_multi."""


class _MalformedBody(Exception):
    """Raised inside this module; the only argument is the status to answer with."""


def _read_octets(names: tuple[str, ...]) -> _Reader:
    unpack = Struct(f">{len(names)}B").unpack_from
    size = len(names)

    def read(data: bytes, at: int, end: int, pdu: Pdu) -> int:
        if at + size > end:
            raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
        pdu.fields.update(zip(names, unpack(data, at), strict=True))
        return at + size

    return read


def _cstring(data: bytes, at: int, end: int, field: PduField, pdu: Pdu) -> tuple[bytes, int]:
    """Return a string and where the next field begins; an overlong one is refused, in a response cut to its field."""
    stop = data.find(0, at, end)
    if stop < 0:
        raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
    if stop - at < field.size:
        return data[at:stop], stop + 1
    status = _OVERLONG.get(field.name, CommandStatus.ESME_RINVCMDLEN)
    if not pdu.command_id & RESP:
        raise _MalformedBody(status)
    pdu.error = PeerError(status, pdu.sequence, f"{field.name} of {stop - at} octets")
    return data[at : at + field.size - 1], stop + 1


def _read_cstring(field: PduField) -> _Reader:
    def read(data: bytes, at: int, end: int, pdu: Pdu) -> int:
        pdu.fields[field.name], at = _cstring(data, at, end, field, pdu)
        return at

    return read


def _read_sized(field: PduField) -> _Reader:
    def read(data: bytes, at: int, end: int, pdu: Pdu) -> int:
        if at >= end:
            raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
        stop = at + 1 + data[at]
        if stop > end:
            raise _MalformedBody(CommandStatus.ESME_RINVMSGLEN)
        pdu.fields[field.name] = data[at + 1 : stop]
        return stop

    return read


def _read_address(data: bytes, at: int, end: int, pdu: Pdu) -> tuple[int, int, bytes, int]:
    address, after = _cstring(data, at + 2, end, _LISTED_ADDRESS, pdu)
    return data[at], data[at + 1], address, after


def _read_destinations(field: PduField) -> _Reader:
    def read(data: bytes, at: int, end: int, pdu: Pdu) -> int:
        if at >= end:
            raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
        found: list[Sme | DistributionList] = []
        at, count = at + 1, data[at]
        for _ in range(count):
            flag = data[at] if at < end else 0
            if flag == 1:
                ton, npi, address, at = _read_address(data, at + 1, end, pdu)
                found.append(Sme(ton, npi, address))
            elif flag == 2:
                name, at = _cstring(data, at + 1, end, _LISTED_ADDRESS, pdu)
                found.append(DistributionList(name))
            else:
                raise _MalformedBody(CommandStatus.ESME_RINVDESTFLAG if at < end else CommandStatus.ESME_RINVNUMDESTS)
        pdu.fields[field.name] = found
        return at

    return read


def _read_unsuccessful(field: PduField) -> _Reader:
    def read(data: bytes, at: int, end: int, pdu: Pdu) -> int:
        if at >= end:
            raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
        found: list[Unsuccess] = []
        at, count = at + 1, data[at]
        for _ in range(count):
            ton, npi, address, at = _read_address(data, at, end, pdu)
            if at + 4 > end:
                raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
            found.append(Unsuccess(ton, npi, address, _LENGTH.unpack_from(data, at)[0]))
            at += 4
        pdu.fields[field.name] = found
        return at

    return read


_READERS: dict[FieldKind, Callable[[PduField], _Reader]] = {
    FieldKind.CSTRING: _read_cstring,
    FieldKind.SIZED: _read_sized,
    FieldKind.DESTINATIONS: _read_destinations,
    FieldKind.UNSUCCESSFUL: _read_unsuccessful,
}


def _fold(fields: tuple[PduField, ...]) -> list[_Reader]:
    """Return the table as steps, every run of octets folded into one Struct."""
    steps: list[_Reader] = []
    run: list[str] = []
    for field in fields:
        if field.kind is FieldKind.OCTET:
            run.append(field.name)
            continue
        if run:
            steps.append(_read_octets(tuple(run)))
            run = []
        steps.append(_READERS[field.kind](field))
    if run:
        steps.append(_read_octets(tuple(run)))
    return steps


_STEPS: dict[int, list[_Reader]] = {command_id: _fold(layout.fields) for command_id, layout in LAYOUTS.items()}


def decode(data: bytes, start: int = 0, end: int | None = None) -> Pdu:
    """Decode exactly one PDU, ``data[start:end]``.

    PeerError carries the status to answer with and the sequence to echo. A malformed body of a response does not
    raise: ``Pdu.error`` is set and the header kept, since status and sequence still decide about a message.
    """
    end = len(data) if end is None else end
    if end - start < HEADER_LENGTH:
        raise PeerError(CommandStatus.ESME_RINVCMDLEN, 0, "shorter than a header")
    length, command_id, status, sequence = HEADER.unpack_from(data, start)
    if length != end - start:
        raise PeerError(CommandStatus.ESME_RINVCMDLEN, sequence, f"command_length {length}, but {end - start} octets")
    steps = _STEPS.get(command_id)
    if steps is None:
        raise PeerError(CommandStatus.ESME_RINVCMDID, sequence, f"unknown command 0x{command_id:08X}")
    pdu = Pdu(command_id, status, sequence)
    at = start + HEADER_LENGTH
    if at == end and command_id & RESP:
        return pdu  # legal on errors, and common in the field on success
    try:
        _decode_body(pdu, steps, data, at, end)
    except _MalformedBody as malformed:
        error = PeerError(malformed.args[0], sequence, f"malformed {pdu.name}")
        if not command_id & RESP:
            raise error from None
        pdu.error = error
    return pdu


def _decode_body(pdu: Pdu, steps: list[_Reader], data: bytes, at: int, end: int) -> None:
    if not steps and at != end:
        raise _MalformedBody(CommandStatus.ESME_RINVCMDLEN)
    for step in steps:
        at = step(data, at, end, pdu)
    if at != end:
        pdu.tlvs, whole = scan(data, at, end)
        if not whole:
            raise _MalformedBody(CommandStatus.ESME_RINVTLVSTREAM)


# ---- encoding


def encode(pdu: Pdu) -> bytes:
    """Return the whole PDU. A missing field is written as 0 or empty; LocalError for a value that does not fit.

    A response without fields and TLVs is a bare header.
    """
    if pdu.command_id & RESP and not pdu.fields and not pdu.tlvs:
        body = b""
    else:
        body = encode_body(pdu.command_id, pdu.fields, pdu.tlvs)
    try:
        return HEADER.pack(HEADER_LENGTH + len(body), pdu.command_id, pdu.status, pdu.sequence) + body
    except StructError as error:
        raise LocalError(f"header of {pdu!r}: {error}") from error


def encode_body(command_id: int, fields: dict[str, Any], tlvs: list[tuple[int, bytes]] | None = None) -> bytes:
    """Return mandatory fields and TLVs of one PDU, without header; LocalError for a value that does not fit."""
    layout = LAYOUTS.get(command_id)
    if layout is None:
        raise LocalError(f"unknown command 0x{command_id:08X}")
    known = {field.name for field in layout.fields}
    if not known.issuperset(fields):
        raise LocalError(f"{layout.name} has no {', '.join(sorted(set(fields) - known))}")
    if tlvs and not layout.fields:
        raise LocalError(f"{layout.name} has no body")
    parts = [_write(field, fields.get(field.name)) for field in layout.fields]
    if tlvs:
        parts.append(encode_tlvs(tlvs))
    return b"".join(parts)


def without_tlvs(command_id: int, body: bytes) -> bytes:
    """Return ``body`` without TLVs, for a 3.3 peer. LocalError when its text is in a TLV or it is malformed."""
    try:
        pdu = decode(HEADER.pack(HEADER_LENGTH + len(body), command_id, 0, 0) + body)
    except PeerError as error:
        raise LocalError(f"body of {command_name(command_id)}: {error}") from error
    if pdu.tlv(MESSAGE_PAYLOAD):
        raise LocalError("message_payload cannot be sent to a peer below SMPP 3.4, which reads no TLVs")
    return encode_body(command_id, pdu.fields)


def _write(field: PduField, value: Any) -> bytes:
    try:
        return _WRITERS[field.kind](field, value)
    except (TypeError, ValueError, OverflowError, StructError, AttributeError) as error:
        raise LocalError(f"{field.name}: {error}") from error


def _write_octet(field: PduField, value: int | None) -> bytes:
    return bytes((value or 0,))


def _write_cstring(field: PduField, value: bytes | None) -> bytes:
    value = value or b""
    if len(value) >= field.size or 0 in value:
        raise ValueError(f"at most {field.size - 1} octets and no NUL, not {len(value)}")
    return value + b"\0"


def _write_sized(field: PduField, value: bytes | None) -> bytes:
    value = value or b""
    if len(value) > field.size:
        raise ValueError(f"at most {field.size} octets, not {len(value)}")
    return bytes((len(value),)) + value


def _write_destinations(field: PduField, value: list[Sme | DistributionList] | None) -> bytes:
    parts = [bytes((len(value or ()),))]
    for item in value or ():
        if isinstance(item, Sme):
            parts.append(bytes((1, item.ton, item.npi)) + _write_cstring(_LISTED_ADDRESS, item.address))
        else:
            parts.append(b"\x02" + _write_cstring(_LISTED_ADDRESS, item.name))
    return b"".join(parts)


def _write_unsuccessful(field: PduField, value: list[Unsuccess] | None) -> bytes:
    parts = [bytes((len(value or ()),))]
    for ton, npi, address, status in value or ():
        parts.append(bytes((ton, npi)) + _write_cstring(_LISTED_ADDRESS, address) + _LENGTH.pack(status))
    return b"".join(parts)


_WRITERS: dict[FieldKind, Callable[[PduField, Any], bytes]] = {
    FieldKind.OCTET: _write_octet,
    FieldKind.CSTRING: _write_cstring,
    FieldKind.SIZED: _write_sized,
    FieldKind.DESTINATIONS: _write_destinations,
    FieldKind.UNSUCCESSFUL: _write_unsuccessful,
}
