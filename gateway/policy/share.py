"""This gateway's share of a limit that several gateways share, and its demand. Pure; instants are arguments.

The limit is configured. The share is granted by the store (``store.limits``); before its first grant the whole limit
counts, as for a single gateway.
"""

from __future__ import annotations

from math import inf


class LimitShare:
    """A limit and this gateway's share of it."""

    __slots__ = ("_held", "fair", "limit", "members")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._held: float | None = None  # None: the store was not asked yet
        self.fair = limit
        """The share that is granted at least when wanted."""
        self.members = 1
        """Gateways that use the limit, this one included, at the last grant."""

    def __repr__(self) -> str:
        return f"<LimitShare {self.held:g} of {self.limit:g}, {self.members} members>"

    @property
    def asked(self) -> bool:
        """Whether the store has granted a share."""
        return self._held is not None

    @property
    def held(self) -> float:
        """The share that may be used now."""
        return self.limit if self._held is None else self._held

    def set_limit(self, limit: float) -> None:
        """Change the limit: a lower one lowers the share at once, a higher one takes effect with the next grant."""
        if self._held is not None and limit < self.limit:
            self._held *= limit / self.limit
        self.limit = limit
        self.fair = limit / self.members

    def grant(self, held: float, members: int, limit: float) -> None:
        """Set the share granted for ``limit``; it is reduced if the limit has been lowered since."""
        self._held = held * min(1.0, self.limit / limit)
        self.members = max(1, members)
        self.fair = self.limit / self.members

    def close(self) -> None:
        """Allow nothing until the next grant."""
        self._held = 0.0


KEEP = 0.3
"""Share of a demand that still counts a second later: a short pause does not lose the share at once."""

AHEAD = 1.05
"""Factor on the demand, so that a growing one finds room."""

SHORTEST = 0.1
"""Seconds to measure a demand over; over less, one request would look like a flood."""

LEAST = 0.01
"""Share of the limit (at most one a second) that is always wanted, for the first request after a pause."""


class RateDemand:
    """The demand per second. Call ``wanted`` about once a second; before the first call the demand is unlimited."""

    __slots__ = ("_count", "_peak", "_since")

    def __init__(self, now: float) -> None:
        self._count = 0.0
        self._peak = inf
        self._since = now

    def add(self, count: float) -> None:
        """Add ``count`` to the use; negative to take unused ones back."""
        self._count += count

    def wanted(self, limit: float, now: float, *, least: float = 0.0) -> float:
        """Return the demand per second, at most ``limit``. ``least``: a lower bound, whatever was counted."""
        seconds = now - self._since
        if seconds >= SHORTEST:
            kept = min(self._peak, limit) * KEEP**seconds
            self._peak = max(kept, least, self._count / seconds)
            self._count, self._since = 0.0, now
        return min(limit, max(self._peak, least) * AHEAD + min(1.0, limit * LEAST))
