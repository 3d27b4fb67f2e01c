"""Pace: how many parts may leave for a carrier now. Pure arithmetic; every instant is a float of seconds handed in.

``TokenBucket`` is a token bucket in its GCRA form (one instant, "the theoretical arrival time", is the whole state), so
a take of a hundred permits costs what a take of one does. It starts empty: a restart never brings a burst.

``Pace`` adds what a carrier teaches: the first ESME_RTHROTTLED slows the bucket (or starts one where no rate was
configured) to what the carrier was really accepting, and the rate climbs back when the answers stay clean.
"""

from __future__ import annotations

from math import inf

from gateway.policy.share import LimitShare, RateDemand

BURST = 0.05
"""Share of one second's permits that may leave at once."""

_EPSILON = 1e-9


class TokenBucket:
    """Token bucket: at most ``rate`` permits a second plus ``burst`` at once. ``rate`` 0 means no limit.

    Any window of ``s`` seconds holds at most ``rate * s + burst`` permits, where ``burst`` is never less than one.
    """

    __slots__ = ("_share", "_tat", "burst", "rate")

    def __init__(self, rate: float, now: float, *, burst: float = BURST) -> None:
        self._share = burst
        self.rate = rate
        self.burst = max(1.0, rate * burst)
        self._tat = now  # the instant at which the bucket is (was) empty

    def __repr__(self) -> str:
        return f"<TokenBucket {self.rate:.1f}/s burst {self.burst:.1f}>" if self.rate else "<TokenBucket unlimited>"

    def available(self, now: float) -> float:
        """Permits that could be taken now (``inf`` without a limit); never negative."""
        if not self.rate:
            return inf if now >= self._tat else 0
        return int(self._saved(now) + _EPSILON)

    def full(self, now: float) -> bool:
        """Whether there are as many permits as there ever are: then nobody takes them as fast as they come."""
        return not self.rate or self._saved(now) > self.burst - _EPSILON

    def _saved(self, now: float) -> float:
        return max(0.0, min(self.burst, (now - self._tat) * self.rate))

    def take(self, want: int, now: float) -> int:
        """Take up to ``want`` permits at once; answers how many."""
        got = min(want, self.available(now))
        if got > 0 and self.rate:
            self._tat = max(self._tat, now - self.burst / self.rate) + got / self.rate
        return int(got)

    def spend(self, count: int, now: float) -> None:
        """Take ``count`` permits whether they are there or not; what is missing is owed by those who come later."""
        if self.rate:
            self._tat = max(self._tat, now - self.burst / self.rate) + count / self.rate

    def give_back(self, count: int) -> None:
        """Return permits that were taken and not used."""
        if self.rate:
            self._tat -= count / self.rate

    def wait(self, count: int, now: float) -> float:
        """Seconds until ``count`` permits (or a full burst, if that is less) are there."""
        if not self.rate:
            return max(0.0, self._tat - now)
        return max(0.0, self._tat + min(count, self.burst) / self.rate - now)

    def pause(self, until: float) -> None:
        """No permit before ``until``, and none saved up while waiting."""
        self._tat = max(self._tat, until)

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate; permits saved so far stay, as far as the new burst has room for them."""
        saved = self._saved(now) if self.rate else 0.0
        owed = max(0.0, self._tat - now)
        self.rate = rate
        self.burst = max(1.0, rate * self._share)
        if rate:
            self._tat = now + owed if owed else now - min(saved, self.burst) / rate


PROVEN = 0.9
"""A decrease stops at this share of what the last whole second proved."""

SLOTS = 10
"""The last second's answers are counted in tenths."""

DECREASE = 0.7
"""Multiplicative decrease at a throttled answer."""

GROWTH = 0.02
"""Additive increase: this share of the rate a second, for each second since the last throttled answer."""

TOLERATED = 0.02
"""Up to this share of the last second's answers, throttled ones say nothing of our pace: carriers answer so for single
recipients and senders as well, and to slow down for those would slow down everybody else."""

PAUSE = 0.1
"""Seconds without any new part after a decrease, so that the carrier's own bucket gets a breath."""

REST = 0.2
"""Decreases are at least this far apart (or one response time, whichever is longer)."""

HEADROOM = 1.25
"""Of what the carrier taught: so much is wanted of the configured rate, that there is room to grow into."""

FLOOR = 1.0
"""Never slower than this many parts a second: below it nobody would notice that the carrier recovered."""


class Pace:
    """A bucket that learns. ``ceiling`` is the share of the configured rate that is ours, all of it when nobody shares
    it; where no rate is configured there is none: a limit exists only after a throttle.

    Decrease: at the first throttled answer of an episode to ``DECREASE`` of the rate or to the last second's goodput,
    whichever is less; while throttled answers keep coming, at most once per response time, by half at most, and not
    below what the last second proved. Increase: additive and growing with the quiet time, and only while the bucket is
    what holds us back (an idle hour proves nothing about the carrier).
    """

    __slots__ = (
        "_accepted",
        "_demand",
        "_episode",
        "_grown",
        "_last_throttle",
        "_limited",
        "_next_decrease",
        "_short",
        "_slots",
        "_taught",
        "_throttles",
        "bucket",
        "decreases",
        "share",
    )

    def __init__(self, ceiling: float, now: float, *, burst: float = BURST) -> None:
        self.share = LimitShare(ceiling)
        self.bucket = TokenBucket(ceiling, now, burst=burst)
        self.decreases = 0
        self._taught = inf  # the rate that the carrier's throttling has taught
        self._demand = RateDemand(now)
        self._short = False  # the last take would have used more permits than there were
        self._slots: list[tuple[int, int]] = []  # (tenth of a second, answers accepted in it), the last second only
        self._throttles: list[tuple[int, int]] = []  # the same of throttled answers
        self._last_throttle = -inf
        self._next_decrease = -inf
        self._episode = (now, 0)  # when the present episode of throttling began, answers accepted in it
        self._accepted = 0
        self._grown = now  # until when the rate has been grown
        self._limited = False  # the bucket said no since then

    def __repr__(self) -> str:
        limit = f"{self.bucket.rate:.0f}/s" if self.bucket.rate else "unlimited"
        return f"<Pace {limit} of {self.ceiling:.0f}/s, {self.decreases} decreases>"

    @property
    def ceiling(self) -> float:
        """Parts a second that leave at most; 0 = no limit (unless ``closed``)."""
        return self.share.held if self.share.limit else 0.0

    @property
    def closed(self) -> bool:
        """Whether others have all of the configured rate."""
        return bool(self.share.limit) and not self.share.held

    @property
    def slowed(self) -> bool:
        """Whether the carrier has taught a rate below what is allowed."""
        return self._taught < (self.ceiling or inf)

    def set_limit(self, rate: float, now: float) -> None:
        """Another configured rate (0 = none). What the carrier taught stays, unless the new rate is below it."""
        self.share.set_limit(rate)
        self._follow(now)

    def grant(self, held: float, members: int, limit: float, now: float) -> None:
        """The store's word on our share; ``limit`` is what it was asked about."""
        self.share.grant(held, members, limit)
        self._follow(now)

    def _follow(self, now: float) -> None:
        rate = self._taught if self.slowed else self.ceiling
        if not self.closed and rate != self.bucket.rate:
            self.bucket.set_rate(rate, now)

    def wanted(self, now: float) -> float:
        """Parts a second that would be sent: all that may be, when the permits were what held us back."""
        least = inf if self._short else 0.0
        self._short = False
        wanted = self._demand.wanted(self.share.limit, now, least=least)
        return min(wanted, self._taught * HEADROOM)

    def available(self, now: float) -> float:
        """Permits that could be taken now; grows the rate when it is time."""
        if self.closed:
            return 0
        if self.slowed and now > self._grown:
            self._grow(now)
        return self.bucket.available(now)

    def take(self, want: int, now: float) -> int:
        """Take up to ``want`` permits; remembers whether the bucket was what held us back."""
        got = min(want, int(min(self.available(now), want)))
        self._short = got < want
        if got < want:
            self._limited = True
        self._demand.add(got)
        return self.bucket.take(got, now) if got > 0 else 0

    def spend(self, count: int, now: float) -> None:
        """Take permits for parts that will leave in any case (the rest of a long message)."""
        self._demand.add(count)
        self.bucket.spend(count, now)

    def give_back(self, count: int) -> None:
        """Return permits that were taken and not used: it was not the bucket that held us back."""
        if count:
            self._limited = self._short = False
            self._demand.add(-count)
        self.bucket.give_back(count)

    def wait(self, count: int, now: float) -> float:
        """Seconds until ``count`` permits are there."""
        return self.bucket.wait(count, now)

    def answered(self, accepted: int, throttled: int, now: float, response_time: float = 0.0) -> None:
        """Tell what a batch of answers said: ``accepted`` with status 0, ``throttled`` with RTHROTTLED or its like."""
        if accepted:
            self._accepted += accepted
            _count(self._slots, accepted, now)
        if throttled:
            _count(self._throttles, throttled, now)
            if not self._tolerable(now):
                self._throttled(now, response_time)

    def goodput(self, now: float) -> float:
        """Parts accepted during the last second."""
        slot = int(now * SLOTS)
        accepted = _recent(self._slots, slot)
        if not accepted:
            return 0.0
        span = max(1, min(SLOTS, slot - self._slots[0][0] + 1)) / SLOTS
        return accepted / span

    def _tolerable(self, now: float) -> bool:
        slot = int(now * SLOTS)
        throttled = _recent(self._throttles, slot)
        return throttled <= TOLERATED * (throttled + _recent(self._slots, slot))

    def _throttled(self, now: float, response_time: float) -> None:
        rest = max(REST, response_time)
        fresh = now - self._last_throttle > max(1.0, 2 * rest)
        self._last_throttle = now
        if now < self._next_decrease:
            return
        if fresh:
            self._episode = (now, self._accepted)
        rate = self._lower(now, fresh)
        self._taught = max(FLOOR, rate)
        self.bucket.set_rate(min(self._taught, self.ceiling or inf), now)
        self.bucket.pause(now + min(PAUSE, rest))
        self.decreases += 1
        self._next_decrease = now + rest
        self._grown = now
        self._limited = False

    def _lower(self, now: float, fresh: bool) -> float:
        """The next lower rate. Inside an episode what was accepted since it began is the carrier's true rate; before
        one, the last second's goodput still holds the carrier's burst and is only an upper bound."""
        rate = self.bucket.rate
        began, accepted = self._episode
        if fresh or now - began < REST:
            seen = max(FLOOR, self.goodput(now))
        else:
            seen = (self._accepted - accepted) / (now - began)
        if not rate:
            return seen * DECREASE
        proven = PROVEN * sum(count for _, count in self._slots)
        return max(rate / 2, min(rate * PROVEN, max(rate * DECREASE if seen > rate * DECREASE else seen, proven)))

    def _grow(self, now: float) -> None:
        if self._limited:
            # a gap of more than a second between two looks says that nothing was waiting for permits
            step = min(1.0, now - self._grown)
            quiet = max(0.0, now - self._last_throttle)
            rate = self.bucket.rate * (1 + GROWTH * quiet * step) + step * GROWTH
            self._taught = inf if rate >= (self.share.limit or inf) else rate
            self.bucket.set_rate(min(rate, self.ceiling or inf), now)
            self._limited = not self.bucket.full(now)  # what was taken is still missing: it goes on holding us back
        self._grown = now


def _count(slots: list[tuple[int, int]], answers: int, now: float) -> None:
    """Answers that came now."""
    slot = int(now * SLOTS)
    if slots and slots[-1][0] == slot:
        slots[-1] = (slot, slots[-1][1] + answers)
    else:
        slots.append((slot, answers))
        _recent(slots, slot)


def _recent(slots: list[tuple[int, int]], slot: int) -> int:
    """All of the last second's; older ones are forgotten."""
    while slots and slots[0][0] <= slot - SLOTS:
        slots.pop(0)
    return sum(count for _, count in slots)
