"""Limits what a carrier that may lose messages gets: one at a time until something submitted is answered. Pure.

A carrier is probed for two reasons. Submits were lost (a link broke over them, or they had no response in time): what
follows might be lost as well. Or every bind is sick: submits have waited for the response timeout and nothing is
answered; then it gets only what may be resent. A carrier that loses again and again, and answers nothing in between, is
as sick as a silent one, although its binds come up every time.
"""

from __future__ import annotations

RECONNECT_AFTER = 60.0
"""Seconds without a probe, since nothing waits that may be resent, after which a sick carrier's binds are reset."""

FAILING_AFTER = 2
"""Losses in a row, with nothing answered in between, after which a carrier is sick."""


class Probing:
    """Decides whether one carrier is probed. True while it gets one message at a time."""

    __slots__ = ("_empty_takes", "_losses", "_partitions", "_probed", "_sent", "sick")

    def __init__(self, partitions: int) -> None:
        self.sick = False
        self._partitions = partitions
        self._losses = 0  # in a row, with nothing answered in between
        self._sent = False  # something was taken since the last loss
        self._empty_takes = 0  # takes in a row that found nothing to send
        self._probed: float | None = None  # loop time of the last probe while it is sick

    def __bool__(self) -> bool:
        return self._losses > 0 or self.sick

    def __repr__(self) -> str:
        reasons = [reason for reason, holds in (("sick", self.sick), ("losses", self._losses)) if holds]
        return f"<Probing {', '.join(reasons) or 'none'}>"

    @property
    def only_resendable(self) -> bool:
        """Whether a probe must be something that may be resent: always at a sick carrier, elsewhere if there is any."""
        return self.sick or self._empty_takes < self._partitions

    @property
    def failing(self) -> bool:
        """Whether the carrier loses whatever it gets: later carriers should take over."""
        return self._losses >= FAILING_AFTER

    def lost(self) -> None:
        """Count a loss: submits without a response, or a session at fault. Links that break together are one loss."""
        if self._sent or not self._losses:
            self._losses += 1
        self._sent = False

    def answered(self) -> None:
        """Forget the losses: something submitted was answered."""
        self._losses = 0

    def took(self, messages: int, now: float) -> None:
        """Note that a take brought so many messages."""
        self._empty_takes = 0 if messages else self._empty_takes + 1
        self._sent = self._sent or messages > 0
        if messages and self._probed is not None:
            self._probed = now

    def look(self, sick: bool, now: float) -> bool:
        """Note whether every bind is sick; return True when the binds must be reset, since nothing else can help."""
        self.sick = sick
        if not sick:
            self._probed = None
        elif self._probed is None:
            self._probed = now
        elif self._empty_takes and now - self._probed >= RECONNECT_AFTER:
            self._probed, self._losses = now, max(self._losses, 1)
            return True
        return False
