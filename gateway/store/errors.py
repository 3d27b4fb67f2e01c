"""What can go wrong between us and the store, in the words of who has to act.

    StoreError
    ├── StoreUnavailable   away, starting, failing over: try again later (HTTP 503)
    │   └── StoreBusy      there, but every connection is in use or a script blocks it
    ├── StoreFull          memory or disk is used up: no new messages, everything else goes on
    └── StoreRefused       set up wrongly: retrying cannot help, the message names the remedy
        └── NameTaken      another gateway of our name is alive on it

redis-py's and the operating system's exceptions are turned into these in ``connect`` and ``embedded``; nothing above
the store ever sees them.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all: the store did not do what it was asked to."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is loading its data or is failing over. What was asked may or may not be done."""


class StoreBusy(StoreUnavailable):
    """The store is there but has no room for this call now."""


class StoreFull(StoreError):
    """Memory (maxmemory) or disk is used up. The call changed nothing."""


class StoreRefused(StoreError):
    """The store, its folder or its settings cannot be used as they are. The message names the remedy."""


class NameTaken(StoreRefused):
    """Another gateway of this name is alive on the store."""


def of_an_item(error: StoreError) -> bool:
    """Whether a call may have failed for one of its items, so that it may succeed without it."""
    return not isinstance(error, StoreUnavailable | StoreFull | StoreRefused)
