"""How much more may wait: bounded per account and for all together, so that 503 comes early rather than late.

What waits is whatever no carrier has yet: queued, scheduled, deferred, held. The store counts it; here it is asked at
most once a second, and what comes in meanwhile is added. So a bound is exact for one gateway but for what has left
within the last second, and several gateways on one store may exceed it by what they take in within a second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from gateway.config import Account
from gateway.intake.durable_write import in_time
from gateway.intake.submission import SubmissionProblem
from gateway.store.requests import QueueDepths

FRESH = 1.0
"""Seconds that the store's counts are believed."""


class QueueStore(Protocol):
    """What this needs of the store."""

    async def depths(self) -> QueueDepths: ...


class QueueLimits:
    """``refresh``, then per message ``fault`` and ``enter``; ``leaves`` and ``arrived`` with the names that entered."""

    def __init__(self, store: QueueStore, max_waiting: int) -> None:
        self._store = store
        self._most = max_waiting
        self._room = max_waiting
        self._waiting: dict[str, int] = {}
        self._coming: Counter[str] = Counter()  # on the way to the store
        self._asked = float("-inf")

    def __repr__(self) -> str:
        return f"<QueueLimits {self._room} of {self._most} free, {sum(self._coming.values())} coming>"

    async def refresh(self) -> None:
        """Ask the store when what it said is old. Raises StoreError."""
        now = time.monotonic()
        if now - self._asked < FRESH:
            return
        self._asked = now
        coming, before = Counter(self._coming), Counter(self._waiting)
        depths = await in_time(self._store.depths())
        stored = {account: sum(states.values()) for account, states in depths.waiting.items()}
        # What was on its way when we asked, and what has entered since, is counted whether or not the store has it.
        coming += Counter(self._waiting) - before
        self._waiting = Counter(stored) + coming
        ready = sum(depth.ready for depth in depths.ready)
        self._room = self._most - ready - sum(depths.delayed.values()) - depths.held - coming.total()

    def fault(self, account: Account) -> SubmissionProblem | None:
        """Why nothing more of this account may wait; None when there is room."""
        if self._room <= 0:
            return SubmissionProblem("queue_full", f"{self._most} messages wait in this gateway already")
        if self._waiting.get(account.name, 0) >= account.max_queued:
            return SubmissionProblem("queue_full", f"{account.max_queued} messages of this account wait already")
        return None

    def enter(self, account: str) -> None:
        """One more of this account is going to wait."""
        self._waiting[account] = self._waiting.get(account, 0) + 1
        self._room -= 1

    def leaves(self, accounts: Sequence[str]) -> None:
        """These have entered and are on their way to the store."""
        self._coming.update(accounts)

    def arrived(self, accounts: Sequence[str], refused: Sequence[str] = ()) -> None:
        """These are stored, or never will be. ``refused``: those among them that do not wait, whatever the reason."""
        self._coming.subtract(Counter(accounts))
        for account in refused:
            self._waiting[account] -= 1
            self._room += 1
