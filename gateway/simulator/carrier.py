"""The simulated carrier: it binds apps, judges and accepts what they submit, and delivers receipts and replies.

One loop, one timer for everything that is due later, no task and no timer per message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

from gateway.simulator.delivery import STATES, Times, pick_state, receipt_body, receipt_id, reply_bodies, write_id
from gateway.simulator.faults import Faults
from gateway.simulator.judge import Judge
from gateway.simulator.link import Link
from gateway.simulator.outbox import Delivery, Outbox
from gateway.simulator.stats import Entry, Stats
from gateway.simulator.wheel import Wheel
from gateway.smpp import receipt
from gateway.smpp.codec import HEADER, Message
from gateway.smpp.events import Answered, BindRequested, Closed, Event, Operation, Requested, TimedOut, Unbinding
from gateway.smpp.pdus import (
    BIND_TRANSMITTER,
    CANCEL_SM,
    DELIVER_SM,
    QUERY_SM,
    REPLACE_SM,
    RESP,
    SUBMIT_MULTI,
)
from gateway.smpp.status import Status
from gateway.smpp.text import Long

NAME = b"simulator"
TICK = 0.5  # seconds between looks at the sessions' timeouts

_REFUSED_OPERATIONS = {
    QUERY_SM: Status.ESME_RQUERYFAIL,
    CANCEL_SM: Status.ESME_RCANCELFAIL,
    REPLACE_SM: Status.ESME_RREPLACEFAIL,
    SUBMIT_MULTI: Status.ESME_RINVCMDID,
}


class _Answer(NamedTuple):
    """An answer that waits for its latency."""

    link: Link
    command_id: int
    sequence: int
    status: int
    body: bytes


class Simulator:
    """A carrier on one port. ``faults`` may be changed, field by field or whole, while it runs.

    ``users`` maps system_id to password, None lets anybody in. With ``ledger`` every accepted submit is kept in
    ``self.ledger`` and duplicates are counted. ``seed`` fixes everything that is random.
    """

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        users: Mapping[str, str] | None = None,
        ledger: bool = False,
        seed: int | None = None,
    ) -> None:
        self.faults = faults if faults is not None else Faults()
        self.users = users
        self.stats = Stats()
        self.ledger: list[Entry] = []
        self.links: set[Link] = set()
        self.port = 0
        self._keep_ledger = ledger
        self._random = Random(seed)  # noqa: S311 - faults, not secrets
        self._judge = Judge(self._random)
        self._seen: set[tuple[bytes, int, bytes]] = set()
        # Ids go on where a former run stopped, as long as it accepted less than 65,536 messages a second.
        self._last_id = int(time.time()) << 16
        self._reference = self._random.randrange(256)
        self._host = ""
        self._server: asyncio.Server | None = None
        self._answers: Wheel[_Answer] = Wheel()
        self._outbox = Outbox(lambda: self.faults, self.stats, self._touch)
        self._dirty: list[Link] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._ticker: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Simulator port {self.port} links {len(self.links)} accepted {self.stats.accepted}>"

    # ---- for whoever runs it

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port (one of the kernel's choice for 0). OSError when it is taken."""
        self._loop = asyncio.get_running_loop()
        self._wall = time.time() - self._loop.time()
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
        await self._shut("close")

    async def outage(self, seconds: float) -> None:
        """Reset every connection, refuse new ones for so long, then listen again on the same port."""
        await self._shut("reset")
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
        """Cut every connection now ("close" or "reset"); how many there were."""
        links = list(self.links)
        for link in links:
            self._cut(link, mode)
        return len(links)

    def unbind(self) -> None:
        """Say unbind to every app."""
        for link in self.links:
            link.session.unbind(self._loop.time())
            self._touch(link)

    def send(self, source: str, dest: str, text: str, *, system_id: str = "", long: Long = Long.UDH8) -> int:
        """A text from ``source`` to the app's number ``dest``; the number of parts.

        For the app ``system_id``, or the only one bound. LookupError when that is not clear.
        """
        name = system_id.encode() or self._only_app()
        now = self._loop.time()
        self._reference += 1
        bodies = reply_bodies(source.encode(), dest.encode(), text, self._reference, long=long)
        for body in bodies:
            self._outbox.send(Delivery(name, DELIVER_SM, body, None), now)
        self.stats.replies += 1
        return len(bodies)

    @property
    def undelivered(self) -> int:
        """Receipts and replies that are not due yet or that no bind has room for."""
        return len(self._outbox)

    def _only_app(self) -> bytes:
        names = {link.system_id for link in self.links if link.receives}
        if len(names) != 1:
            raise LookupError(f"{len(names)} apps are bound to receive; name one of them")
        return names.pop()

    # ---- listening

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: Link(self), self._host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self, mode: str) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        links = list(self.links)
        for link in links:
            link.cut(mode)
        if server is not None:
            with suppress(TimeoutError):  # an app that does not read what is left for it
                async with asyncio.timeout(1.0):
                    await server.wait_closed()
        for link in links:
            link.abort()

    def _tick(self) -> None:
        now = self._loop.time()
        for link in list(self.links):
            self.happened(link, link.session.tick(now), now)
        self._ticker = self._loop.call_later(TICK, self._tick)

    # ---- what links tell

    def opened(self, link: Link) -> None:
        """A connection came in."""
        if self.faults.refuse_connections:
            link.cut("reset")
            return
        self.stats.connections += 1
        self.links.add(link)

    def happened(self, link: Link, events: Sequence[Event], now: float) -> None:
        """A session's events, in order; what follows a cut is nobody's any more."""
        for event in events:
            kind = type(event)
            if kind is Requested:
                self._submitted(link, event.message, now)  # type: ignore[union-attr]  # ``kind`` says so, at no cost
            elif kind is Answered:
                self._outbox.answered(event.context, event.status, now)  # type: ignore[union-attr, arg-type]
            else:
                self._seldom(link, event, now)
            if link.closed:
                return
        if events and link.receives:
            self._outbox.pump(link.system_id, now)
        if not link.dirty:
            self._touch(link)
        self._arm()

    def writable(self, link: Link, now: float) -> None:
        """The app reads again."""
        self._outbox.pump(link.system_id, now)

    def lost(self, link: Link, events: Sequence[Event]) -> None:
        """The connection is over."""
        self.links.discard(link)
        if link.system_id:
            self.stats.bound -= 1
        for event in events:
            if isinstance(event, Closed):
                self._outbox.left(link, event.contexts)
        if link.system_id:
            self._outbox.pump(link.system_id, self._loop.time())

    def _seldom(self, link: Link, event: Event, now: float) -> None:
        match event:
            case BindRequested():
                self._bind(link, event, now)
            case Operation(pdu):
                status = _REFUSED_OPERATIONS.get(pdu.command_id)
                if status is not None:
                    link.session.respond(pdu.command_id, pdu.sequence, status)
            case TimedOut(contexts):
                self._outbox.unanswered(contexts)
            case Unbinding():
                link.receives = False
            case Closed(_, contexts):
                self._outbox.left(link, contexts)
                link.finish()
            case _:
                pass

    # ---- binds

    def _bind(self, link: Link, bind: BindRequested, now: float) -> None:
        if self.faults.bind_silent:
            return
        if self.faults.bind_delay_ms:
            self._loop.call_later(self.faults.bind_delay_ms / 1000, self._decide_bind, link, bind)
        else:
            self._decide_bind(link, bind)

    def _decide_bind(self, link: Link, bind: BindRequested) -> None:
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
                self._outbox.joined(link, now)
        self.happened(link, events, now)

    def _bind_status(self, bind: BindRequested) -> int:
        faults = self.faults
        if faults.bind_status:
            return faults.bind_status
        if self.users is not None:
            password = self.users.get(bind.system_id.decode("latin-1"))
            if password is None:
                return Status.ESME_RINVSYSID
            if password.encode() != bind.password:
                return Status.ESME_RINVPASWD
        if faults.max_binds and sum(link.system_id == bind.system_id for link in self.links) >= faults.max_binds:
            return Status.ESME_RALYBND
        return Status.ESME_ROK

    # ---- submits

    def _submitted(self, link: Link, message: Message, now: float) -> None:
        faults, stats = self.faults, self.stats
        stats.submits += 1
        status = self._judged(message, now)
        if status:
            self._answer(link, message, status, b"", now)
            return
        cut = faults.drop_every and not stats.submits % faults.drop_every
        if cut and faults.drop_phase == "before_accept":
            self._cut(link, faults.drop_mode)
            return
        body = self._accept(link, message, now) + b"\0"
        if cut:
            self._cut_answer(link, message, body)
        elif faults.noresp_every and not stats.submits % faults.noresp_every:
            stats.unanswered += 1
        else:
            if faults.empty_id_every and not stats.submits % faults.empty_id_every:
                body = b"\0"
            self._answer(link, message, 0, body, now)
            if faults.duplicate_answer_every and not stats.submits % faults.duplicate_answer_every:
                self._answer(link, message, 0, body, now)
            if faults.unbind_every and not stats.submits % faults.unbind_every:
                link.session.unbind(now)

    def _judged(self, message: Message, now: float) -> int:
        faults = self.faults
        if faults.rate and self._judge.throttled(faults, now):
            self.stats.throttled += 1
            return faults.rate_status
        if not faults.status_rules:
            return 0
        status = self._judge.status(faults.status_rules, self.stats.submits, message.dest, message.payload)
        if status:
            self.stats.refused += 1
        return status

    def _accept(self, link: Link, message: Message, now: float) -> bytes:
        """Count it, keep it, plan its receipt and reply; the id to answer."""
        faults, stats = self.faults, self.stats
        stats.accepted += 1
        self._last_id += 1
        message_id = write_id(self._last_id, faults.id_form)
        if self._keep_ledger:
            self._record(link, message, message_id, now)
        if faults.receipts == "always" or (faults.receipts == "on_request" and message.registered_delivery & 3):
            self._plan_receipt(link, message, message_id, now)
        if faults.reply_every and not stats.accepted % faults.reply_every:
            self._plan_reply(link, message, now)
        return message_id

    def _record(self, link: Link, message: Message, message_id: bytes, now: float) -> None:
        payload = message.payload
        key = (message.dest, message.data_coding, payload)
        if key in self._seen:
            self.stats.duplicates += 1
        self._seen.add(key)
        self.ledger.append(
            Entry(
                message.dest,
                message.source,
                message.data_coding,
                message.esm_class,
                payload,
                message_id,
                now,
                link.system_id,
                message.sequence,
                message.registered_delivery,
            )
        )

    def _answer(self, link: Link, message: Message, status: int, body: bytes, now: float) -> None:
        faults = self.faults
        if faults.latency_ms or faults.jitter_ms:
            delay = faults.latency_ms + (faults.jitter_ms * self._random.random() if faults.jitter_ms else 0.0)
            self._answers.add(now + delay / 1000, _Answer(link, message.command_id, message.sequence, status, body))
        else:
            link.session.respond(message.command_id, message.sequence, status, body)

    def _cut(self, link: Link, mode: str, last_words: bytes = b"") -> None:
        self.stats.cut += 1
        link.cut(mode, last_words)

    def _cut_answer(self, link: Link, message: Message, body: bytes) -> None:
        """Cut after the message was accepted: unanswered, in the middle of the answer, or right behind it."""
        pdu = HEADER.pack(HEADER.size + len(body), message.command_id | RESP, 0, message.sequence) + body
        size = {"mid_answer": len(pdu) // 2, "after_answer": len(pdu)}.get(self.faults.drop_phase, 0)
        self._cut(link, self.faults.drop_mode, pdu[:size])

    # ---- receipts and replies

    def _plan_receipt(self, link: Link, message: Message, message_id: bytes, now: float) -> None:
        faults = self.faults
        state = pick_state(faults, self._random)
        if message.registered_delivery & 3 == 2 and state == receipt.DELIVERED and faults.receipts == "on_request":
            return  # asked for on failure only
        first = faults.receipt_intermediate
        states = (state,) if first is None else (STATES[first], state)
        delay = faults.receipt_delay_ms + (
            faults.receipt_jitter_ms and faults.receipt_jitter_ms * self._random.random()
        )
        submitted = int((now + self._wall) * 1000)
        times = Times(submitted, submitted + int(delay))
        shown_id = message_id
        if faults.receipt_id_form != "same":
            shown_id = receipt_id(self._last_id, message_id, faults.receipt_id_form)
        origin = link if link.receives and faults.receipt_bind == "same" else None
        for each in states:
            command_id, body = receipt_body(faults, message, shown_id, each, times)
            delivery = Delivery(link.system_id, command_id, body, origin)
            for _ in range(faults.receipt_copies):
                self.stats.receipts_made += 1
                if faults.receipt_before_answer:
                    self._outbox.send(delivery, now)
                else:
                    self._outbox.wheel.add(now + delay / 1000, delivery)

    def _plan_reply(self, link: Link, message: Message, now: float) -> None:
        self.stats.replies += 1
        self._reference += 1
        due = now + self.faults.reply_delay_ms / 1000
        ton = message.source_ton
        for body in reply_bodies(message.dest, message.source, self.faults.reply_text, self._reference, dest_ton=ton):
            self._outbox.wheel.add(due, Delivery(link.system_id, DELIVER_SM, body, None))

    # ---- writing and the one timer

    def _touch(self, link: Link) -> None:
        """Let ``link`` be flushed at the end of this tick."""
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

    def _arm(self) -> None:
        """See to it that the timer rings for whatever is due next."""
        due = min(self._outbox.wheel.next, self._answers.next)
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._loop.time()
        for link, command_id, sequence, status, body in self._answers.due(now):
            link.session.respond(command_id, sequence, status, body)
            if not link.dirty:
                self._touch(link)
        self._outbox.send_due(now)
        self._arm()
