"""Announces to other gateways work that no carrier here can take now, and receives what they announce.

The gateway that accepts a message takes it itself, at once, when its own binds have room. When they have not, or it has
none of some carrier, the others would find the message with their next sweep, a quarter of a second later: too late for
a one-time password. Announcements are gathered, so that no message costs a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.intake.service import WorkAvailable
    from gateway.store.work_channel import WorkChannel

GATHER, GATHER_URGENT = 0.02, 0.003
"""Seconds for which announcements are gathered into one."""

FIRST, MOST = 0.5, 30.0
"""Pauses before the connection to the channel is tried again."""

log = structlog.get_logger(__name__)


class WorkNotifier:
    """Announces work to other gateways, and passes on what they announce, until ``run`` is cancelled."""

    def __init__(self, channel: WorkChannel, heartbeat: Heartbeat) -> None:
        self._channel = channel
        self._heartbeat = heartbeat
        self._waiting: set[int] = set()
        self._urgent = False
        self._wake = asyncio.Event()
        self.announced = self.received = 0

    def __repr__(self) -> str:
        return f"<WorkNotifier {self.announced} announced, {self.received} received>"

    def announce(self, partitions: Iterable[int], urgent: bool) -> None:
        """Tell other gateways soon that something waits in these partitions; return at once."""
        if self._heartbeat.alone:
            return
        self._waiting.update(partitions)
        self._urgent |= urgent
        self._wake.set()

    async def run(self, work_available: WorkAvailable) -> None:
        """Publish and listen; ``work_available`` is called with what other gateways cannot take."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            group.create_task(self._listen(work_available))

    async def _publish(self) -> None:
        # Not a PeriodicTask: it runs when there is something to announce, and a failure needs no retry.
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_URGENT if self._urgent else GATHER)
            partitions, urgent = self._waiting, self._urgent
            self._waiting, self._urgent = set(), False
            self._wake.clear()
            try:
                await self._channel.publish(partitions, urgent=urgent)
                self.announced += 1
            except StoreError as error:  # the sweeps of the others find it
                log.debug("cannot announce work to other gateways", error=str(error))

    async def _listen(self, work_available: WorkAvailable) -> None:
        pause, known = FIRST, False
        while True:
            while self._heartbeat.alone:  # noqa: ASYNC110  # the heartbeat looks for others every few seconds
                await asyncio.sleep(FIRST)
            try:
                await self._channel.listen(partial(self._receive, work_available))
            except* StoreError as errors:
                (log.debug if known else log.warning)(
                    "cannot listen to other gateways", error=str(errors.exceptions[0])
                )
                known = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST)

    def _receive(self, work_available: WorkAvailable, partitions: list[int], urgent: bool) -> None:
        self.received += 1
        work_available(partitions, urgent=urgent)
