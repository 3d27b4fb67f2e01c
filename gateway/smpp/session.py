"""One SMPP session, either end of it, without I/O and without a clock.

Octets in (``receive``), events out; requests in, octets out (``output``). The owner holds the socket, hands in what it
reads and the time, and writes what ``output`` gives once per loop tick. After ``Closed`` it writes that output a last
time and closes the socket.

Times are seconds of any clock that never goes back. Nothing that the peer sends raises: it ends in events, answers and
counters.
"""

from __future__ import annotations

from gateway.smpp.codec import encode_body
from gateway.smpp.errors import LocalError
from gateway.smpp.events import Event, TimedOut
from gateway.smpp.operations import BOUND, BOUND_BY, Role, SessionState
from gateway.smpp.pdu import BINDS, ENQUIRE_LINK, ENQUIRE_LINK_RESP, MAX_PDU, RESP, UNBIND
from gateway.smpp.receiving import UNBIND_WAIT, Receiver
from gateway.smpp.response_times import ResponseTimes
from gateway.smpp.status import CommandStatus
from gateway.smpp.tlv import SC_INTERFACE_VERSION

__all__ = ["Role", "Session", "SessionState"]

VERSION = 0x34
SILENCE_MOST = 44.0
"""Seconds after the last whole PDU at which a peer that was asked is dead, so that ticks of a second keep 45."""

ENQUIRE_MISSES = 2  # enquire_links in a row without any sign of life that make a peer dead

_OVERDUE = {
    SessionState.OPEN: "no bind in time",
    SessionState.BINDING: "no answer to the bind in time",
    SessionState.UNBINDING: "no answer to unbind",
    SessionState.UNBOUND: "unbound by the peer",
}


class Session(Receiver):
    """See the module. The public numbers only ever count up, except ``unanswered`` and ``congestion``."""

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
        """``window``: our requests without an answer at most. ``inbound_window``: the peer's, beyond it they are
        answered RTHROTTLED (0: no limit). ``enquire_interval`` 0: never ask. All times in seconds.

        ``turn``: octets that one ``receive`` reads at most, give or take a PDU (0: all). ``times``: of a peer with
        several sessions; its ``configured`` then counts and not ``response_timeout``.
        """
        super().__init__(
            role,
            window=window,
            inbound_window=inbound_window,
            first_sequence=first_sequence,
            max_pdu=max_pdu,
            times=times or ResponseTimes(response_timeout),
            bind_timeout=bind_timeout,
            turn=turn,
        )
        self.timed_out = 0  # requests given up
        self.enquires_missed = 0
        self._enquire_interval = enquire_interval
        self._enquire_timeout = enquire_timeout
        self._grace = late_grace

    @property
    def bound(self) -> bool:
        """Whether a bind is in force and nobody has sent unbind."""
        return self.state in BOUND

    def __repr__(self) -> str:
        missed = f" missed {self._enquire_misses}" if self._enquire_misses else ""
        return (
            f"<Session {self.role.value} {self.state.value} window {len(self._window)}/{self._window_size}"
            f" unanswered {self.unanswered} next {self._next}{missed}>"
        )

    # ---- the life of a bind

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
        """ESME: send a bind; Bound, BindRefused or (after ``bind_timeout``) Closed follows. LocalError unless open."""
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
        """SMSC: answer the pending BindRequested with success. The events are of what arrived meanwhile."""
        command_id = self._pending_bind()
        # A client below 3.4 cannot read TLVs, so our version is told only to those that can (section 4.1.2).
        tlvs = [(SC_INTERFACE_VERSION, bytes((VERSION,)))] if self.takes_tlvs else []
        body = encode_body(command_id | RESP, {"system_id": system_id}, tlvs)
        self._answer(command_id, self._bind_sequence, CommandStatus.ESME_ROK, body)
        self._deadline = None
        self._enter(BOUND_BY[command_id])
        return self._resume(now)

    def refuse_bind(self, status: int, *, now: float) -> list[Event]:
        """SMSC: answer the pending BindRequested with an error; the peer may try again until ``bind_timeout``."""
        self._answer(self._pending_bind(), self._bind_sequence, status)
        self._enter(SessionState.OPEN)
        return self._resume(now)

    def _pending_bind(self) -> int:
        if not self._held():
            raise LocalError(f"{self!r}: no bind waits for a decision")
        return self._bind_command

    def unbind(self, now: float) -> None:
        """Send unbind; Closed follows with the answer, or after 5 s. Late answers and requests still come through.

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
        """The connection is gone, or shall be: Closed with what was outstanding; nothing the second time."""
        events: list[Event] = []
        self._close(reason, events)
        return events

    # ---- time

    def tick(self, now: float) -> list[Event]:
        """Call about once a second: gives requests up, asks a silent peer, ends what takes too long."""
        events: list[Event] = []
        if self.state is SessionState.CLOSED:
            return events
        self._start(now)
        self._sweep(now, events)
        overdue = self._deadline is not None and now >= self._deadline
        if overdue or (self.state is SessionState.UNBOUND and self._drained()):
            self._close(_OVERDUE[self.state], events)
        elif self.state in BOUND:
            self._keep_alive(now, events)
        return events

    def _sweep(self, now: float, events: list[Event]) -> None:
        oldest = now - self.times.timeout(now) - self._grace
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

    def silent_since(self) -> float | None:
        """When the oldest request was written of those that were followed by no answer; None when there is none."""
        since = None
        for entry in reversed(self._window.values()):
            if entry[2] < self._answered_at:
                break
            since = entry[2]
        return since

    def _keep_alive(self, now: float, events: list[Event]) -> None:
        silent = now - (self._heard or 0.0)
        if self._enquire_sent is None:
            if self._enquire_interval and (silent >= self._enquire_interval or self._unheard(now)):
                self._enquire(now)
        elif silent >= SILENCE_MOST:
            self.enquires_missed += 1
            self._close(f"nothing heard for {silent:.0f} s", events)
        elif now - self._enquire_sent >= self._enquire_timeout:
            self.enquires_missed += 1
            self._enquire_misses += 1
            if self._enquire_misses >= ENQUIRE_MISSES:
                self._close("no answer to enquire_link", events)
            else:
                self._enquire(now)

    def _unheard(self, now: float) -> bool:
        """Whether a request has waited for a response timeout and nothing at all came since it was sent."""
        sent = next(iter(self._window.values()))[2] if self._window else now
        return now - sent >= self._response_timeout and (self._heard or 0.0) <= sent

    def _enquire(self, now: float) -> None:
        for sequence, answer in list(self._control.items()):
            if answer == ENQUIRE_LINK_RESP:
                del self._control[sequence]  # one at a time: a peer that never answers must not fill the table
        self._send_control(ENQUIRE_LINK)
        self._enquire_sent = now
