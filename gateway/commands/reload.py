"""``smpp-gateway reload``: make a running gateway reload its configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, print_json


def reload(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change, without changing it.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, max=300, help="Seconds to wait for carriers whose binds must drain."),
    ] = 3.0,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Reload the configuration file of the running gateway and apply what changed.

    Unaffected binds stay up; affected binds wait for outstanding responses first. An invalid file, or a change that
    needs a restart, changes nothing; every reason is printed. SIGHUP does the same and writes to the log.

    Exit codes: 0 applied · 1 refused: nothing changed · 2 invalid option · 3 no gateway answers · 5 applied, but
    carriers are still draining after --wait

    Example: [cyan]smpp-gateway reload --dry-run && smpp-gateway reload[/]
    """
    admin_client = AdminClient.find(url, token, as_json, timeout=wait + 10)
    body = admin_client.post("/reload?dry_run=true" if dry_run else f"/reload?wait={wait:g}")
    if as_json:
        print_json(body)
    else:
        for line in change_lines(body):
            echo(line)
        if body["settling"]:
            echo("carriers are still draining")
        if dry_run:
            echo("(dry run: nothing was changed)")
    if body["needs_restart"]:
        raise typer.Exit(Exit.REFUSED)
    raise typer.Exit(Exit.TIMED_OUT if body["settling"] else Exit.OK)


def change_lines(body: Mapping[str, Any]) -> list[str]:
    """Return what a reload changes, line by line, from the gateway's response or ``Changes.as_json``."""
    found = [f"needs a restart: {change['text']}" for change in body["needs_restart"]]
    return [*found, *(change["text"] for change in body["changes"])] or ["no changes"]
