"""``smpp-gateway send --file``: many messages, with progress, a summary, and what failed in a file of its own.

It can be stopped and run again: every row carries a client_ref, which the gateway accepts once per recipient within 72
hours, so what was accepted is answered and not sent again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.client import Batch, Client, ClientError, InvalidError, Problem, Refused, UnauthorizedError, Unreachable
from gateway.client.batches import CHUNK
from gateway.commands.common import KEY_WANTED, Exit
from gateway.commands.message_file import FailedRows, MessageRow, MessageRows, RowDefaults, count, is_csv
from gateway.commands.output import SafeConsole, status_text
from gateway.commands.text_lines import BadFile, noteworthy, opened


class RepeatedRows:
    """How often rows repeat something, and where first."""

    def __init__(self) -> None:
        self.count = 0
        self._first = (0, 0)

    def add(self, line: int, before: int) -> None:
        self.count += 1
        if self.count == 1:
            self._first = (line, before)

    def __str__(self) -> str:
        line, before = self._first
        return f"first: line {line}, as line {before}"


class FileProgress:
    """What became of the rows so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.accepted = 0
        self.repeated = 0  # handed in before, under the same reference
        self.same = RepeatedRows()  # rows that say what an earlier row says: not handed in
        self.again = RepeatedRows()  # rows with another message to the recipient of an earlier row
        self.unused: list[str] = []  # columns that no message uses
        self.charset = ""  # of the file, when it is not plain UTF-8
        self.statuses: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stopped = ""  # why it did not come to the end
        self.code = Exit.OK  # for the shell, when it was stopped

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "already_accepted": self.repeated,
            "same_rows": self.same.count,
            "same_recipient": self.again.count,
            "refused": sum(self.refused.values()),
            "statuses": dict(self.statuses),
            "codes": dict(self.refused),
            "unused_columns": self.unused,
            "stopped": self.stopped or None,
        }

    def notes(self) -> Iterator[str]:
        """What is worth knowing of the file itself."""
        if self.charset:
            yield f"Read as {self.charset}; if that is wrong, name its character set with --charset."
        if self.unused:
            yield f"Columns that no message uses: {', '.join(self.unused)}."
        if self.same.count:
            yield (
                f"{self.same.count} say the same to the same recipient as an earlier row ({self.same}) and were left "
                "out; a client_ref of its own for each sends them all."
            )
        if self.again.count:
            yield f"{self.again.count} have the recipient of an earlier row, and say something else ({self.again})."


class FileSender:
    """Hands in the rows of a file, ``CHUNK`` a request."""

    def __init__(self, client: Client, failures: FailedRows, report: Callable[[FileProgress], None]) -> None:
        self.tally = FileProgress()
        self._client = client
        self._failures = failures
        self._report = report

    def run(self, rows: Iterator[MessageRow]) -> FileProgress:
        """To the end, or until the gateway cannot be reached or refuses the account. Raises OSError."""
        waiting: list[MessageRow] = []
        try:
            for row in rows:
                if not self._is_new(row):
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

    def _is_new(self, row: MessageRow) -> bool:
        """Whether a row is to be handed in; what is not is counted."""
        if row.message is None:
            self._fail(row, "malformed", f"line {row.line}: {row.fault}")
            return False
        if row.same:
            self.tally.rows += 1
            self.tally.same.add(row.line, row.same)
            return False
        if row.again:
            self.tally.again.add(row.line, row.again)
        return True

    def _fail(self, row: MessageRow, code: str, detail: str) -> None:
        self.tally.rows += 1
        self.tally.refused[code] += 1
        self._failures.add(row.given, code, detail)

    def _hand_in(self, rows: list[MessageRow]) -> None:
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

    def _note(self, rows: list[MessageRow], batch: Batch) -> None:
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


class FileOptions(NamedTuple):
    """What is asked of a file ("-": NDJSON on standard input)."""

    file: str
    usual: RowDefaults
    charset: str = ""
    failures: Path | None = None
    quiet: bool = False


@contextmanager
def rows_of(wanted: FileOptions) -> Iterator[tuple[MessageRows, TextIO]]:
    """The rows of a file and its text. Raises BadFile, OSError."""
    if wanted.file == "-":
        file: BinaryIO = sys.stdin.buffer
        with opened(file, wanted.charset or "utf-8") as text:
            yield MessageRows(text, "stdin.ndjson", wanted.usual), text
        return
    with Path(wanted.file).open("rb") as file, opened(file, wanted.charset) as text:
        yield MessageRows(text, wanted.file, wanted.usual), text


def send_file(client: Client, wanted: FileOptions) -> tuple[FileProgress, Path | None]:
    """What became of a file, and where its failures are, if any.

    Raises BadFile, OSError: nothing was handed in.
    """
    file = Path(wanted.file)
    piped = wanted.file == "-"
    target = wanted.failures or (Path("failed.ndjson") if piped else _beside(file))
    if not piped and target.resolve() == file.resolve():
        raise BadFile("the file of failures would replace the file itself; give --failures another name")
    if is_csv(target.name) != (not piped and is_csv(file.name)):
        raise BadFile(f"the file of failures is of the same form; let its name end in {file.suffix or '.ndjson'}")
    with rows_of(wanted) as (rows, text), _progress(None if piped else count(file), wanted.quiet) as report:
        marked = text.encoding.lower() not in ("utf-8", "ascii")
        kept = FailedRows(target, rows.columns, getattr(rows, "delimiter", ""), mark=marked)
        sender = FileSender(client, kept, report)
        sender.tally.unused, sender.tally.charset = rows.unused, noteworthy(text)
        try:
            sender.run(iter(rows))
        except KeyboardInterrupt:
            sender.tally.stopped, sender.tally.code = "interrupted", Exit.INTERRUPTED
        except OSError as error:  # of either file: what was handed in is told all the same
            sender.tally.stopped, sender.tally.code = f"{error.filename or file}: {error.strerror}", Exit.REFUSED
        finally:
            kept.close()
    return sender.tally, target if kept.count else None


def _beside(file: Path) -> Path:
    return file.parent / f"{file.stem}.failed{file.suffix or '.ndjson'}"  # "." has no name to replace


@contextmanager
def _progress(total: int | None, quiet: bool) -> Iterator[Callable[[FileProgress], None]]:
    """A bar on a terminal; nothing anywhere else."""
    console = SafeConsole(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _tally: None
        return
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("messages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, note="")

        def report(tally: FileProgress) -> None:
            refused = sum(tally.refused.values())
            bar.update(task, completed=tally.rows, note=f"[red]{refused} refused[/]" if refused else "")

        yield report


def show_tally(tally: FileProgress, failed: Path | None) -> None:
    """The summary for people."""
    console = SafeConsole(highlight=False)
    statuses = ", ".join(f"{number} {status_text(status)}" for status, number in tally.statuses.most_common())
    console.print(f"{tally.accepted} accepted" + (f" ({statuses})" if statuses else ""))
    if tally.repeated:
        console.print(f"{tally.repeated} handed in before and not sent again; another --ref would send them again")
    for code, number in tally.refused.most_common():
        console.print(f"[red]{number} {escape(code)}[/]")
    for note in tally.notes():
        console.print(escape(note), soft_wrap=True)
    if failed is not None:
        console.print(f"Those refused are in {escape(str(failed))}, with the reasons.")
    if tally.stopped:
        console.print(f"[red]Stopped after {tally.rows} rows:[/] {escape(tally.stopped)}")
        mended = "Mend that, then run" if tally.code == Exit.REFUSED else "Run"
        console.print(f"{mended} the same command again to go on: what was accepted is not sent twice.")
