"""Rates per sender: how long a part of a sender waits for its turn at a carrier. Pure; instants are arguments.

A message whose turn is near is assigned that turn and taken again when it comes, so that none is looked at repeatedly
while it waits. The turn is stored with the message, since another gateway may take it then. Turns are assigned for
``HORIZON`` seconds only, or a one-time password would queue behind an hour of marketing: messages beyond it are
rescheduled, spread by the rate, to ask again.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from gateway.policy.pace import TokenBucket
from gateway.policy.share import LimitShare, RateDemand

HORIZON = 2.0
"""Seconds ahead for which turns are assigned to messages that are not urgent."""

MAX_SENDERS = 4096
"""Senders remembered; a forgotten one starts with a full bucket, at most a twentieth of a second's permits."""


class Turn(NamedTuple):
    """Seconds to ``wait``, 0 = now. ``kept``: the turn is assigned; else the message must ask again then."""

    wait: float
    kept: bool


NOW = Turn(0.0, True)


class _SenderQueue:
    """One sender's queue: its bucket, and when the next message beyond the horizon asks again."""

    __slots__ = ("bucket", "far", "pattern")

    def __init__(self, pattern: SenderLimit, now: float) -> None:
        rate = pattern.share.held
        self.pattern = pattern
        self.bucket = TokenBucket(rate, now - 1 / rate)  # the first message need not wait
        self.far = now


class SenderLimit:
    """A rate for each sender that matches ``name``, and this gateway's share of it."""

    __slots__ = ("demand", "name", "share", "short")

    def __init__(self, name: str, rate: float, now: float) -> None:
        self.name = name
        self.share = LimitShare(rate)
        self.demand = RateDemand(now)
        self.short = False  # a message had to wait for its turn

    def __repr__(self) -> str:
        return f"<SenderLimit {self.name} {self.share!r}>"

    def wanted(self, now: float) -> float:
        """Return the parts a second that would be sent for one of its senders."""
        least = inf if self.short else 0.0
        self.short = False
        return self.demand.wanted(self.share.limit, now, least=least)


class SenderLimits:
    """Rates by sender: an exact name, or a prefix and ``*``; the longest match counts."""

    def __init__(self, rates: Mapping[str, float], now: float = 0.0) -> None:
        self.rates = dict(rates)
        self.patterns = [SenderLimit(name, rate, now) for name, rate in rates.items()]
        self._exact = {one.name: one for one in self.patterns if not one.name.endswith("*")}
        beginnings = [(one.name[:-1], one) for one in self.patterns if one.name.endswith("*")]
        self._beginnings = sorted(beginnings, key=lambda entry: -len(entry[0]))
        self._queues: dict[str, _SenderQueue] = {}

    def __bool__(self) -> bool:
        return bool(self.rates)

    def __repr__(self) -> str:
        return f"<SenderLimits {len(self.rates)} rates, {len(self._queues)} senders>"

    def pattern(self, sender: str) -> SenderLimit | None:
        """Return the rate that limits a sender, None when there is none."""
        found = self._exact.get(sender)
        if found is None:
            found = next((one for start, one in self._beginnings if sender.startswith(start)), None)
        return found

    def rate(self, sender: str) -> float:
        """Return parts a second of a sender over all gateways; 0 = no limit of its own."""
        found = self.pattern(sender)
        return found.share.limit if found else 0.0

    def grant(self, pattern: SenderLimit, held: float, members: int, limit: float, now: float) -> None:
        """Set this gateway's share of a rate, as granted by the store for ``limit``."""
        pattern.share.grant(held, members, limit)
        if held:
            for queue in self._queues.values():
                if queue.pattern is pattern and queue.bucket.rate != held:
                    queue.bucket.set_rate(held, now)

    def turn(self, sender: str, parts: int, now: float, *, urgent: bool = False) -> Turn:
        """Return when ``parts`` of a sender may be sent; an assigned turn takes their permits.

        ``urgent``: a one-time password.
        """
        pattern = self.pattern(sender)
        if pattern is None:
            return NOW
        if not pattern.share.held:
            pattern.short = True
            return Turn(HORIZON, False)
        queue = self._queue(sender, pattern, now)
        bucket = queue.bucket
        pattern.demand.add(parts)
        ahead = bucket.wait(1, now)
        if ahead <= 0:
            bucket.spend(parts, now)
            return NOW
        pattern.short = True
        if urgent or ahead <= HORIZON:
            bucket.spend(parts, now)
            return Turn(ahead, True)
        queue.far = max(queue.far, now + HORIZON)
        wait = queue.far - now
        queue.far += parts / bucket.rate
        return Turn(wait, False)

    def _queue(self, sender: str, pattern: SenderLimit, now: float) -> _SenderQueue:
        queue = self._queues.get(sender)
        if queue is None:
            if len(self._queues) >= MAX_SENDERS:
                self._queues.clear()
            queue = self._queues[sender] = _SenderQueue(pattern, now)
        return queue
