"""What reading from carriers may take: of the loop's time, and for what is about no message of ours.

A PDU that costs work and tells nothing (a receipt of an unknown id, an answer to nothing, an enquire_link, an operation
that is not served) is bounded in number, whoever sends it: each carrier has ``IDLE_RATE`` a second for itself, and all
of them together ``SPARE_RATE`` beyond that. Whether a receipt is of use is known when the store has it: it is charged
when it is read and paid back then, with twice as much for what else a carrier says of a message (intermediate states,
repeats). An awaited answer pays for one more, since its receipt may have come before it. So a carrier whose receipts
are ours is not slowed down at any rate.
"""

from __future__ import annotations

SHARE, BURST = 0.5, 0.010
"""The part of the loop's time that reading from one carrier may take, and seconds it may take beyond that at once."""

IDLE_RATE, IDLE_BURST = 200.0, 1000.0
"""PDUs a second that may be of no use, for each carrier, and how many at once: those whose use is not known yet among
them, so at least an inbound window."""

SPARE_RATE, SPARE_BURST = 1000.0, 1000.0
"""… and for all carriers together beyond that."""

WORTH = 3
"""What is paid back for a message that was of use: itself and two more."""

LOOK_AGAIN = 0.010
"""Seconds at most until a carrier that has used up its credit is looked at again: it may have been paid back."""


class ReadCredit:
    """Grows by ``rate`` a second up to ``most``; it may be overdrawn. Time is any clock that never goes back."""

    __slots__ = ("_now", "amount", "most", "rate")

    def __init__(self, rate: float, most: float) -> None:
        self.rate = rate
        self.most = self.amount = most
        self._now: float | None = None

    def __repr__(self) -> str:
        return f"<ReadCredit {self.amount:.0f} of {self.most:.0f}>"

    def grow(self, now: float) -> float:
        """What there is at this instant."""
        if self._now is not None:
            self.amount = min(self.most, self.amount + (now - self._now) * self.rate)
        self._now = now
        return self.amount

    def give(self, amount: float) -> float:
        """Put so much in; what has no room is handed back."""
        self.amount += amount
        over = max(0.0, self.amount - self.most)
        self.amount -= over
        return over


def spare_credit() -> ReadCredit:
    """What all carriers of a gateway share."""
    return ReadCredit(SPARE_RATE, SPARE_BURST)


class ReadBudget:
    """What reading from one carrier may take, over all its binds."""

    __slots__ = ("_idle", "_now", "_spare", "_time")

    def __init__(self, spare: ReadCredit | None = None) -> None:
        """``spare``: what it shares with the other carriers."""
        self._time = BURST
        self._now: float | None = None
        self._idle = ReadCredit(IDLE_RATE, IDLE_BURST)
        self._spare = spare or spare_credit()

    def __repr__(self) -> str:
        return f"<ReadBudget {self._time * 1000:.1f} ms, {self._idle.amount:.0f} idle>"

    @property
    def low(self) -> bool:
        """Whether most of the credit is used up: then little is read at a time."""
        return self._idle.amount < self._idle.most / 4

    def spend(self, seconds: float, now: float) -> float:
        """Reading took so long: how many seconds to rest before the next, 0 within the share."""
        since = 0.0 if self._now is None else now - self._now
        self._now = now
        self._time = min(BURST, self._time + since * SHARE) - seconds
        return max(0.0, -self._time / SHARE)

    def charge(self, count: int, now: float) -> None:
        """So many PDUs were read that are of no use, or not known to be; less than 0 when more answers were."""
        self._idle.grow(now)
        self._idle.give(-count)

    def pay_back(self, count: int) -> None:
        """So many of those charged were about messages of ours."""
        self._spare.give(self._idle.give(count * WORTH))

    def rest(self, now: float) -> float:
        """Seconds to wait until the next look, 0 when reading may go on. Draws on what all carriers share."""
        missing = -self._idle.grow(now)
        if missing <= 0:
            return 0.0
        drawn = min(missing, max(0.0, self._spare.grow(now)))
        self._spare.amount -= drawn
        self._idle.amount += drawn
        missing -= drawn
        return min(LOOK_AGAIN, missing / (self._idle.rate + self._spare.rate)) if missing > 0 else 0.0
