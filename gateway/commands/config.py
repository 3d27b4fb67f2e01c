"""``smpp-gateway config``: whether a configuration can be used, and what it would change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, fail, load, print_json
from gateway.commands.reload import change_lines

if TYPE_CHECKING:
    from gateway.config import Config

config = typer.Typer(no_args_is_help=True, help="Look at configuration files.")


@config.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The TOML file.", show_default=False)],
    diff: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="Say what a gateway that runs by this file would change.", show_default=False),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Say what the gateway that runs by FILE would change.")
    ] = False,
    url: AdminUrl = "",
    token: Token = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also for warnings.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether a configuration can be used; if not, every problem with its remedy.

    With --diff or --running also what a reload would change, in the words of [cyan]smpp-gateway reload --dry-run[/].
    Exit code 2 when the file cannot be used, 1 when a change needs a restart (with --strict also for a warning).

    Examples:

    [cyan]smpp-gateway config check config/gateway.toml[/]

    [cyan]smpp-gateway config check new.toml --diff /etc/smpp-gateway/gateway.toml[/]

    [cyan]smpp-gateway config check /etc/smpp-gateway/gateway.toml --running && smpp-gateway reload[/]
    """
    if diff is not None and running:
        fail(Exit.USAGE, "--diff compares with a file, --running with the gateway that runs: give one of the two")
    loaded = load(file, as_json)
    warnings = [*map(str, loaded.warnings), *_idle(file, loaded.config), *_taken(file, loaded.config)]
    changes = _offline(load(diff, as_json).config, loaded.config) if diff is not None else None
    if running:
        changes = _running(file, AdminClient.at(url, token, as_json))
    if as_json:
        found = {
            "ok": True,
            "accounts": [account.name for account in loaded.config.accounts],
            "carriers": [carrier.name for carrier in loaded.config.carriers],
            "routes": [route.lane for route in loaded.config.routes],
            "warnings": [warning._asdict() for warning in loaded.warnings],
            "notes": warnings[len(loaded.warnings) :],
        }
        print_json(found | (changes or {}))
    else:
        for warning in warnings:
            echo(f"warning: {warning}", err=True)
        echo(f"{file} is good: {_counted(loaded.config)}")
        for line in change_lines(changes) if changes is not None else ():
            echo(f"  {line}")
    refused = bool(changes and changes["needs_restart"]) or bool(strict and warnings)
    raise typer.Exit(Exit.REFUSED if refused else Exit.OK)


def _idle(file: Path, config: Config) -> list[str]:
    """Why a gateway with this file would do nothing."""
    tables = (("account", config.accounts, "nobody can submit"), ("carrier", config.carriers, "nothing can be sent"))
    return [f"{file}: there is no [[{name}]]: {so}" for name, have, so in tables if not have]


def _taken(file: Path, config: Config) -> list[str]:
    """Which of its addresses another gateway of this machine has just now."""
    from gateway.commands.port_owner import whose

    addresses = {"http.listen": config.http.listen, "admin.listen": config.admin.listen}
    found = ((name, address, whose(address, file)) for name, address in addresses.items() if ":" in address)
    return [f"{file}: {name}: {address} is taken just now; {owner}" for name, address, owner in found if owner]


def _offline(old: Config, new: Config) -> dict[str, Any]:
    from gateway.config import compare

    return compare(old, new, supervised=old.workers > 1).as_json()


def _running(file: Path, admin_client: AdminClient) -> dict[str, Any]:
    """What the gateway says; exit code 1 when it runs by another file."""
    body = admin_client.post("/reload?dry_run=true")
    if body["file"] != str(file.resolve()):
        fail(Exit.REFUSED, f"that gateway runs by {body['file']}; compare with it: --diff {body['file']}")
    return {name: body[name] for name in ("changes", "needs_restart")}


def _counted(config: Config) -> str:
    counts = ((config.accounts, "account"), (config.carriers, "carrier"), (config.routes, "route"))
    return ", ".join(f"{len(have)} {name}{'s' * (len(have) != 1)}" for have, name in counts)
