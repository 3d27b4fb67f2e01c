"""Any PDU of SMPP 3.4 to octets and back, driven by the field tables of ``pdus``.

The tables are folded once, at import, into steps: a run of octets becomes one Struct. The messages of the hot path
have a faster way in ``messages``; both are offered here.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any

from gateway.smpp.errors import LocalError, PeerError
from gateway.smpp.messages import Message, Template, decode_message, encode_sm, submit_template
from gateway.smpp.pdus import (
    HEADER_LENGTH,
    LAYOUTS,
    RESP,
    DistributionList,
    Field,
    Kind,
    Sme,
    Unsuccess,
    command_name,
)
from gateway.smpp.status import Status
from gateway.smpp.tlvs import MESSAGE_PAYLOAD, encode_tlv, encode_tlvs, scan

__all__ = [
    "HEADER",
    "Message",
    "Pdu",
    "Template",
    "decode",
    "decode_message",
    "encode",
    "encode_body",
    "encode_sm",
    "encode_tlv",
    "pdu_length",
    "submit_template",
    "without_tlvs",
]

HEADER = Struct(">IIII")
"""command_length, command_id, command_status, sequence_number."""

_LENGTH = Struct(">I")


class Pdu:
    """One PDU: header, mandatory fields by their name in the specification, TLVs in order with duplicates.

    A response may come without its body: then ``fields`` is empty. ``error`` is set when the body of a response was
    malformed and only the header (and what could be read before the fault) is to be trusted.
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
        """The command's name in the specification."""
        return command_name(self.command_id)

    def tlv(self, tag: int) -> bytes | None:
        """The first value under this tag, None when there is none."""
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


# ---- decoding: a step reads one field (or a run of octets) and says where the next one begins

_Reader = Callable[[bytes, int, int, dict[str, Any]], int]


class _Cut(Exception):
    """A signal inside this module: the body broke off. The only argument is the status to answer."""


def _read_octets(names: tuple[str, ...]) -> _Reader:
    unpack = Struct(f">{len(names)}B").unpack_from
    size = len(names)

    def read(data: bytes, at: int, end: int, fields: dict[str, Any]) -> int:
        if at + size > end:
            raise _Cut(Status.ESME_RINVCMDLEN)
        fields.update(zip(names, unpack(data, at), strict=True))
        return at + size

    return read


def _cstring(data: bytes, at: int, end: int) -> int:
    stop = data.find(0, at, end)
    if stop < 0:
        raise _Cut(Status.ESME_RINVCMDLEN)
    return stop


def _read_cstring(name: str) -> _Reader:
    def read(data: bytes, at: int, end: int, fields: dict[str, Any]) -> int:
        stop = _cstring(data, at, end)
        fields[name] = data[at:stop]
        return stop + 1

    return read


def _read_sized(name: str) -> _Reader:
    def read(data: bytes, at: int, end: int, fields: dict[str, Any]) -> int:
        if at >= end:
            raise _Cut(Status.ESME_RINVCMDLEN)
        stop = at + 1 + data[at]
        if stop > end:
            raise _Cut(Status.ESME_RINVMSGLEN)
        fields[name] = data[at + 1 : stop]
        return stop

    return read


def _read_address(data: bytes, at: int, end: int) -> tuple[int, int, bytes, int]:
    stop = _cstring(data, at + 2, end)
    return data[at], data[at + 1], data[at + 2 : stop], stop + 1


def _read_destinations(name: str) -> _Reader:
    def read(data: bytes, at: int, end: int, fields: dict[str, Any]) -> int:
        if at >= end:
            raise _Cut(Status.ESME_RINVCMDLEN)
        found: list[Sme | DistributionList] = []
        at, count = at + 1, data[at]
        for _ in range(count):
            flag = data[at] if at < end else 0
            if flag == 1:
                ton, npi, address, at = _read_address(data, at + 1, end)
                found.append(Sme(ton, npi, address))
            elif flag == 2:
                stop = _cstring(data, at + 1, end)
                found.append(DistributionList(data[at + 1 : stop]))
                at = stop + 1
            else:
                raise _Cut(Status.ESME_RINVDESTFLAG if at < end else Status.ESME_RINVNUMDESTS)
        fields[name] = found
        return at

    return read


def _read_unsuccessful(name: str) -> _Reader:
    def read(data: bytes, at: int, end: int, fields: dict[str, Any]) -> int:
        if at >= end:
            raise _Cut(Status.ESME_RINVCMDLEN)
        found: list[Unsuccess] = []
        at, count = at + 1, data[at]
        for _ in range(count):
            ton, npi, address, at = _read_address(data, at, end)
            if at + 4 > end:
                raise _Cut(Status.ESME_RINVCMDLEN)
            found.append(Unsuccess(ton, npi, address, _LENGTH.unpack_from(data, at)[0]))
            at += 4
        fields[name] = found
        return at

    return read


_READERS: dict[Kind, Callable[[str], _Reader]] = {
    Kind.CSTRING: _read_cstring,
    Kind.SIZED: _read_sized,
    Kind.DESTINATIONS: _read_destinations,
    Kind.UNSUCCESSFUL: _read_unsuccessful,
}


def _fold(fields: tuple[Field, ...]) -> list[_Reader]:
    """The table as steps, every run of octets folded into one Struct."""
    steps: list[_Reader] = []
    run: list[str] = []
    for field in fields:
        if field.kind is Kind.OCTET:
            run.append(field.name)
            continue
        if run:
            steps.append(_read_octets(tuple(run)))
            run = []
        steps.append(_READERS[field.kind](field.name))
    if run:
        steps.append(_read_octets(tuple(run)))
    return steps


_STEPS: dict[int, list[_Reader]] = {command_id: _fold(layout.fields) for command_id, layout in LAYOUTS.items()}


def pdu_length(data: bytes, start: int = 0, max_pdu: int = 65536) -> int | None:
    """command_length of the PDU that begins at ``start``; None while its four octets are not all there.

    PeerError (RINVCMDLEN, sequence 0) below 16 or above ``max_pdu``: framing is lost (section 3.2.1).
    """
    if len(data) - start < 4:
        return None
    length: int = _LENGTH.unpack_from(data, start)[0]
    if not HEADER_LENGTH <= length <= max_pdu:
        raise PeerError(Status.ESME_RINVCMDLEN, 0, f"command_length {length}")
    return length


def decode(data: bytes, start: int = 0, end: int | None = None) -> Pdu:
    """Decode exactly one PDU, ``data[start:end]``.

    PeerError carries the status to answer and the sequence to echo. A malformed body of a response does not raise: its
    header is kept and ``Pdu.error`` says what was wrong, since status and sequence still decide about a message.
    """
    end = len(data) if end is None else end
    if end - start < HEADER_LENGTH:
        raise PeerError(Status.ESME_RINVCMDLEN, 0, "less than a header")
    length, command_id, status, sequence = HEADER.unpack_from(data, start)
    if length != end - start:
        raise PeerError(Status.ESME_RINVCMDLEN, sequence, f"command_length {length}, but {end - start} octets")
    steps = _STEPS.get(command_id)
    if steps is None:
        raise PeerError(Status.ESME_RINVCMDID, sequence, f"no command 0x{command_id:08X}")
    pdu = Pdu(command_id, status, sequence)
    at = start + HEADER_LENGTH
    if at == end and command_id & RESP:
        return pdu  # legal on errors, and common in the field on success
    try:
        _decode_body(pdu, steps, data, at, end)
    except _Cut as cut:
        error = PeerError(cut.args[0], sequence, f"malformed {pdu.name}")
        if not command_id & RESP:
            raise error from None
        pdu.error = error
    return pdu


def _decode_body(pdu: Pdu, steps: list[_Reader], data: bytes, at: int, end: int) -> None:
    if not steps and at != end:
        raise _Cut(Status.ESME_RINVCMDLEN)
    for step in steps:
        at = step(data, at, end, pdu.fields)
    if at != end:
        pdu.tlvs, whole = scan(data, at, end)
        if not whole:
            raise _Cut(Status.ESME_RINVTLVSTREAM)


# ---- encoding


def encode(pdu: Pdu) -> bytes:
    """The whole PDU. A field that ``fields`` lacks is 0 or empty; LocalError for what cannot be written.

    A response with no fields and no TLVs is a bare header.
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
    """Mandatory fields and TLVs of one PDU, without its header; LocalError for what cannot be written."""
    layout = LAYOUTS.get(command_id)
    if layout is None:
        raise LocalError(f"no command 0x{command_id:08X}")
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
    """The body as a 3.3 peer can read it. LocalError when its text stands in a TLV, or it is no valid body."""
    try:
        pdu = decode(HEADER.pack(HEADER_LENGTH + len(body), command_id, 0, 0) + body)
    except PeerError as error:
        raise LocalError(f"body of {command_name(command_id)}: {error}") from error
    if pdu.tlv(MESSAGE_PAYLOAD):
        raise LocalError("message_payload cannot go to a peer that knows no TLVs")
    return encode_body(command_id, pdu.fields)


def _write(field: Field, value: Any) -> bytes:
    try:
        return _WRITERS[field.kind](field, value)
    except (TypeError, ValueError, OverflowError, StructError, AttributeError) as error:
        raise LocalError(f"{field.name}: {error}") from error


def _write_octet(field: Field, value: int | None) -> bytes:
    return bytes((value or 0,))


def _write_cstring(field: Field, value: bytes | None) -> bytes:
    value = value or b""
    if len(value) >= field.size or 0 in value:
        raise ValueError(f"at most {field.size - 1} octets and no NUL, not {len(value)}")
    return value + b"\0"


def _write_sized(field: Field, value: bytes | None) -> bytes:
    value = value or b""
    if len(value) > field.size:
        raise ValueError(f"at most {field.size} octets, not {len(value)}")
    return bytes((len(value),)) + value


_ADDRESS = Field("address", Kind.CSTRING, 21)


def _write_destinations(field: Field, value: list[Sme | DistributionList] | None) -> bytes:
    parts = [bytes((len(value or ()),))]
    for item in value or ():
        if isinstance(item, Sme):
            parts.append(bytes((1, item.ton, item.npi)) + _write_cstring(_ADDRESS, item.address))
        else:
            parts.append(b"\x02" + _write_cstring(_ADDRESS, item.name))
    return b"".join(parts)


def _write_unsuccessful(field: Field, value: list[Unsuccess] | None) -> bytes:
    parts = [bytes((len(value or ()),))]
    for ton, npi, address, status in value or ():
        parts.append(bytes((ton, npi)) + _write_cstring(_ADDRESS, address) + _LENGTH.pack(status))
    return b"".join(parts)


_WRITERS: dict[Kind, Callable[[Field, Any], bytes]] = {
    Kind.OCTET: _write_octet,
    Kind.CSTRING: _write_cstring,
    Kind.SIZED: _write_sized,
    Kind.DESTINATIONS: _write_destinations,
    Kind.UNSUCCESSFUL: _write_unsuccessful,
}
