"""The order in which the slices of a batch go through intake: while one is stored, the next is checked and decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SliceOrder:
    """``preparing`` and ``storing`` let one slice of the batch in at a time, in the order in which they come.

    After an error in either no slice behind it is let in: the error is raised again. So what is stored of a batch is
    its beginning.
    """

    __slots__ = ("_error", "_failed", "_preparing", "_storing")

    def __init__(self) -> None:
        self._preparing = asyncio.Lock()
        self._storing = asyncio.Lock()
        self._error: Exception | None = None
        self._failed = 0  # number of the first slice that failed with it

    def __repr__(self) -> str:
        return f"<SliceOrder {f'failed at {self._failed}' if self._error else 'open'}>"

    @asynccontextmanager
    async def preparing(self, number: int) -> AsyncIterator[None]:
        """Wait until the slices before this one are checked and decided. Raises what one of them raised."""
        async with self._turn(number, self._preparing):
            yield

    @asynccontextmanager
    async def storing(self, number: int) -> AsyncIterator[None]:
        """Wait until the slices before this one are stored. Raises what one of them raised."""
        async with self._turn(number, self._storing):
            yield

    @asynccontextmanager
    async def _turn(self, number: int, lock: asyncio.Lock) -> AsyncIterator[None]:
        async with lock:
            if self._error is not None and number > self._failed:
                raise self._error
            try:
                yield
            except Exception as error:
                if self._error is None or number < self._failed:
                    self._error, self._failed = error, number
                raise
