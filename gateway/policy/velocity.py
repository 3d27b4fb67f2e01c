"""How many messages an account may hand in for one range of numbers in a time: against pumping of dear destinations.

Pure. A window is counted in slots of a sixth of its length, and the slot that the window's begin falls into counts
whole: so never more than the limit goes in any stretch of that length, and room comes back a sixth at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SLOTS = 6


class VelocityLimit(NamedTuple):
    """At most ``limit`` messages to numbers that begin with ``prefix`` (digits, "" = all) in ``window`` ms."""

    prefix: str
    limit: int
    window: int

    @property
    def width(self) -> int:
        """Milliseconds of a slot."""
        return -(-self.window // SLOTS)  # rounded up: the slots before the current one cover the window

    def slots(self, now: int) -> list[int]:
        """Numbers of the slots that count at ``now`` (ms UTC), the current one first."""
        current = now // self.width
        return [current - back for back in range(SLOTS + 1)]

    def room_at(self, now: int, counts: Sequence[int]) -> int:
        """When there is room (ms UTC), by what counts in each of ``slots(now)``; ``now`` when there is some."""
        total = sum(counts)
        if total < self.limit:
            return now
        back = SLOTS
        while (total := total - counts[back]) >= self.limit:  # the oldest slot goes first
            back -= 1
        return (now // self.width - back + SLOTS + 1) * self.width


class VelocityTable:
    """Limits by prefix."""

    def __init__(self, limits: Mapping[str, tuple[int, int]] | None = None) -> None:
        """``limits``: prefix as written (``+225``, ``*``) -> messages, seconds."""
        self._by_prefix: dict[str, VelocityLimit] = {}
        for written, (limit, seconds) in (limits or {}).items():
            prefix = written.lstrip("+*")
            self._by_prefix[prefix] = VelocityLimit(prefix, limit, seconds * 1000)
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def of(self, digits: str) -> VelocityLimit | None:
        """The limit with the longest prefix of a number."""
        for length in self._lengths:
            found = self._by_prefix.get(digits[:length])
            if found is not None:
                return found
        return None


def nearest(own: VelocityTable, everybody: VelocityTable, digits: str) -> VelocityLimit | None:
    """The limit that holds for a number: of the longest prefix; an account's own before the one for everybody."""
    mine, theirs = own.of(digits), everybody.of(digits)
    if mine is None or theirs is None:
        return mine or theirs
    return theirs if len(theirs.prefix) > len(mine.prefix) else mine
