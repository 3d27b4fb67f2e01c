"""Responses of the gateway as text and tables for people."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from gateway.sanitize import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.client import Answer

COLORS = {
    "delivered": "green",
    "sent": "green",
    "deferred": "yellow",
    "scheduled": "yellow",
    "held": "yellow",
    "unknown": "yellow",
    "undelivered": "red",
    "expired": "red",
    "failed": "red",
    "rejected": "red",
    "canceled": "red",
}


class SafeConsole(Console):
    """A console that makes control and bidirectional characters visible in text that comes from outside."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as rich does, with only rich's own control sequences left in effect."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def table_console() -> Console:
    """Return the console for tables. Output to a pipe or file is not wrapped at 80 columns."""
    width = None if sys.stdout.isatty() else max(200, shutil.get_terminal_size().columns)
    return SafeConsole(highlight=False, width=width)


def print_tables(*tables: RenderableType) -> None:
    """Print tables with an empty line between them."""
    console = table_console()
    for index, table in enumerate(tables):
        if index:
            console.print()
        console.print(table)


def show(answer: Answer, console: Console | None = None) -> None:
    """Print a response, whether a problem, a message or something else, as a short table."""
    console = console or SafeConsole(highlight=False)
    body = answer.body if isinstance(answer.body, dict) else {"answer": answer.body}
    if answer.status >= 400 and "title" in body:
        _problem(body, console)
    else:
        _record(body, console)


def status_text(status: str) -> str:
    """Return a status with its colour, as rich markup."""
    color = COLORS.get(status, "cyan")
    return f"[{color}]{escape(status)}[/]"


def _problem(body: dict[str, Any], console: Console) -> None:
    """Print title, detail and field errors, without repeating what the detail says already."""
    code, title, detail = body.get("code") or "", str(body["title"]), str(body.get("detail") or "")
    console.print(
        f"[red]{escape(title)}[/]" + (f" [dim]({body.get('status', '')} {code})[/]" if code else ""), soft_wrap=True
    )
    if detail and detail != title:
        console.print(escape(detail), soft_wrap=True)
    for error in body.get("errors") or ():
        text = str(error.get("detail", ""))
        field = str(error.get("field", ""))
        if text and text not in detail:
            shown = "" if field in text else f"[bold]{escape(field)}[/] "
            console.print(f"  {shown}{escape(text)}", soft_wrap=True)
    if body.get("id"):
        console.print(f"[dim]recorded as {body['id']}[/]")


def _record(body: dict[str, Any], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in body.items():
        if value in (None, "", [], {}) or name in ("timeline", "final"):  # implied by the status
            continue
        table.add_row(escape(name), status_text(value) if name == "status" else escape(_value(value)))
    console.print(table)
    if body.get("timeline"):
        console.print(timeline(body["timeline"]))


def timeline(moves: list[dict[str, Any]]) -> Table:
    """Return a table with one line per move and only the columns that hold something."""
    names = list(dict.fromkeys(name for move in moves for name, value in move.items() if value not in (None, "", 0)))
    table = Table(*names, box=None, header_style="dim", padding=(0, 2, 0, 0))
    for move in moves:
        table.add_row(*(_cell(name, move.get(name)) for name in names))
    return table


def _cell(name: str, value: Any) -> str:
    if value in (None, "", 0):
        return ""
    return status_text(value) if name == "status" and isinstance(value, str) else escape(_value(value))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list):
        return "; ".join(_value(item) for item in value)
    return str(value)
