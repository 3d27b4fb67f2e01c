"""What of a limit may be used here, when several gateways share it; and how much would be used. Pure; instants are
handed in.

The limit is the configuration's. The share is the store's word (``store.limits``): until it has spoken, all of the
limit is ours, as in a process of its own.
"""

from __future__ import annotations

from math import inf


class LimitShare:
    """A limit and what of it is held here."""

    __slots__ = ("_held", "fair", "limit", "members")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._held: float | None = None  # None: nobody was asked
        self.fair = limit
        """What we get at least when we want it."""
        self.members = 1
        """Gateways that use it, this one included, when the store was last asked."""

    def __repr__(self) -> str:
        return f"<LimitShare {self.held:g} of {self.limit:g}, {self.members} members>"

    @property
    def asked(self) -> bool:
        """Whether the store had a word on it."""
        return self._held is not None

    @property
    def held(self) -> float:
        """What may be used now."""
        return self.limit if self._held is None else self._held

    def set_limit(self, limit: float) -> None:
        """Another configuration: a lower limit lowers the share with it, a higher one waits for the store's word."""
        if self._held is not None and limit < self.limit:
            self._held *= limit / self.limit
        self.limit = limit
        self.fair = limit / self.members

    def grant(self, held: float, members: int, limit: float) -> None:
        """The store's word. ``limit``: what it was asked for; if that has been lowered since, so is the share."""
        self._held = held * min(1.0, self.limit / limit)
        self.members = max(1, members)
        self.fair = self.limit / self.members

    def close(self) -> None:
        """Nothing, until the store has spoken (again)."""
        self._held = 0.0


KEEP = 0.3
"""Of a demand so much counts still a second later: who pauses for a moment does not lose its share at once."""

AHEAD = 1.05
"""A little more than was used, so that a growing demand finds room."""

SHORTEST = 0.1
"""Seconds; over less, one request would look like a flood."""

LEAST = 0.01
"""Of the limit (and at most one a second) is wanted always, so that the first after a pause finds something."""


class RateDemand:
    """How much is wanted a second. ``wanted`` is asked about once a second; before that everything is."""

    __slots__ = ("_count", "_peak", "_since")

    def __init__(self, now: float) -> None:
        self._count = 0.0
        self._peak = inf
        self._since = now

    def add(self, count: float) -> None:
        """So many were used, or would have been; fewer than none when they were not, after all."""
        self._count += count

    def wanted(self, limit: float, now: float, *, least: float = 0.0) -> float:
        """What could be used a second, at most ``limit``. ``least``: so much would have been, whatever was counted."""
        seconds = now - self._since
        if seconds >= SHORTEST:
            kept = min(self._peak, limit) * KEEP**seconds
            self._peak = max(kept, least, self._count / seconds)
            self._count, self._since = 0.0, now
        return min(limit, max(self._peak, least) * AHEAD + min(1.0, limit * LEAST))
