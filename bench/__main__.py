"""``python -m bench``: one run; prints its result as a table or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.children import ChildDied
from bench.measure import Result
from bench.options import Options, parse
from bench.report import print_result
from bench.run import Progress as RunProgress
from bench.run import Run
from gateway.client import Unreachable
from gateway.store.errors import StoreError


@contextlib.contextmanager
def bar(options: Options) -> Iterator[Callable[[RunProgress], None]]:
    """Show a progress bar on standard error if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        accepted = progress.add_task("starting", total=options.messages)
        done = progress.add_task("delivered", total=options.messages)

        def show(at: RunProgress) -> None:
            name = "accepted" if at.phase == "messages" else at.phase
            progress.update(accepted, description=name, completed=at.accepted if at.phase == "messages" else 0)
            progress.update(done, completed=at.done if at.phase == "messages" else 0)

        yield show


async def measure(options: Options) -> Result:
    """Return the result of one run, which Ctrl-C and SIGTERM stop cleanly."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with bar(options) as show:
        return await Run(options, show).result()


def main() -> int:
    """Return 0 if nothing was lost or duplicated, 1 otherwise, 2 if nothing could be measured."""
    options = parse(sys.argv[1:])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(measure(options))
    except (ChildDied, TimeoutError, Unreachable, StoreError, OSError) as error:
        print(f"cannot measure: {error or type(error).__name__}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("interrupted", file=sys.stderr)
        return 130
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    if options.out:
        Path(options.out).write_text(text + "\n")
    if options.json:
        print(text)
    else:
        print_result(result, Console(highlight=False))
    return 0 if result.counts.clean and result.finished else 1


if __name__ == "__main__":
    sys.exit(main())
