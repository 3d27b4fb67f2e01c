"""What one dispatcher has leased, and the way back of what it does not write: untaken, postponed, or never heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.model import LeasedMessage, SubmitResult
from gateway.store.errors import StoreError
from gateway.store.ids import partition_of
from gateway.store.owner import LeaseOwner
from gateway.store.requests import UnreadableMessage

if TYPE_CHECKING:
    from gateway.carriers.partition_scheduler import PartitionScheduler
    from gateway.cluster.heartbeat import Heartbeat

WAIT_FIRST, WAIT_MOST = 0.05, 1.0
"""Seconds that a store which is away is left alone."""

log = structlog.get_logger(__name__)


class LeaseStore(Protocol):
    """What giving back needs of the store."""

    async def untake(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> None: ...
    async def postpone(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int, int, bool]]) -> None: ...
    async def untake_lost(self, owner: LeaseOwner, carrier: str, known: Mapping[int, Iterable[int]]) -> int: ...


class LeaseTracker:
    """The leases of a carrier. True while something is to be given back."""

    def __init__(self, carrier: str, store: LeaseStore, heartbeat: Heartbeat, scheduler: PartitionScheduler) -> None:
        self.strayed = False  # the answer of a take was lost: the store may have leased what we never heard of
        self._carrier = carrier
        self._store = store
        self._heartbeat = heartbeat
        self._scheduler = scheduler
        self._held: set[tuple[bytes, int]] = set()  # (id, lease) of all that was leased and is not yet reported
        self._untaken: list[tuple[bytes, int]] = []
        self._postponed: list[tuple[bytes, int, int, bool]] = []
        self._wait = WAIT_FIRST

    def __bool__(self) -> bool:
        return bool(self._untaken or self._postponed or self.strayed)

    def __repr__(self) -> str:
        return f"<LeaseTracker {len(self._held)} held, {len(self._untaken)} untaken, {len(self._postponed)} postponed>"

    def leased(self, messages: Iterable[LeasedMessage | UnreadableMessage]) -> None:
        """These are ours from now on."""
        self._held.update([(message.id, message.lease) for message in messages])
        self._wait = WAIT_FIRST

    def reported(self, answers: Iterable[SubmitResult]) -> None:
        """The store holds these outcomes: they are no longer ours."""
        self._held.difference_update([(answer.id, answer.lease) for answer in answers])

    def forget(self, messages: Iterable[LeasedMessage | UnreadableMessage]) -> None:
        """Of these nothing was begun, and nobody knows of them here any more: they go back with their leases."""
        self._held.difference_update([(message.id, message.lease) for message in messages])
        self.strayed = True

    def untake(self, message: LeasedMessage) -> None:
        """Back to the head of its lane."""
        self._untaken.append((message.id, message.lease))

    def postpone(self, message: LeasedMessage | UnreadableMessage, due: int, *, turn: bool) -> None:
        """Back to its lane until ``due`` (ms UTC), when its sender's turn has come, or is to be asked for again."""
        self._postponed.append((message.id, message.lease, due, turn))

    async def give_back(self) -> None:
        """Return what is to go back, and what we never heard of. What fails is tried again by the next call."""
        try:
            await self._give_back()
        except StoreError as error:
            count = len(self._untaken) + len(self._postponed)
            log.warning("cannot give back what was not written", carrier=self._carrier, count=count, error=str(error))
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
            await self._fetch_strays()

    async def wait(self) -> None:
        """Leave a store that is away alone for a moment, longer every time."""
        await asyncio.sleep(self._wait)
        self._wait = min(WAIT_MOST, 2 * self._wait)

    async def _fetch_strays(self) -> None:
        known: dict[int, set[int]] = {}
        for message_id, lease in self._held:
            known.setdefault(partition_of(message_id), set()).add(lease)
        found = await self._store.untake_lost(self._heartbeat.owner, self._carrier, known)
        self.strayed = False
        if found:
            log.info("leases whose answer was lost went back", carrier=self._carrier, count=found)
