"""``python -m bench``: one run, its result as a table or as JSON."""

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
from bench.run import Progress as Where
from bench.run import Run
from gateway.client import Unreachable
from gateway.store.errors import StoreError


@contextlib.contextmanager
def bar(options: Options) -> Iterator[Callable[[Where], None]]:
    """A progress bar on standard error when that is a terminal, else nothing."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        accepted = progress.add_task("starting", total=options.messages)
        done = progress.add_task("delivered", total=options.messages)

        def show(where: Where) -> None:
            name = "accepted" if where.phase == "messages" else where.phase
            progress.update(accepted, description=name, completed=where.accepted if where.phase == "messages" else 0)
            progress.update(done, completed=where.done if where.phase == "messages" else 0)

        yield show


async def measure(options: Options) -> Result:
    """A run that Ctrl-C and SIGTERM end in order."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with bar(options) as show:
        return await Run(options, show).result()


def main() -> int:
    """0 when nothing was lost or doubled, 1 when something was, 2 when nothing could be measured."""
    options = parse(sys.argv[1:])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(measure(options))
    except (ChildDied, TimeoutError, Unreachable, StoreError, OSError) as error:
        print(f"could not measure: {error or type(error).__name__}", file=sys.stderr)
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
