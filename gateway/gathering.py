"""How long an item waits for others that could share its call: pure, instants are seconds and come as arguments."""

from __future__ import annotations

from math import inf


class GatherWindow:
    """The window in which the items of one call arrive: wide under load, none when nothing else is expected.

    An item that comes more than ``idle`` seconds after the one before goes at once: at that rate none would join it.
    Otherwise items wait while others follow within ``idle``, for ``longest`` seconds at most, and no longer once there
    are ``enough``.
    """

    __slots__ = ("_alone", "_first", "_last", "enough", "idle", "longest")

    def __init__(self, idle: float, longest: float, enough: int) -> None:
        self.idle = idle
        self.longest = max(idle, longest)
        self.enough = enough
        self._first: float | None = None  # when the window opened
        self._last = -inf  # when an item came, or callers were answered, who may ask again
        self._alone = False

    def __repr__(self) -> str:
        return f"<GatherWindow {'closed' if self._first is None else 'open'}, {self.idle} to {self.longest} s>"

    def arrived(self, now: float) -> None:
        """Note that an item came; the first one opens the window."""
        if self._first is None:
            self._first, self._alone = now, now - self._last > self.idle
        self._last = now

    def answered(self, now: float, *, waiting: bool) -> None:
        """Note that a call has returned: those who had their answers may ask again, so nothing goes without them.

        ``waiting``: items came meanwhile; their window opens now.
        """
        self._last, self._alone = now, False
        self._first = now if waiting else None

    def due(self, count: int, now: float) -> float:
        """Return when the call with the ``count`` items that have come is to be made; ``now`` = at once."""
        if self._first is None or self._alone or count >= self.enough:
            return now
        return max(now, min(self._last + self.idle, self._first + self.longest))

    def close(self) -> None:
        """Note that a call was made with what had come."""
        self._first = None
