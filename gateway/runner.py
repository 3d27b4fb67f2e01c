"""Run an asyncio program on uvloop until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import structlog
import uvloop

T = TypeVar("T")
Program = Callable[[asyncio.Event], Coroutine[Any, Any, T]]


class Interrupted(Exception):
    """A second signal came before the orderly shutdown was complete."""


def run(program: Program[T]) -> T:
    """Run ``program(stop)``. The first SIGINT or SIGTERM sets ``stop``; a second one cancels it: Interrupted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_with_signals(program))
        except asyncio.CancelledError:
            raise Interrupted from None


async def _with_signals(program: Program[T]) -> T:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, _refuse_reload)
    try:
        return await program(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _refuse_reload() -> None:
    structlog.get_logger().warning("SIGHUP ignored: no configuration file to reload")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside (nested) groups; the error itself when it is not a group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
