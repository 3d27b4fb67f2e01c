"""What can go wrong between us and the store, in the words of who has to act.

    StoreError
    ├── StoreUnavailable   away, starting, failing over: try again later (HTTP 503)
    │   ├── StoreBusy      there, but every connection is in use or a script blocks it
    │   ├── StoreUnconfirmed   it was asked and did not answer: what it was asked may be done
    │   └── StorePartly    of a batch some items are stored and others are not, or may be
    ├── StoreFull          memory or disk is used up: no new messages, everything else goes on
    └── StoreRefused       set up wrongly: retrying cannot help, the message names the remedy
        └── NameTaken      another gateway of our name is alive on it

redis-py's and the operating system's exceptions are turned into these in ``connect`` and ``embedded``; nothing above
the store ever sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StoreError(Exception):
    """Base of all: the store did not do what it was asked to."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is loading its data or is failing over."""


class StoreBusy(StoreUnavailable):
    """The store is there but has no room for this call now."""


class StoreUnconfirmed(StoreUnavailable):
    """The call was sent and nothing, or not enough, came back: it may be done. Repeating the same call settles it."""


class StoreFull(StoreError):
    """Memory (maxmemory) or disk is used up. The call changed nothing."""


class StorePartly(StoreUnavailable):
    """Some items of a batch are stored. ``outcomes``: in the batch's order what became of each, or its StoreError."""

    def __init__(self, outcomes: Sequence[Any]) -> None:
        super().__init__("a part of the store is away")
        self.outcomes = outcomes


class StoreRefused(StoreError):
    """The store, its folder or its settings cannot be used as they are. The message names the remedy."""


class NameTaken(StoreRefused):
    """Another gateway of this name is alive on the store."""


def of_an_item(error: StoreError) -> bool:
    """Whether a call may have failed for one of its items, so that it may succeed without it."""
    return not isinstance(error, StoreUnavailable | StoreFull | StoreRefused)
