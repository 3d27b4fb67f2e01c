"""Batching of what arrives close together: a call to the store costs nearly the same for one item as for fifty."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.store.errors import StoreFull, StoreUnavailable

MAX_CALLERS = 1 << 16
"""Callers whose items go into one call, unless calls have to be divided."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Flush = Callable[[list[Item]], Coroutine[Any, Any, list[Answer]]]


class _CallerItems(NamedTuple, Generic[Item, Answer]):
    """The items of one caller and the future of its answers."""

    items: Sequence[Item]
    future: asyncio.Future[list[Answer]]


class Batcher(Generic[Item, Answer]):
    """Wait ``gap`` seconds after the first item, then hand all of them (at most ``limit``) to ``flush`` at once.

    One call is in flight at a time; what arrives meanwhile is the next batch. It goes ``gap`` seconds after the call
    returns, so that callers who were answered and ask again come along, or at once when the limit is reached. So it
    adds ``gap`` to a request, and batches grow with the load. The items of one caller are never divided, even
    when they exceed the limit.

    With ``timeout`` (seconds) no caller waits for a slow call: callers whose items are in it get the error of
    ``timed_out`` (it may have been carried out), callers behind it, or that come while it lasts, get the error of
    ``not_sent``, and their items are dropped. The call itself goes on.

    With ``divide``, for a ``flush`` that may be repeated, the items of one caller do not make the others fail: a call
    that fails, unless the store is away or full, is made again in halves.
    """

    def __init__(
        self,
        flush: Flush[Item, Answer],
        *,
        gap: float = 0.002,
        limit: int = 500,
        timeout: float = 0.0,
        timed_out: Callable[[], Exception] = TimeoutError,
        not_sent: Callable[[], Exception] = TimeoutError,
        divide: bool = False,
    ) -> None:
        self._flush = flush
        self._gap = gap
        self._limit = limit
        self._timeout = timeout
        self._timed_out = timed_out
        self._not_sent = not_sent
        self._divide = divide
        self._max_callers = MAX_CALLERS  # in one call; fewer while calls are divided
        self._waiting: deque[_CallerItems[Item, Answer]] = deque()
        self._start_handle: asyncio.Handle | None = None
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._call: asyncio.Task[list[Answer]] | None = None
        self._call_is_late = False

    def __repr__(self) -> str:
        waiting = sum(len(caller.items) for caller in self._waiting)
        return f"<Batcher {waiting} waiting{', one call in flight' if self._call else ''}>"

    def put(self, items: Sequence[Item]) -> asyncio.Future[list[Answer]]:
        """Return a future of the answers, in the order of ``items``, or of the exception that ``flush`` raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        if self._call_is_late:
            future.set_exception(self._not_sent())
            return future
        self._waiting.append(_CallerItems(items, future))
        if self._call is None and self._start_handle is None:
            self._schedule()
        return future

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._start_handle = loop.call_later(self._gap, self._start) if self._gap else loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_handle = None
        callers = [self._waiting.popleft()]
        items = list(callers[0].items)
        waiting = self._waiting
        while waiting and len(callers) < self._max_callers and len(items) + len(waiting[0].items) <= self._limit:
            callers.append(self._waiting.popleft())
            items += callers[-1].items
        loop = asyncio.get_running_loop()
        call = self._call = loop.create_task(self._flush(items))
        call.add_done_callback(partial(self._finish, callers))
        if self._timeout:
            self._timeout_handle = loop.call_later(self._timeout / 2, self._half_time, callers)

    def _half_time(self, callers: Sequence[_CallerItems[Item, Answer]]) -> None:
        """Wait the other half: when this loop was held up, the answer may have come without being read yet."""
        loop = asyncio.get_running_loop()
        self._timeout_handle = loop.call_later(self._timeout / 2, self._time_out, callers)

    def _time_out(self, callers: Sequence[_CallerItems[Item, Answer]]) -> None:
        self._call_is_late = True
        for caller in callers:
            if not caller.future.done():
                caller.future.set_exception(self._timed_out())
        while self._waiting:
            if not (future := self._waiting.popleft().future).done():
                future.set_exception(self._not_sent())

    def _divided(self, callers: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> bool:
        """Put the callers of a call that failed back, to be called in halves. Returns whether that was done."""
        error = None if call.cancelled() else call.exception()
        left = [caller for caller in callers if not caller.future.done()]
        if not self._divide or error is None or isinstance(error, StoreUnavailable | StoreFull) or len(left) < 2:
            self._max_callers = min(MAX_CALLERS, 2 * self._max_callers)
            return False
        self._max_callers = len(left) // 2
        self._waiting.extendleft(reversed(left))
        return True

    def _finish(self, callers: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> None:
        self._call, self._call_is_late = None, False
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self._divided(callers, call):
            self._start()
            return
        if self._waiting:
            if self._gap and sum(len(caller.items) for caller in self._waiting) < self._limit:
                self._schedule()
            else:
                self._start()
        error = None if call.cancelled() else call.exception()
        answers = [] if call.cancelled() or error else call.result()
        end = 0
        for items, future in callers:
            start, end = end, end + len(items)
            if future.done():  # a request may have been cancelled
                continue
            if call.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answers[start:end])
