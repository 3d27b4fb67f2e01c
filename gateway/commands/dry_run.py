"""``smpp-gateway send --file … --dry-run``: what would be handed in, counted, without a gateway."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.markup import escape

from gateway.client import Message
from gateway.commands.message_file import MessageRow
from gateway.commands.output import SafeConsole
from gateway.commands.send_file import FileOptions, FileProgress, rows_of
from gateway.commands.text_lines import noteworthy
from gateway.policy.dialling import InvalidNumber, parse_e164
from gateway.smpp.text import Alphabet, TextError, count, replace_typographic

_FAULTS_SHOWN = 10


class Forecast:
    """What a file would become. Segments are those of GSM 03.38 and UCS-2; a carrier may write it otherwise."""

    def __init__(self) -> None:
        self.tally = FileProgress()
        self.messages = 0
        self.segments = 0
        self.kinds: Counter[tuple[str, int]] = Counter()  # alphabet and segments
        self.templates = 0  # messages whose text the gateway makes
        self.faults: list[tuple[int, str]] = []
        self.example: Message | None = None

    def add(self, row: MessageRow) -> None:
        """Count one row."""
        self.tally.rows += 1
        fault = row.fault or ("" if row.message is None else self._message(row, row.message))
        if fault:
            self.faults.append((row.line, fault))

    def _message(self, row: MessageRow, message: Message) -> str:
        """Why it would be refused, or ""."""
        if row.same:
            self.tally.same.add(row.line, row.same)
            return ""
        if row.again:
            self.tally.again.add(row.line, row.again)
        try:
            parse_e164(message.to)
            if message.text is not None:
                self._text(message.text, message.encoding)
        except InvalidNumber as error:
            return f"to: {error}"
        except TextError as error:
            return f"text: {error}"
        self.templates += message.text is None
        self.messages += 1
        self.example = self.example or message
        return ""

    def _text(self, text: str, asked: str | None) -> None:
        if asked == "smart":
            text = replace_typographic(text)[0]
        subscription = Alphabet(asked) if asked in ("gsm7", "latin1", "ucs2") else None
        alphabet, parts, _ = count(text, subscription)
        self.segments += parts
        self.kinds[str(alphabet), parts] += 1

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        kinds = [
            {"encoding": alphabet, "segments": parts, "messages": number}
            for (alphabet, parts), number in sorted(self.kinds.items())
        ]
        return {
            "rows": self.tally.rows,
            "messages": self.messages,
            "segments": self.segments,
            "by_length": kinds,
            "of_templates": self.templates,
            "same_rows": self.tally.same.count,
            "same_recipient": self.tally.again.count,
            "unused_columns": self.tally.unused,
            "faults": [{"line": line, "detail": fault} for line, fault in self.faults],
        }

    def show(self) -> None:
        """For people."""
        out = SafeConsole(highlight=False)
        out.print(f"{_many(self.messages, 'message')} in {_many(self.segments, 'segment')}; nothing was handed in")
        for (alphabet, parts), number in sorted(self.kinds.items()):
            out.print(f"  {number} × {_many(parts, 'segment')} ({alphabet})")
        if self.templates:
            out.print(f"  {self.templates} by a template, whose text the gateway makes: not counted in segments")
        if self.example is not None and self.example.text:
            out.print(f"The first: to {self.example.to}: {escape(self.example.text)}", soft_wrap=True)
        for note in self.tally.notes():
            out.print(escape(note), soft_wrap=True)
        for line, fault in self.faults[:_FAULTS_SHOWN]:
            out.print(f"[red]line {line}:[/] {escape(fault)}", soft_wrap=True)
        if len(self.faults) > _FAULTS_SHOWN:
            out.print(f"[red]… and {len(self.faults) - _FAULTS_SHOWN} more rows with faults[/]")


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def dry_run(wanted: FileOptions) -> Forecast:
    """Count a file. Raises BadFile, OSError."""
    forecast = Forecast()
    with rows_of(wanted) as (rows, text):
        forecast.tally.unused = rows.unused
        forecast.tally.charset = noteworthy(text)
        for row in rows:
            forecast.add(row)
    return forecast
