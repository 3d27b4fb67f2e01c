"""``smpp-gateway reload``: let a running gateway take over its configuration file as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, print_json


def reload(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, max=300, help="Seconds to wait for carriers that must empty their windows."),
    ] = 3.0,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Let the gateway read its configuration file again, check it, and take over what has changed.

    Binds that are not concerned stay up; carriers whose binds are concerned empty their windows first. A file that
    cannot be used, or a change that needs a restart, changes nothing, every reason is named, and the exit code is 1.
    It is 5 when carriers still empty their windows after --wait. SIGHUP does the same and writes to the log.

    Example: [cyan]smpp-gateway reload --dry-run && smpp-gateway reload[/]
    """
    admin_client = AdminClient.at(url, token, as_json, timeout=wait + 10)
    body = admin_client.post("/reload?dry_run=true" if dry_run else f"/reload?wait={wait:g}")
    if as_json:
        print_json(body)
    else:
        for line in change_lines(body):
            echo(line)
        if body["settling"]:
            echo("carriers still empty their windows")
        if dry_run:
            echo("(nothing done: --dry-run)")
    if body["needs_restart"]:
        raise typer.Exit(Exit.REFUSED)
    raise typer.Exit(Exit.TIMED_OUT if body["settling"] else Exit.OK)


def change_lines(body: Mapping[str, Any]) -> list[str]:
    """What a reload changes, or would, for people; from the gateway's answer or ``Changes.as_json``."""
    found = [f"needs a restart: {change['text']}" for change in body["needs_restart"]]
    return [*found, *(change["text"] for change in body["changes"])] or ["nothing has changed"]
