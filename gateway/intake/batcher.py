"""Batching of what arrives close together: a call to the store costs nearly the same for one item as for fifty."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.gathering import GatherWindow
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
    """Gather items for as long as others follow closely, then hand them (at most ``limit``) to ``flush`` at once.

    One call is in flight at a time; what arrives meanwhile is the next batch. An item that comes while it is quiet goes
    at once; otherwise items wait while others come within ``gap`` seconds, ``longest`` at most, or until there are
    ``enough`` (``gathering.GatherWindow``). After a call the gap begins anew, so that callers who were answered and ask
    again come along. So a lone request waits for nothing, and batches grow with the load. The items of one caller are
    never divided, even when they exceed the limit.

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
        longest: float = 0.0,
        enough: int = 0,
        limit: int = 500,
        timeout: float = 0.0,
        timed_out: Callable[[], Exception] = TimeoutError,
        not_sent: Callable[[], Exception] = TimeoutError,
        divide: bool = False,
    ) -> None:
        """``longest``: at least ``gap``. ``enough``: at most ``limit``; 0 = the limit."""
        self._flush = flush
        self._gap = gap
        self._window = GatherWindow(gap, longest, min(enough or limit, limit))
        self._limit = limit
        self._timeout = timeout
        self._timed_out = timed_out
        self._not_sent = not_sent
        self._divide = divide
        self._max_callers = MAX_CALLERS  # in one call; fewer while calls are divided
        self._waiting: deque[_CallerItems[Item, Answer]] = deque()
        self._count = 0  # items of those who wait
        self._start_handle: asyncio.Handle | None = None
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._call: asyncio.Task[list[Answer]] | None = None
        self._call_is_late = False

    def __repr__(self) -> str:
        return f"<Batcher {self._count} waiting{', one call in flight' if self._call else ''}>"

    def put(self, items: Sequence[Item]) -> asyncio.Future[list[Answer]]:
        """Return a future of the answers, in the order of ``items``, or of the exception that ``flush`` raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        if self._call_is_late:
            future.set_exception(self._not_sent())
            return future
        self._waiting.append(_CallerItems(items, future))
        self._count += len(items)
        if self._call is None:
            if self._gap:
                self._window.arrived(loop.time())
            if self._start_handle is None:
                self._schedule()
            elif self._gap and self._count >= self._window.enough:
                self._start_handle.cancel()
                self._start_handle = loop.call_soon(self._start)
        return future

    def _schedule(self) -> None:
        """Start the call when it is due: in the next turn of the loop at the earliest, with all that comes in this."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._window.due(self._count, now) if self._gap else now
        self._start_handle = loop.call_at(due, self._start_if_due) if due > now else loop.call_soon(self._start)

    def _start_if_due(self) -> None:
        """Start the call, unless items came meanwhile and more may follow."""
        now = asyncio.get_running_loop().time()
        if self._window.due(self._count, now) > now:
            self._schedule()
        else:
            self._start()

    def _start(self) -> None:
        self._start_handle = None
        self._window.close()
        callers = [self._waiting.popleft()]
        items = list(callers[0].items)
        waiting = self._waiting
        while waiting and len(callers) < self._max_callers and len(items) + len(waiting[0].items) <= self._limit:
            callers.append(self._waiting.popleft())
            items += callers[-1].items
        self._count -= len(items)
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
        self._count = 0

    def _divided(self, callers: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> bool:
        """Put the callers of a call that failed back, to be called in halves. Returns whether that was done."""
        error = None if call.cancelled() else call.exception()
        left = [caller for caller in callers if not caller.future.done()]
        if not self._divide or error is None or isinstance(error, StoreUnavailable | StoreFull) or len(left) < 2:
            self._max_callers = min(MAX_CALLERS, 2 * self._max_callers)
            return False
        self._max_callers = len(left) // 2
        self._waiting.extendleft(reversed(left))
        self._count += sum(len(caller.items) for caller in left)
        return True

    def _finish(self, callers: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> None:
        self._call, self._call_is_late = None, False
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self._divided(callers, call):
            self._start()
            return
        if self._gap:
            self._window.answered(asyncio.get_running_loop().time(), waiting=bool(self._waiting))
        if self._waiting:
            if self._gap and self._count < self._window.enough:
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
