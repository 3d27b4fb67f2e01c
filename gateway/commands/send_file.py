"""``smpp-gateway send --file``: many messages, with progress, a summary, and a file of refused rows.

It can be interrupted and run again: every row has a client_ref, which the gateway accepts once per recipient within 72
hours, so accepted rows are reported as duplicates and not sent again.
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
from gateway.commands.common import KEY_HINT, Exit
from gateway.commands.failed_rows import FailedRows
from gateway.commands.message_file import MessageRow, MessageRows, RowDefaults, count, is_csv
from gateway.commands.output import SafeConsole, status_text
from gateway.commands.text_lines import BadFile, charset_note, open_text


class RepeatedRows:
    """How many rows repeat an earlier one, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first = (0, 0)

    def add(self, line: int, before: int) -> None:
        self.count += 1
        if self.count == 1:
            self._first = (line, before)

    def __str__(self) -> str:
        line, before = self._first
        return f"{self.count} (first: line {line}, like line {before})"


class FileProgress:
    """The outcome of the rows so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.accepted = 0
        self.repeated = 0  # accepted earlier under the same client_ref
        self.duplicates = RepeatedRows()  # rows with the recipient and text of an earlier row: not sent
        self.same_recipient = RepeatedRows()  # rows with another message to the recipient of an earlier row
        self.unused: list[str] = []  # columns that are not used
        self.charset = ""  # of the file, when it is not UTF-8
        self.statuses: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stopped = ""  # why sending stopped before the end
        self.code = Exit.OK  # exit code when it stopped

    def as_json(self) -> dict[str, Any]:
        """Return the outcome for ``--json``."""
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "already_accepted": self.repeated,
            "same_rows": self.duplicates.count,
            "same_recipient": self.same_recipient.count,
            "refused": sum(self.refused.values()),
            "statuses": dict(self.statuses),
            "codes": dict(self.refused),
            "unused_columns": self.unused,
            "stopped": self.stopped or None,
        }

    def notes(self) -> Iterator[str]:
        """Yield remarks about the file itself."""
        if self.charset:
            yield f"Read as {self.charset}; if that is wrong, pass --charset."
        if self.unused:
            yield f"Unused columns: {', '.join(self.unused)}."
        if self.duplicates.count:
            yield (
                f"Duplicate rows skipped, with the recipient and text of an earlier row: {self.duplicates}. To send "
                "them too, give each row its own client_ref."
            )
        if self.same_recipient.count:
            yield f"Rows with the recipient of an earlier row but another text: {self.same_recipient}."


class FileSender:
    """Sends the rows of a file, ``CHUNK`` per request."""

    def __init__(self, client: Client, failures: FailedRows, report: Callable[[FileProgress], None]) -> None:
        self.progress = FileProgress()
        self._client = client
        self._failures = failures
        self._report = report

    def run(self, rows: Iterator[MessageRow]) -> FileProgress:
        """Send rows until the end, or until the gateway is unreachable or refuses the account. Raises OSError."""
        waiting: list[MessageRow] = []
        try:
            for row in rows:
                if not self._is_new(row):
                    continue
                waiting.append(row)
                if len(waiting) == CHUNK:
                    self._send(waiting)
                    waiting = []
            if waiting:
                self._send(waiting)
        except ClientError as error:
            no_key = isinstance(error, UnauthorizedError)
            self.progress.stopped = f"the API key is missing or unknown. {KEY_HINT}" if no_key else str(error)
            self.progress.code = Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.REFUSED
        return self.progress

    def _is_new(self, row: MessageRow) -> bool:
        """Whether to send a row; one that is not sent is counted."""
        if row.message is None:
            self._fail(row, "malformed", f"line {row.line}: {row.error}")
            return False
        if row.duplicate_of:
            self.progress.rows += 1
            self.progress.duplicates.add(row.line, row.duplicate_of)
            return False
        if row.same_recipient_as:
            self.progress.same_recipient.add(row.line, row.same_recipient_as)
        return True

    def _fail(self, row: MessageRow, code: str, detail: str) -> None:
        self.progress.rows += 1
        self.progress.refused[code] += 1
        self._failures.add(row.given, code, detail)

    def _send(self, rows: list[MessageRow]) -> None:
        """Send one request; when it is refused because of some rows, send it again without them."""
        while rows:
            try:
                batch = self._client.batch([row.message for row in rows if row.message is not None], size=len(rows))
            except InvalidError as error:
                errors = _row_errors(error.problem)
                if not errors:
                    raise
                for index, detail in errors.items():
                    self._fail(rows[index], error.code, f"line {rows[index].line}: {detail}")
                rows = [row for index, row in enumerate(rows) if index not in errors]
            else:
                self._record(rows, batch)
                break
        self._report(self.progress)

    def _record(self, rows: list[MessageRow], batch: Batch) -> None:
        for row, result in zip(rows, batch.results, strict=True):
            if isinstance(result, Refused):
                self._fail(row, result.problem.code, f"line {row.line}: {_detail(result.problem)}")
            else:
                self.progress.rows += 1
                self.progress.accepted += not result.duplicate
                self.progress.repeated += result.duplicate
                self.progress.statuses[result.status] += 1


def _detail(problem: Problem) -> str:
    """Return a problem's detail without the message's index in the request."""
    return problem.detail.removeprefix("messages[").partition("].")[2] or problem.detail


def _row_errors(problem: Problem) -> dict[int, str]:
    """Return index in the request -> error, from fields like ``messages[3].to``."""
    found: dict[int, str] = {}
    for error in problem.errors:
        index, bracket, field = error.field.removeprefix("messages[").partition("]")
        if bracket and index.isdigit():
            found.setdefault(int(index), f"{field.lstrip('.')}: {error.detail}".lstrip(": "))
    return found


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


class FileOptions(NamedTuple):
    """How to send a file. ``file``: its path, "-": NDJSON on standard input."""

    file: str
    defaults: RowDefaults
    charset: str = ""
    failures: Path | None = None
    quiet: bool = False


@contextmanager
def rows_of(options: FileOptions) -> Iterator[tuple[MessageRows, TextIO]]:
    """Open a file and return its rows and its text. Raises BadFile, OSError."""
    if options.file == "-":
        file: BinaryIO = sys.stdin.buffer
        with open_text(file, options.charset or "utf-8") as text:
            yield MessageRows(text, "stdin.ndjson", options.defaults), text
        return
    with Path(options.file).open("rb") as file, open_text(file, options.charset) as text:
        yield MessageRows(text, options.file, options.defaults), text


def send_file(client: Client, options: FileOptions) -> tuple[FileProgress, Path | None]:
    """Send a file; return the outcome and the file of refused rows, if there are any.

    Raises BadFile, OSError: nothing was sent.
    """
    file = Path(options.file)
    piped = options.file == "-"
    target = options.failures or (Path("failed.ndjson") if piped else _beside(file))
    if not piped and target.resolve() == file.resolve():
        raise BadFile("--failures names the file itself; choose another name")
    if is_csv(target.name) != (not piped and is_csv(file.name)):
        raise BadFile(f"--failures has the format of the file itself; its name must end in {file.suffix or '.ndjson'}")
    with rows_of(options) as (rows, text), _progress_bar(None if piped else count(file), options.quiet) as report:
        marked = text.encoding.lower() not in ("utf-8", "ascii")
        kept = FailedRows(target, rows.columns, getattr(rows, "delimiter", ""), mark=marked)
        sender = FileSender(client, kept, report)
        sender.progress.unused, sender.progress.charset = rows.unused, charset_note(text)
        try:
            sender.run(iter(rows))
        except KeyboardInterrupt:
            sender.progress.stopped, sender.progress.code = "interrupted", Exit.INTERRUPTED
        except OSError as error:  # of either file: the summary still reports the rows sent so far
            sender.progress.stopped, sender.progress.code = f"{error.filename or file}: {error.strerror}", Exit.REFUSED
        finally:
            kept.close()
    return sender.progress, target if kept.count else None


def _beside(file: Path) -> Path:
    return file.parent / f"{file.stem}.failed{file.suffix or '.ndjson'}"  # with_name() fails for "."


@contextmanager
def _progress_bar(total: int | None, quiet: bool) -> Iterator[Callable[[FileProgress], None]]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    console = SafeConsole(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _progress: None
        return
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("messages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, note="")

        def report(progress: FileProgress) -> None:
            refused = sum(progress.refused.values())
            bar.update(task, completed=progress.rows, note=f"[red]{refused} refused[/]" if refused else "")

        yield report


def print_summary(progress: FileProgress, failed: Path | None) -> None:
    """Print the outcome of a file."""
    console = SafeConsole(highlight=False)
    statuses = ", ".join(f"{number} {status_text(status)}" for status, number in progress.statuses.most_common())
    console.print(f"{progress.accepted} accepted" + (f" ({statuses})" if statuses else ""))
    if progress.repeated:
        console.print(
            f"{progress.repeated} accepted earlier and not sent again; to send them again, pass another --ref"
        )
    for code, number in progress.refused.most_common():
        console.print(f"[red]{number} {escape(code)}[/]")
    for note in progress.notes():
        console.print(escape(note), soft_wrap=True)
    if failed is not None:
        console.print(f"Refused rows are in {escape(str(failed))}, with the reasons.", soft_wrap=True)
    if progress.stopped:
        console.print(f"[red]Stopped after {progress.rows} rows:[/] {escape(progress.stopped)}", soft_wrap=True)
        run = "Fix this, then run" if progress.code == Exit.REFUSED else "Run"
        console.print(f"{run} the same command again to continue; accepted rows are not sent twice.", soft_wrap=True)
