"""Velocity limits: messages that an account may submit to one range of numbers in a period; against traffic pumping.

Pure. A window is counted in slots of a sixth of its length, and the slot in which it begins counts whole: so no period
of that length ever exceeds the limit, and room returns one slot at a time.
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
        """Length of a slot in ms."""
        return -(-self.window // SLOTS)  # rounded up: the slots before the current one cover the window

    def slots(self, now: int) -> list[int]:
        """Return the numbers of the slots that count at ``now`` (ms UTC), the current one first."""
        current = now // self.width
        return [current - back for back in range(SLOTS + 1)]

    def room_at(self, now: int, counts: Sequence[int]) -> int:
        """Return when there is room (ms UTC), given the counts of ``slots(now)``; ``now`` when there is room."""
        total = sum(counts)
        if total < self.limit:
            return now
        back = SLOTS
        while (total := total - counts[back]) >= self.limit:  # the oldest slot expires first
            back -= 1
        return (now // self.width - back + SLOTS + 1) * self.width


class VelocityTable:
    """Velocity limits by prefix."""

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
        """Return the limit with the longest prefix that matches a number."""
        for length in self._lengths:
            found = self._by_prefix.get(digits[:length])
            if found is not None:
                return found
        return None


def nearest(own: VelocityTable, general: VelocityTable, digits: str) -> VelocityLimit | None:
    """Return the limit for a number: longest prefix first, then the account's own before the general one."""
    own_limit, general_limit = own.of(digits), general.of(digits)
    if own_limit is None or general_limit is None:
        return own_limit or general_limit
    return general_limit if len(general_limit.prefix) > len(own_limit.prefix) else own_limit
