"""How much is risked at a carrier that may lose it: one message at a time until something submitted is answered. Pure.

Two things ask for caution. Submits were lost (a link broke over them, or nobody answered them in time): what follows
might be lost as well. Or every bind is sick: submits have waited for the response timeout and nothing is answered; then
only what may be resent is risked at all. A carrier that loses again and again, and answers nothing in between, is as
sick as one that is silent, although its binds come up every time.
"""

from __future__ import annotations

RECONNECT_AFTER = 60.0
"""Seconds for which a sick carrier was asked nothing, since nothing waits that may be resent."""

FAILING_AFTER = 2
"""Losses in a row, with nothing answered in between, after which a carrier is sick."""


class Probing:
    """What is known of one carrier. True while one message goes at a time."""

    __slots__ = ("_fruitless", "_handed", "_losses", "_partitions", "_risked", "sick")

    def __init__(self, partitions: int) -> None:
        self.sick = False
        self._partitions = partitions
        self._losses = 0  # in a row, with nothing answered in between
        self._handed = False  # something since the last loss
        self._fruitless = 0  # probes in a row that found nothing that may be resent
        self._risked: float | None = None  # when something was last risked while it was sick

    def __bool__(self) -> bool:
        return self._losses > 0 or self.sick

    def __repr__(self) -> str:
        words = [word for word, said in (("sick", self.sick), ("doubtful", self._losses)) if said]
        return f"<Probing {', '.join(words) or 'none'}>"

    @property
    def only_resendable(self) -> bool:
        """Whether a probe must be something that may be resent: at a sick carrier always; else where there is such."""
        return self.sick or self._fruitless < self._partitions

    @property
    def failing(self) -> bool:
        """Whether it loses whatever it is handed: later carriers had better take over."""
        return self._losses >= FAILING_AFTER

    def lost(self) -> None:
        """Submits are not answered any more, or the session is at fault. Links that break together are one loss."""
        if self._handed or not self._losses:
            self._losses += 1
        self._handed = False

    def answered(self) -> None:
        """Something submitted was answered."""
        self._losses = 0

    def took(self, messages: int, now: float) -> None:
        """A take brought so many."""
        self._fruitless = 0 if messages else self._fruitless + 1
        self._handed = self._handed or messages > 0
        if messages and self._risked is not None:
            self._risked = now

    def look(self, sick: bool, now: float) -> bool:
        """Take note of whether every bind is sick; True when they are to be made anew, since nothing else can help."""
        self.sick = sick
        if not sick:
            self._risked = None
        elif self._risked is None:
            self._risked = now
        elif self._fruitless and now - self._risked >= RECONNECT_AFTER:
            self._risked, self._losses = now, max(self._losses, 1)
            return True
        return False
