"""Who holds a lease: one incarnation of one worker."""

from __future__ import annotations

import secrets
from typing import NamedTuple

DEAD_AFTER = 10.0
"""Seconds without a heartbeat after which an owner is dead: its leases are free. The store's functions use it too."""


class LeaseOwner(NamedTuple):
    """``node`` is the worker's lasting name; ``start`` differs every time it starts."""

    node: str
    start: str

    @property
    def name(self) -> str:
        """How the store calls it."""
        return f"{self.node}/{self.start}"

    @classmethod
    def fresh(cls, node: str) -> LeaseOwner:
        """A new incarnation of this worker."""
        return cls(node, secrets.token_hex(4))

    @classmethod
    def parse(cls, name: str) -> LeaseOwner:
        """The owner that the store calls ``name``."""
        node, _, start = name.rpartition("/")
        return cls(node, start)
