"""``smpp-gateway send --file``: many messages, with progress, a summary, and what failed in a file of its own.

It can be stopped and run again: every row carries a client_ref, which the gateway accepts once per recipient within 72
hours, so what was accepted is answered and not sent again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.client import Batch, Client, ClientError, InvalidError, Problem, Refused, UnauthorizedError, Unreachable
from gateway.client.calls import CHUNK
from gateway.commands.rows import BadFile, Failures, Row, count, read
from gateway.commands.shared import KEY_WANTED, Exit
from gateway.show import status_text


class Tally:
    """What became of the rows so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.accepted = 0
        self.repeated = 0  # handed in before, under the same reference
        self.statuses: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stopped = ""  # why it did not come to the end
        self.code = Exit.OK  # for the shell, when it was stopped

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "already_accepted": self.repeated,
            "refused": sum(self.refused.values()),
            "statuses": dict(self.statuses),
            "codes": dict(self.refused),
            "stopped": self.stopped or None,
        }


class FileSender:
    """Hands in the rows of a file, ``CHUNK`` a request."""

    def __init__(self, client: Client, failures: Failures, report: Callable[[Tally], None]) -> None:
        self.tally = Tally()
        self._client = client
        self._failures = failures
        self._report = report

    def run(self, rows: Iterator[Row]) -> Tally:
        """To the end, or until the gateway cannot be reached or refuses the account. Raises BadFile, OSError."""
        waiting: list[Row] = []
        try:
            for row in rows:
                if row.message is None:
                    self._fail(row, "malformed", f"line {row.line}: {row.fault}")
                    continue
                waiting.append(row)
                if len(waiting) == CHUNK:
                    self._hand_in(waiting)
                    waiting = []
            if waiting:
                self._hand_in(waiting)
        except ClientError as error:
            unknown = isinstance(error, UnauthorizedError)
            self.tally.stopped = f"the API key is missing or unknown. {KEY_WANTED}" if unknown else str(error)
            self.tally.code = Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.REFUSED
        return self.tally

    def _fail(self, row: Row, code: str, detail: str) -> None:
        self.tally.rows += 1
        self.tally.refused[code] += 1
        self._failures.add(row.given, code, detail)

    def _hand_in(self, rows: list[Row]) -> None:
        """One request. A request that is refused for some of its rows is repeated without them."""
        while rows:
            try:
                batch = self._client.batch([row.message for row in rows if row.message is not None], size=len(rows))
            except InvalidError as error:
                faults = _faults(error.problem)
                if not faults:
                    raise
                for index, detail in faults.items():
                    self._fail(rows[index], error.code, f"line {rows[index].line}: {detail}")
                rows = [row for index, row in enumerate(rows) if index not in faults]
            else:
                self._note(rows, batch)
                break
        self._report(self.tally)

    def _note(self, rows: list[Row], batch: Batch) -> None:
        for row, result in zip(rows, batch.results, strict=True):
            if isinstance(result, Refused):
                self._fail(row, result.problem.code, f"line {row.line}: {_words(result.problem)}")
            else:
                self.tally.rows += 1
                self.tally.accepted += not result.duplicate
                self.tally.repeated += result.duplicate
                self.tally.statuses[result.status] += 1


def _words(problem: Problem) -> str:
    """What is wrong with one message; its place in the request is nobody's business."""
    return problem.detail.removeprefix("messages[").partition("].")[2] or problem.detail


def _faults(problem: Problem) -> dict[int, str]:
    """Index in the request -> what is wrong there, of ``messages[3].to`` and the like."""
    found: dict[int, str] = {}
    for error in problem.errors:
        place, bracket, field = error.field.removeprefix("messages[").partition("]")
        if bracket and place.isdigit():
            found.setdefault(int(place), f"{field.lstrip('.')}: {error.detail}".lstrip(": "))
    return found


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


def send_file(
    client: Client, file: str, usual: Mapping[str, Any], *, prefix: str, failures: Path | None, quiet: bool
) -> tuple[Tally, Path | None]:
    """What became of a file ("-": NDJSON on standard input), and where its failures are, if any.

    Raises BadFile, OSError.
    """
    name = "stdin.ndjson" if file == "-" else file
    target = failures or (Path("failed.ndjson") if file == "-" else _beside(Path(file)))
    if file != "-" and target.resolve() == Path(file).resolve():
        raise BadFile("the file of failures would replace the file itself; give --failures another name")
    kept = Failures(target)
    total = None if file == "-" else count(Path(file))
    with _opened(file) as stream, _progress(total, quiet) as report:
        sender = FileSender(client, kept, report)
        try:
            sender.run(read(stream, name, usual, prefix))
        except KeyboardInterrupt:
            sender.tally.stopped, sender.tally.code = "interrupted", Exit.INTERRUPTED
        finally:
            kept.close()
    return sender.tally, target if kept.count else None


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.failed{file.suffix or '.ndjson'}")


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    if file == "-":
        yield sys.stdin
        return
    with Path(file).open(encoding="utf-8", newline="") as stream:
        yield stream


@contextmanager
def _progress(total: int | None, quiet: bool) -> Iterator[Callable[[Tally], None]]:
    """A bar on a terminal; nothing anywhere else."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _tally: None
        return
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("messages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, note="")

        def report(tally: Tally) -> None:
            refused = sum(tally.refused.values())
            bar.update(task, completed=tally.rows, note=f"[red]{refused} refused[/]" if refused else "")

        yield report


def show_tally(tally: Tally, failed: Path | None) -> None:
    """The summary for people."""
    console = Console(highlight=False)
    statuses = ", ".join(f"{number} {status_text(status)}" for status, number in tally.statuses.most_common())
    console.print(f"{tally.accepted} accepted" + (f" ({statuses})" if statuses else ""))
    if tally.repeated:
        console.print(f"{tally.repeated} handed in before and not sent again; another --ref would send them again")
    for code, number in tally.refused.most_common():
        console.print(f"[red]{number} {escape(code)}[/]")
    if failed is not None:
        console.print(f"Those refused are in {escape(str(failed))}, with the reasons.")
    if tally.stopped:
        console.print(f"[red]Stopped after {tally.rows} rows:[/] {escape(tally.stopped)}")
        mended = "Mend that, then run" if tally.code == Exit.REFUSED else "Run"
        console.print(f"{mended} the same command again to go on: what was accepted is not sent twice.")
