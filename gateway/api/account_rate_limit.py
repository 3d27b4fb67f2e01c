"""How much an account may hand in: its rate, or the share of it that is ours. Pure; instants are handed in."""

from __future__ import annotations

from gateway.policy.share import LimitShare, RateDemand

BURST = 1.0
"""Seconds' worth saved up at most: Retry-After counts whole ones; who waits as told must find what it waited for."""

START = 0.25
"""Seconds' worth that a new allowance, or one that had no share, begins with."""

SETTLES = 1.0
"""Seconds until a share that is too small for what is wanted has grown."""


class AccountRateLimit:
    """Messages an account may hand in: so many a second, with a second's worth of burst after a pause.

    A request is let in whole while any allowance is left and may run into debt; the next one waits until the debt is
    paid. So a batch larger than the rate is possible, and the long-run average is the rate exactly: over all gateways
    together, since their shares never add up to more.
    """

    __slots__ = ("_at", "_demand", "_left", "share")

    def __init__(self, rate: float, now: float, share: LimitShare | None = None) -> None:
        """``rate`` 0: no limit. ``share``: of a former allowance, whose rate may have been another one."""
        self.share = share or LimitShare(rate)
        self.share.set_limit(rate)
        self._left = self.share.held * START  # messages that may come in at ``_at``; below 0 they are owed
        self._at = now
        self._demand = RateDemand(now)

    def __repr__(self) -> str:
        return f"<AccountRateLimit {self.share.held:g} of {self.share.limit:g}/s>"

    @property
    def rate(self) -> float:
        """Messages a second over all gateways; 0 = no limit."""
        return self.share.limit

    def take(self, count: int, now: float) -> float:
        """0.0 when ``count`` messages may come in now, else the seconds to wait."""
        if not self.share.limit:
            return 0.0
        self._demand.add(count)
        self._earn(now)
        if self._left <= 0.0:
            return self._wait()
        self._left -= count
        return 0.0

    def wanted(self, now: float) -> float:
        """Messages a second that could be let in here; what is owed too must be earned."""
        self._earn(now)
        return self._demand.wanted(self.share.limit, now, least=max(0.0, -self._left))

    def grant(self, held: float, members: int, limit: float, now: float) -> None:
        """The store's word on our share; ``limit`` is what it was asked about."""
        self._earn(now)
        begins = self._left >= 0 and not self.share.held
        self.share.grant(held, members, limit)
        room = self.share.held * (START if begins else BURST)
        self._left = room if begins else min(self._left, room)

    def close(self, now: float) -> None:
        """Nothing more, until the store has spoken."""
        self._earn(now)
        self._left = min(self._left, 0.0)
        self.share.close()

    def _earn(self, now: float) -> None:
        if now > self._at:
            held = self.share.held
            self._left = min(held * BURST, self._left + held * (now - self._at))
            self._at = now

    def _wait(self) -> float:
        """Until the debt is paid: at our share, or at what we get at least now that we want it."""
        share = self.share
        wait = -self._left / max(share.held, share.fair)
        return max(1e-3, wait if share.held >= share.fair else wait + SETTLES)
