"""Limits on how many messages may wait, per account and in all, so that a 503 comes early rather than late.

A message waits until a carrier has it: queued, scheduled, deferred, held. The store counts them; it is asked at most
once a second, and what comes in meanwhile is added. So a limit is exact for one gateway except for what has left within
the last second, and several gateways on one store may exceed it by what they take in within a second.
"""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from gateway.config import Account
from gateway.intake.durable_write import read_in_time
from gateway.intake.submission import SubmissionProblem

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore

FRESH = 1.0
"""Seconds for which the store's counts are used."""


class QueueLimits:
    """Says whether a message may still wait.

    ``refresh``, then per message ``problem`` and, in a ``with entry():``, ``QueueEntry.add``.
    """

    def __init__(self, store: MessageStore, max_waiting: int) -> None:
        self._store = store
        self._max_waiting = max_waiting
        self.room = max_waiting
        self.waiting: dict[str, int] = {}  # by account
        self._entries: set[QueueEntry] = set()  # on their way to the store; their messages are in ``waiting`` too
        self._asked_at = float("-inf")

    def __repr__(self) -> str:
        return f"<QueueLimits {self.room} of {self._max_waiting} free, {self._arriving().total()} arriving>"

    async def refresh(self) -> None:
        """Ask the store for its counts when those known are old. Raises StoreError."""
        now = time.monotonic()
        if now - self._asked_at < FRESH:
            return
        self._asked_at = now
        arriving, before = self._arriving(), Counter(self.waiting)
        depths = await read_in_time(self._store.depths())
        stored = {account: sum(states.values()) for account, states in depths.waiting.items()}
        # What was arriving when the store was asked, and what has come in since, counts whether or not it is stored.
        arriving += Counter(self.waiting) - before
        self.waiting = Counter(stored) + arriving
        ready = sum(depth.ready for depth in depths.ready)
        self.room = self._max_waiting - ready - sum(depths.delayed.values()) - depths.held - arriving.total()

    def problem(self, account: Account) -> SubmissionProblem | None:
        """Return why no more of this account may wait; None when there is room."""
        if self.room <= 0:
            return SubmissionProblem("queue_full", f"{self._max_waiting} messages are waiting in this gateway already")
        if self.waiting.get(account.name, 0) >= account.max_queued:
            detail = f"{account.max_queued} messages of this account are waiting already"
            return SubmissionProblem("queue_full", detail)
        return None

    def _arriving(self) -> Counter[str]:
        """Return the messages of each account that are on their way to the store."""
        arriving: Counter[str] = Counter()
        for entry in self._entries:
            arriving.update(entry.accounts)
        return arriving

    def entry(self) -> QueueEntry:
        """Return the context in which a slice of a batch enters the queue."""
        return QueueEntry(self)

    def begin(self, entry: QueueEntry) -> None:
        """Count the messages of this entry as on their way."""
        self._entries.add(entry)

    def end(self, entry: QueueEntry) -> None:
        """Count them as on their way no longer: they are stored, or never will be."""
        self._entries.discard(entry)


class QueueEntry:
    """The messages of a slice that enter the queue; at the end of the ``with`` they have arrived, or have failed."""

    __slots__ = ("_limits", "_removed", "accounts")

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self.accounts: list[str] = []
        self._removed: list[str] = []

    def __repr__(self) -> str:
        return f"<QueueEntry {len(self.accounts)} added, {len(self._removed)} removed>"

    def __enter__(self) -> QueueEntry:
        self._limits.begin(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._limits.end(self)
        for account in self._removed:
            self._limits.waiting[account] -= 1
            self._limits.room += 1

    def add(self, account: str) -> None:
        """Let one more message of this account in."""
        self.accounts.append(account)
        limits = self._limits
        limits.waiting[account] = limits.waiting.get(account, 0) + 1
        limits.room -= 1

    def remove(self, account: str) -> None:
        """Take one of them out at the end: it was refused, so it does not wait."""
        self._removed.append(account)
