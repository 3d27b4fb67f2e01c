"""How a carrier, or one of its binds, is meant to stand."""

from __future__ import annotations

from enum import IntEnum


class CarrierMode(IntEnum):
    """The larger of carrier and bind counts. The value is kept in the store: never renumber."""

    RUNNING = 0
    PAUSED = 1  # takes no messages; stays bound, collects answers and receipts
    DRAINED = 2  # takes none, empties its window, unbinds and stays away

    @classmethod
    def of(cls, value: int) -> CarrierMode:
        """A stored value; one that a later version wrote means at least: take nothing."""
        return cls(value) if value in cls._value2member_map_ else cls.PAUSED
