"""The parts of a running gateway, each kept going by itself: one that fails is started anew alone.

What must end the process still does: an interrupt, an exit, a fault of the configuration. Whatever else a part raises
is a fault of ours (or of what a peer sent us): it is logged with its traceback, counted, and costs that part a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import structlog

from gateway.clock import now_ms
from gateway.config import ConfigError
from gateway.store.errors import StoreError, of_an_item

FIRST, MOST = 0.1, 30.0
"""Seconds before a part that failed is started anew: twice as many every time, up to the most."""

STEADY = 60.0
"""Seconds of work after which a part counts as sound again."""

TELL_EVERY = 60.0
"""Seconds between two lines about the same fault of the same part."""

TRIES = 3
"""How often something that makes others fail is tried before it is set aside."""

LINES = 20
"""Lines a minute, at most, about what is set aside: the counter goes on."""

SHOWN = 10
KEPT = 1000
"""What was set aside last, and what is counted as tried, at most."""

T = TypeVar("T")
Deal = Callable[[Sequence[T]], Awaitable[None]]

log = structlog.get_logger(__name__)


class SetAside(NamedTuple):
    """Something that could not be dealt with, and that is not tried any more."""

    at: int  # ms UTC
    kind: str
    id: str
    error: str


class FailureCounts:
    """How often each of the latest items failed."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<FailureCounts {len(self._counts)} items>"

    def add(self, item: Hashable) -> int:
        """It has failed once more; how often it has by now."""
        count = self._counts.pop(item, 0) + 1
        self._counts[item] = count
        if len(self._counts) > KEPT:
            self._counts.popitem(last=False)
        return count

    def forget(self, item: Hashable) -> None:
        """It is over."""
        self._counts.pop(item, None)


class Supervision:
    """``keep`` runs a part until it is cancelled or ends by itself; ``failed`` and ``set_aside`` tell and count."""

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter()
        """Part -> how often it was started anew."""
        self.failures: Counter[str] = Counter()
        """Where -> how often something failed that was caught there."""
        self.aside: Counter[str] = Counter()
        """Kind -> how many were set aside."""
        self.latest: deque[SetAside] = deque(maxlen=KEPT)
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._lines: deque[float] = deque(maxlen=LINES)  # when the latest of what was set aside was told

    def __repr__(self) -> str:
        counts = f"{self.restarts.total()} restarts, {self.failures.total()} failures, {self.aside.total()} aside"
        return f"<Supervision {counts}>"

    async def keep(self, name: str, run: Callable[[], Awaitable[None]], over: asyncio.Event | None = None) -> None:
        """Run a part; after an error of ours once more, until it returns. Once ``over`` is set it does not
        wait long.

        Raises what must end the process: ConfigError, and whatever is no Exception.
        """
        self.restarts[name] += 0
        loop, wait = asyncio.get_running_loop(), FIRST
        while True:
            begun = loop.time()
            try:
                return await run()
            except ConfigError:
                raise
            except asyncio.CancelledError as error:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                fault: BaseException = error  # something it waited for was cancelled, it was not
            except Exception as error:  # noqa: BLE001 - whatever it is, the other parts go on, and so does this one
                fault = error
            if loop.time() - begun >= STEADY:
                wait = FIRST
            self.restarts[name] += 1
            self._tell(name, fault, "a part failed and is started anew", retry_in=wait)
            await _rest(wait, over)
            wait = min(MOST, 2 * wait)

    def failed(self, where: str, error: BaseException) -> None:
        """Something failed that concerns one item or connection alone; it is counted, and told with its traceback."""
        self.failures[where] += 1
        self._tell(where, error, "something failed, and everything else goes on")

    def set_aside(self, kind: str, one: str, error: BaseException | str) -> None:
        """Keep in mind, for operators, what is not tried any more. ``one``: its id, as people write it."""
        self.aside[kind] += 1
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.latest.append(SetAside(now_ms(), kind, one, said))
        now = time.monotonic()
        if len(self._lines) < LINES or now - self._lines[0] >= TELL_EVERY:
            self._lines.append(now)
            log.error("set aside: it cannot be dealt with", kind=kind, id=one, error=said)

    def told(self) -> dict[str, Any]:
        """What operators see of it."""
        return {
            "restarts": {name: count for name, count in self.restarts.items() if count},
            "failures": dict(self.failures),
            "set_aside": dict(self.aside),
            "latest": [one._asdict() for one in list(self.latest)[-SHOWN:]],
        }

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count and tell what fails in callbacks of the loop, where nobody is to catch it."""
        loop.set_exception_handler(self._in_callback)

    def _in_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.failed("callback", error)
        else:
            self.failures["callback"] += 1
            log.warning("the event loop complains", said=str(context.get("message", "")))

    def _tell(self, name: str, error: BaseException, said: str, **more: object) -> None:
        """One line a minute for each kind of error of a part; how often it came in between is told with the next."""
        now, kind = time.monotonic(), (name, type(error).__name__)
        last, missed = self._told.get(kind, (float("-inf"), 0))
        if now - last < TELL_EVERY:
            self._told[kind] = last, missed + 1
            return
        if len(self._told) >= KEPT:
            self._told.clear()
        self._told[kind] = now, 0
        log.error(said, part=name, untold=missed, exc_info=error, **more)


async def sift(items: Sequence[T], deal: Deal[T], alone: Callable[[T, Exception], Awaitable[None]]) -> None:
    """Deal with all of them; when that fails, with each half, so that one that fails ``alone`` keeps no other back.

    ``deal`` must bear being repeated. Raises the StoreErrors for which no item can be blamed.
    """
    try:
        await deal(items)
        return
    except StoreError as error:
        if not of_an_item(error):
            raise
        fault: Exception = error
    except Exception as error:  # noqa: BLE001 - whatever is odd about one of them
        fault = error
    if len(items) == 1:
        await alone(items[0], fault)
        return
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        await sift(half, deal, alone)


async def _rest(seconds: float, over: asyncio.Event | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (over or asyncio.Event()).wait()
            await asyncio.sleep(FIRST)
