"""Limits what reading from carriers may cost: the loop's time, and PDUs that match no message.

A PDU that costs work and tells nothing (a receipt of an unknown id, an unsolicited response, an enquire_link, an
operation that is not served) is limited in number: each carrier has ``IDLE_RATE`` a second for itself, and all of them
together ``SHARED_RATE`` beyond that. Whether a receipt is of use is known when the store has it: it is charged when it
is read and paid back then, with twice as much for what else a carrier says of a message (intermediate states, repeats).
An awaited response pays for one more, since its receipt may have come before it. So a carrier whose receipts match
messages is not slowed down at any rate.
"""

from __future__ import annotations

SHARE, BURST = 0.5, 0.010
"""Share of the loop's time that reading from one carrier may take, and seconds it may take beyond that at once."""

IDLE_RATE, IDLE_BURST = 200.0, 1000.0
"""PDUs of no use a second, for each carrier, and how many at once. Those whose use is not known yet count among them,
so it is at least an inbound window."""

SHARED_RATE, SHARED_BURST = 1000.0, 1000.0
"""… and for all carriers together beyond that."""

WORTH = 3
"""Paid back for a message that was of use: itself and two more."""

LOOK_AGAIN = 0.010
"""Seconds at most until a carrier without credit is checked again: it may have been paid back."""


class ReadCredit:
    """Grows by ``rate`` a second up to ``most``; it may be overdrawn. ``now`` is any monotonic clock (s)."""

    __slots__ = ("_now", "amount", "most", "rate")

    def __init__(self, rate: float, most: float) -> None:
        self.rate = rate
        self.most = self.amount = most
        self._now: float | None = None

    def __repr__(self) -> str:
        return f"<ReadCredit {self.amount:.0f} of {self.most:.0f}>"

    def grow(self, now: float) -> float:
        """Return the amount at this instant."""
        if self._now is not None:
            self.amount = min(self.most, self.amount + (now - self._now) * self.rate)
        self._now = now
        return self.amount

    def give(self, amount: float) -> float:
        """Add ``amount`` and return what exceeds ``most``."""
        self.amount += amount
        over = max(0.0, self.amount - self.most)
        self.amount -= over
        return over


def shared_credit() -> ReadCredit:
    """Return a new credit for all carriers of a gateway together."""
    return ReadCredit(SHARED_RATE, SHARED_BURST)


class ReadBudget:
    """Accounts for what reading from one carrier costs, over all its binds."""

    __slots__ = ("_idle", "_now", "_shared", "_time")

    def __init__(self, shared: ReadCredit | None = None) -> None:
        """``shared``: credit of all carriers together."""
        self._time = BURST
        self._now: float | None = None
        self._idle = ReadCredit(IDLE_RATE, IDLE_BURST)
        self._shared = shared or shared_credit()

    def __repr__(self) -> str:
        return f"<ReadBudget {self._time * 1000:.1f} ms, {self._idle.amount:.0f} idle>"

    @property
    def low(self) -> bool:
        """Whether most of the credit is used up: then less is parsed at a time."""
        return self._idle.amount < self._idle.most / 4

    def spend(self, seconds: float, now: float) -> float:
        """Account for ``seconds`` of reading; return how many to rest before the next turn, 0 within the share."""
        since = 0.0 if self._now is None else now - self._now
        self._now = now
        self._time = min(BURST, self._time + since * SHARE) - seconds
        return max(0.0, -self._time / SHARE)

    def charge(self, count: int, now: float) -> None:
        """Charge for PDUs of no use, or not known to be of use; below 0 when more were awaited responses."""
        self._idle.grow(now)
        self._idle.give(-count)

    def pay_back(self, count: int) -> None:
        """Pay back for PDUs that were charged and matched messages of this gateway."""
        self._shared.give(self._idle.give(count * WORTH))

    def rest(self, now: float) -> float:
        """Return the seconds until the next check, 0 when reading may go on. Draws on the shared credit."""
        missing = -self._idle.grow(now)
        if missing <= 0:
            return 0.0
        drawn = min(missing, max(0.0, self._shared.grow(now)))
        self._shared.amount -= drawn
        self._idle.amount += drawn
        missing -= drawn
        return min(LOOK_AGAIN, missing / (self._idle.rate + self._shared.rate)) if missing > 0 else 0.0
