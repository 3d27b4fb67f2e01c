"""The hot path of the codec: submit_sm, deliver_sm and data_sm, decoded to a tuple and encoded from a template.

Written by hand for speed; tests compare it with the field tables in ``pdu``. Input is ``bytes`` only: their slices are
faster than memoryview's, and ``bytes.find`` locates the NULs.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from gateway.smpp.errors import LocalError, PeerError
from gateway.smpp.pdu import DATA_SM, DELIVER_SM, ESM_RECEIPT
from gateway.smpp.status import CommandStatus
from gateway.smpp.tlv import MESSAGE_PAYLOAD, MESSAGE_STATE, RECEIPTED_MESSAGE_ID, scan

_TEN = Struct("10B").unpack_from  # esm_class … sm_length when schedule and validity are empty
_FIVE = Struct("5B").unpack_from  # registered_delivery … sm_length
_new_tuple = tuple.__new__
_OCTET = [bytes((value,)) for value in range(256)]

MAX_SHORT_MESSAGE = 254


class ShortMessage(NamedTuple):
    """A submit_sm, deliver_sm or data_sm. Strings are octets without their NUL, numbers are as on the wire.

    ``tlvs`` holds the last value of each tag, None when there are none. Fields that data_sm lacks are 0 or empty.
    ``salvaged``: the TLVs of a deliver_sm were truncated and only the complete ones kept, or an overlong string was cut
    to the size of its field.
    """

    command_id: int
    sequence: int
    service_type: bytes
    source_ton: int
    source_npi: int
    source: bytes
    dest_ton: int
    dest_npi: int
    dest: bytes
    esm_class: int = 0
    protocol_id: int = 0
    priority: int = 0
    schedule: bytes = b""
    validity: bytes = b""
    registered_delivery: int = 0
    replace: int = 0
    data_coding: int = 0
    default_id: int = 0
    short_message: bytes = b""
    tlvs: dict[int, bytes] | None = None
    salvaged: bool = False

    @property
    def payload(self) -> bytes:
        """The content: message_payload if there is one, else short_message (never both, 5.3.2.32)."""
        if self.tlvs is None:
            return self.short_message
        return self.tlvs.get(MESSAGE_PAYLOAD, self.short_message)


def decode_message(data: bytes, start: int, end: int, command_id: int, sequence: int) -> ShortMessage:
    """Decode the body ``data[start:end]`` of a submit_sm, deliver_sm or data_sm.

    PeerError has the status to answer with: RINVCMDLEN for a string without its NUL or a truncated body, the field's
    own status for an overlong string (RINVSRCADR …), RINVMSGLEN when sm_length points past the end, RINVTLVSTREAM for
    truncated TLVs. A deliver_sm with its whole text, or a receipt with enough complete TLVs, is accepted without the
    truncated one, and with overlong strings cut: carriers send such receipts, and repeat for ever those refused.
    """
    # One function, and the tuple built by position, for speed: this runs for every message and every receipt.
    if command_id == DATA_SM:
        return _decode_data_sm(data, start, end, sequence)
    find = data.find
    type_end = find(0, start, start + 6)
    source_end = find(0, type_end + 3, type_end + 24)
    dest_end = find(0, source_end + 3, source_end + 24)
    # One comparison catches every -1 before anything is sliced; a NUL of the next PDU puts the text past the end.
    if not start <= type_end < source_end < dest_end:
        return _decode_overlong(data, start, end, command_id, sequence)
    text = dest_end + 11
    if text > end:
        raise PeerError(CommandStatus.ESME_RINVCMDLEN, sequence, "truncated body")
    esm_class, protocol_id, priority, s, v, registered, replace, coding, default_id, size = _TEN(data, dest_end + 1)
    schedule = validity = b""
    if s or v:
        schedule_end = find(0, dest_end + 4, dest_end + 21)
        validity_end = find(0, schedule_end + 1, schedule_end + 18)
        if not dest_end < schedule_end < validity_end:
            return _decode_overlong(data, start, end, command_id, sequence)
        text = validity_end + 6
        if text > end:
            raise PeerError(CommandStatus.ESME_RINVCMDLEN, sequence, "time without its NUL, or truncated body")
        schedule = data[dest_end + 4 : schedule_end]
        validity = data[schedule_end + 1 : validity_end]
        registered, replace, coding, default_id, size = _FIVE(data, validity_end + 1)
    stop = text + size
    tlvs = None
    salvaged = False
    if stop != end:
        if stop > end:
            raise PeerError(CommandStatus.ESME_RINVMSGLEN, sequence, "sm_length points past the end")
        pairs, whole = scan(data, stop, end)
        if not whole:
            if command_id != DELIVER_SM or not (size or _identifies_receipt(esm_class, pairs)):
                raise PeerError(CommandStatus.ESME_RINVTLVSTREAM, sequence, "truncated TLVs")
            salvaged = True
        tlvs = dict(pairs)
    return _new_tuple(
        ShortMessage,
        (
            command_id,
            sequence,
            data[start:type_end],
            data[type_end + 1],
            data[type_end + 2],
            data[type_end + 3 : source_end],
            data[source_end + 1],
            data[source_end + 2],
            data[source_end + 3 : dest_end],
            esm_class,
            protocol_id,
            priority,
            schedule,
            validity,
            registered,
            replace,
            coding,
            default_id,
            data[text:stop],
            tlvs,
            salvaged,
        ),
    )


_ADDRESSES = (
    (0, 5, CommandStatus.ESME_RINVSERTYP),
    (2, 20, CommandStatus.ESME_RINVSRCADR),
    (2, 20, CommandStatus.ESME_RINVDSTADR),
)
_STRINGS = (*_ADDRESSES, (3, 16, CommandStatus.ESME_RINVSCHED), (0, 16, CommandStatus.ESME_RINVEXPIRY))
_DATA_STRINGS = (_ADDRESSES[0], *((ahead, 64, status) for ahead, _, status in _ADDRESSES[1:]))
"""(octets before the string, its size without the NUL, status when it is longer), in order."""


def _decode_overlong(data: bytes, start: int, end: int, command_id: int, sequence: int) -> ShortMessage:
    """Decode a body with an overlong or unterminated string: PeerError, except for overlong ones in a deliver_sm."""
    pieces: list[bytes] = []
    at = start
    for ahead, most, status in _DATA_STRINGS if command_id == DATA_SM else _STRINGS:
        stop = data.find(0, at + ahead, end)
        if stop < 0:
            raise PeerError(CommandStatus.ESME_RINVCMDLEN, sequence, "string without its NUL, or truncated body")
        size = stop - at - ahead
        if size > most and command_id != DELIVER_SM:
            raise PeerError(status, sequence, f"string of {size} octets in a field of {most}")
        pieces += (data[at : at + ahead + min(size, most)], b"\0")
        at = stop + 1
    body = b"".join((*pieces, data[at:end]))
    return decode_message(body, 0, len(body), command_id, sequence)._replace(salvaged=True)


def _decode_data_sm(data: bytes, start: int, end: int, sequence: int) -> ShortMessage:
    find = data.find
    type_end = find(0, start, start + 6)
    source_end = find(0, type_end + 3, type_end + 68)
    dest_end = find(0, source_end + 3, source_end + 68)
    if not start <= type_end < source_end < dest_end:
        return _decode_overlong(data, start, end, DATA_SM, sequence)
    if dest_end + 4 > end:
        raise PeerError(CommandStatus.ESME_RINVCMDLEN, sequence, "address without its NUL, or truncated body")
    pairs, whole = scan(data, dest_end + 4, end)
    if not whole and not _identifies_receipt(data[dest_end + 1], pairs):
        raise PeerError(CommandStatus.ESME_RINVTLVSTREAM, sequence, "truncated TLVs")
    return ShortMessage(
        DATA_SM,
        sequence,
        data[start:type_end],
        data[type_end + 1],
        data[type_end + 2],
        data[type_end + 3 : source_end],
        data[source_end + 1],
        data[source_end + 2],
        data[source_end + 3 : dest_end],
        esm_class=data[dest_end + 1],
        registered_delivery=data[dest_end + 2],
        data_coding=data[dest_end + 3],
        tlvs=dict(pairs) or None,
        salvaged=not whole,
    )


def _identifies_receipt(esm_class: int, pairs: list[tuple[int, bytes]]) -> bool:
    """Whether the complete TLVs identify a receipt (never submitted by an app) and its message."""
    tags = {tag for tag, _ in pairs}
    return RECEIPTED_MESSAGE_ID in tags or bool(esm_class & ESM_RECEIPT and tags & {MESSAGE_STATE, MESSAGE_PAYLOAD})


class PduTemplate:
    """The parts of a submit_sm or deliver_sm body that are constant on a route, already encoded.

    Build one per (route, sender) with ``submit_template``.
    """

    __slots__ = ("_after", "_before", "_default", "_variants")

    def __init__(self, before: bytes, after: tuple[int, int, int, bytes, bytes, int, int, int, int]) -> None:
        self._before = before  # up to the destination's NPI
        self._after = after  # esm_class … sm_default_msg_id, validity at index 4, data_coding at 7
        self._default = _pack_after(after)
        self._variants: dict[tuple[int | None, int | None], bytes] = {}

    def encode(
        self,
        dest: bytes,
        short_message: bytes,
        *,
        esm_class: int | None = None,
        data_coding: int | None = None,
        validity: bytes | None = None,
        tlvs: bytes = b"",
    ) -> bytes:
        """Return one body, without its header. None keeps the template's value; ``tlvs`` are already encoded.

        LocalError for a short_message over 254 octets, or a destination over 20 octets or with a NUL.
        """
        size = len(short_message)
        if size > MAX_SHORT_MESSAGE or len(dest) > 20 or 0 in dest:
            raise LocalError(f"short_message of {size} octets or destination of {len(dest)} cannot be encoded")
        if esm_class is None and data_coding is None and validity is None:
            after = self._default
        else:
            after = self._variant(esm_class, data_coding, validity)
        return b"".join((self._before, dest, after, _OCTET[size], short_message, tlvs))

    def _variant(self, esm_class: int | None, data_coding: int | None, validity: bytes | None) -> bytes:
        """Return the part after the destination with fields replaced; cached, unless a validity makes it unique."""
        key = (esm_class, data_coding)
        after = self._variants.get(key) if validity is None else None
        if after is None:
            first, protocol_id, priority, schedule, valid, registered, replace, coding, default_id = self._after
            first = first if esm_class is None else esm_class
            coding = coding if data_coding is None else data_coding
            valid = valid if validity is None else validity
            after = _pack_after(
                (first, protocol_id, priority, schedule, valid, registered, replace, coding, default_id)
            )
            if validity is None:
                self._variants[key] = after  # at most 256 * 256, in practice a handful
        return after


def _pack_after(after: tuple[int, int, int, bytes, bytes, int, int, int, int]) -> bytes:
    schedule, validity = after[3], after[4]
    for time in (schedule, validity):
        if len(time) not in (0, 16) or 0 in time:
            raise LocalError(f"a time must have 16 octets or none, not {len(time)}")
    try:
        return b"\0%c%c%c%b\0%b\0%c%c%c%c" % after
    except (OverflowError, TypeError) as error:
        raise LocalError(f"a number does not fit one octet: {error}") from error


def submit_template(
    *,
    source_ton: int = 0,
    source_npi: int = 0,
    source: bytes = b"",
    dest_ton: int = 0,
    dest_npi: int = 0,
    service_type: bytes = b"",
    esm_class: int = 0,
    protocol_id: int = 0,
    priority: int = 0,
    schedule: bytes = b"",
    validity: bytes = b"",
    registered_delivery: int = 0,
    replace: int = 0,
    data_coding: int = 0,
    default_id: int = 0,
) -> PduTemplate:
    """Return a template for submit_sm or deliver_sm. LocalError for a value that does not fit (section 4.4.1)."""
    for value, most in ((service_type, 5), (source, 20)):
        if len(value) > most or 0 in value:
            raise LocalError(f"a string of {len(value)} octets contains a NUL or exceeds {most}")
    try:
        before = b"%b\0%c%c%b\0%c%c" % (service_type, source_ton, source_npi, source, dest_ton, dest_npi)
    except (OverflowError, TypeError) as error:
        raise LocalError(f"a number does not fit one octet: {error}") from error
    after = (
        esm_class, protocol_id, priority, schedule, validity, registered_delivery, replace, data_coding, default_id,
    )  # fmt: skip
    return PduTemplate(before, after)
