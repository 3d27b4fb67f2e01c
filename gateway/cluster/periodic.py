"""Runs background work at an interval, or at once when woken; a store that is away is logged once per outage.

Loops without an interval have their own: the dispatcher and the progress writer of a carrier, the event follower (they
go on at once while there is more to do), and the measurement of the event loop's lag (it measures its own delay).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.store.errors import StoreError

log = structlog.get_logger(__name__)


class PeriodicTask:
    """Repeats its work until cancelled; ``wake`` makes it run at once. ``failing``: the last try failed."""

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        interval: float | Callable[[], float],
        failure: str,
        *,
        retry_after: float | None = None,
        at_once: bool = False,
    ) -> None:
        """``interval``: seconds before each run, ``retry_after`` instead of it while failing.

        ``failure``: logged when ``work`` raises a StoreError and had not done so before. Other errors end ``run``.
        ``at_once``: do not wait before the first run.
        """
        self.failing = False
        self._work = work
        self._interval = interval
        self._failure = failure
        self._retry_after = retry_after
        self._at_once = at_once
        self._woken = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PeriodicTask {getattr(self._work, '__qualname__', self._work)}{' failing' if self.failing else ''}>"

    def wake(self) -> None:
        """Run the work at once, or once more if it is running."""
        self._woken.set()

    async def run(self) -> None:
        """Repeat the work until cancelled."""
        if not self._at_once:
            await self._wait()
        while True:
            self._woken.clear()
            try:
                await self._work()
                self.failing = False
            except StoreError as error:
                if not self.failing:
                    log.warning(self._failure, error=str(error))
                self.failing = True
            await self._wait()

    async def _wait(self) -> None:
        if self.failing and self._retry_after is not None:
            seconds = self._retry_after
        else:
            seconds = self._interval() if callable(self._interval) else self._interval
        timer = asyncio.get_running_loop().call_later(seconds, self._woken.set)
        await self._woken.wait()
        timer.cancel()
