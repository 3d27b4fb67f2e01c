"""Pace per sender: how long a part of a sender has to wait for its turn at a carrier. Pure; instants are handed in.

A message whose turn is near is given that turn and comes back for it; so none is looked at again and again while it
waits. The turn is written down with the message, since another gateway may be the one that takes it then. Turns are
given out for ``HORIZON`` seconds only, else a code would queue behind an hour of advertising: what is beyond comes
back, spread by the rate, to ask once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from gateway.policy.pace import TokenBucket
from gateway.policy.share import LimitShare, RateDemand

HORIZON = 2.0
"""Seconds ahead for which turns are given to messages that are not urgent."""

KEPT = 4096
"""Senders remembered at most; one that is forgotten starts with a full bucket of at most a twentieth of a second."""


class Turn(NamedTuple):
    """Seconds to ``wait``, 0 = now. ``kept``: then it is the message's turn; else it is to ask again."""

    wait: float
    kept: bool


NOW = Turn(0.0, True)


class _Line:
    """One sender's queue: its bucket, and the instant at which the next of those beyond the horizon is to ask again."""

    __slots__ = ("bucket", "far", "pattern")

    def __init__(self, pattern: Pattern, now: float) -> None:
        rate = pattern.share.held
        self.pattern = pattern
        self.bucket = TokenBucket(rate, now - 1 / rate)  # a first message need not wait
        self.far = now


class Pattern:
    """A rate for each sender of this name, and the share of it that is ours."""

    __slots__ = ("demand", "name", "share", "short")

    def __init__(self, name: str, rate: float, now: float) -> None:
        self.name = name
        self.share = LimitShare(rate)
        self.demand = RateDemand(now)
        self.short = False  # a message had to wait for its sender's turn

    def __repr__(self) -> str:
        return f"<Pattern {self.name} {self.share!r}>"

    def wanted(self, now: float) -> float:
        """Parts a second that would be sent for one of its senders."""
        least = inf if self.short else 0.0
        self.short = False
        return self.demand.wanted(self.share.limit, now, least=least)


class Senders:
    """Rates by sender: an exact name, or the beginning of one and ``*``; the longest that fits counts."""

    def __init__(self, rates: Mapping[str, float], now: float = 0.0) -> None:
        self.rates = dict(rates)
        self.patterns = [Pattern(name, rate, now) for name, rate in rates.items()]
        self._exact = {one.name: one for one in self.patterns if not one.name.endswith("*")}
        beginnings = [(one.name[:-1], one) for one in self.patterns if one.name.endswith("*")]
        self._beginnings = sorted(beginnings, key=lambda entry: -len(entry[0]))
        self._lines: dict[str, _Line] = {}

    def __bool__(self) -> bool:
        return bool(self.rates)

    def __repr__(self) -> str:
        return f"<Senders {len(self.rates)} rates, {len(self._lines)} senders>"

    def pattern(self, sender: str) -> Pattern | None:
        """What limits this sender; None = nothing of its own."""
        found = self._exact.get(sender)
        if found is None:
            found = next((one for start, one in self._beginnings if sender.startswith(start)), None)
        return found

    def rate(self, sender: str) -> float:
        """Parts a second of this sender, over all gateways; 0 = no limit of its own."""
        found = self.pattern(sender)
        return found.share.limit if found else 0.0

    def grant(self, pattern: Pattern, held: float, members: int, limit: float, now: float) -> None:
        """The store's word on our share of a rate; ``limit`` is what it was asked about."""
        pattern.share.grant(held, members, limit)
        if held:
            for line in self._lines.values():
                if line.pattern is pattern and line.bucket.rate != held:
                    line.bucket.set_rate(held, now)

    def turn(self, sender: str, parts: int, now: float, *, urgent: bool = False) -> Turn:
        """When so many parts of this sender may be written; with a turn their permits are taken.

        ``urgent``: a one-time password.
        """
        pattern = self.pattern(sender)
        if pattern is None:
            return NOW
        if not pattern.share.held:
            pattern.short = True
            return Turn(HORIZON, False)
        line = self._line(sender, pattern, now)
        bucket = line.bucket
        pattern.demand.add(parts)
        ahead = bucket.wait(1, now)
        if ahead <= 0:
            bucket.spend(parts, now)
            return NOW
        pattern.short = True
        if urgent or ahead <= HORIZON:
            bucket.spend(parts, now)
            return Turn(ahead, True)
        line.far = max(line.far, now + HORIZON)
        wait = line.far - now
        line.far += parts / bucket.rate
        return Turn(wait, False)

    def _line(self, sender: str, pattern: Pattern, now: float) -> _Line:
        line = self._lines.get(sender)
        if line is None:
            if len(self._lines) >= KEPT:
                self._lines.clear()
            line = self._lines[sender] = _Line(pattern, now)
        return line
