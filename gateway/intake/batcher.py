"""What arrives close together goes to the store together: a call costs nearly the same for one item as for fifty."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.store.errors import StoreFull, StoreUnavailable

MOST = 1 << 16

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Flush = Callable[[list[Item]], Coroutine[Any, Any, list[Answer]]]


class _CallerItems(NamedTuple, Generic[Item, Answer]):
    """What one caller has put in, and whom to tell."""

    items: Sequence[Item]
    future: asyncio.Future[list[Answer]]


class Batcher(Generic[Item, Answer]):
    """Waits ``gap`` seconds after the first item, then hands all of them (at most ``limit``) to ``flush`` at once.

    One call is in flight at a time: what arrives meanwhile is the next batch. It goes ``gap`` seconds after the call is
    back, so that those who were answered and ask again come along, or at once when the limit is reached. So a gateway,
    quiet or busy, adds ``gap`` to a request, and a busy one gathers by itself. What one caller puts in is never parted,
    even when it exceeds the limit by itself.

    With ``patience`` nobody waits for a call that is long under way: who put into it hears ``lost`` (what it does may
    be done yet), and who waits behind it, or comes as long as it lasts, hears ``kept`` and is not handed on. The call
    itself goes on.

    With ``divide``, for a ``flush`` that may be repeated, what one caller has put in keeps no other from an answer: a
    call that fails, other than for a store that is away or full, is made again in halves.
    """

    def __init__(
        self,
        flush: Flush[Item, Answer],
        *,
        gap: float = 0.002,
        limit: int = 500,
        patience: float = 0.0,
        lost: Callable[[], Exception] = TimeoutError,
        kept: Callable[[], Exception] = TimeoutError,
        divide: bool = False,
    ) -> None:
        self._divide = divide
        self._most = MOST  # callers in one call
        self._flush = flush
        self._gap = gap
        self._limit = limit
        self._patience = patience
        self._lost = lost
        self._kept = kept
        self._long: asyncio.TimerHandle | None = None
        self._is_long = False
        self._waiting: deque[_CallerItems[Item, Answer]] = deque()
        self._timer: asyncio.Handle | None = None
        self._call: asyncio.Task[list[Answer]] | None = None

    def __repr__(self) -> str:
        waiting = sum(len(share.items) for share in self._waiting)
        return f"<Batcher {waiting} waiting{', one call in flight' if self._call else ''}>"

    def put(self, items: Sequence[Item]) -> asyncio.Future[list[Answer]]:
        """A future of the answers, in the order of ``items``; it carries the exception of ``flush`` when that fails."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        if self._is_long:
            future.set_exception(self._kept())
            return future
        self._waiting.append(_CallerItems(items, future))
        if self._call is None and self._timer is None:
            self._plan()
        return future

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._gap, self._start) if self._gap else loop.call_soon(self._start)

    def _start(self) -> None:
        self._timer = None
        shares = [self._waiting.popleft()]
        items = list(shares[0].items)
        waiting = self._waiting
        while waiting and len(shares) < self._most and len(items) + len(waiting[0].items) <= self._limit:
            shares.append(self._waiting.popleft())
            items += shares[-1].items
        call = self._call = asyncio.get_running_loop().create_task(self._flush(items))
        call.add_done_callback(partial(self._back, shares))
        if self._patience:
            self._long = asyncio.get_running_loop().call_later(self._patience / 2, self._tire, shares, False)

    def _tire(self, shares: Sequence[_CallerItems[Item, Answer]], twice: bool) -> None:
        """The call is long under way: nobody waits for it any more.

        In two halves, for when it was our loop that was held up, its answer may be there already and not be read yet.
        """
        if not twice:
            self._long = asyncio.get_running_loop().call_later(self._patience / 2, self._tire, shares, True)
            return
        self._is_long = True
        for share in shares:
            if not share.future.done():
                share.future.set_exception(self._lost())
        while self._waiting:
            if not (future := self._waiting.popleft().future).done():
                future.set_exception(self._kept())

    def _divided(self, shares: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> bool:
        """Whether these are to be called again, fewer together."""
        error = None if call.cancelled() else call.exception()
        left = [share for share in shares if not share.future.done()]
        if not self._divide or error is None or isinstance(error, StoreUnavailable | StoreFull) or len(left) < 2:
            self._most = min(MOST, 2 * self._most)
            return False
        self._most = len(left) // 2
        self._waiting.extendleft(reversed(left))
        return True

    def _back(self, shares: Sequence[_CallerItems[Item, Answer]], call: asyncio.Task[list[Answer]]) -> None:
        self._call, self._is_long = None, False
        if self._long is not None:
            self._long.cancel()
        if self._divided(shares, call):
            self._start()
            return
        if self._waiting:
            if self._gap and sum(len(share.items) for share in self._waiting) < self._limit:
                self._plan()
            else:
                self._start()
        error = None if call.cancelled() else call.exception()
        answers = [] if call.cancelled() or error else call.result()
        at = 0
        for items, future in shares:
            start, at = at, at + len(items)
            if future.done():  # a request may have been cancelled
                continue
            if call.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answers[start:at])
