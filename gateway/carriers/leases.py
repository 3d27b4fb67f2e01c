"""Tracks the leases of one dispatcher and returns what it does not write: untaken, postponed, or stray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.store.errors import StoreError
from gateway.store.ids import partition_of

if TYPE_CHECKING:
    from gateway.carriers.partition_scheduler import PartitionScheduler
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.model import LeasedMessage, SubmitResult
    from gateway.store.messages import MessageStore
    from gateway.store.requests import UnreadableMessage

WAIT_FIRST, WAIT_MOST = 0.05, 1.0
"""Seconds to wait before an unreachable store is called again; doubles up to the second value."""

log = structlog.get_logger(__name__)


class LeaseTracker:
    """The leases of a carrier. True while something is to be given back."""

    def __init__(self, carrier: str, store: MessageStore, heartbeat: Heartbeat, scheduler: PartitionScheduler) -> None:
        self.strayed = False  # the reply of a take was lost: the store may hold leases that are not in ``_held``
        self._carrier = carrier
        self._store = store
        self._heartbeat = heartbeat
        self._scheduler = scheduler
        self._held: set[tuple[bytes, int]] = set()  # (id, lease) of all that is leased and not yet reported
        self._untaken: list[tuple[bytes, int]] = []
        self._postponed: list[tuple[bytes, int, int, bool]] = []
        self._wait = WAIT_FIRST

    def __bool__(self) -> bool:
        return bool(self._untaken or self._postponed or self.strayed)

    def __repr__(self) -> str:
        return f"<LeaseTracker {len(self._held)} held, {len(self._untaken)} untaken, {len(self._postponed)} postponed>"

    def leased(self, messages: Iterable[LeasedMessage | UnreadableMessage]) -> None:
        """Add the leases of these messages."""
        self._held.update([(message.id, message.lease) for message in messages])
        self._wait = WAIT_FIRST

    def reported(self, results: Iterable[SubmitResult]) -> None:
        """Drop the leases of messages whose results the store holds."""
        self._held.difference_update([(result.id, result.lease) for result in results])

    def untake(self, message: LeasedMessage) -> None:
        """Return a message to the head of its lane with the next ``give_back``."""
        self._untaken.append((message.id, message.lease))

    def postpone(self, message: LeasedMessage | UnreadableMessage, due: int, *, turn: bool) -> None:
        """Return a message to its lane until ``due`` (ms UTC). ``turn``: its sender's turn is kept until then."""
        self._postponed.append((message.id, message.lease, due, turn))

    async def give_back(self) -> None:
        """Return what is to go back, and stray leases. What fails is tried again by the next call."""
        try:
            await self._give_back()
        except StoreError as error:
            count = len(self._untaken) + len(self._postponed)
            log.warning(
                "cannot return leases of unwritten messages", carrier=self._carrier, count=count, error=str(error)
            )
            await self.wait()

    async def _give_back(self) -> None:
        owner = self._heartbeat.owner
        if later := self._postponed[:]:
            await self._store.postpone(owner, later)
            del self._postponed[: len(later)]
            for message_id, lease, due, _ in later:
                self._held.discard((message_id, lease))
                self._scheduler.delayed(partition_of(message_id), due)
        if items := self._untaken[:]:
            await self._store.untake(owner, items)
            del self._untaken[: len(items)]
            self._held.difference_update(items)
        if self.strayed:
            await self._return_strays()

    async def wait(self) -> None:
        """Wait before an unreachable store is called again, longer every time."""
        await asyncio.sleep(self._wait)
        self._wait = min(WAIT_MOST, 2 * self._wait)

    async def _return_strays(self) -> None:
        known: dict[int, set[int]] = {}
        for message_id, lease in self._held:
            known.setdefault(partition_of(message_id), set()).add(lease)
        found = await self._store.untake_lost(self._heartbeat.owner, self._carrier, known)
        self.strayed = False
        if found:
            log.info("returned leases of a take whose reply was lost", carrier=self._carrier, count=found)
