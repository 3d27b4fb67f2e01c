"""The owner of leases: one incarnation of one worker."""

from __future__ import annotations

import secrets
from typing import NamedTuple

DEAD_AFTER = 10.0
"""Seconds without a heartbeat after which an owner is dead: its leases are free. The store's functions use it too."""


class LeaseOwner(NamedTuple):
    """``node`` is the worker's lasting name; ``start`` differs at every start."""

    node: str
    start: str

    @property
    def name(self) -> str:
        """Return its name in the store."""
        return f"{self.node}/{self.start}"

    @classmethod
    def fresh(cls, node: str) -> LeaseOwner:
        """Return a new incarnation of this worker."""
        return cls(node, secrets.token_hex(4))

    @classmethod
    def parse(cls, name: str) -> LeaseOwner:
        """Return the owner with this ``name``."""
        node, _, start = name.rpartition("/")
        return cls(node, start)
