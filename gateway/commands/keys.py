"""``smpp-gateway key``: create API keys, list and revoke those in a configuration by fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gateway.commands import completion
from gateway.commands.common import ConfigFile, Exit, Json, echo, fail, load, print_json

if TYPE_CHECKING:
    from gateway.config import Config

key = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

FINGERPRINT = 12
"""Hexadecimal digits of a key's hash that identify it."""


class ConfiguredKey(NamedTuple):
    """One key in the configuration. ``value``: as written there; ``kind``: sha256 or plain."""

    account: str
    kind: str
    fingerprint: str
    value: str


@key.command("new")
def key_new(
    account: Annotated[str, typer.Argument(help="Name of the account.", autocompletion=completion.accounts)],
    as_json: Json = False,
) -> None:
    """Create an API key: print the key for the app, and the line for the configuration with its hash.

    To rotate a key: add the line beside the old key, give the app the new key, then revoke the old one.

    Exit codes: 0 success · 2 invalid account name

    Example: [cyan]smpp-gateway key new shop[/]
    """
    import hashlib
    import secrets

    from gateway.config import is_name

    if not is_name(account):
        fail(
            Exit.USAGE,
            f"invalid account name {account!r}: use letters, digits, dots, dashes and underscores, at most 64",
        )
    new_key = f"sgw_{account}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(new_key.encode()).hexdigest()
    if as_json:
        body = {"account": account, "key": new_key, "api_keys": f"sha256:{digest}", "fingerprint": digest[:FINGERPRINT]}
        print_json(body)
        return
    echo(f"The key for the app, shown only now:\n\n  {new_key}\n")
    echo(f'The line for the configuration, in the [[account]] named "{account}":\n\n  api_keys = ["sha256:{digest}"]\n')
    echo(f"Its fingerprint is {digest[:FINGERPRINT]}. Apply with: smpp-gateway reload")


@key.command("list")
def key_list(
    config: ConfigFile,
    account: Annotated[
        str, typer.Argument(help="Only keys of this account.", show_default=False, autocompletion=completion.accounts)
    ] = "",
    as_json: Json = False,
) -> None:
    """List the keys in a configuration by account and fingerprint.

    Exit codes: 0 success · 1 unknown account · 2 invalid configuration

    Example: [cyan]smpp-gateway key list --config config/gateway.toml[/]
    """
    loaded = load(config, as_json).config
    known = [one.name for one in loaded.accounts]
    if account and account not in known:
        fail(Exit.REFUSED, f"no account {account} in {config}; accounts: {', '.join(known) or 'none'}")
    found = [one for one in _keys(loaded) if account in ("", one.account)]
    if as_json:
        print_json({"keys": [{"account": o.account, "fingerprint": o.fingerprint, "kind": o.kind} for o in found]})
        return
    if not found:
        echo("no API keys" + (f" for {account}" if account else ""))
    for one in found:
        note = "  (plain text; for trials only)" if one.kind == "plain" else ""
        echo(f"{one.account:24} {one.fingerprint}{note}")


@key.command("revoke")
def key_revoke(
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint of the key, or its first digits (at least 6).")],
    config: ConfigFile,
    as_json: Json = False,
) -> None:
    """Show what to remove from the configuration to revoke a key. The file itself is not changed.

    Exit codes: 0 success · 1 no such key · 2 ambiguous fingerprint, or invalid configuration

    Example: [cyan]smpp-gateway key revoke 3f9a01c2 --config config/gateway.toml[/]
    """
    if len(fingerprint) < 6:
        fail(Exit.USAGE, "pass at least 6 digits of the fingerprint; smpp-gateway key list shows it")
    loaded = load(config, as_json).config
    found = [one for one in _keys(loaded) if one.fingerprint.startswith(fingerprint.lower()[:FINGERPRINT])]
    if not found:
        fail(Exit.REFUSED, f"no key in {config} has the fingerprint {fingerprint}")
    if len(found) > 1:
        fail(Exit.USAGE, f"{len(found)} keys begin with {fingerprint}; pass more digits")
    one = found[0]
    places = list(_places(config, one))
    if as_json:
        print_json(
            {"account": one.account, "fingerprint": one.fingerprint, "remove_from": [f"{f}:{n}" for f, n in places]}
        )
        return
    shown = one.value if one.kind == "sha256" else "plain:…"
    echo(f'To revoke key {one.fingerprint} of account "{one.account}", remove:\n\n  "{shown}"\n')
    for file, line in places:
        echo(f"  {file}, line {line}")
    if not places:
        echo(f"  from the environment variable or file where {config} takes its api_keys from")
    left = sum(other.account == one.account for other in _keys(loaded)) - 1
    echo(f"\nApply with: smpp-gateway reload. The account has {left} other key{'s' * (left != 1)}.")


def _keys(config: Config) -> Iterator[ConfiguredKey]:
    from gateway.api.auth import digest_of

    for account in config.accounts:
        for value in account.api_keys:
            yield ConfiguredKey(account.name, value.partition(":")[0], digest_of(value).hex()[:FINGERPRINT], value)


def _places(config: Path, wanted: ConfiguredKey) -> Iterator[tuple[Path, int]]:
    """Yield the files and lines that hold the key: the configuration, and the key files it names."""
    import tomllib

    tables = tomllib.loads(config.read_text(encoding="utf-8")).get("account", [])
    named = [Path(str(table["api_keys_file"])) for table in tables if "api_keys_file" in table]
    for file in (config, *named):
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if wanted.value in line and not line.lstrip().startswith("#"):
                yield file, number
