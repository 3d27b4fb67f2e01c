"""One SMPP session, either end of it, without I/O and without a clock.

Octets go into ``receive`` and events come out; requests go into ``request`` and octets come out of ``output``. The
owner holds the socket, passes in what it reads and the time, and writes ``output`` once per loop tick. After ``Closed``
it writes that output a last time and closes the socket.

Times are seconds of any monotonic clock. Nothing that the peer sends raises: it ends in events, responses and counters.
"""

from __future__ import annotations

from struct import Struct

from gateway.smpp.codec import HEADER, Pdu, decode, encode_body, without_tlvs
from gateway.smpp.errors import LocalError, PeerError
from gateway.smpp.events import (
    Answered,
    BindRefused,
    BindRequested,
    Bound,
    Closed,
    Event,
    MessageReceived,
    OperationAnswered,
    OperationReceived,
    TimedOut,
    Unbinding,
)
from gateway.smpp.message_id import bounded_id
from gateway.smpp.operations import BOUND, BOUND_BY, CONTROL, NEVER_ALLOWED, Role, SessionState, allowed
from gateway.smpp.pdu import (
    BINDS,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    HEADER_LENGTH,
    LAYOUTS,
    MAX_ID,
    MAX_PDU,
    MAX_SEQUENCE,
    OUTBIND,
    QUERY_SM_RESP,
    RESP,
    SUBMIT_MULTI_RESP,
    SUBMIT_SM,
    SUBMIT_SM_RESP,
    UNANSWERED,
    UNBIND,
    UNBIND_RESP,
)
from gateway.smpp.response_times import ResponseTimes
from gateway.smpp.short_message import MAX_SHORT_MESSAGE, ShortMessage, decode_message
from gateway.smpp.status import CommandStatus, name
from gateway.smpp.tlv import CONGESTION_STATE, MESSAGE_PAYLOAD, SC_INTERFACE_VERSION, integer, scan

VERSION = 0x34
FIRST_TLV_VERSION = 0x34
UNBIND_WAIT = 5.0  # seconds for late responses after the peer's unbind, and for the response to ours

MAX_SILENCE = 44.0
"""Seconds after the last whole PDU at which a peer with an open enquire_link is dead; with ticks of 1 s that is 45."""

MAX_ENQUIRE_MISSES = 2  # enquire_links in a row without any PDU from the peer that make it dead

_CLOSE_REASONS = {
    SessionState.OPEN: "no bind in time",
    SessionState.BINDING: "no response to the bind in time",
    SessionState.UNBINDING: "no response to unbind",
    SessionState.UNBOUND: "unbound by the peer",
}
"""Why a state that lasted past its deadline ends the session."""

_ID_RESPONSES = frozenset({SUBMIT_SM_RESP, DELIVER_SM_RESP, DATA_SM_RESP})
_MESSAGES = frozenset({SUBMIT_SM, DELIVER_SM, DATA_SM})
_OPERATION_RESPONSES = frozenset({QUERY_SM_RESP, SUBMIT_MULTI_RESP})
_NEEDS_ID = frozenset({DELIVER_SM, DATA_SM})  # their responses hold a message_id that is unused but mandatory
_UNLIMITED = 1 << 62
_SPACE = 0x20  # a message id is text: an octet below is a control character, so no id
_ID_SIZE = MAX_ID + 1

_pack_header = HEADER.pack
_pack_deliver_resp = Struct(">IIIIB").pack
_unpack_header = HEADER.unpack_from
_unpack_length = Struct(">I").unpack_from
_new_tuple = tuple.__new__


class Session:
    """One end of an SMPP connection. The public numbers only count up, except ``unanswered`` and ``congestion``."""

    def __init__(
        self,
        role: Role,
        *,
        window: int = 100,
        inbound_window: int = 0,
        enquire_interval: float = 30.0,
        enquire_timeout: float = 10.0,
        response_timeout: float = 30.0,
        late_grace: float = 5.0,
        bind_timeout: float = 10.0,
        first_sequence: int = 1,
        max_pdu: int = MAX_PDU,
        turn: int = 0,
        times: ResponseTimes | None = None,
    ) -> None:
        """Start in state OPEN; all times are in seconds.

        ``window``: most requests of ours without a response. ``inbound_window``: the same for the peer's, which beyond
        it are answered with RTHROTTLED (0: no limit). ``enquire_interval`` 0: no enquire_link. ``turn``: octets that
        one ``receive`` reads, up to one PDU more (0: all). ``times``: shared by the sessions of one peer; its
        ``configured`` then replaces ``response_timeout``. LocalError when ``first_sequence`` is out of range.
        """
        if not 1 <= first_sequence <= MAX_SEQUENCE:
            raise LocalError(f"first_sequence {first_sequence} is not within 1 to {MAX_SEQUENCE}")
        self.role = role
        self.times = times or ResponseTimes(response_timeout)
        self.turn = turn or _UNLIMITED  # may be changed at any time
        self.takes_tlvs = True  # False for a client below 3.4: requests lose their TLVs
        self.peer_version = 0  # interface_version of a client, sc_interface_version of a centre; 0: not given
        self.congestion: int | None = None  # last congestion_state (5.0) in a response, 0 to 99
        self.more = False  # a whole PDU is buffered for the next ``receive``
        self.fault: Exception | None = None  # the gateway's own error that closed the session
        self._window_size = window
        self._inbound_window = inbound_window or _UNLIMITED
        self._max_pdu = max_pdu
        self._response_timeout = self.times.configured
        self._late_grace = late_grace
        self._bind_timeout = bind_timeout
        self._enquire_interval = enquire_interval
        self._enquire_timeout = enquire_timeout
        # counters
        self.unanswered = 0  # the peer's requests that wait for our ``respond``
        self.unsent_answers = 0  # responses given after the session was closed
        self.ignored_answers = 0  # unknown sequence number, or a second response
        self.mismatched = 0  # known sequence number, wrong kind of response
        self.late_answers = 0  # after the response timeout, whether given up or not
        self.timed_out = 0  # requests given up
        self.enquires_missed = 0
        self.malformed = 0  # requests refused for their octets
        self.salvaged = 0  # malformed bodies of which the usable part was kept
        self.wrong_state = 0  # requests refused for the state or the direction
        self.throttled = 0  # requests beyond the inbound window
        self.unknown_commands = 0
        self.controls = 0  # requests that carry no message: enquire_link, unbind, operations for the owner
        self.framing_faults = 0
        # our requests; both tables: sequence -> (context, command_id of the response, sent at), oldest first
        self._window: dict[int, tuple[object, int, float]] = {}
        self._given_up: dict[int, tuple[object, int, float]] = {}  # timed out, at most a window: a response may come
        self._control: dict[int, int] = {}  # our bind, unbind, enquire_link: sequence -> command_id of the response
        self._next = first_sequence
        self._out: list[bytes] = []
        self._answered_at = float("-inf")  # when the last response to a request of ours came
        # the peer's octets that are not parsed yet: an incomplete PDU, or what follows an undecided bind
        self._buffer: list[bytes] = []
        self._buffered = 0  # octets in the buffer
        self._wanted = 0  # octets to wait for before the buffer is parsed again
        # bind and timers
        self._bind_command = 0  # the bind that waits for a response, ours or the peer's
        self._bind_sequence = 0  # its sequence number, when it is the peer's
        self._deadline: float | None = None  # of a state that must not last: open, binding, unbinding, unbound
        self._heard: float | None = None  # when the last whole PDU came, at first when the session was first used
        self._enquire_sent: float | None = None
        self._enquire_misses = 0
        self._enter(SessionState.OPEN)

    def _enter(self, state: SessionState) -> None:
        """Change the state, and with it what either end may send."""
        self.state = state
        self._accepts = allowed(self.role.peer, state)
        self._may_send = allowed(self.role, state) - CONTROL
        self._steady = state in BOUND
        self._may_submit = not _MESSAGES.isdisjoint(self._may_send)

    def __repr__(self) -> str:
        missed = f" missed {self._enquire_misses}" if self._enquire_misses else ""
        return (
            f"<Session {self.role.value} {self.state.value} window {len(self._window)}/{self._window_size}"
            f" unanswered {self.unanswered} next {self._next}{missed}>"
        )

    @property
    def bound(self) -> bool:
        """Whether the session is bound and neither end has sent unbind."""
        return self.state in BOUND

    @property
    def outstanding(self) -> int:
        """Our requests without a response, not counting those given up."""
        return len(self._window)

    @property
    def given_up(self) -> int:
        """Requests that timed out and whose late response would still be matched."""
        return len(self._given_up)

    @property
    def free(self) -> int:
        """Free places in the window; 0 when the state allows no messages."""
        return max(0, self._window_size - len(self._window)) if self._may_submit else 0

    @property
    def pending(self) -> int:
        """Chunks of output not yet fetched: about two for each PDU."""
        return len(self._out)

    @property
    def waiting(self) -> int:
        """Octets received and not parsed yet."""
        return self._buffered

    @property
    def idle(self) -> int:
        """PDUs read so far that carried neither a message nor an expected response."""
        refused = self.malformed + self.wrong_state + self.throttled + self.unknown_commands
        return self.controls + self.ignored_answers + self.mismatched + refused

    def awaits(self, sequence: int) -> bool:
        """Whether our request ``sequence`` waits for its response."""
        return sequence in self._window

    # ---- bind and unbind

    def bind(
        self,
        command_id: int,
        system_id: bytes,
        password: bytes,
        *,
        system_type: bytes = b"",
        interface_version: int = VERSION,
        ton: int = 0,
        npi: int = 0,
        address_range: bytes = b"",
        now: float,
    ) -> None:
        """ESME: queue a bind; Bound, BindRefused or (after ``bind_timeout``) Closed follows. LocalError unless open."""
        if self.role is not Role.ESME or self.state is not SessionState.OPEN or command_id not in BINDS:
            raise LocalError(f"{self!r} may not bind with command 0x{command_id:08X}")
        fields = {
            "system_id": system_id,
            "password": password,
            "system_type": system_type,
            "interface_version": interface_version,
            "addr_ton": ton,
            "addr_npi": npi,
            "address_range": address_range,
        }
        self._send_control(command_id, encode_body(command_id, fields))
        self._bind_command = command_id
        self._deadline = now + self._bind_timeout
        self._enter(SessionState.BINDING)

    def accept_bind(self, system_id: bytes = b"", *, now: float) -> list[Event]:
        """SMSC: accept the pending BindRequested; return the events of what arrived meanwhile."""
        command_id = self._pending_bind()
        # A client below 3.4 cannot read TLVs, so only later ones get our version (section 4.1.2).
        tlvs = [(SC_INTERFACE_VERSION, bytes((VERSION,)))] if self.takes_tlvs else []
        body = encode_body(command_id | RESP, {"system_id": system_id}, tlvs)
        self._write_response(command_id, self._bind_sequence, CommandStatus.ESME_ROK, body)
        self._deadline = None
        self._enter(BOUND_BY[command_id])
        return self._parse_buffered(now)

    def refuse_bind(self, status: int, *, now: float) -> list[Event]:
        """SMSC: refuse the pending BindRequested; the peer may try again until ``bind_timeout``."""
        self._write_response(self._pending_bind(), self._bind_sequence, status)
        self._enter(SessionState.OPEN)
        return self._parse_buffered(now)

    def _pending_bind(self) -> int:
        if not self._awaits_bind_decision():
            raise LocalError(f"{self!r}: no bind is pending")
        return self._bind_command

    def unbind(self, now: float) -> None:
        """Queue unbind; Closed follows with the response, or after 5 s. Until then the peer's PDUs are still handled.

        Does nothing unless bound, so that a shutdown may call it in any state.
        """
        if self.state not in BOUND:
            return
        self._send_control(UNBIND)
        self._deadline = now + UNBIND_WAIT
        accepts = self._accepts
        self._enter(SessionState.UNBINDING)
        self._accepts = accepts  # what the peer sent before it saw our unbind is legal

    def close(self, reason: str) -> list[Event]:
        """End the session: return Closed with what was outstanding, [] when it is closed already."""
        events: list[Event] = []
        self._close(reason, events)
        return events

    def _close(self, reason: str, events: list[Event]) -> None:
        if self.state is SessionState.CLOSED:
            return
        self._enter(SessionState.CLOSED)
        events.append(Closed(reason, [entry[0] for entry in self._window.values()]))
        self._window.clear()
        self._given_up.clear()
        self._control.clear()

    # ---- sending

    def output(self) -> bytes:
        """Return the octets to write now, b"" when there are none, and forget them."""
        joined = b"".join(self._out)
        self._out.clear()
        return joined

    def request(self, command_id: int, body: bytes, context: object, now: float) -> int:
        """Queue a request (not a bind, unbind or enquire_link) and return its sequence number.

        ``context`` comes back in Answered, TimedOut or Closed; after TimedOut possibly again in a late Answered.
        LocalError when the state forbids the command, the window is full or the body is too long.
        """
        if command_id not in self._may_send:
            raise LocalError(f"{self!r} may not send command 0x{command_id:08X}")
        window = self._window
        if len(window) >= self._window_size:
            raise LocalError(f"{self!r}: the window is full")
        if not self.takes_tlvs:
            body = without_tlvs(command_id, body)
        length = HEADER_LENGTH + len(body)
        if length > self._max_pdu:
            raise LocalError(f"{self!r}: a PDU of {length} octets exceeds the limit of {self._max_pdu}")
        sequence = self._next
        if sequence in window or self._control or self._given_up:  # the last two are nearly always empty
            sequence = self._free_sequence(sequence)
        self._next = sequence + 1 if sequence < MAX_SEQUENCE else 1
        if command_id not in UNANSWERED:
            window[sequence] = (context, command_id | RESP, now)
        self._out += (_pack_header(length, command_id, 0, sequence), body)
        return sequence

    def respond(self, command_id: int, sequence: int, status: int, body: bytes = b"") -> None:
        """Queue the response to the peer's request ``command_id`` under the peer's ``sequence``, whatever its value.

        ``body`` is the encoded body; an empty one becomes an empty message_id where the response must have one. After
        the session is closed the response is dropped and counted in ``unsent_answers``: the peer will repeat.
        """
        if self.state is SessionState.CLOSED:
            self.unsent_answers += 1
            return
        if self.unanswered:
            self.unanswered -= 1
        if command_id == DELIVER_SM and not body:
            self._out.append(_pack_deliver_resp(17, DELIVER_SM_RESP, status, sequence, 0))
        else:
            self._write_response(command_id, sequence, status, body)

    def _write_response(self, command_id: int, sequence: int, status: int, body: bytes = b"") -> None:
        if not body and (command_id in _NEEDS_ID or (command_id == SUBMIT_SM and status == 0)):
            body = b"\0"
        # A response with an error has no body (section 4.4.2) unless the caller gives one.
        self._out += (_pack_header(HEADER_LENGTH + len(body), command_id | RESP, status, sequence), body)

    def _send_control(self, command_id: int, body: bytes = b"") -> int:
        """Queue a bind, unbind or enquire_link: outside the window, but with a sequence number of its own."""
        sequence = self._free_sequence(self._next)
        self._next = sequence + 1 if sequence < MAX_SEQUENCE else 1
        self._control[sequence] = command_id | RESP
        self._out += (_pack_header(HEADER_LENGTH + len(body), command_id, 0, sequence), body)
        return sequence

    def _free_sequence(self, sequence: int) -> int:
        """Return the first number from ``sequence`` on that no request still matchable to a response has."""
        while sequence in self._window or sequence in self._control or sequence in self._given_up:
            sequence = sequence + 1 if sequence < MAX_SEQUENCE else 1
        return sequence

    # ---- receiving

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Parse what the peer sent and return the events; the same octets give the same events in any chunking.

        One call parses the PDUs that begin within the first ``turn`` octets. While ``more`` is true afterwards, whole
        PDUs are buffered: call again, with b"" when nothing else has come.
        """
        events: list[Event] = []
        if self.state is SessionState.CLOSED:
            self.more = False  # closed between two calls: what is buffered is dropped
            return events
        self._start(now)
        if self._buffer or self._awaits_bind_decision():
            self._buffer.append(data)
            self._buffered += len(data)
            if self._awaits_bind_decision():
                if self._buffered > 4 * self._max_pdu:
                    self._close("too much before the bind was answered", events)
                return events
            if self._buffered < self._wanted:
                return events
            data = b"".join(self._buffer)
            self._buffer.clear()
        self._parse_safely(data, now, events)
        return events

    def _start(self, now: float) -> None:
        """Take the first call of ``receive`` or ``tick`` as the moment of connection."""
        if self._heard is None:
            self._heard = now
            if self.role is Role.SMSC:
                self._deadline = now + self._bind_timeout

    def _awaits_bind_decision(self) -> bool:
        """Whether the peer's bind is undecided: its response must come first, so nothing more is parsed."""
        return self.state is SessionState.BINDING and self.role is Role.SMSC

    def _parse_buffered(self, now: float) -> list[Event]:
        events: list[Event] = []
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._parse_safely(data, now, events)
        return events

    def _parse_safely(self, data: bytes, now: float, events: list[Event]) -> None:
        """Parse; close the session when that raises. Events from before the fault stay in ``events``."""
        try:
            self._parse(data, now, events)
        except Exception as error:  # noqa: BLE001 - octets from a peer must end at most its own connection
            self.fault = error
            self._close(f"internal error while parsing received data: {type(error).__name__}: {error}", events)

    def _parse(self, data: bytes, now: float, events: list[Event]) -> None:  # noqa: PLR0912 - no call per hot PDU
        """Handle the whole PDUs of ``data`` that begin within ``turn`` octets and buffer the rest.

        The PDUs of the hot path are handled inline.
        """
        window = self._window
        awaited = len(window)
        max_pdu = self._max_pdu
        slow_before = now - self.times.slow
        size = len(data)
        turn = min(size, self.turn + HEADER_LENGTH - 1)
        at = 0
        while turn - at >= HEADER_LENGTH:
            length, command_id, status, sequence = _unpack_header(data, at)
            end = at + length
            if end > size or not HEADER_LENGTH <= length <= max_pdu:
                break
            body = at + HEADER_LENGTH
            if command_id in _ID_RESPONSES:
                entry = window.get(sequence)
                if entry is None:
                    self._on_late_id_response(data[at:end], now, events)
                elif entry[1] != command_id:
                    self.mismatched += 1
                else:
                    del window[sequence]
                    message_id = b""
                    if body != end:
                        stop = data.find(0, body, body + _ID_SIZE)
                        message_id = data[body:stop] if stop == end - 1 else self._unusual_id(data, body, end)
                    late = entry[2] < slow_before and self._observe(now - entry[2])
                    events.append(_new_tuple(Answered, (entry[0], status, message_id, late)))
            elif command_id in _MESSAGES and command_id in self._accepts:
                try:
                    message = decode_message(data, body, end, command_id, sequence)
                except PeerError as error:
                    self._refuse(command_id, sequence, error.status)
                else:
                    self._on_message(message, events)
            elif command_id & RESP:
                if command_id in LAYOUTS:
                    self._on_response(decode(data, at, end), now, events)
                else:
                    self.unknown_commands += 1
            else:
                self._on_request(data[at:end], now, events)
            at = end
            if not self._steady and self._interrupted(events):
                break
        if at:
            self._mark_heard(awaited - len(window), now)
        self._buffer_rest(data, at, events)

    def _mark_heard(self, answers: int, now: float) -> None:
        """Record that the peer was heard, with ``answers`` responses to requests in the window."""
        self._heard = now
        self._enquire_sent = None
        self._enquire_misses = 0
        if answers:
            self._answered_at = now
            self.times.count(answers)

    def _buffer_rest(self, data: bytes, at: int, events: list[Event]) -> None:
        """Buffer ``data[at:]``. Its command_length is checked as soon as its four octets are there."""
        self._buffered = self._wanted = len(data) - at
        self.more = False
        if not self._buffered or self.state is SessionState.CLOSED:
            return
        if not self._awaits_bind_decision():
            self._wanted = 4  # command_length
            if self._buffered >= self._wanted:
                (self._wanted,) = _unpack_length(data, at)
                if not HEADER_LENGTH <= self._wanted <= self._max_pdu:
                    self._lose_framing(self._wanted, events)
                    return
                self.more = self._buffered >= self._wanted
        self._buffer.append(data[at:])

    def _lose_framing(self, length: int, events: list[Event]) -> None:
        self.framing_faults += 1
        self._write_response(GENERIC_NACK, 0, CommandStatus.ESME_RINVCMDLEN)
        self._close(f"command_length {length}", events)

    def _interrupted(self, events: list[Event]) -> bool:
        """Whether parsing must stop: closed, unbound with nothing outstanding, or a bind to decide on."""
        if self.state is SessionState.UNBOUND and self._nothing_outstanding():
            self._close("unbound by the peer", events)
        return self.state is SessionState.CLOSED or self._awaits_bind_decision()

    def _nothing_outstanding(self) -> bool:
        return not self._window and not self.unanswered

    # ---- the peer's requests

    def _on_message(self, message: ShortMessage, events: list[Event]) -> None:
        """Report a well-formed submit_sm, deliver_sm or data_sm, or refuse it."""
        if self.unanswered >= self._inbound_window:
            self.throttled += 1
            self._write_response(message.command_id, message.sequence, CommandStatus.ESME_RTHROTTLED)
            return
        if message.salvaged:
            self.salvaged += 1
        if self.role is Role.SMSC:
            status = _submit_fault(message)
            if status:
                self._refuse(message.command_id, message.sequence, status)
                return
        self.unanswered += 1
        events.append(_new_tuple(MessageReceived, (message,)))

    def _refuse(self, command_id: int, sequence: int, status: int) -> None:
        self.malformed += 1
        if command_id not in UNANSWERED:
            self._write_response(command_id, sequence, status)

    def _on_request(self, data: bytes, now: float, events: list[Event]) -> None:
        """Handle any request but a legal message: ``_parse`` handles those."""
        _, command_id, _, sequence = _unpack_header(data)
        if command_id not in LAYOUTS:
            self.unknown_commands += 1
            self._write_response(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
        elif command_id not in self._accepts:
            self._refuse_state(command_id, sequence)
        else:
            try:
                pdu = decode(data)
            except PeerError as error:
                self._refuse(command_id, sequence, error.status)
            else:
                self._on_legal_request(pdu, now, events)

    def _refuse_state(self, command_id: int, sequence: int) -> None:
        self.wrong_state += 1
        if command_id in UNANSWERED:
            return
        if command_id in NEVER_ALLOWED[self.role.peer]:
            self._write_response(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
        elif command_id in BINDS and self._steady:
            self._write_response(command_id, sequence, CommandStatus.ESME_RALYBND)
        else:
            self._write_response(command_id, sequence, CommandStatus.ESME_RINVBNDSTS)

    def _on_legal_request(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        command_id, sequence = pdu.command_id, pdu.sequence
        self.controls += 1
        if command_id == ENQUIRE_LINK:
            self._write_response(command_id, sequence, CommandStatus.ESME_ROK)
        elif command_id == UNBIND:
            self._write_response(command_id, sequence, CommandStatus.ESME_ROK)
            if self._steady:  # else our own unbind crossed it, and its response ends the session
                self._deadline = now + UNBIND_WAIT
                self._enter(SessionState.UNBOUND)
                events.append(Unbinding())
        elif command_id in BINDS:
            self._on_bind(pdu, events)
        else:
            if command_id == OUTBIND:
                self._write_response(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
            elif command_id not in UNANSWERED:
                self.unanswered += 1
            events.append(OperationReceived(pdu))

    def _on_bind(self, pdu: Pdu, events: list[Event]) -> None:
        fields = pdu.fields
        self.peer_version = fields["interface_version"]
        self.takes_tlvs = self.peer_version >= FIRST_TLV_VERSION
        self._bind_command = pdu.command_id
        self._bind_sequence = pdu.sequence
        self._enter(SessionState.BINDING)
        events.append(
            BindRequested(
                command_id=pdu.command_id,
                sequence=pdu.sequence,
                system_id=fields["system_id"],
                password=fields["password"],
                system_type=fields["system_type"],
                version=self.peer_version,
                address_range=fields["address_range"],
            )
        )

    # ---- the peer's responses

    def _on_response(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Handle any response but those of the hot path. A response is never answered, even a malformed one."""
        if pdu.error:
            self.salvaged += 1
        if pdu.command_id == GENERIC_NACK:
            self._on_generic_nack(pdu, now, events)
            return
        expected = self._expected_response(pdu.sequence)
        if expected is None:
            self._on_late_response(pdu, now, events)
        elif expected != pdu.command_id:
            self.mismatched += 1
        elif pdu.sequence in self._control:
            self._on_control_response(self._control.pop(pdu.sequence), pdu, events)
        else:
            context, late = self._pop_window(pdu.sequence, now)
            if pdu.command_id in _OPERATION_RESPONSES:
                events.append(OperationAnswered(context, pdu, late))
            else:
                events.append(Answered(context, pdu.status, b"", late))

    def _expected_response(self, sequence: int) -> int | None:
        """Return the command_id of the response expected under ``sequence``, None when there is none."""
        entry = self._window.get(sequence)
        return self._control.get(sequence) if entry is None else entry[1]

    def _on_generic_nack(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Take generic_nack as the response to the request it names; with sequence 0 the peer has lost framing."""
        pdu.status = pdu.status or CommandStatus.ESME_RUNKNOWNERR  # status 0 in a generic_nack is no acceptance
        if pdu.sequence == 0:
            self.framing_faults += 1
            self._close(f"generic_nack {name(pdu.status)} without a sequence number", events)
        elif pdu.sequence in self._control:
            self._on_control_response(self._control.pop(pdu.sequence), pdu, events)
        elif pdu.sequence in self._window:
            context, late = self._pop_window(pdu.sequence, now)
            events.append(Answered(context, pdu.status, b"", late))
        else:
            self._on_late_response(pdu, now, events)

    def _on_late_id_response(self, octets: bytes, now: float, events: list[Event]) -> None:
        """Handle a submit_sm_resp, deliver_sm_resp or data_sm_resp whose request is not in the window."""
        _, command_id, status, sequence = _unpack_header(octets)
        entry = self._pop_given_up(sequence, command_id, now)
        if entry is not None:
            message_id = self._unusual_id(octets, HEADER_LENGTH, len(octets)) if len(octets) > HEADER_LENGTH else b""
            events.append(Answered(entry[0], status, message_id, True))

    def _on_late_response(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Handle any other response whose request is not in the window."""
        entry = self._pop_given_up(pdu.sequence, pdu.command_id, now)
        if entry is None:
            return
        if pdu.command_id in _OPERATION_RESPONSES:
            events.append(OperationAnswered(entry[0], pdu, True))
        else:
            events.append(Answered(entry[0], pdu.status, b"", True))

    def _pop_given_up(self, sequence: int, command_id: int, now: float) -> tuple[object, int, float] | None:
        """Remove and return the timed-out request that this response answers; None and a counter when there is none."""
        entry = self._given_up.get(sequence)
        if entry is None:
            self.ignored_answers += 1
        elif command_id not in (entry[1], GENERIC_NACK):
            self.mismatched += 1
        else:
            del self._given_up[sequence]
            self.late_answers += 1
            self._answered_at = now
            self.times.count(1)
            self.times.observe(now - entry[2])
            return entry
        return None

    def _observe(self, seconds: float) -> bool:
        """Record a slow response and return whether it is late."""
        self.times.observe(seconds)
        late = seconds > self._response_timeout
        self.late_answers += late
        return late

    def _pop_window(self, sequence: int, now: float) -> tuple[object, bool]:
        """Remove a request from the window; return its context and whether the response is late."""
        context, _, sent = self._window.pop(sequence)
        return context, now - sent > self.times.slow and self._observe(now - sent)

    def _on_control_response(self, command_id: int, pdu: Pdu, events: list[Event]) -> None:
        """Handle the response to our bind, unbind or enquire_link; ``pdu`` may be a generic_nack in place of it."""
        if command_id == UNBIND_RESP:
            self._close("unbound", events)
        elif command_id & ~RESP in BINDS and self.state is SessionState.BINDING:
            self._deadline = None
            if pdu.status:
                self._enter(SessionState.OPEN)
                events.append(BindRefused(pdu.status))
            else:
                self.peer_version = integer(pdu.tlv(SC_INTERFACE_VERSION)) or 0
                self._enter(BOUND_BY[self._bind_command])
                events.append(Bound(self._bind_command, pdu.fields.get("system_id", b""), self.peer_version))

    def _unusual_id(self, data: bytes, start: int, end: int) -> bytes:
        """Return the message_id of a body that has TLVs, lacks the NUL or is too long; TLVs alone are no id.

        A malformed body changes nothing about the acceptance, so nothing is refused here.
        """
        stop = data.find(0, start, end)
        id_end = end if stop < 0 else stop
        pairs, whole = scan(data, min(id_end + 1, end), end)
        found = data[start:id_end]
        if min(found, default=0 if not whole else _SPACE) < _SPACE:  # no id: a TLV's tag begins like this
            found = b""
            alone, all_tlvs = scan(data, start, end)
            if all_tlvs:
                pairs, whole = alone, True
        if stop < 0 or not whole or len(found) > MAX_ID:
            self.salvaged += 1
        for tag, value in pairs:
            if tag == CONGESTION_STATE:
                self.congestion = integer(value)
        return bounded_id(found)

    # ---- timers

    def tick(self, now: float) -> list[Event]:
        """Time out requests, send enquire_link to a silent peer, enforce deadlines. Call about once a second."""
        events: list[Event] = []
        if self.state is SessionState.CLOSED:
            return events
        self._start(now)
        self._give_up(now, events)
        overdue = self._deadline is not None and now >= self._deadline
        if overdue or (self.state is SessionState.UNBOUND and self._nothing_outstanding()):
            self._close(_CLOSE_REASONS[self.state], events)
        elif self.state in BOUND:
            self._keep_alive(now, events)
        return events

    def silent_since(self) -> float | None:
        """Return when the oldest request was sent since which no response at all has come; None when there is none."""
        since = None
        for entry in reversed(self._window.values()):
            if entry[2] < self._answered_at:
                break
            since = entry[2]
        return since

    def _give_up(self, now: float, events: list[Event]) -> None:
        oldest = now - self.times.timeout(now) - self._late_grace
        given_up = []
        for sequence, entry in self._window.items():
            if entry[2] > oldest:
                break
            given_up.append(sequence)
        if given_up:
            self.timed_out += len(given_up)
            entries = [self._window.pop(sequence) for sequence in given_up]
            self._given_up.update(zip(given_up, entries, strict=True))
            while len(self._given_up) > self._window_size:
                del self._given_up[next(iter(self._given_up))]
            events.append(TimedOut([entry[0] for entry in entries]))

    def _keep_alive(self, now: float, events: list[Event]) -> None:
        silent = now - (self._heard or 0.0)
        if self._enquire_sent is None:
            if self._enquire_interval and (silent >= self._enquire_interval or self._silent_for_timeout(now)):
                self._enquire(now)
        elif silent >= MAX_SILENCE:
            self.enquires_missed += 1
            self._close(f"nothing heard for {silent:.0f} s", events)
        elif now - self._enquire_sent >= self._enquire_timeout:
            self.enquires_missed += 1
            self._enquire_misses += 1
            if self._enquire_misses >= MAX_ENQUIRE_MISSES:
                self._close("no response to enquire_link", events)
            else:
                self._enquire(now)

    def _silent_for_timeout(self, now: float) -> bool:
        """Whether the oldest request is a response timeout old and no PDU has come since it was sent."""
        sent = next(iter(self._window.values()))[2] if self._window else now
        return now - sent >= self._response_timeout and (self._heard or 0.0) <= sent

    def _enquire(self, now: float) -> None:
        for sequence, answer in list(self._control.items()):
            if answer == ENQUIRE_LINK_RESP:
                del self._control[sequence]  # keep one only: a peer that never responds must not fill the table
        self._send_control(ENQUIRE_LINK)
        self._enquire_sent = now


def _submit_fault(message: ShortMessage) -> int:
    """Return the status to refuse a well-formed submit with (sections 5.2.21 and 5.3.2.32), 0 to accept it."""
    if len(message.short_message) > MAX_SHORT_MESSAGE:
        return CommandStatus.ESME_RINVMSGLEN
    if message.short_message and message.tlvs and MESSAGE_PAYLOAD in message.tlvs:
        return CommandStatus.ESME_RTLVNOTALLWD
    return 0
