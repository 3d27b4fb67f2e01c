"""``smpp-gateway reload``: let a running gateway take over its configuration file as it is now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands.admin import AdminUrl, Desk, Token
from gateway.commands.shared import Json, print_json


def reload(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Let the gateway read its configuration file again, check it, and take over what has changed.

    Binds that are not concerned stay up; carriers whose binds are concerned empty their windows first. A file that
    cannot be used, or a change that needs a restart, changes nothing, and every reason is named. SIGHUP does the same
    and writes to the log.

    Example: [cyan]smpp-gateway reload --dry-run && smpp-gateway reload[/]
    """
    desk = Desk.at(url, token, as_json)
    body = desk.post("/reload?dry_run=true" if dry_run else "/reload")
    if as_json:
        print_json(body)
        return
    for line in _lines(body, dry_run):
        typer.echo(line)


def _lines(body: dict[str, Any], dry_run: bool) -> list[str]:
    found = [f"needs a restart: {change['text']}" for change in body["needs_restart"]]
    found += [change["text"] for change in body["changes"]]
    if not found:
        return ["nothing has changed"]
    if dry_run:
        return [*found, "(nothing done: --dry-run)"]
    return [*found, "carriers still empty their windows"] if body["settling"] else found
