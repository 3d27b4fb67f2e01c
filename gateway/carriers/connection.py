"""One connection to a carrier: the asyncio shell around ``smpp.Session``.

It owns the socket and nothing else: what comes in goes through the session and on to the listeners in batches, what
goes out is written once per loop tick. While the transport is full the bind has no room, so no work is taken for it. A
carrier that answers no submit for a response timeout is sick: its bind takes one probe at a time until anything
submitted is answered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import structlog

from gateway.carriers.read_budget import ReadBudget
from gateway.carriers.read_control import LOG_EVERY, TURN, ReadControl
from gateway.smpp.errors import LocalError
from gateway.smpp.events import (
    Answered,
    BindRefused,
    Bound,
    Closed,
    Event,
    MessageReceived,
    OperationReceived,
    TimedOut,
    Unbinding,
)
from gateway.smpp.operations import Role
from gateway.smpp.pdu import (
    ALERT_NOTIFICATION,
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    OUTBIND,
    SUBMIT_SM,
    command_name,
)
from gateway.smpp.response_times import ResponseTimes
from gateway.smpp.session import Session
from gateway.smpp.short_message import ShortMessage
from gateway.smpp.status import CommandStatus
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.bind_settings import BindSettings

CONNECT_TIMEOUT = 5.0
USER_TIMEOUT = 25_000
"""Milliseconds that written octets may stay unacknowledged before the kernel gives the connection up (Linux)."""

FINISH_WAIT = 10.0
"""Seconds a graceful end waits for the open window before it unbinds."""

UNBIND_WAIT = 5.5
"""… and for the response to its unbind; the session gives up half a second earlier."""

ENQUIRE_TIMEOUT = 10.0

log = structlog.get_logger(__name__)


class SubmitListener(Protocol):
    """Handles what happens to submits (``carriers.dispatcher.Dispatcher``). Calls must not block."""

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        """Handle responses to submits of this bind."""

    def timed_out(self, bind: Bind, contexts: Sequence[Any], now: float) -> None:
        """Handle submits on a living bind without a response within the timeout. One may still come."""

    def lost(self, bind: Bind, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        """Handle the end of the bind: ``unknown`` were written and not answered, of ``unwritten`` no octet left."""

    def capacity_changed(self, bind: Bind) -> None:
        """Handle that the bind can take work (it is bound, or the transport has room), or turned sick or well."""


class MessageListener(Protocol):
    """Handles what the carrier delivers (``carriers.receipts.ReceiptHandler``). Calls must not block."""

    def received(self, bind: Bind, messages: list[ShortMessage], now: float) -> None:
        """Handle deliver_sm and data_sm: each needs a ``bind.respond``, after it is stored."""


class BindListeners(NamedTuple):
    """Who handles what happens at a bind."""

    submits: SubmitListener
    messages: MessageListener


class Bind(asyncio.Protocol):
    """One connection from connect to close. ``closed`` is set when it has ended and everything was reported."""

    def __init__(
        self,
        name: str,
        command_id: int,
        settings: BindSettings,
        listeners: BindListeners,
        *,
        times: ResponseTimes | None = None,
        read_budget: ReadBudget | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        """``times`` and ``read_budget`` are those of the carrier, shared by its binds."""
        self._supervision = supervision or Supervision()
        self.name = name
        self.command_id = command_id
        self.window = settings.window if command_id != BIND_RECEIVER else 0
        self.proven = False  # a submit was accepted over it
        self.since = 0.0  # when it was bound
        self.refused: int | None = None  # the command_status that refused the bind
        self.reason = ""  # why it ended
        self.sick = False  # submits have waited for a response timeout and nothing submitted was answered meanwhile
        self.closed = asyncio.Event()
        self.decided = asyncio.Event()  # bound, refused or closed
        self._settings = settings
        self._submit_listener, self._message_listener = listeners
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._paused = False
        self._finishing = False
        self._gone = ""  # why there is no connection any more
        self._fault: Exception | None = None  # of the gateway, over something received
        self._flush_planned = False
        self._unflushed = 0  # submits since the last flush
        self._stalled = b""  # the last flush, when not all of it went into the socket
        self._probe = 0  # sequence number of the last submit while sick
        self._probed = 0.0
        self._idle = 0  # in this turn: PDUs of no use and messages not known to be of use, less awaited responses
        self._operations_logged = float("-inf")  # when a refused operation was logged last
        self._session = Session(
            Role.ESME,
            window=settings.window,
            enquire_interval=settings.enquire_interval,
            enquire_timeout=ENQUIRE_TIMEOUT,
            response_timeout=settings.response_timeout,
            first_sequence=settings.first_sequence,
            turn=TURN,
            times=times,
        )
        self.reading = ReadControl(name, self._session, read_budget or ReadBudget(), self._read)

    def __repr__(self) -> str:
        age = f" up {self._loop.time() - self.since:.0f} s" if self.since and not self.closed.is_set() else ""
        paused = " paused" if self._paused else ""
        sick = " sick" if self.sick else ""
        tail = f" ({self.reason})" if self.reason else ""
        return (
            f"<Bind {self.name} {_KINDS[self.command_id]} {self._peer or '-'} {self._session.state.value}"
            f" window {self._session.outstanding}/{self.window}{age}{paused}{sick}{tail}>"
        )

    @property
    def session(self) -> Session:
        """The SMPP session, for counters and tests."""
        return self._session

    @property
    def free(self) -> int:
        """Submits that may be made now; while sick one, unless it is ``probing``."""
        if self._paused or self._finishing or not self.window:
            return 0
        return self._session.free if not self.sick else 0 if self.probing else min(1, self._session.free)

    @property
    def outstanding(self) -> int:
        """Submits without a response."""
        return self._session.outstanding

    @property
    def probing(self) -> bool:
        """Whether the last submit to this sick bind may still be answered in time."""
        if not self.sick or not self._session.awaits(self._probe):
            return False
        return self._loop.time() - self._probed < self._settings.response_timeout

    @property
    def ended(self) -> bool:
        """Whether its end was requested (by the gateway, or by the peer's unbind)."""
        return self._finishing

    @property
    def peer(self) -> str:
        """``host:port`` of the other end, "" before there is a connection."""
        return self._peer

    @property
    def able(self) -> bool:
        """Whether this bind carries submits, even if its window is full."""
        return bool(self.window) and self._session.bound and not self._finishing and not self._gone

    async def connect(self, host: str, port: int) -> None:
        """Connect and send the bind request. Raises OSError or TimeoutError when there is no connection."""
        settings = self._settings
        name = (settings.tls_name or host) if settings.tls else None
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await self._loop.create_connection(lambda: self, host, port, ssl=settings.tls, server_hostname=name)

    def submit(self, body: bytes, context: object, now: float) -> None:
        """Put one submit_sm into the window; it leaves with this loop tick. LocalError beyond ``free``."""
        sequence = self._session.request(SUBMIT_SM, body, context, now)
        self._unflushed += 1
        if self.sick:
            self._probe, self._probed = sequence, now
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def respond(self, command_id: int, sequence: int, status: int) -> None:
        """Answer a deliver_sm or data_sm; it leaves with this loop tick."""
        self._session.respond(command_id, sequence, status)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def useful(self, count: int) -> None:
        """Note that so many of the messages received matched messages of this gateway."""
        self.reading.useful(count)

    def tick(self, now: float) -> None:
        """Handle timeouts and enquire_link; call it about every second."""
        try:
            self._check_sick(now)
            events = self._session.tick(now)
            if events:
                self._handle(events, now)
            self._flush()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    async def finish(self) -> None:
        """Take no more submits, wait for the open window, unbind, close."""
        self._finishing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WAIT):
                while self._session.outstanding and not self.closed.is_set():  # noqa: ASYNC110  # shutdown only
                    await asyncio.sleep(0.02)
        if self._session.bound:
            self._session.unbind(self._loop.time())
            self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(UNBIND_WAIT):
                    await self.closed.wait()
        self.abort("stopped")

    def abort(self, reason: str) -> None:
        """Close the connection at once; the outcome of outstanding submits is unknown."""
        if not self.closed.is_set():
            self._handle(self._session.close(reason), self._loop.time())

    def _fail(self, error: Exception) -> None:
        """End this connection after a fault of the gateway over it; others go on."""
        self._supervision.failed("bind", error)
        try:
            self.abort(_fault_text(error))
        except Exception as again:  # noqa: BLE001 - then without telling the listeners
            self._supervision.failed("bind", again)
            if self._transport is not None:
                self._transport.abort()
        finally:
            self.closed.set()
            self.decided.set()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.closed.is_set():  # aborted while connecting
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        if self._settings.tls is None:
            # What the socket does not take at once stays in the transport, so it is known not to have left. TLS
            # buffers every write for a moment, and what it buffers is not visible.
            self._transport.set_write_buffer_limits(high=0)
        self.reading.start(self._transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "")
        _tune(transport.get_extra_info("socket"))
        settings = self._settings
        try:
            self._session.bind(
                self.command_id,
                settings.system_id,
                settings.password,
                system_type=settings.system_type,
                address_range=settings.address_range,
                ton=settings.ton,
                npi=settings.npi,
                interface_version=settings.interface_version,
                now=self._loop.time(),
            )
        except LocalError as error:  # a password that fits no PDU must not fail in a callback
            self.abort(str(error))
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._paused = True
        self._gone = f"connection lost: {exc}" if exc else "closed by the peer"
        self.reading.stop()
        if not self.closed.is_set():
            self._read_rest()

    def pause_writing(self) -> None:
        self._paused = self.reading.blocked = True

    def resume_writing(self) -> None:
        self._paused = self.reading.blocked = False
        self._stalled = b""
        self._flush()
        if not self._paused:
            self._submit_listener.capacity_changed(self)

    # ---- inside

    def _read(self, data: bytes = b"") -> None:
        """Parse one turn: of ``data``, and of what the session has kept."""
        started = perf_counter()
        now = self._loop.time()
        before, self._idle = self._session.idle, 0
        try:
            events = self._session.receive(data, now)
            self._idle = self._session.idle - before
            if self._session.fault is not None:
                self._supervision.failed("bind", self._session.fault)
            if events:
                self._handle(events, now)
        except Exception as error:  # noqa: BLE001 - whatever a carrier sends ends its own connection at most
            self._fail(error)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)
        self.reading.turned(perf_counter() - started, now, self._idle)

    def _read_rest(self) -> None:
        """Parse what came before the connection was lost, a turn at a time, then close."""
        if self._session.more and not self.closed.is_set():
            self._read()
            self._loop.call_soon(self._read_rest)
        else:
            self.abort(self._gone)

    def _flush(self) -> None:
        self._flush_planned = False
        try:
            if not self._paused:
                data = self._session.output()
                if data and self._transport is not None:
                    self._transport.write(data)  # may call pause_writing
                    self._unflushed = 0
                    if self._paused:
                        self._stalled = data
            self.reading.steer()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _check_sick(self, now: float) -> None:
        """Become sick when submits have waited for a response timeout and nothing was answered meanwhile."""
        since = self._session.silent_since()
        if not self.sick and since is not None and now - since > self._settings.response_timeout:
            self.sick = True
            log.warning("carrier answers no submits", bind=self.name, outstanding=self._session.outstanding)
            self._submit_listener.capacity_changed(self)

    def _recover(self) -> None:
        self.sick = False
        log.info("carrier answers submits again", bind=self.name)
        self._submit_listener.capacity_changed(self)

    def _handle(self, events: list[Event], now: float) -> None:
        """Pass on a batch of events: responses and messages in one piece each, the rest one by one, in order."""
        answers: list[Answered] = []
        messages: list[ShortMessage] = []
        for event in events:
            kind = type(event)
            if kind is Answered:
                answers.append(cast("Answered", event))
            elif kind is MessageReceived:
                messages.append(cast("MessageReceived", event).message)
            else:
                answers, messages = self._pass_on(answers, messages, now)
                self._guarded(self._handle_rare, event, now)
        self._pass_on(answers, messages, now)
        if self._fault is not None and not self.closed.is_set():
            self.abort(_fault_text(self._fault))

    def _guarded(self, handle: Callable[..., None], *args: Any) -> None:
        """Call ``handle``; if it fails, this connection ends after the rest of the batch was handled."""
        try:
            handle(*args)
        except Exception as error:  # noqa: BLE001 - it concerns this connection alone
            self._supervision.failed("bind", error)
            self._fault = error

    def _pass_on(
        self, answers: list[Answered], messages: list[ShortMessage], now: float
    ) -> tuple[list[Answered], list[ShortMessage]]:
        if answers:
            self._idle -= len(answers)
            if not self.proven and any(answer.status == 0 for answer in answers):
                self.proven = True
            if self.sick:
                self._recover()
            self._guarded(self._submit_listener.answered, self, answers, now)
        if messages:
            self._idle += len(messages)
            self._guarded(self._message_listener.received, self, messages, now)
        return [], []

    def _handle_rare(self, event: Event, now: float) -> None:
        match event:
            case Bound():
                self.since = now
                self.decided.set()
                log.info("carrier bind is up", bind=self.name, peer=self._peer, smsc=event.system_id.decode("latin-1"))
                self._submit_listener.capacity_changed(self)
            case BindRefused(status):
                self.refused = status
                self.abort("bind refused")
            case TimedOut(contexts):
                log.warning("submits without a response", bind=self.name, count=len(contexts))
                self._submit_listener.timed_out(self, contexts, now)
            case Unbinding():
                self._finishing = True
                log.info("carrier asked us to unbind", bind=self.name)
            case OperationReceived(pdu):
                self._refuse(pdu.command_id, pdu.sequence, now)
            case Closed(reason, contexts):
                self._report_closed(reason, contexts, now)

    def _refuse(self, command_id: int, sequence: int, now: float) -> None:
        """Refuse an operation that an ESME does not serve; log it once a minute."""
        if now - self._operations_logged >= LOG_EVERY:
            self._operations_logged = now
            log.info("carrier sent an operation that is not served", bind=self.name, operation=command_name(command_id))
        if command_id not in (ALERT_NOTIFICATION, OUTBIND):
            self._session.respond(command_id, sequence, CommandStatus.ESME_RINVCMDID)

    def _report_closed(self, reason: str, contexts: list[object], now: float) -> None:
        """Write the session's last octets, close the socket, report what was outstanding."""
        self.reason = self.reason or reason
        transport, self._transport = self._transport, None
        kept = min(len(contexts), self._unflushed + self._unsent(transport))  # the last ones, since order is kept
        unknown, unwritten = contexts[: len(contexts) - kept], contexts[len(contexts) - kept :]
        self.reading.stop()
        if transport is not None:
            if not unwritten:
                transport.write(self._session.output())
            # what was paused or never flushed must not leave after it was reported as unwritten
            (transport.abort if unwritten or self._paused else transport.close)()
        self.closed.set()
        self.decided.set()
        if self.since:
            level = log.info if self._finishing else log.warning
            level("carrier bind is down", bind=self.name, reason=self.reason, unknown=len(unknown))
        self._submit_listener.lost(self, unknown, unwritten, now)

    def _unsent(self, transport: asyncio.Transport | None) -> int:
        """Return how many submits of the last flush put no octet into the socket; 0 when that cannot be known."""
        if transport is None or not self._stalled or self._settings.tls is not None:
            return 0
        return _count_submits(self._stalled, len(self._stalled) - transport.get_write_buffer_size())


def _fault_text(error: Exception) -> str:
    return f"the gateway failed over this connection: {type(error).__name__}: {error}"


def _count_submits(octets: bytes, start: int) -> int:
    """Return how many submit_sm of ``octets`` begin at ``start`` or later."""
    at = found = 0
    while at < len(octets):
        length, command_id = _unpack_head(octets, at)
        found += at >= start and command_id == SUBMIT_SM
        at += length
    return found


_unpack_head = Struct(">II").unpack_from
_KINDS = {BIND_TRANSCEIVER: "trx", BIND_TRANSMITTER: "tx", BIND_RECEIVER: "rx"}


def _tune(sock: Any) -> None:
    """Send small writes at once; notice a peer that vanished within ``USER_TIMEOUT``."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
