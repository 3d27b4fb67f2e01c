"""Single submits gathered into batches, because a call to the store costs nearly the same for one as for fifty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Flush = Callable[[list[Item]], Coroutine[Any, Any, list[Answer]]]


class Gatherer(Generic[Item, Answer]):
    """Waits ``gap`` seconds after the first item, then hands all of them (at most ``limit``) to ``flush`` at once.

    One call is in flight at a time: what arrives meanwhile is the next batch and goes as soon as the call is back. So
    a quiet gateway adds ``gap`` to a request, and a busy one gathers by itself.
    """

    def __init__(self, flush: Flush[Item, Answer], *, gap: float = 0.002, limit: int = 500) -> None:
        self._flush = flush
        self._gap = gap
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._call: asyncio.Task[list[Answer]] | None = None

    def __repr__(self) -> str:
        return f"<Gatherer {len(self._waiting)} waiting{', one call in flight' if self._call else ''}>"

    def put(self, item: Item) -> asyncio.Future[Answer]:
        """A future of the answer; it carries the exception of ``flush`` when that fails."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if self._call is None and self._timer is None:
            self._timer = loop.call_later(self._gap, self._start)
        return future

    def _start(self) -> None:
        self._timer = None
        batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
        call = self._call = asyncio.get_running_loop().create_task(self._flush([item for item, _ in batch]))
        call.add_done_callback(partial(self._back, [future for _, future in batch]))

    def _back(self, futures: list[asyncio.Future[Answer]], call: asyncio.Task[list[Answer]]) -> None:
        self._call = None
        if self._waiting:
            self._start()
        waiting = [future for future in futures if not future.done()]  # a request may have been cancelled
        if call.cancelled():
            for future in waiting:
                future.cancel()
        elif (error := call.exception()) is not None:
            for future in waiting:
                future.set_exception(error)
        else:
            for future, answer in zip(futures, call.result(), strict=True):
                if not future.done():
                    future.set_result(answer)
