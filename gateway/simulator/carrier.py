"""The simulated carrier: binds apps, answers their submits, delivers receipts and replies.

One event loop and one timer for everything that is due later; no task and no timer per message.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

from gateway.simulator.app_link import AppLink
from gateway.simulator.delivery_queue import DeliveryQueue
from gateway.simulator.faults import Faults
from gateway.simulator.stats import LedgerEntry, SimulatorStats
from gateway.simulator.submits import SubmitResponder
from gateway.smpp.events import (
    Answered,
    BindRequested,
    Closed,
    Event,
    MessageReceived,
    OperationReceived,
    TimedOut,
    Unbinding,
)
from gateway.smpp.pdu import BIND_TRANSMITTER, CANCEL_SM, QUERY_SM, REPLACE_SM, SUBMIT_MULTI
from gateway.smpp.short_message import ShortMessage
from gateway.smpp.status import CommandStatus
from gateway.smpp.text import SplitMethod

NAME = b"simulator"
TICK = 0.5  # seconds between two ticks of the sessions

_REFUSED_OPERATIONS = {
    QUERY_SM: CommandStatus.ESME_RQUERYFAIL,
    CANCEL_SM: CommandStatus.ESME_RCANCELFAIL,
    REPLACE_SM: CommandStatus.ESME_RREPLACEFAIL,
    SUBMIT_MULTI: CommandStatus.ESME_RINVCMDID,
}


class Simulator:
    """A carrier on one port. ``faults`` may be changed, field by field or whole, while it runs.

    ``users`` maps system_id to password; None accepts any. With ``ledger`` every accepted submit is kept in
    ``self.ledger`` and duplicates are counted; ``tap`` is called with each and must not block. ``seed`` fixes random
    choices. With ``tls`` (a server context) only TLS is accepted.
    """

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        users: Mapping[str, str] | None = None,
        ledger: bool = False,
        tap: Callable[[ShortMessage], None] | None = None,
        seed: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.faults = faults if faults is not None else Faults()
        self.users = users
        self.stats = SimulatorStats()
        self.ledger: list[LedgerEntry] = []
        self.links: set[AppLink] = set()
        self.port = 0
        self._host = ""
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._deliveries = DeliveryQueue(lambda: self.faults, self.stats, self._mark_dirty)
        self._submits = SubmitResponder(
            lambda: self.faults,
            self.stats,
            self._deliveries,
            random=Random(seed),  # noqa: S311 - faults, not secrets
            ledger=self.ledger if ledger else None,
            tap=tap,
        )
        self._dirty: list[AppLink] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._ticker: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Simulator port {self.port} links {len(self.links)} accepted {self.stats.accepted}>"

    # ---- running

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port (chosen by the kernel for 0). OSError when it is in use."""
        self._loop = asyncio.get_running_loop()
        self._submits.wall = time.time() - self._loop.time()
        self._host, self.port = host, port
        await self._listen()
        self._tick()
        return self.port

    async def stop(self) -> None:
        """Close every connection and the port."""
        for handle in (self._timer, self._ticker):
            if handle is not None:
                handle.cancel()
        self._timer = self._ticker = None
        await self._close_all("close")

    async def outage(self, seconds: float) -> None:
        """Reset every connection, refuse new ones for ``seconds``, then listen again on the same port."""
        await self._close_all("reset")
        await asyncio.sleep(seconds)
        await self._listen()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def drop(self, mode: str = "close") -> int:
        """Close every connection now (``mode`` "close" or "reset") and return how many there were."""
        links = list(self.links)
        for link in links:
            self.stats.cut += 1
            link.cut(mode)
        return len(links)

    def unbind(self) -> None:
        """Send unbind to every app."""
        for link in self.links:
            link.session.unbind(self._loop.time())
            self._mark_dirty(link)

    def send(
        self, source: str, dest: str, text: str, *, system_id: str = "", long: SplitMethod = SplitMethod.UDH8
    ) -> int:
        """Send a text from ``source`` to the app's number ``dest`` and return the number of parts.

        ``system_id`` names the app; "" means the only one bound. LookupError when there is not exactly one.
        """
        name = system_id.encode() or self._only_app()
        now = self._loop.time()
        parts = self._submits.reply(name, source.encode(), dest.encode(), text, long=long)
        for delivery in parts:
            self._deliveries.send(delivery, now)
        return len(parts)

    @property
    def undelivered(self) -> int:
        """Receipts and replies not yet due, or waiting for room in a window."""
        return len(self._deliveries)

    def _only_app(self) -> bytes:
        names = {link.system_id for link in self.links if link.receives}
        if len(names) != 1:
            raise LookupError(f"{len(names)} apps are bound to receive: give system_id")
        return names.pop()

    # ---- listening

    async def _listen(self) -> None:
        try:
            self._server = await self._loop.create_server(
                lambda: AppLink(self), self._host, self.port, backlog=1024, ssl=self._tls
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise OSError(error.errno, f"cannot listen on {self._host}:{self.port}: {why}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_all(self, mode: str) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        links = list(self.links)
        for link in links:
            link.cut(mode)
        if server is not None:
            with suppress(TimeoutError):  # an app that does not read
                async with asyncio.timeout(1.0):
                    await server.wait_closed()
        for link in links:
            link.abort()

    def _tick(self) -> None:
        now = self._loop.time()
        for link in list(self.links):
            self.on_events(link, link.session.tick(now), now)
        self._ticker = self._loop.call_later(TICK, self._tick)

    # ---- called by links

    def on_open(self, link: AppLink) -> None:
        """Accept a new connection, unless a fault refuses it."""
        if self.faults.refuse_connections:
            link.cut("reset")
            return
        self.stats.connections += 1
        self.links.add(link)

    def on_events(self, link: AppLink, events: Sequence[Event], now: float) -> None:
        """Handle a session's events in order; those after a cut are dropped."""
        for event in events:
            if isinstance(event, MessageReceived):
                self._submits.handle(link, event.message, now)
            elif isinstance(event, Answered):
                self._deliveries.on_response(event.context, event.status, now)
            else:
                self._on_other_event(link, event, now)
            if link.closed:
                return
        if events and link.receives:
            self._deliveries.send_waiting(link.system_id, now)
        if not link.dirty:
            self._mark_dirty(link)
        self._set_timer()

    def on_writable(self, link: AppLink, now: float) -> None:
        """Send what waits: the app reads again."""
        self._deliveries.send_waiting(link.system_id, now)

    def on_close(self, link: AppLink, events: Sequence[Event]) -> None:
        """Forget a closed connection."""
        self.links.discard(link)
        if link.system_id:
            self.stats.bound -= 1
        for event in events:
            if isinstance(event, Closed):
                self._deliveries.remove_bind(link, event.contexts)
        if link.system_id:
            self._deliveries.send_waiting(link.system_id, self._loop.time())

    def _on_other_event(self, link: AppLink, event: Event, now: float) -> None:
        match event:
            case BindRequested():
                self._bind(link, event)
            case OperationReceived(pdu):
                status = _REFUSED_OPERATIONS.get(pdu.command_id)
                if status is not None:
                    link.session.respond(pdu.command_id, pdu.sequence, status)
            case TimedOut(contexts):
                self._deliveries.requeue(contexts)
            case Unbinding():
                link.receives = False
            case Closed(_, contexts):
                self._deliveries.remove_bind(link, contexts)
                link.finish()
            case _:
                pass

    # ---- binding

    def _bind(self, link: AppLink, bind: BindRequested) -> None:
        if self.faults.bind_silent:
            return
        if self.faults.bind_delay_ms:
            self._loop.call_later(self.faults.bind_delay_ms / 1000, self._decide_bind, link, bind)
        else:
            self._decide_bind(link, bind)

    def _decide_bind(self, link: AppLink, bind: BindRequested) -> None:
        if link.closed:
            return
        now = self._loop.time()
        status = self._bind_status(bind)
        if status:
            self.stats.binds_refused += 1
            events = link.session.refuse_bind(status, now=now)
            if self.faults.bind_close:
                link.cut("close")
                return
        else:
            self.stats.binds += 1
            self.stats.bound += 1
            link.system_id = bind.system_id
            events = link.session.accept_bind(NAME, now=now)
            if bind.command_id != BIND_TRANSMITTER:
                link.receives = True
                self._deliveries.add_bind(link, now)
        self.on_events(link, events, now)

    def _bind_status(self, bind: BindRequested) -> int:
        faults = self.faults
        if faults.bind_status:
            return faults.bind_status
        if self.users is not None:
            password = self.users.get(bind.system_id.decode("latin-1"))
            if password is None:
                return CommandStatus.ESME_RINVSYSID
            if password.encode() != bind.password:
                return CommandStatus.ESME_RINVPASWD
        if faults.max_binds and sum(link.system_id == bind.system_id for link in self.links) >= faults.max_binds:
            return CommandStatus.ESME_RALYBND
        return CommandStatus.ESME_ROK

    # ---- writing, and the timer

    def _mark_dirty(self, link: AppLink) -> None:
        """Flush ``link`` at the end of this loop iteration."""
        if link.dirty:
            return
        link.dirty = True
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(link)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.flush()

    def _set_timer(self) -> None:
        """Set the timer to what is due next."""
        due = min(self._deliveries.wheel.next, self._submits.answers.next)
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._loop.time()
        for link, command_id, sequence, status, body in self._submits.answers.due(now):
            link.session.respond(command_id, sequence, status, body)
            if not link.dirty:
                self._mark_dirty(link)
        self._deliveries.send_due(now)
        self._set_timer()
