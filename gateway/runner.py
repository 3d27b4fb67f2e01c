"""Runs a program of the command line on uvloop until it ends or is asked to."""

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
    """Asked to stop a second time before the orderly end was reached."""


def run(program: Program[T]) -> T:
    """Run ``program(stop)``. The first SIGINT or SIGTERM sets ``stop``; a second one cancels it: Interrupted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_watched(program))
        except asyncio.CancelledError:
            raise Interrupted from None


async def _watched(program: Program[T]) -> T:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def ask() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, _refuse_reload)
    try:
        return await program(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _refuse_reload() -> None:
    structlog.get_logger().warning("there is no configuration file to reload here")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside (nested) groups; the error itself when it is no group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
