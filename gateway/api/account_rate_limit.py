"""The rate limit of an account, or this gateway's share of it. Pure; time is an argument (seconds, monotonic)."""

from __future__ import annotations

from gateway.policy.share import LimitShare, RateDemand

BURST = 1.0
"""Seconds' worth of messages saved up at most. Retry-After has whole seconds: a client that waits must find room."""

START = 0.25
"""Seconds' worth that a new limit, or one that had no share, starts with."""

SHARE_GROWS = 1.0
"""Seconds until a share that is too small for the demand has grown."""


class AccountRateLimit:
    """A token bucket that may go into debt: so many messages a second, up to a second's worth after a pause.

    A request is admitted whole while any tokens are left; the next one waits until the debt is paid. So a batch larger
    than the rate is possible, and the long-run average is exactly the rate, over all gateways together, since their
    shares never add up to more.
    """

    __slots__ = ("_at", "_demand", "_tokens", "share")

    def __init__(self, rate: float, now: float, share: LimitShare | None = None) -> None:
        """``rate`` 0: no limit. ``share``: of a former limit, whose rate may have been different."""
        self.share = share or LimitShare(rate)
        self.share.set_limit(rate)
        self._tokens = self.share.held * START  # at ``_at``; a debt when negative
        self._at = now
        self._demand = RateDemand(now)

    def __repr__(self) -> str:
        return f"<AccountRateLimit {self.share.held:g} of {self.share.limit:g}/s>"

    @property
    def rate(self) -> float:
        """Messages a second over all gateways; 0 = no limit."""
        return self.share.limit

    def take(self, count: int, now: float) -> float:
        """Admit ``count`` messages and return 0.0, or return the seconds to wait."""
        if not self.share.limit:
            return 0.0
        self._demand.add(count)
        self._refill(now)
        if self._tokens <= 0.0:
            return self._wait()
        self._tokens -= count
        return 0.0

    def wanted(self, now: float) -> float:
        """Return the messages a second that this gateway could admit, its debt included."""
        self._refill(now)
        return self._demand.wanted(self.share.limit, now, least=max(0.0, -self._tokens))

    def grant(self, held: float, members: int, limit: float, now: float) -> None:
        """Take the share that the store granted; ``limit``: the one that was asked about."""
        self._refill(now)
        starts = self._tokens >= 0 and not self.share.held
        self.share.grant(held, members, limit)
        room = self.share.held * (START if starts else BURST)
        self._tokens = room if starts else min(self._tokens, room)

    def close(self, now: float) -> None:
        """Admit nothing more until the store grants a share."""
        self._refill(now)
        self._tokens = min(self._tokens, 0.0)
        self.share.close()

    def _refill(self, now: float) -> None:
        if now > self._at:
            held = self.share.held
            self._tokens = min(held * BURST, self._tokens + held * (now - self._at))
            self._at = now

    def _wait(self) -> float:
        """Return the seconds until the debt is paid, at our share or at least at the fair one."""
        share = self.share
        wait = -self._tokens / max(share.held, share.fair)
        return max(1e-3, wait if share.held >= share.fair else wait + SHARE_GROWS)
