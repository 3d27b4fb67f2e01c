"""Caps at the door, over a batch: several messages to one recipient are counted in the order they come in.

The gate is what enforces caps, exactly and for all workers. Here the same is said early, by what the store knows and by
what the batch itself has let in.
"""

from __future__ import annotations

from gateway.model import Cap, Facts, Recipient

Caps = tuple[Cap, ...]


class BatchFrequency:
    """Of one batch. ``known`` before a decision, ``let_in`` after one that lets it go, ``was_there`` for repeats."""

    def __init__(self) -> None:
        self._used: dict[tuple[bytes, Cap], int] = {}
        self._references: set[tuple[bytes, str]] = set()

    def __repr__(self) -> str:
        return f"<BatchFrequency of {len(self._used)} caps>"

    def known(self, recipient: Recipient, caps: Caps, facts: Facts) -> Facts:
        """``facts``, with what this batch has let in. What the gate has counted meanwhile is not counted twice."""
        ours = [self._used.get((recipient.key, cap), 0) for cap in caps]
        return facts._replace(used=tuple(map(max, facts.used, ours))) if any(ours) else facts

    def let_in(self, recipient: Recipient, caps: Caps, facts: Facts, reference: str) -> bool:
        """Count one that may go, after ``facts`` as ``known`` gave them.

        False: not counted, since an earlier one of the batch has its ``reference`` ("" = none), so it is a repeat.
        """
        if reference:
            if (recipient.key, reference) in self._references:
                return False
            self._references.add((recipient.key, reference))
        for cap, count in zip(caps, facts.used, strict=False):
            self._used[recipient.key, cap] = count + 1
        return True

    def was_there(self, recipient: Recipient, caps: Caps) -> None:
        """One that was counted turned out to be a repeat: the store knows of it, or will."""
        for cap in caps:
            if (count := self._used.get((recipient.key, cap), 0)) > 0:
                self._used[recipient.key, cap] = count - 1
