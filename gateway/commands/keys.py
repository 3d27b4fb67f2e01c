"""API keys of accounts: made here, kept as hashes in the configuration, listed by fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gateway.commands import completion
from gateway.commands.common import Exit, Json, echo, fail, load, print_json

if TYPE_CHECKING:
    from gateway.config import Config

key = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of accounts.")

FINGERPRINT = 12
"""Hexadecimal digits of a key's hash that name it."""

File = Annotated[
    Path, typer.Option("--config", "-c", envvar="SMPP_GATEWAY_CONFIG", help="The configuration that the gateway uses.")
]


class ConfiguredKey(NamedTuple):
    """One key of the configuration. ``value`` is what stands there; ``kind``: sha256 or plain."""

    account: str
    kind: str
    fingerprint: str
    value: str


@key.command("new")
def key_new(
    account: Annotated[
        str, typer.Argument(help="Name of the account the key is for.", autocompletion=completion.accounts)
    ],
    as_json: Json = False,
) -> None:
    """Make an API key: the key for the app, and the line for the configuration, which holds only its hash.

    Put the line beside the old key, hand the new one to the app, then revoke the old one.

    Example: [cyan]smpp-gateway key new shop[/]
    """
    import hashlib
    import secrets

    from gateway.config import is_name

    if not is_name(account):
        fail(Exit.USAGE, f"{account!r} is no name of an account: letters, digits, dots and dashes, 64 at most")
    made = f"sgw_{account}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(made.encode()).hexdigest()
    if as_json:
        body = {"account": account, "key": made, "api_keys": f"sha256:{digest}", "fingerprint": digest[:FINGERPRINT]}
        print_json(body)
        return
    echo(f"The key, shown this once; hand it to the app:\n\n  {made}\n")
    echo(f'For the configuration, in the [[account]] named "{account}":\n\n  api_keys = ["sha256:{digest}"]\n')
    echo(f"Its fingerprint is {digest[:FINGERPRINT]}. Then: smpp-gateway reload (or SIGHUP).")


@key.command("list")
def key_list(
    config: File,
    account: Annotated[
        str, typer.Argument(help="Only this account's.", show_default=False, autocompletion=completion.accounts)
    ] = "",
    as_json: Json = False,
) -> None:
    """List the keys of a configuration by account and fingerprint. The keys themselves are not known to the gateway.

    Example: [cyan]smpp-gateway key list --config config/gateway.toml[/]
    """
    loaded = load(config, as_json).config
    known = [one.name for one in loaded.accounts]
    if account and account not in known:
        fail(Exit.REFUSED, f"there is no account {account} in {config}; known are: {', '.join(known) or 'none'}")
    found = [one for one in _keys(loaded) if account in ("", one.account)]
    if as_json:
        print_json({"keys": [{"account": o.account, "fingerprint": o.fingerprint, "kind": o.kind} for o in found]})
        return
    if not found:
        echo("no API keys are configured" + (f" for {account}" if account else ""))
    for one in found:
        note = "  (stands in plain text: for trying things out only)" if one.kind == "plain" else ""
        echo(f"{one.account:24} {one.fingerprint}{note}")


@key.command("revoke")
def key_revoke(
    fingerprint: Annotated[str, typer.Argument(help="Its fingerprint, or the beginning of one (from 6 digits).")],
    config: File,
    as_json: Json = False,
) -> None:
    """Say what to take out of the configuration, so that a key opens no door any more. The file is yours to edit.

    Example: [cyan]smpp-gateway key revoke 3f9a01c2 --config config/gateway.toml[/]
    """
    if len(fingerprint) < 6:
        fail(Exit.USAGE, "Give at least 6 digits of the fingerprint; smpp-gateway key list shows them")
    loaded = load(config, as_json).config
    found = [one for one in _keys(loaded) if one.fingerprint.startswith(fingerprint.lower()[:FINGERPRINT])]
    if not found:
        fail(Exit.REFUSED, f"No key in {config} has the fingerprint {fingerprint}")
    if len(found) > 1:
        fail(Exit.USAGE, f"{len(found)} keys begin with {fingerprint}: give more digits")
    one = found[0]
    places = list(_places(config, one))
    if as_json:
        print_json(
            {"account": one.account, "fingerprint": one.fingerprint, "remove_from": [f"{f}:{n}" for f, n in places]}
        )
        return
    shown = one.value if one.kind == "sha256" else "plain:…"
    echo(f'The key {one.fingerprint} of the account "{one.account}". Take this out:\n\n  "{shown}"\n')
    for file, line in places:
        echo(f"  {file}, line {line}")
    if not places:
        echo(f"  from what {config} takes its api_keys from (an environment variable, or another file)")
    left = sum(other.account == one.account for other in _keys(loaded)) - 1
    echo(f"\nThen: smpp-gateway reload (or SIGHUP). The account has {left} other key{'s' * (left != 1)}.")


def _keys(config: Config) -> Iterator[ConfiguredKey]:
    from gateway.api.auth import digest_of

    for account in config.accounts:
        for value in account.api_keys:
            yield ConfiguredKey(account.name, value.partition(":")[0], digest_of(value).hex()[:FINGERPRINT], value)


def _places(config: Path, wanted: ConfiguredKey) -> Iterator[tuple[Path, int]]:
    """Files and lines where the key stands: the configuration, and the key files that it names."""
    import tomllib

    tables = tomllib.loads(config.read_text(encoding="utf-8")).get("account", [])
    named = [Path(str(table["api_keys_file"])) for table in tables if "api_keys_file" in table]
    for file in (config, *named):
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if wanted.value in line and not line.lstrip().startswith("#"):
                yield file, number
