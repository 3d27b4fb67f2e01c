"""Frequency caps within a batch: several messages to one recipient are counted in the order they come in.

The gate enforces caps, exactly and for all gateways. Intake says the same early, by what the store has counted and by
what the batch itself has let through.
"""

from __future__ import annotations

from gateway.model import Cap, Facts, Recipient

Caps = tuple[Cap, ...]


class BatchFrequency:
    """The counts of one batch: ``apply`` before a decision, ``count`` after one that lets a message go."""

    def __init__(self) -> None:
        self._used: dict[tuple[bytes, Cap], int] = {}
        self._references: set[tuple[bytes, str]] = set()

    def __repr__(self) -> str:
        return f"<BatchFrequency of {len(self._used)} caps>"

    def apply(self, recipient: Recipient, caps: Caps, facts: Facts) -> Facts:
        """Return ``facts`` with this batch's counts where they are higher: the gate may have counted some already."""
        ours = [self._used.get((recipient.key, cap), 0) for cap in caps]
        return facts._replace(used=tuple(map(max, facts.used, ours))) if any(ours) else facts

    def count(self, recipient: Recipient, caps: Caps, facts: Facts, reference: str) -> bool:
        """Count one message that may go, on top of ``facts`` as ``apply`` returned them.

        Returns False, and counts nothing, when an earlier one of the batch has its ``reference`` ("" = none): a repeat.
        """
        if reference:
            if (recipient.key, reference) in self._references:
                return False
            self._references.add((recipient.key, reference))
        for cap, count in zip(caps, facts.used, strict=False):
            self._used[recipient.key, cap] = count + 1
        return True

    def uncount(self, recipient: Recipient, caps: Caps) -> None:
        """Take one back that turned out to be a repeat: the store counts the first one."""
        for cap in caps:
            if (count := self._used.get((recipient.key, cap), 0)) > 0:
                self._used[recipient.key, cap] = count - 1
