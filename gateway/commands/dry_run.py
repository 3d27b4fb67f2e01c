"""``smpp-gateway send --file … --dry-run``: count what would be sent, without a gateway."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.markup import escape

from gateway.client import Message
from gateway.commands.message_file import MessageRow
from gateway.commands.output import SafeConsole
from gateway.commands.send_file import FileOptions, FileProgress, rows_of
from gateway.commands.text_lines import charset_note
from gateway.policy.dialling import InvalidNumber, parse_e164
from gateway.smpp.text import Alphabet, TextError, count, replace_typographic

_ERRORS_SHOWN = 10


class Forecast:
    """What a file would become. Segments are counted for GSM 03.38 and UCS-2; a carrier may encode otherwise."""

    def __init__(self) -> None:
        self.progress = FileProgress()
        self.messages = 0
        self.segments = 0
        self.kinds: Counter[tuple[str, int]] = Counter()  # alphabet and segments
        self.templates = 0  # messages whose text the gateway renders
        self.errors: list[tuple[int, str]] = []
        self.example: Message | None = None

    def add(self, row: MessageRow) -> None:
        """Count one row."""
        self.progress.rows += 1
        error = row.error or ("" if row.message is None else self._add_message(row, row.message))
        if error:
            self.errors.append((row.line, error))

    def _add_message(self, row: MessageRow, message: Message) -> str:
        """Count a message; return why it would be refused, or ""."""
        if row.duplicate_of:
            self.progress.duplicates.add(row.line, row.duplicate_of)
            return ""
        if row.same_recipient_as:
            self.progress.same_recipient.add(row.line, row.same_recipient_as)
        try:
            parse_e164(message.to)
            if message.text is not None:
                self._add_text(message.text, message.encoding)
        except InvalidNumber as error:
            return f"to: {error}"
        except TextError as error:
            return f"text: {error}"
        self.templates += message.text is None
        self.messages += 1
        self.example = self.example or message
        return ""

    def _add_text(self, text: str, encoding: str | None) -> None:
        if encoding == "smart":
            text = replace_typographic(text)[0]
        given = Alphabet(encoding) if encoding in ("gsm7", "latin1", "ucs2") else None
        alphabet, parts, _ = count(text, given)
        self.segments += parts
        self.kinds[str(alphabet), parts] += 1

    def as_json(self) -> dict[str, Any]:
        """Return the counts for ``--json``."""
        kinds = [
            {"encoding": alphabet, "segments": parts, "messages": number}
            for (alphabet, parts), number in sorted(self.kinds.items())
        ]
        return {
            "rows": self.progress.rows,
            "messages": self.messages,
            "segments": self.segments,
            "by_length": kinds,
            "of_templates": self.templates,
            "same_rows": self.progress.duplicates.count,
            "same_recipient": self.progress.same_recipient.count,
            "unused_columns": self.progress.unused,
            "faults": [{"line": line, "detail": error} for line, error in self.errors],
        }

    def show(self) -> None:
        """Print the counts."""
        out = SafeConsole(highlight=False)
        out.print(f"{_counted(self.messages, 'message')} in {_counted(self.segments, 'segment')}; nothing was sent")
        for (alphabet, parts), number in sorted(self.kinds.items()):
            out.print(f"  {number} × {_counted(parts, 'segment')} ({alphabet})")
        if self.templates:
            out.print(f"  {self.templates} by a template, rendered by the gateway: not counted in segments")
        if self.example is not None and self.example.text:
            out.print(f"First message, to {self.example.to}: {escape(self.example.text)}", soft_wrap=True)
        for note in self.progress.notes():
            out.print(escape(note), soft_wrap=True)
        for line, error in self.errors[:_ERRORS_SHOWN]:
            out.print(f"[red]line {line}:[/] {escape(error)}", soft_wrap=True)
        if len(self.errors) > _ERRORS_SHOWN:
            out.print(f"[red]… and {len(self.errors) - _ERRORS_SHOWN} more rows with errors[/]")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def dry_run(options: FileOptions) -> Forecast:
    """Count the messages of a file. Raises BadFile, OSError."""
    forecast = Forecast()
    with rows_of(options) as (rows, text):
        forecast.progress.unused = rows.unused
        forecast.progress.charset = charset_note(text)
        for row in rows:
            forecast.add(row)
    return forecast
