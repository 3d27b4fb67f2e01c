"""Supervision of the gateway's components: one that fails is restarted alone; failures are counted and logged.

Interrupts, exits and configuration errors still end the process. Any other exception is a bug of ours or unexpected
input from a peer: it is logged with its traceback, counted, and delays only the component that raised it.
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
"""Seconds before a failed component is restarted: doubled with every failure, up to the second value."""

STEADY = 60.0
"""Seconds of work after which the restart delay begins at ``FIRST`` again."""

LOG_EVERY = 60.0
"""Seconds between two log lines about the same kind of error in the same component."""

TRIES = 3
"""Times that an item which makes others fail is tried before it is set aside."""

LINES = 20
"""The most log lines a minute about items set aside; the counter counts all of them."""

SHOWN = 10
"""Items set aside that operators are shown, the latest."""

KEPT = 1000
"""The most entries kept of items set aside, of failure counts and of log times."""

T = TypeVar("T")
Process = Callable[[Sequence[T]], Awaitable[None]]

log = structlog.get_logger(__name__)


class SetAside(NamedTuple):
    """An item that could not be processed and is not tried again."""

    at: int  # ms UTC
    kind: str
    id: str
    error: str


class FailureCounts:
    """Number of failures of each of the latest ``KEPT`` items."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<FailureCounts {len(self._counts)} items>"

    def add(self, item: Hashable) -> int:
        """Count one more failure of the item and return its failures so far."""
        count = self._counts.pop(item, 0) + 1
        self._counts[item] = count
        if len(self._counts) > KEPT:
            self._counts.popitem(last=False)
        return count

    def forget(self, item: Hashable) -> None:
        """Drop the count of an item that is done with."""
        self._counts.pop(item, None)


class Supervision:
    """Restarts components (``keep_running``); counts failures (``failed``) and items given up (``set_aside``)."""

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter()
        """Component -> restarts after a failure."""
        self.failures: Counter[str] = Counter()
        """Where -> failures that were caught there."""
        self.set_aside_counts: Counter[str] = Counter()
        """Kind -> items set aside."""
        self.latest: deque[SetAside] = deque(maxlen=KEPT)
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}
        """(component, kind of error) -> time of the last log line, and errors that were not logged since."""
        self._lines: deque[float] = deque(maxlen=LINES)  # times of the latest log lines about items set aside

    def __repr__(self) -> str:
        counts = f"{self.restarts.total()} restarts, {self.failures.total()} failures"
        return f"<Supervision {counts}, {self.set_aside_counts.total()} set aside>"

    async def keep_running(
        self, name: str, run: Callable[[], Awaitable[None]], stopping: asyncio.Event | None = None
    ) -> None:
        """Run a component until it returns; restart it whenever it raises.

        Once ``stopping`` is set, delays are cut short.

        Raise ConfigError and every BaseException that is not an Exception.
        """
        self.restarts[name] += 0
        loop, wait = asyncio.get_running_loop(), FIRST
        while True:
            started = loop.time()
            try:
                return await run()
            except ConfigError:
                raise
            except asyncio.CancelledError as cancelled:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                error: BaseException = cancelled  # what the component awaited was cancelled, not the component itself
            except Exception as raised:  # noqa: BLE001 - whatever it is, this component is restarted and others are unaffected
                error = raised
            if loop.time() - started >= STEADY:
                wait = FIRST
            self.restarts[name] += 1
            self._log(name, error, "component failed, restarting", retry_in=wait)
            await _sleep(wait, stopping)
            wait = min(MOST, 2 * wait)

    def failed(self, where: str, error: BaseException) -> None:
        """Count and log, with its traceback, a failure that affects a single item or connection."""
        self.failures[where] += 1
        self._log(where, error, "unexpected error, other work continues")

    def set_aside(self, kind: str, item_id: str, error: BaseException | str) -> None:
        """Count, log and keep for operators an item that is not tried again. ``item_id`` is its printable id."""
        self.set_aside_counts[kind] += 1
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.latest.append(SetAside(now_ms(), kind, item_id, text))
        now = time.monotonic()
        if len(self._lines) < LINES or now - self._lines[0] >= LOG_EVERY:
            self._lines.append(now)
            log.error("item set aside", kind=kind, id=item_id, error=text)

    def as_json(self) -> dict[str, Any]:
        """Return the counts and the latest items set aside, for ``GET /status``."""
        return {
            "restarts": {name: count for name, count in self.restarts.items() if count},
            "failures": dict(self.failures),
            "set_aside": dict(self.set_aside_counts),
            "latest": [item._asdict() for item in list(self.latest)[-SHOWN:]],
        }

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count and log exceptions in callbacks of the event loop, which no caller can catch."""
        loop.set_exception_handler(self._in_callback)

    def _in_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.failed("callback", error)
        else:
            self.failures["callback"] += 1
            log.warning("event loop error", detail=str(context.get("message", "")))

    def _log(self, component: str, error: BaseException, event: str, **more: object) -> None:
        """Log one line a minute per component and kind of error; the next one says how many were suppressed."""
        now, kind = time.monotonic(), (component, type(error).__name__)
        last, suppressed = self._logged.get(kind, (float("-inf"), 0))
        if now - last < LOG_EVERY:
            self._logged[kind] = last, suppressed + 1
            return
        if len(self._logged) >= KEPT:
            self._logged.clear()
        self._logged[kind] = now, 0
        log.error(event, component=component, suppressed=suppressed, exc_info=error, **more)


async def isolate_failures(
    items: Sequence[T], process: Process[T], on_failure: Callable[[T, Exception], Awaitable[None]]
) -> None:
    """Process all items; when that raises, process each half, until the items that raise alone go to ``on_failure``.

    ``process`` must be safe to repeat. Raise the StoreErrors that no item has caused (store away or full).
    """
    try:
        await process(items)
        return
    except StoreError as store_error:
        if not of_an_item(store_error):
            raise
        error: Exception = store_error
    except Exception as raised:  # noqa: BLE001 - any fault of one item must not stop the others
        error = raised
    if len(items) == 1:
        await on_failure(items[0], error)
        return
    for half in (items[: len(items) // 2], items[len(items) // 2 :]):
        await isolate_failures(half, process, on_failure)


async def _sleep(seconds: float, stopping: asyncio.Event | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (stopping or asyncio.Event()).wait()
            await asyncio.sleep(FIRST)
