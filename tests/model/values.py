"""The values that the random walks draw from: accounts, carriers, numbers, instants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from gateway.model import PartState

MINUTE = 60_000
HOUR = 60 * MINUTE
AHEAD = (1, 2_000, 5 * MINUTE + 1, HOUR + 1)
"""Milliseconds."""

NUMBERS = tuple(f"4915100000{n:02}" for n in range(4))
ACCOUNTS = ("shop", "bank")
CARRIERS = ("north", "south")
ROUTES = ("world", "home")
FINAL_PARTS = (PartState.DELIVERED, PartState.EXPIRED, PartState.UNDELIVERED)
SAYING_NOTHING = (PartState.ACCEPTED, PartState.RECEIPT_UNKNOWN, PartState.RECEIPT_UNREADABLE)
HOSTS = ("a", "b")
MARKS = (b"", b"one", b"other")
FORMS = (1, 2)
"""Kinds of forms of an id (``smpp.message_id``): here an id of the first kind has an x before it, of the second a y."""

indices = st.integers(0, 2**16)
seeds = st.integers(0, 2**32)

Pick = Callable[[Sequence[Any]], Any]
"""Details are picked by a seeded random generator: hypothesis draws what to do, and shrinks that; evenly spread details
reach far more of the table of states than its own draws of them."""
