"""The modes that operators may set for a carrier or one of its binds."""

from __future__ import annotations

from enum import IntEnum


class CarrierMode(IntEnum):
    """The larger of the carrier's and the bind's mode applies. Values are kept in the store: never renumber."""

    RUNNING = 0
    PAUSED = 1  # takes no messages; stays bound, collects responses and receipts
    DRAINED = 2  # takes none, empties its window, unbinds and stays away

    @classmethod
    def of(cls, value: int) -> CarrierMode:
        """Return the mode of a stored value; an unknown one, written by a later version, means PAUSED."""
        return cls(value) if value in cls._value2member_map_ else cls.PAUSED
