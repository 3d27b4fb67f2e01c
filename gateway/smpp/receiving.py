"""The reading half of a session: framing, and what each kind of PDU from the peer leads to."""

from __future__ import annotations

from struct import Struct

from gateway.smpp.codec import HEADER, Pdu, decode
from gateway.smpp.errors import PeerError
from gateway.smpp.events import (
    Answered,
    BindRefused,
    BindRequested,
    Bound,
    Event,
    OperationRequested,
    Replied,
    Requested,
    Unbinding,
)
from gateway.smpp.ids import bounded_id
from gateway.smpp.operations import BOUND_BY, NOT_AT_ALL, Role, SessionState
from gateway.smpp.pdu import (
    BINDS,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    GENERIC_NACK,
    HEADER_LENGTH,
    LAYOUTS,
    MAX_ID,
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
from gateway.smpp.sending import Sender
from gateway.smpp.short_message import MAX_SHORT_MESSAGE, ShortMessage, decode_message
from gateway.smpp.status import CommandStatus, name
from gateway.smpp.tlv import CONGESTION_STATE, MESSAGE_PAYLOAD, SC_INTERFACE_VERSION, integer, scan

ID_SIZE = MAX_ID + 1
UNBIND_WAIT = 5.0  # seconds for late answers after the peer's unbind, and for the answer to ours
FIRST_TLV_VERSION = 0x34

_ID_RESPONSES = frozenset({SUBMIT_SM_RESP, DELIVER_SM_RESP, DATA_SM_RESP})
_MESSAGES = frozenset({SUBMIT_SM, DELIVER_SM, DATA_SM})
_REPLIES = frozenset({QUERY_SM_RESP, SUBMIT_MULTI_RESP})
_LIMITLESS = 1 << 62
_SPACE = 0x20  # ids are text: what holds a control character is none

_unpack_header = HEADER.unpack_from
_unpack_length = Struct(">I").unpack_from
_new_tuple = tuple.__new__


class Receiver(Sender):
    """What ``Session`` is built on; nobody else makes one."""

    def __init__(
        self,
        role: Role,
        *,
        window: int,
        inbound_window: int,
        first_sequence: int,
        max_pdu: int,
        times: ResponseTimes,
        bind_timeout: float,
        turn: int,
    ) -> None:
        super().__init__(role, window=window, first_sequence=first_sequence, max_pdu=max_pdu)
        self.peer_version = 0  # interface_version of a client, sc_interface_version of a centre; 0: not told
        self.congestion: int | None = None  # last congestion_state (5.0) in an answer, 0 to 99
        self.ignored_answers = 0  # unknown sequence number, or a second answer
        self.mismatched = 0  # known sequence number, wrong kind of answer
        self.late_answers = 0  # after the response timeout, whether given up or not
        self.malformed = 0  # requests refused for their octets
        self.salvaged = 0  # bodies that were broken, but still of use
        self.wrong_state = 0  # requests refused for the state or the direction
        self.throttled = 0  # requests beyond the inbound window
        self.unknown_commands = 0
        self.controls = 0  # requests beside messages: enquire_link, unbind, operations for the owner to serve
        self.framing_faults = 0
        self._inbound_window = inbound_window or _LIMITLESS
        self.times = times
        self._response_timeout = times.configured
        self._answered_at = float("-inf")  # when the last answer to a request of ours came
        self.turn = turn or _LIMITLESS  # may be changed at any time
        self._bind_timeout = bind_timeout
        self._bind_command = 0  # the bind that waits for an answer, ours or the peer's
        self._bind_sequence = 0  # the peer's number of it
        self._deadline: float | None = None  # of a state that must not last: open, binding, unbinding, unbound
        self._heard: float | None = None  # when the last whole PDU came, or when the session was first used
        self._enquire_sent: float | None = None
        self._enquire_misses = 0
        self.fault: Exception | None = None  # ours, over which it was closed
        self._tail: list[bytes] = []  # chunks of a PDU that is not whole yet, or what waits for the bind decision
        self._have = 0  # octets in the tail
        self._need = 0  # octets wanted before the tail is looked at again
        self.more = False  # a whole PDU waits in the tail, for the next ``receive``

    @property
    def waiting(self) -> int:
        """Octets received and not read yet."""
        return self._have

    @property
    def idle(self) -> int:
        """PDUs read so far that brought neither a message nor an answer that is awaited."""
        refused = self.malformed + self.wrong_state + self.throttled + self.unknown_commands
        return self.controls + self.ignored_answers + self.mismatched + refused

    def _start(self, now: float) -> None:
        """The first call of ``receive`` or ``tick`` stands for the moment of the connection."""
        if self._heard is None:
            self._heard = now
            if self.role is Role.SMSC:
                self._deadline = now + self._bind_timeout

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the peer sent, cut anywhere: the same octets give the same events in any chunking.

        One call reads PDUs that begin within the first ``turn`` octets. While ``more`` is true afterwards, whole PDUs
        wait: call again, with b"" when nothing else has come.
        """
        events: list[Event] = []
        if self.state is SessionState.CLOSED:
            self.more = False  # whoever ended it did so between two turns: what waits is nobody's
            return events
        self._start(now)
        if self._tail or self._held():
            self._tail.append(data)
            self._have += len(data)
            if self._held():
                if self._have > 4 * self._max_pdu:
                    self._close("too much before the bind was answered", events)
                return events
            if self._have < self._need:
                return events
            data = b"".join(self._tail)
            self._tail.clear()
        self._parse_all(data, now, events)
        return events

    def _held(self) -> bool:
        """Whether the peer's bind waits for our decision: its answer must be the first, so nothing is read on."""
        return self.state is SessionState.BINDING and self.role is Role.SMSC

    def _resume(self, now: float) -> list[Event]:
        events: list[Event] = []
        data = b"".join(self._tail)
        self._tail.clear()
        self._parse_all(data, now, events)
        return events

    def _parse_all(self, data: bytes, now: float, events: list[Event]) -> None:
        """Parse, and close when we fail over it: what was read before that counts."""
        try:
            self._parse(data, now, events)
        except Exception as error:  # noqa: BLE001 - whatever a peer sends ends its own connection at most
            self.fault = error
            self._close(f"the gateway fails over what was received: {type(error).__name__}: {error}", events)

    def _parse(self, data: bytes, now: float, events: list[Event]) -> None:  # noqa: PLR0912 - no call per hot PDU
        """The whole PDUs in ``data``, of a long one those in its beginning; what is left becomes the tail.

        The kinds that come in floods are done here.
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
                    self._after_all(data[at:end], now, events)
                elif entry[1] != command_id:
                    self.mismatched += 1
                else:
                    del window[sequence]
                    message_id = b""
                    if body != end:
                        stop = data.find(0, body, body + ID_SIZE)
                        message_id = data[body:stop] if stop == end - 1 else self._odd_body(data, body, end)
                    late = entry[2] < slow_before and self._slow(now - entry[2])
                    events.append(_new_tuple(Answered, (entry[0], status, message_id, late)))
            elif command_id in _MESSAGES and command_id in self._accepts:
                try:
                    message = decode_message(data, body, end, command_id, sequence)
                except PeerError as error:
                    self._refuse(command_id, sequence, error.status)
                else:
                    self._take(message, events)
            elif command_id & RESP:
                if command_id in LAYOUTS:
                    self._on_answer(decode(data, at, end), now, events)
                else:
                    self.unknown_commands += 1
            else:
                self._on_request(data[at:end], now, events)
            at = end
            if not self._steady and self._interrupted(events):
                break
        if at:
            self._note(awaited - len(window), now)
        self._keep(data, at, events)

    def _note(self, answers: int, now: float) -> None:
        """Whole PDUs were read, so many answers to requests of the window among them."""
        self._heard = now
        self._enquire_sent = None
        self._enquire_misses = 0
        if answers:
            self._answered_at = now
            self.times.count(answers)

    def _keep(self, data: bytes, at: int, events: list[Event]) -> None:
        """What follows ``at`` is for later. Its length is judged as soon as four octets of it are there."""
        self._have = self._need = len(data) - at
        self.more = False
        if not self._have or self.state is SessionState.CLOSED:
            return
        if not self._held():
            self._need = HEADER_LENGTH // 4
            if self._have >= self._need:
                (self._need,) = _unpack_length(data, at)
                if not HEADER_LENGTH <= self._need <= self._max_pdu:
                    self._lose_framing(self._need, events)
                    return
                self.more = self._have >= self._need
        self._tail.append(data[at:])

    def _lose_framing(self, length: int, events: list[Event]) -> None:
        self.framing_faults += 1
        self._answer(GENERIC_NACK, 0, CommandStatus.ESME_RINVCMDLEN)
        self._close(f"command_length {length}", events)

    def _interrupted(self, events: list[Event]) -> bool:
        """Whether reading must stop here: over, unbound with nothing left to wait for, or a bind to decide on."""
        if self.state is SessionState.UNBOUND and self._drained():
            self._close("unbound by the peer", events)
        return self.state is SessionState.CLOSED or self._held()

    def _drained(self) -> bool:
        return not self._window and not self.unanswered

    # ---- requests of the peer

    def _take(self, message: ShortMessage, events: list[Event]) -> None:
        """A whole submit_sm, deliver_sm or data_sm."""
        if self.unanswered >= self._inbound_window:
            self.throttled += 1
            self._answer(message.command_id, message.sequence, CommandStatus.ESME_RTHROTTLED)
            return
        if message.salvaged:
            self.salvaged += 1
        if self.role is Role.SMSC:
            status = _fault(message)
            if status:
                self._refuse(message.command_id, message.sequence, status)
                return
        self.unanswered += 1
        events.append(_new_tuple(Requested, (message,)))

    def _refuse(self, command_id: int, sequence: int, status: int) -> None:
        self.malformed += 1
        if command_id not in UNANSWERED:
            self._answer(command_id, sequence, status)

    def _on_request(self, data: bytes, now: float, events: list[Event]) -> None:
        """Any request but the messages of ``_take``; those too when the state forbids them."""
        _, command_id, _, sequence = _unpack_header(data)
        if command_id not in LAYOUTS:
            self.unknown_commands += 1
            self._answer(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
        elif command_id not in self._accepts:
            self._refuse_state(command_id, sequence)
        else:
            try:
                pdu = decode(data)
            except PeerError as error:
                self._refuse(command_id, sequence, error.status)
            else:
                self._serve(pdu, now, events)

    def _refuse_state(self, command_id: int, sequence: int) -> None:
        self.wrong_state += 1
        if command_id in UNANSWERED:
            return
        if command_id in NOT_AT_ALL[self.role.peer]:
            self._answer(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
        elif command_id in BINDS and self._steady:
            self._answer(command_id, sequence, CommandStatus.ESME_RALYBND)
        else:
            self._answer(command_id, sequence, CommandStatus.ESME_RINVBNDSTS)

    def _serve(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        command_id, sequence = pdu.command_id, pdu.sequence
        self.controls += 1
        if command_id == ENQUIRE_LINK:
            self._answer(command_id, sequence, CommandStatus.ESME_ROK)
        elif command_id == UNBIND:
            self._answer(command_id, sequence, CommandStatus.ESME_ROK)
            if self._steady:  # when our own unbind crossed it, that one's answer ends the session
                self._deadline = now + UNBIND_WAIT
                self._enter(SessionState.UNBOUND)
                events.append(Unbinding())
        elif command_id in BINDS:
            self._on_bind(pdu, events)
        else:
            if command_id == OUTBIND:
                self._answer(GENERIC_NACK, sequence, CommandStatus.ESME_RINVCMDID)
            elif command_id not in UNANSWERED:
                self.unanswered += 1
            events.append(OperationRequested(pdu))

    def _on_bind(self, pdu: Pdu, events: list[Event]) -> None:
        fields = pdu.fields
        self.peer_version = fields["interface_version"]
        self.takes_tlvs = self.peer_version >= FIRST_TLV_VERSION
        self._bind_command = pdu.command_id
        self._bind_sequence = pdu.sequence
        self._enter(SessionState.BINDING)
        events.append(
            BindRequested(
                pdu.command_id,
                pdu.sequence,
                fields["system_id"],
                fields["password"],
                fields["system_type"],
                self.peer_version,
                fields["address_range"],
            )
        )

    # ---- answers of the peer

    def _on_answer(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Any answer but the hot ones. A response is never answered, whatever is wrong with it."""
        if pdu.error:
            self.salvaged += 1
        if pdu.command_id == GENERIC_NACK:
            self._on_nack(pdu, now, events)
            return
        expected = self._expected(pdu.sequence)
        if expected is None:
            self._ended_after_all(pdu, now, events)
        elif expected != pdu.command_id:
            self.mismatched += 1
        elif pdu.sequence in self._control:
            self._on_control(self._control.pop(pdu.sequence), pdu, events)
        else:
            context, late = self._answered(pdu.sequence, now)
            if pdu.command_id in _REPLIES:
                events.append(Replied(context, pdu, late))
            else:
                events.append(Answered(context, pdu.status, b"", late))

    def _expected(self, sequence: int) -> int | None:
        """command_id of the answer that is awaited under this number."""
        entry = self._window.get(sequence)
        return self._control.get(sequence) if entry is None else entry[1]

    def _on_nack(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """generic_nack answers the request whose number it carries; with 0 the peer has lost framing."""
        pdu.status = pdu.status or CommandStatus.ESME_RUNKNOWNERR  # whatever it means, it is no acceptance
        if pdu.sequence == 0:
            self.framing_faults += 1
            self._close(f"generic_nack {name(pdu.status)} without a sequence number", events)
        elif pdu.sequence in self._control:
            self._on_control(self._control.pop(pdu.sequence), pdu, events)
        elif pdu.sequence in self._window:
            context, late = self._answered(pdu.sequence, now)
            events.append(Answered(context, pdu.status, b"", late))
        else:
            self._ended_after_all(pdu, now, events)

    def _after_all(self, octets: bytes, now: float, events: list[Event]) -> None:
        """A response with a message_id that nothing in the window waits for."""
        _, command_id, status, sequence = _unpack_header(octets)
        entry = self._take_given_up(sequence, command_id, now)
        if entry is not None:
            message_id = self._odd_body(octets, HEADER_LENGTH, len(octets)) if len(octets) > HEADER_LENGTH else b""
            events.append(Answered(entry[0], status, message_id, True))

    def _ended_after_all(self, pdu: Pdu, now: float, events: list[Event]) -> None:
        """Any other response that nothing in the window waits for."""
        entry = self._take_given_up(pdu.sequence, pdu.command_id, now)
        if entry is None:
            return
        if pdu.command_id in _REPLIES:
            events.append(Replied(entry[0], pdu, True))
        else:
            events.append(Answered(entry[0], pdu.status, b"", True))

    def _take_given_up(self, sequence: int, command_id: int, now: float) -> tuple[object, int, float] | None:
        """What was given up under this number, if this is its answer."""
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

    def _slow(self, seconds: float) -> bool:
        """An answer took so long; whether it is late."""
        self.times.observe(seconds)
        late = seconds > self._response_timeout
        self.late_answers += late
        return late

    def _answered(self, sequence: int, now: float) -> tuple[object, bool]:
        """Take a request out of the window: its context, and whether the answer is late."""
        context, _, sent = self._window.pop(sequence)
        return context, now - sent > self.times.slow and self._slow(now - sent)

    def _on_control(self, command_id: int, pdu: Pdu, events: list[Event]) -> None:
        """The answer to our bind, unbind or enquire_link: ``command_id`` was awaited, ``pdu`` may be a generic_nack."""
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

    def _odd_body(self, data: bytes, start: int, end: int) -> bytes:
        """message_id of a response that holds more than it and its NUL, is too long, or has no NUL.

        An accepted message stays accepted, whatever its answer looks like. TLVs alone are no id.
        """
        stop = data.find(0, start, end)
        id_end = end if stop < 0 else stop
        pairs, whole = scan(data, min(id_end + 1, end), end)
        found = data[start:id_end]
        if min(found, default=0 if not whole else _SPACE) < _SPACE:  # no id: the tag of a TLV begins so
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


def _fault(message: ShortMessage) -> int:
    """What a message centre must refuse in a submit that decodes well (sections 5.2.21 and 5.3.2.32); 0 is nothing."""
    if len(message.short_message) > MAX_SHORT_MESSAGE:
        return CommandStatus.ESME_RINVMSGLEN
    if message.short_message and message.tlvs and MESSAGE_PAYLOAD in message.tlvs:
        return CommandStatus.ESME_RTLVNOTALLWD
    return 0
