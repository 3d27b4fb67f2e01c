"""When a bind reads and when it does not, so that a carrier that floods harms itself alone.

Reading stops, and the carrier's kernel makes it wait, while what was read is not done with: octets not parsed yet,
deliver_sm without an answer, output that the carrier does not fetch, or more of the loop's time than a carrier's share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from gateway.smpp.session import Session

TURN = 32 * 1024
"""Octets of a bind that are parsed at once: a few milliseconds' worth of the smallest PDUs."""

BACKLOG = 128 * 1024
"""Octets read and not parsed beyond which no more are read."""

INBOUND_WINDOW = 1000
"""deliver_sm and data_sm without our answer beyond which nothing is read; half of them let it go on."""

CROWDED_MOST = 2.0
"""Seconds that nothing is read for their sake: with a store that is away they would keep us from hearing that the
carrier lives, asks, or has gone. What comes then is bounded by its taker (``pipeline.report.MAX_RECEIPTS``)."""

PENDING = 4096
"""Pieces of output (two for most PDUs) that wait for a carrier that does not read, beyond which we do not either."""

SHARE, BURST = 0.5, 0.010
"""The part of the loop's time that reading from one carrier may take, and seconds it may take beyond that at once."""

COMPLAIN_EVERY = 60.0

log = structlog.get_logger(__name__)


class Allowance:
    """The time that reading from one carrier may take, over all its binds."""

    __slots__ = ("_credit", "_now")

    def __init__(self) -> None:
        self._credit = BURST
        self._now: float | None = None

    def __repr__(self) -> str:
        return f"<Allowance {self._credit * 1000:.1f} ms>"

    def spend(self, seconds: float, now: float) -> float:
        """Reading took so long: how many seconds to rest before the next, 0 within the share."""
        since = 0.0 if self._now is None else now - self._now
        self._now = now
        self._credit = min(BURST, self._credit + since * SHARE) - seconds
        return max(0.0, -self._credit / SHARE)


class Reading:
    """Decides for one bind. ``read`` is called when what waits in the session shall be read on."""

    def __init__(self, name: str, session: Session, allowance: Allowance, read: Callable[[], None]) -> None:
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
        return f"<Reading {self._name} {' '.join(word for word, true in reasons.items() if true) or 'on'}>"

    def start(self, transport: asyncio.Transport) -> None:
        """There is something to read from."""
        self._transport = transport

    def stop(self) -> None:
        """There is nothing to read from any more: decide nothing."""
        self._transport = None
        if self._patience is not None:
            self._patience.cancel()

    def turned(self, seconds: float, now: float) -> None:
        """The bind has read a turn; with what came of it that took so long."""
        rest = self._allowance.spend(seconds, now)
        if rest and not self._resting and self._transport is not None:
            self._resting = True
            self._loop.call_later(rest, self._rested)
            self._complain(now)
        self.steer()

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
        self._resting = False
        self.steer()

    def _enough(self) -> None:
        self._crowded = False
        self.steer()

    def _go_on(self) -> None:
        self._planned = False
        if self._transport is not None and not (self._resting or self._crowded or self._stuck):
            self._read()

    def _complain(self, now: float) -> None:
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.warning("carrier sends more than its share and has to wait", bind=self._name)
