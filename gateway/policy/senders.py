"""Pace per sender: how long a part of a sender has to wait for its turn at a carrier. Pure; instants are handed in.

A message whose turn is near is given that turn and comes back for it; so none is looked at again and again while it
waits. Turns are given out for ``HORIZON`` seconds only, else a code would queue behind an hour of advertising: what is
beyond comes back, spread by the rate, to ask once more.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.policy.pace import Bucket

HORIZON = 2.0
"""Seconds ahead for which turns are given to messages that are not urgent."""

KEPT = 4096
"""Senders remembered at most; one that is forgotten starts with a full bucket of at most a twentieth of a second."""

STALE = 60.0
"""Seconds after its turn that a message which did not come back is forgotten."""


class _Line:
    """One sender's queue: its bucket, and the instant at which the next of those beyond the horizon is to ask again."""

    __slots__ = ("bucket", "far")

    def __init__(self, rate: float, now: float) -> None:
        self.bucket = Bucket(rate, now - 1 / rate)  # a first message need not wait
        self.far = now


class Senders:
    """Rates by sender: an exact name, or the beginning of one and ``*``; the longest that fits counts."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = dict(rates)
        self._exact = {name: rate for name, rate in rates.items() if not name.endswith("*")}
        patterns = [(name[:-1], rate) for name, rate in rates.items() if name.endswith("*")]
        self._patterns = sorted(patterns, key=lambda pattern: -len(pattern[0]))
        self._lines: dict[str, _Line] = {}
        self._turns: dict[bytes, float] = {}  # message -> when its turn is; in the order given

    def __bool__(self) -> bool:
        return bool(self.rates)

    def __repr__(self) -> str:
        return f"<Senders {len(self.rates)} rates, {len(self._turns)} turns>"

    def rate(self, sender: str) -> float:
        """Parts a second of this sender; 0 = no limit of its own."""
        rate = self._exact.get(sender)
        if rate is None:
            rate = next((rate for start, rate in self._patterns if sender.startswith(start)), 0.0)
        return rate

    def wait(self, sender: str, parts: int, message: bytes, now: float, *, urgent: bool = False) -> float:
        """Seconds until this message may be written; 0 = now, and its permits are taken.

        With anything else it is to be handed in again after so long. ``urgent``: a one-time password.
        """
        line = self._line(sender, now)
        if line is None or self._turns.pop(message, None) is not None:
            return 0.0
        bucket = line.bucket
        ahead = bucket.wait(1, now)
        if ahead <= 0:
            bucket.spend(parts, now)
            return 0.0
        if urgent or ahead <= HORIZON:
            bucket.spend(parts, now)
            self._turns[message] = now + ahead
            self._forget(now)
            return ahead
        line.far = max(line.far, now + HORIZON)
        wait = line.far - now
        line.far += parts / bucket.rate
        return wait

    def _line(self, sender: str, now: float) -> _Line | None:
        line = self._lines.get(sender)
        if line is None and (rate := self.rate(sender)):
            if len(self._lines) >= KEPT:
                self._lines.clear()
            line = self._lines[sender] = _Line(rate, now)
        return line

    def _forget(self, now: float) -> None:
        """Turns of messages that never came back (cancelled, expired, taken by another carrier)."""
        if len(self._turns) < KEPT or len(self._turns) % 256:
            return
        for message in [message for message, turn in self._turns.items() if turn < now - STALE]:
            del self._turns[message]
