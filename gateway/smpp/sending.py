"""The writing half of a session: our window, our sequence numbers, our answers to the peer."""

from __future__ import annotations

from struct import Struct

from gateway.smpp.codec import HEADER, without_tlvs
from gateway.smpp.errors import LocalError
from gateway.smpp.events import Closed, Event
from gateway.smpp.operations import BOUND, CONTROL, Role, SessionState, allowed
from gateway.smpp.pdu import (
    DATA_SM,
    DELIVER_SM,
    DELIVER_SM_RESP,
    HEADER_LENGTH,
    MAX_SEQUENCE,
    RESP,
    SUBMIT_SM,
    UNANSWERED,
)

_pack_header = HEADER.pack
_pack_deliver_resp = Struct(">IIIIB").pack
_NO_ID = frozenset({DELIVER_SM, DATA_SM})  # their responses have a message_id that nobody uses, but must be there
_MESSAGES = frozenset({SUBMIT_SM, DELIVER_SM, DATA_SM})


class Sender:
    """What ``Session`` is built on; nobody else makes one."""

    def __init__(self, role: Role, *, window: int, first_sequence: int, max_pdu: int) -> None:
        if not 1 <= first_sequence <= MAX_SEQUENCE:
            raise LocalError(f"first_sequence {first_sequence} is not within 1 to {MAX_SEQUENCE}")
        self.role = role
        self.takes_tlvs = True  # False for a client below 3.4: requests lose their TLVs
        self.unanswered = 0  # the peer's requests that wait for our ``respond``
        self.unsent_answers = 0  # responses that came after the session was over
        self._window_size = window
        self._max_pdu = max_pdu
        self._next = first_sequence
        self._out: list[bytes] = []
        # sequence -> (context, command_id of the answer, sent at); insertion order is age order
        self._window: dict[int, tuple[object, int, float]] = {}
        # what was given up, oldest first and at most a window of it: an answer may still come
        self._given_up: dict[int, tuple[object, int, float]] = {}
        self._control: dict[int, int] = {}  # our bind, unbind, enquire_link: sequence -> command_id of the answer
        self._enter(SessionState.OPEN)

    def _enter(self, state: SessionState) -> None:
        """Change the state; what either end may send follows from it."""
        self.state = state
        self._accepts = allowed(self.role.peer, state)
        self._may_send = allowed(self.role, state) - CONTROL
        self._steady = state in BOUND
        self._may_submit = not _MESSAGES.isdisjoint(self._may_send)

    def _close(self, reason: str, events: list[Event]) -> None:
        if self.state is SessionState.CLOSED:
            return
        self._enter(SessionState.CLOSED)
        events.append(Closed(reason, [entry[0] for entry in self._window.values()]))
        self._window.clear()
        self._given_up.clear()
        self._control.clear()

    @property
    def outstanding(self) -> int:
        """Our requests without an answer, but for those that were given up."""
        return len(self._window)

    @property
    def given_up(self) -> int:
        """Requests that were given up and whose answers would still be known."""
        return len(self._given_up)

    def awaits(self, sequence: int) -> bool:
        """Whether our request of this number waits for its answer."""
        return sequence in self._window

    @property
    def pending(self) -> int:
        """Pieces of output that wait to be fetched: about two for each PDU."""
        return len(self._out)

    @property
    def free(self) -> int:
        """How many requests the window still takes; 0 when the state allows none."""
        return max(0, self._window_size - len(self._window)) if self._may_submit else 0

    def output(self) -> bytes:
        """Everything to be written now, b"" when there is nothing."""
        joined = b"".join(self._out)
        self._out.clear()
        return joined

    def request(self, command_id: int, body: bytes, context: object, now: float) -> int:
        """Send a request (not a bind, unbind or enquire_link) and return its sequence number.

        ``context`` comes back in Answered, TimedOut or Closed, after TimedOut perhaps in a late Answered. LocalError
        when the state forbids it, the window is full or the body is too long.
        """
        if command_id not in self._may_send:
            raise LocalError(f"{self!r} may not send command 0x{command_id:08X}")
        window = self._window
        if len(window) >= self._window_size:
            raise LocalError(f"{self!r} is full")
        if not self.takes_tlvs:
            body = without_tlvs(command_id, body)
        length = HEADER_LENGTH + len(body)
        if length > self._max_pdu:
            raise LocalError(f"{self!r} takes no PDU of {length} octets")
        sequence = self._next
        if sequence in window or self._control or self._given_up:  # both are nearly always empty
            sequence = self._unused(sequence)
        self._next = sequence + 1 if sequence < MAX_SEQUENCE else 1
        if command_id not in UNANSWERED:
            window[sequence] = (context, command_id | RESP, now)
        self._out += (_pack_header(length, command_id, 0, sequence), body)
        return sequence

    def respond(self, command_id: int, sequence: int, status: int, body: bytes = b"") -> None:
        """Answer the peer's request ``command_id`` under its own ``sequence``, whatever that is.

        ``body`` is the response's encoded body; an empty one is made legal where the response must have a message_id.
        After the session is over the answer is dropped and counted: the peer will repeat.
        """
        if self.state is SessionState.CLOSED:
            self.unsent_answers += 1
            return
        if self.unanswered:
            self.unanswered -= 1
        if command_id == DELIVER_SM and not body:
            self._out.append(_pack_deliver_resp(17, DELIVER_SM_RESP, status, sequence, 0))
        else:
            self._answer(command_id, sequence, status, body)

    def _answer(self, command_id: int, sequence: int, status: int, body: bytes = b"") -> None:
        if not body and (command_id in _NO_ID or (command_id == SUBMIT_SM and status == 0)):
            body = b"\0"
        # An error's response has no body (section 4.4.2) unless the caller gives one.
        self._out += (_pack_header(HEADER_LENGTH + len(body), command_id | RESP, status, sequence), body)

    def _send_control(self, command_id: int, body: bytes = b"") -> int:
        """Send a bind, unbind or enquire_link: outside the window, but with a sequence number of its own."""
        sequence = self._unused(self._next)
        self._next = sequence + 1 if sequence < MAX_SEQUENCE else 1
        self._control[sequence] = command_id | RESP
        self._out += (_pack_header(HEADER_LENGTH + len(body), command_id, 0, sequence), body)
        return sequence

    def _unused(self, sequence: int) -> int:
        """The first number from ``sequence`` on that no request has whose answer would be known."""
        while sequence in self._window or sequence in self._control or sequence in self._given_up:
            sequence = sequence + 1 if sequence < MAX_SEQUENCE else 1
        return sequence
