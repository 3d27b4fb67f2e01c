"""What can go wrong with the store, by what the caller can do about it.

    StoreError
    ├── StoreUnavailable       away, starting, failing over: try again later (HTTP 503)
    │   ├── StoreBusy          there, but every connection is in use or a script blocks it
    │   ├── StoreUnconfirmed   no reply to a call that was sent: it may have been carried out
    │   └── StorePartly        some items of a batch are stored, others are not, or may be
    ├── StoreFull              memory or disk is used up: no new messages, everything else goes on
    └── StoreRefused           set up wrongly: retrying does not help, the message names the remedy
        └── NameTaken          another gateway of the same name is alive on it

Exceptions of redis-py and of the operating system become these in ``redis`` and ``embedded``; nothing above the store
sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StoreError(Exception):
    """Base of all: the store did not carry out a call."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is loading its data or is failing over."""


class StoreBusy(StoreUnavailable):
    """The store is there but cannot take this call now."""


class StoreUnconfirmed(StoreUnavailable):
    """The call was sent and its reply is missing or incomplete: it may be done. Repeating the same call settles it."""


class StoreFull(StoreError):
    """Memory (maxmemory) or disk is used up. The call changed nothing."""


class StorePartly(StoreUnavailable):
    """Some items of a batch are stored. ``outcomes``: in the order of the batch, the result or StoreError of each."""

    def __init__(self, outcomes: Sequence[Any]) -> None:
        super().__init__("a part of the store is away")
        self.outcomes = outcomes


class StoreRefused(StoreError):
    """The store, its folder or its settings cannot be used as they are. The message names the remedy."""


class NameTaken(StoreRefused):
    """Another gateway of this name is alive on the store."""


def of_an_item(error: StoreError) -> bool:
    """Tell whether one item of a call may have made it fail, so that it may succeed without it."""
    return not isinstance(error, StoreUnavailable | StoreFull | StoreRefused)
