"""Decides when a bind reads from its carrier, so that a carrier that floods harms itself alone.

Reading stops, and TCP makes the carrier wait, while what was read is not dealt with: octets not parsed yet, deliver_sm
without a response, output that the carrier does not fetch, or more than its budget (``read_budget``).
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
"""Octets of a bind parsed at once: a few milliseconds' worth of the smallest PDUs."""

SMALL_TURN = 4 * 1024
"""… while much of what it sends is of no use."""

BACKLOG = 128 * 1024
"""Octets read and not parsed, beyond which no more are read."""

INBOUND_WINDOW = 1000
"""deliver_sm and data_sm without a response, beyond which nothing is read; at half of them reading goes on."""

UNANSWERED_MOST = 2.0
"""Seconds that reading stops for them at most: while the store is away enquire_link, unbind and the loss of the
connection must still be noticed. What comes then is bounded by ``carriers.progress.MAX_RECEIPTS``."""

PENDING = 4096
"""Pieces of output (two for most PDUs) waiting for a carrier that does not read, beyond which nothing is read."""

LOG_EVERY = 60.0
"""Seconds between two log lines of one kind."""

log = structlog.get_logger(__name__)


class ReadControl:
    """Decides for one bind. ``read`` is called to parse what waits in the session."""

    def __init__(self, name: str, session: Session, budget: ReadBudget, read: Callable[[], None]) -> None:
        self.pauses = 0  # times that reading stopped
        self.blocked = False  # the carrier does not fetch our output
        self._name = name
        self._session = session
        self._read_budget = budget
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._resting = False
        self._too_many_unanswered = False  # too many deliver_sm without a response
        self._resume_timer: asyncio.TimerHandle | None = None  # while there are: reading goes on when it fires
        self._output_full = False  # too much output that the carrier does not fetch
        self._planned = False
        self._logged = float("-inf")

    def __repr__(self) -> str:
        reasons = {
            "resting": self._resting,
            "unanswered": self._too_many_unanswered,
            "output": self._output_full,
            "paused": self._paused,
        }
        return (
            f"<ReadControl {self._name} {' '.join(reason for reason, holds in reasons.items() if holds) or 'reading'}>"
        )

    def start(self, transport: asyncio.Transport) -> None:
        """Begin to control the reading from ``transport``."""
        self._transport = transport

    def stop(self) -> None:
        """Decide nothing any more, as the connection is closed."""
        self._transport = None
        if self._resume_timer is not None:
            self._resume_timer.cancel()

    def turned(self, seconds: float, now: float, idle: int) -> None:
        """Account for a turn of reading and its handling, ``seconds`` long. ``idle``: see ``ReadBudget.charge``."""
        budget = self._read_budget
        if idle:
            budget.charge(idle, now)
        slow, idle_rest = budget.spend(seconds, now), budget.rest(now)
        self._session.turn = SMALL_TURN if budget.low else TURN
        if (slow or idle_rest) and not self._resting and self._transport is not None:
            self._rest(max(slow, idle_rest))
            self._log(now, "that matches no message" if idle_rest else "at once")
        self.steer()

    def useful(self, count: int) -> None:
        """Pay back for messages read that matched messages of this gateway."""
        self._read_budget.pay_back(count)

    def _rest(self, seconds: float) -> None:
        self._resting = True
        self._loop.call_later(seconds, self._rested)

    def steer(self) -> None:
        """Stop or resume reading; call it after any change of what this depends on."""
        if self._transport is None:
            return
        session = self._session
        if self._resume_timer is not None:
            if session.unanswered <= INBOUND_WINDOW // 2:
                self._resume_timer.cancel()
                self._resume_timer, self._too_many_unanswered = None, False
        elif session.unanswered >= INBOUND_WINDOW:
            self._too_many_unanswered = True
            self._resume_timer = self._loop.call_later(UNANSWERED_MOST, self._end_unanswered_pause)
        self._output_full = self.blocked and (self._output_full or session.pending > PENDING)
        held = self._resting or self._too_many_unanswered or self._output_full
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
        rest = self._read_budget.rest(self._loop.time()) if self._transport is not None else 0.0
        if rest:
            self._rest(rest)
        else:
            self._resting = False
            self.steer()

    def _end_unanswered_pause(self) -> None:
        self._too_many_unanswered = False
        self.steer()

    def _go_on(self) -> None:
        self._planned = False
        if self._transport is not None and not (self._resting or self._too_many_unanswered or self._output_full):
            self._read()

    def _log(self, now: float, what: str) -> None:
        if now - self._logged >= LOG_EVERY:
            self._logged = now
            log.warning(f"carrier sends too much {what}: reading is slowed down", bind=self._name)
