"""``smpp-gateway config``: check configuration files and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, fail, load, print_json
from gateway.commands.reload import change_lines

if TYPE_CHECKING:
    from gateway.config import Config

config = typer.Typer(no_args_is_help=True, help="Check configuration files.")


@config.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file (TOML).", show_default=False)],
    diff: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="Show what changes from this file to FILE.", show_default=False),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Show what reloading FILE would change in the running gateway.")
    ] = False,
    url: AdminUrl = "",
    token: Token = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 on warnings.")] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration file and print every problem with its remedy.

    With --diff or --running also print what a reload would change, as [cyan]smpp-gateway reload --dry-run[/] does.

    Exit codes: 0 valid · 1 a change needs a restart, or a warning with --strict · 2 invalid · 3 no gateway answers

    Examples:

    [cyan]smpp-gateway config check config/gateway.toml[/]

    [cyan]smpp-gateway config check new.toml --diff /etc/smpp-gateway/gateway.toml[/]

    [cyan]smpp-gateway config check /etc/smpp-gateway/gateway.toml --running && smpp-gateway reload[/]
    """
    if diff is not None and running:
        fail(Exit.USAGE, "--diff and --running exclude each other")
    loaded = load(file, as_json)
    warnings = [*map(str, loaded.warnings), *_empty(file, loaded.config), *_in_use(file, loaded.config)]
    changes = _compared(load(diff, as_json).config, loaded.config) if diff is not None else None
    if running:
        changes = _running(file, AdminClient.find(url, token, as_json))
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
        echo(f"{file} is valid: {_counts(loaded.config)}")
        for line in change_lines(changes) if changes is not None else ():
            echo(f"  {line}")
    refused = bool(changes and changes["needs_restart"]) or bool(strict and warnings)
    raise typer.Exit(Exit.REFUSED if refused else Exit.OK)


def _empty(file: Path, config: Config) -> list[str]:
    """Return a warning for each table without which a gateway does nothing."""
    tables = (("account", config.accounts, "no app can submit"), ("carrier", config.carriers, "nothing can be sent"))
    return [f"{file}: no [[{name}]]: {effect}" for name, have, effect in tables if not have]


def _in_use(file: Path, config: Config) -> list[str]:
    """Return a warning for each address that another gateway on this machine uses now."""
    from gateway.commands.port_owner import port_owner

    addresses = {"http.listen": config.http.listen, "admin.listen": config.admin.listen}
    found = ((name, address, port_owner(address, file)) for name, address in addresses.items() if ":" in address)
    return [f"{file}: {name}: {address} is in use; {owner}" for name, address, owner in found if owner]


def _compared(old: Config, new: Config) -> dict[str, Any]:
    from gateway.config import compare

    return compare(old, new, supervised=old.workers > 1).as_json()


def _running(file: Path, admin_client: AdminClient) -> dict[str, Any]:
    """Return the changes that the running gateway reports. Exits with code 1 when it runs with another file."""
    body = admin_client.post("/reload?dry_run=true")
    if body["file"] != str(file.resolve()):
        fail(Exit.REFUSED, f"the gateway runs with {body['file']}; to compare with it: --diff {body['file']}")
    return {name: body[name] for name in ("changes", "needs_restart")}


def _counts(config: Config) -> str:
    counts = ((config.accounts, "account"), (config.carriers, "carrier"), (config.routes, "route"))
    return ", ".join(f"{len(have)} {name}{'s' * (len(have) != 1)}" for have, name in counts)
