"""Tells other gateways of what we have accepted and cannot send just now, and hears of what they cannot.

Whoever accepts a message takes it itself, at once, when its own binds have room. When they have not, or it has none of
some carrier, the others would find the message at their next sweep, a quarter of a second later: too late for a
one-time password. Hints are gathered, so that no message costs a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from gateway.store.errors import StoreError

GATHER, GATHER_URGENT = 0.02, 0.003
"""Seconds for which hints are gathered into one."""

FIRST, MOST = 0.5, 30.0
"""Pauses before listening is tried again."""

log = structlog.get_logger(__name__)


Heard = Callable[[list[int], bool], None]
"""Partitions, and whether a one-time password is among what waits there."""


class NotificationChannel(Protocol):
    """What carries them (``store.work_channel.WorkChannel``)."""

    async def tell(self, partitions: Iterable[int], *, urgent: bool) -> None: ...
    async def listen(self, heard: Heard) -> None: ...


class GatewayCount(Protocol):
    """Whether anybody is there to hear us (``cluster.heartbeat.Heartbeat``)."""

    @property
    def alone(self) -> bool: ...


class WorkNotifier:
    """``beyond_us`` whenever it happens; ``run`` until it is cancelled. ``heard`` is told what others cannot send."""

    def __init__(self, channel: NotificationChannel, crowd: GatewayCount, heard: Heard) -> None:
        self._channel = channel
        self._crowd = crowd
        self._heard = heard
        self._waiting: set[int] = set()
        self._urgent = False
        self._wake = asyncio.Event()
        self.told = self.heard = 0

    def __repr__(self) -> str:
        return f"<WorkNotifier {self.told} told, {self.heard} heard>"

    def beyond_us(self, partitions: Iterable[int], urgent: bool) -> None:
        """Something waits in these partitions that we cannot take now; returns at once."""
        if self._crowd.alone:
            return
        self._waiting.update(partitions)
        self._urgent |= urgent
        self._wake.set()

    async def run(self) -> None:
        """Tell and listen."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._listen())

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_URGENT if self._urgent else GATHER)
            partitions, urgent = self._waiting, self._urgent
            self._waiting, self._urgent = set(), False
            self._wake.clear()
            try:
                await self._channel.tell(partitions, urgent=urgent)
                self.told += 1
            except StoreError as error:  # whoever sweeps finds it
                log.debug("could not hint at other gateways", error=str(error))

    async def _listen(self) -> None:
        pause, known = FIRST, False
        while True:
            while self._crowd.alone:  # noqa: ASYNC110  # who comes is seen by the heart's looks
                await asyncio.sleep(FIRST)
            try:
                await self._channel.listen(self._hear)
            except* StoreError as errors:
                (log.debug if known else log.warning)("cannot hear hints", error=str(errors.exceptions[0]))
                known = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST)

    def _hear(self, partitions: list[int], urgent: bool) -> None:
        self.heard += 1
        self._heard(partitions, urgent)
