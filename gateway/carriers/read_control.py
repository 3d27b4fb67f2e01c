"""When a bind reads and when it does not, so that a carrier that floods harms itself alone.

Reading stops, and the carrier's kernel makes it wait, while what was read is not done with: octets not parsed yet,
deliver_sm without an answer, output that the carrier does not fetch, or more than its allowance (``allowance``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.read_budget import ReadBudget

if TYPE_CHECKING:
    from gateway.smpp.session import Session

TURN = 32 * 1024
"""Octets of a bind that are parsed at once: a few milliseconds' worth of the smallest PDUs."""

SMALL_TURN = 4 * 1024
"""… while much of what it sends is of no use."""

BACKLOG = 128 * 1024
"""Octets read and not parsed beyond which no more are read."""

INBOUND_WINDOW = 1000
"""deliver_sm and data_sm without our answer beyond which nothing is read; half of them let it go on."""

CROWDED_MOST = 2.0
"""Seconds that nothing is read for their sake: with a store that is away they would keep us from hearing that the
carrier lives, asks, or has gone. What comes then is bounded by its taker (``carriers.progress.MAX_RECEIPTS``)."""

PENDING = 4096
"""Pieces of output (two for most PDUs) that wait for a carrier that does not read, beyond which we do not either."""

COMPLAIN_EVERY = 60.0

log = structlog.get_logger(__name__)


class ReadControl:
    """Decides for one bind. ``read`` is called when what waits in the session shall be read on."""

    def __init__(self, name: str, session: Session, allowance: ReadBudget, read: Callable[[], None]) -> None:
        self.pauses = 0  # times that reading stopped
        self.blocked = False  # the carrier does not fetch what we write
        self._name = name
        self._session = session
        self._allowance = allowance
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._resting = False
        self._crowded = False  # too many deliver_sm without an answer
        self._patience: asyncio.TimerHandle | None = None  # while they are: reading goes on when it ends
        self._stuck = False  # too much output that the carrier does not fetch
        self._planned = False
        self._complained = float("-inf")

    def __repr__(self) -> str:
        reasons = {"resting": self._resting, "crowded": self._crowded, "stuck": self._stuck, "paused": self._paused}
        return f"<ReadControl {self._name} {' '.join(word for word, true in reasons.items() if true) or 'on'}>"

    def start(self, transport: asyncio.Transport) -> None:
        """There is something to read from."""
        self._transport = transport

    def stop(self) -> None:
        """There is nothing to read from any more: decide nothing."""
        self._transport = None
        if self._patience is not None:
            self._patience.cancel()

    def turned(self, seconds: float, now: float, idle: int) -> None:
        """The bind has read a turn: with what came of it that took so long. ``idle``: see ``ReadBudget.charge``."""
        allowance = self._allowance
        if idle:
            allowance.charge(idle, now)
        slow, idle_rest = allowance.spend(seconds, now), allowance.rest(now)
        self._session.turn = SMALL_TURN if allowance.low else TURN
        if (slow or idle_rest) and not self._resting and self._transport is not None:
            self._rest(max(slow, idle_rest))
            self._complain(now, "about no message of ours" if idle_rest else "at once")
        self.steer()

    def useful(self, count: int) -> None:
        """So many of the messages that were read were about messages of ours."""
        self._allowance.pay_back(count)

    def _rest(self, seconds: float) -> None:
        self._resting = True
        self._loop.call_later(seconds, self._rested)

    def steer(self) -> None:
        """Stop or go on, as things are: to be called after anything that this depends on."""
        if self._transport is None:
            return
        session = self._session
        if self._patience is not None:
            if session.unanswered <= INBOUND_WINDOW // 2:
                self._patience.cancel()
                self._patience, self._crowded = None, False
        elif session.unanswered >= INBOUND_WINDOW:
            self._crowded = True
            self._patience = self._loop.call_later(CROWDED_MOST, self._enough)
        self._stuck = self.blocked and (self._stuck or session.pending > PENDING)
        held = self._resting or self._crowded or self._stuck
        self._pause(held or session.waiting > BACKLOG)
        if session.more and not held and not self._planned:
            self._planned = True
            self._loop.call_soon(self._go_on)

    def _pause(self, pause: bool) -> None:
        transport = self._transport
        if pause is self._paused or transport is None or transport.is_closing():
            return
        self._paused = pause
        if pause:
            self.pauses += 1
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _rested(self) -> None:
        rest = self._allowance.rest(self._loop.time()) if self._transport is not None else 0.0
        if rest:
            self._rest(rest)
        else:
            self._resting = False
            self.steer()

    def _enough(self) -> None:
        self._crowded = False
        self.steer()

    def _go_on(self) -> None:
        self._planned = False
        if self._transport is not None and not (self._resting or self._crowded or self._stuck):
            self._read()

    def _complain(self, now: float, what: str) -> None:
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.warning(f"carrier sends too much {what} and has to wait", bind=self._name)
