"""Pace: how many parts may be sent to a carrier now. Pure arithmetic; instants are float seconds, given as arguments.

``TokenBucket`` is a token bucket in its GCRA form (one instant, "the theoretical arrival time", is the whole state), so
taking a hundred permits costs as much as taking one. It starts empty: a restart never causes a burst.

``Pace`` adapts to a carrier: the first ESME_RTHROTTLED slows the bucket (or starts one where no rate was configured) to
what the carrier was accepting, and the rate rises again while no further throttled response comes.
"""

from __future__ import annotations

from math import inf

from gateway.policy.share import LimitShare, RateDemand

BURST = 0.05
"""Share of one second's permits that may be used at once."""

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
        self._tat = now  # theoretical arrival time: the instant at which the bucket is (was) empty

    def __repr__(self) -> str:
        return f"<TokenBucket {self.rate:.1f}/s burst {self.burst:.1f}>" if self.rate else "<TokenBucket unlimited>"

    def available(self, now: float) -> float:
        """Return the permits available now (``inf`` without a limit); never negative."""
        if not self.rate:
            return inf if now >= self._tat else 0
        return int(self._saved(now) + _EPSILON)

    def full(self, now: float) -> bool:
        """Whether the bucket is full: permits are not used as fast as they accrue."""
        return not self.rate or self._saved(now) > self.burst - _EPSILON

    def _saved(self, now: float) -> float:
        return max(0.0, min(self.burst, (now - self._tat) * self.rate))

    def take(self, want: int, now: float) -> int:
        """Take up to ``want`` permits and return how many."""
        got = min(want, self.available(now))
        if got > 0 and self.rate:
            self._tat = max(self._tat, now - self.burst / self.rate) + got / self.rate
        return int(got)

    def spend(self, count: int, now: float) -> None:
        """Take ``count`` permits even if unavailable; later takes pay the debt."""
        if self.rate:
            self._tat = max(self._tat, now - self.burst / self.rate) + count / self.rate

    def give_back(self, count: int) -> None:
        """Return unused permits."""
        if self.rate:
            self._tat -= count / self.rate

    def wait(self, count: int, now: float) -> float:
        """Return seconds until ``count`` permits (or a full burst, if that is less) are available."""
        if not self.rate:
            return max(0.0, self._tat - now)
        return max(0.0, self._tat + min(count, self.burst) / self.rate - now)

    def pause(self, until: float) -> None:
        """Give no permit before ``until``, and accrue none until then."""
        self._tat = max(self._tat, until)

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate; accrued permits are kept up to the new burst."""
        saved = self._saved(now) if self.rate else 0.0
        owed = max(0.0, self._tat - now)
        self.rate = rate
        self.burst = max(1.0, rate * self._share)
        if rate:
            self._tat = now + owed if owed else now - min(saved, self.burst) / rate


PROVEN = 0.9
"""No decrease goes below this share of the parts accepted in the last second."""

SLOTS = 10
"""Slots of a second in which responses are counted."""

DECREASE = 0.7
"""Multiplicative decrease at a throttled response."""

GROWTH = 0.02
"""Additive increase: this share of the rate a second, for each second since the last throttled response."""

TOLERATED = 0.02
"""Share of throttled responses in the last second that is ignored: carriers also throttle single recipients and
senders, and slowing down for those would slow down all others."""

PAUSE = 0.1
"""Seconds without a new part after a decrease, so that the carrier's own bucket recovers."""

MIN_INTERVAL = 0.2
"""Seconds between two decreases at least (or one response time, whichever is longer)."""

HEADROOM = 1.25
"""Share of a shared limit to ask for, as a multiple of the learned rate: room to grow into."""

FLOOR = 1.0
"""Parts a second: the slowest pace. Below it a carrier's recovery would go unnoticed."""


class Pace:
    """A bucket that adapts. ``ceiling`` is this gateway's share of the configured rate; without a configured rate there
    is no limit until the first throttled response.

    Decrease: at the first throttled response of an episode to ``DECREASE`` of the rate or to the last second's goodput,
    whichever is less; while throttled responses keep coming, at most once per response time, by half at most, and not
    below what was accepted in the last second. Increase: additive, faster the longer no response was throttled, and
    only while the bucket is the bottleneck (an idle hour proves nothing about the carrier).
    """

    __slots__ = (
        "_accepted",
        "_demand",
        "_episode",
        "_grown",
        "_last_throttle",
        "_learned",
        "_limited",
        "_next_decrease",
        "_short",
        "_slots",
        "_throttles",
        "bucket",
        "decreases",
        "share",
    )

    def __init__(self, ceiling: float, now: float, *, burst: float = BURST) -> None:
        self.share = LimitShare(ceiling)
        self.bucket = TokenBucket(ceiling, now, burst=burst)
        self.decreases = 0
        self._learned = inf  # the rate learned from the carrier's throttling
        self._demand = RateDemand(now)
        self._short = False  # the last take wanted more permits than there were
        self._slots: list[tuple[int, int]] = []  # (tenth of a second, parts accepted in it), last second only
        self._throttles: list[tuple[int, int]] = []  # the same for throttled responses
        self._last_throttle = -inf
        self._next_decrease = -inf
        self._episode = (now, 0)  # start of the current episode of throttling, parts accepted before it
        self._accepted = 0
        self._grown = now  # instant up to which growth is applied
        self._limited = False  # the bucket was the bottleneck since then

    def __repr__(self) -> str:
        limit = f"{self.bucket.rate:.0f}/s" if self.bucket.rate else "unlimited"
        return f"<Pace {limit} of {self.ceiling:.0f}/s, {self.decreases} decreases>"

    @property
    def ceiling(self) -> float:
        """Most parts a second; 0 = no limit (unless ``closed``)."""
        return self.share.held if self.share.limit else 0.0

    @property
    def closed(self) -> bool:
        """Whether other gateways hold all of the configured rate."""
        return bool(self.share.limit) and not self.share.held

    @property
    def slowed(self) -> bool:
        """Whether the learned rate is below the ceiling."""
        return self._learned < (self.ceiling or inf)

    def set_limit(self, rate: float, now: float) -> None:
        """Change the configured rate (0 = none). A learned rate stays, unless the new one is lower."""
        self.share.set_limit(rate)
        self._apply_ceiling(now)

    def grant(self, held: float, members: int, limit: float, now: float) -> None:
        """Set this gateway's share, as granted by the store for ``limit``."""
        self.share.grant(held, members, limit)
        self._apply_ceiling(now)

    def _apply_ceiling(self, now: float) -> None:
        rate = self._learned if self.slowed else self.ceiling
        if not self.closed and rate != self.bucket.rate:
            self.bucket.set_rate(rate, now)

    def wanted(self, now: float) -> float:
        """Return the parts a second that would be sent: all allowed, when permits were the bottleneck."""
        least = inf if self._short else 0.0
        self._short = False
        wanted = self._demand.wanted(self.share.limit, now, least=least)
        return min(wanted, self._learned * HEADROOM)

    def available(self, now: float) -> float:
        """Return the permits available now; raise the rate when due."""
        if self.closed:
            return 0
        if self.slowed and now > self._grown:
            self._grow(now)
        return self.bucket.available(now)

    def take(self, want: int, now: float) -> int:
        """Take up to ``want`` permits; record whether the bucket was the bottleneck."""
        got = min(want, int(min(self.available(now), want)))
        self._short = got < want
        if got < want:
            self._limited = True
        self._demand.add(got)
        return self.bucket.take(got, now) if got > 0 else 0

    def spend(self, count: int, now: float) -> None:
        """Take permits for parts that are sent in any case (the rest of a long message)."""
        self._demand.add(count)
        self.bucket.spend(count, now)

    def give_back(self, count: int) -> None:
        """Return unused permits: the bucket was not the bottleneck."""
        if count:
            self._limited = self._short = False
            self._demand.add(-count)
        self.bucket.give_back(count)

    def wait(self, count: int, now: float) -> float:
        """Return seconds until ``count`` permits are available."""
        return self.bucket.wait(count, now)

    def answered(self, accepted: int, throttled: int, now: float, response_time: float = 0.0) -> None:
        """Count a batch of responses: ``accepted`` with status 0, ``throttled`` with RTHROTTLED or similar."""
        if accepted:
            self._accepted += accepted
            _count(self._slots, accepted, now)
        if throttled:
            _count(self._throttles, throttled, now)
            if not self._tolerable(now):
                self._throttled(now, response_time)

    def goodput(self, now: float) -> float:
        """Return the parts accepted during the last second."""
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
        interval = max(MIN_INTERVAL, response_time)
        fresh = now - self._last_throttle > max(1.0, 2 * interval)
        self._last_throttle = now
        if now < self._next_decrease:
            return
        if fresh:
            self._episode = (now, self._accepted)
        rate = self._lower(now, fresh)
        self._learned = max(FLOOR, rate)
        self.bucket.set_rate(min(self._learned, self.ceiling or inf), now)
        self.bucket.pause(now + min(PAUSE, interval))
        self.decreases += 1
        self._next_decrease = now + interval
        self._grown = now
        self._limited = False

    def _lower(self, now: float, fresh: bool) -> float:
        """Return the next lower rate. Within an episode the parts accepted since it began show the carrier's true rate;
        before it, the last second's goodput includes the carrier's burst and is only an upper bound."""
        rate = self.bucket.rate
        began, accepted = self._episode
        if fresh or now - began < MIN_INTERVAL:
            observed = max(FLOOR, self.goodput(now))
        else:
            observed = (self._accepted - accepted) / (now - began)
        if not rate:
            return observed * DECREASE
        proven = PROVEN * sum(count for _, count in self._slots)
        return max(
            rate / 2, min(rate * PROVEN, max(rate * DECREASE if observed > rate * DECREASE else observed, proven))
        )

    def _grow(self, now: float) -> None:
        if self._limited:
            # more than a second between two calls means that nothing waited for permits
            step = min(1.0, now - self._grown)
            quiet = max(0.0, now - self._last_throttle)
            rate = self.bucket.rate * (1 + GROWTH * quiet * step) + step * GROWTH
            self._learned = inf if rate >= (self.share.limit or inf) else rate
            self.bucket.set_rate(min(rate, self.ceiling or inf), now)
            self._limited = not self.bucket.full(now)  # still the bottleneck until it is full again
        self._grown = now


def _count(slots: list[tuple[int, int]], answers: int, now: float) -> None:
    """Add ``answers`` to the slot of ``now``."""
    slot = int(now * SLOTS)
    if slots and slots[-1][0] == slot:
        slots[-1] = (slot, slots[-1][1] + answers)
    else:
        slots.append((slot, answers))
        _recent(slots, slot)


def _recent(slots: list[tuple[int, int]], slot: int) -> int:
    """Drop slots older than a second; return the sum of the others."""
    while slots and slots[0][0] <= slot - SLOTS:
        slots.pop(0)
    return sum(count for _, count in slots)
