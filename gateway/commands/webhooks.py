"""``smpp-gateway webhooks``: receivers of events, dead letters, a test."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands import completion
from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, print_json

webhooks = typer.Typer()

Account = Annotated[str, typer.Option(help="Only receivers of this account.", autocompletion=completion.accounts)]
To = Annotated[str, typer.Option(help="Only this receiver, when the account has several.")]


@webhooks.callback(invoke_without_command=True)
def receivers(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Look at receivers of events; test them, replay or drop their dead letters.

    Shown are those that have something waiting, dead letters or faults.

    Examples: [cyan]smpp-gateway webhooks[/] · [cyan]smpp-gateway webhooks test shop[/] ·
    [cyan]smpp-gateway webhooks replay --account shop[/]
    """
    if context.invoked_subcommand is None:
        _list(AdminClient.at(url, token, as_json))


@webhooks.command("list")
def list_(
    account: Account = "",
    dead: Annotated[bool, typer.Option("--dead", help="The dead letters themselves, as JSON, one a line.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many dead letters at most.")] = 100,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Show receivers, or dead letters.

    Example: [cyan]smpp-gateway webhooks list --dead --account shop | jq .data.message_id[/]
    """
    admin_client = AdminClient.at(url, token, as_json)
    if not dead:
        _list(admin_client, account)
        return
    body = admin_client.get(f"/webhooks/dead?account={quote(account, safe='')}&limit={limit}")
    if as_json:
        print_json(body)
        return
    import json

    for event in body["events"]:
        echo(json.dumps(event, ensure_ascii=False))


@webhooks.command("replay")
def replay(account: Account = "", to: To = "", url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Post dead letters again, as if they were new. Receivers know events they have seen by their id.

    Example: [cyan]smpp-gateway webhooks replay --account shop[/]
    """
    body = AdminClient.at(url, token, as_json).post("/webhooks/replay", {"account": account, "url": to})
    _count(body, as_json, "to be posted again")


@webhooks.command("drop")
def drop(
    account: Annotated[str, typer.Option(help="Whose.", show_default=False, autocompletion=completion.accounts)],
    to: To = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Throw dead letters away, for good.

    Example: [cyan]smpp-gateway webhooks drop --account shop[/]
    """
    body = AdminClient.at(url, token, as_json).post("/webhooks/drop", {"account": account, "url": to})
    _count(body, as_json, "dropped")


@webhooks.command("retry")
def retry(account: Account = "", to: To = "", url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Try receivers that fail again now, instead of when their wait is over.

    Example: [cyan]smpp-gateway webhooks retry --account shop[/]
    """
    body = AdminClient.at(url, token, as_json).post("/webhooks/retry", {"account": account, "url": to})
    if as_json:
        print_json(body)
    else:
        echo(f"{body['receivers']} queues are tried again")


@webhooks.command("test")
def test(
    account: Annotated[
        str,
        typer.Argument(
            help="The account, as in the configuration.", show_default=False, autocompletion=completion.accounts
        ),
    ],
    to: Annotated[str, typer.Option(help="This URL. [dim]Default: the account's callback_url.[/]")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Post one signed event of type webhook.test now, and say what the receiver answered.

    Exit code 1 when it did not answer with success.

    Example: [cyan]smpp-gateway webhooks test shop[/]
    """
    body = AdminClient.at(url, token, as_json).post("/webhooks/test", {"account": account, "url": to})
    if as_json:
        print_json(body)
    else:
        said = body["fault"] or f"HTTP {body['status']}"
        signed = "" if body["signed"] else ", without a signature: the account has no webhook_secret"
        echo(f"{'good' if body['ok'] else 'failed'}: {said} in {body['ms']:g} ms{signed}")
    raise typer.Exit(Exit.OK if body["ok"] else Exit.REFUSED)


def _count(body: dict[str, Any], as_json: bool, what: str) -> None:
    if as_json:
        print_json(body)
    else:
        echo(f"{body['events']} event{'s' * (body['events'] != 1)} {what}")


def _list(admin_client: AdminClient, account: str = "") -> None:
    body = admin_client.get("/webhooks")
    rows = [row for row in body["receivers"] if account in ("", row["account"])]
    if admin_client.as_json:
        print_json(body | {"receivers": rows})
        return
    if not rows:
        echo("nothing waits, nothing fails")
        return
    for row in rows:
        echo(f"{row['account']}  {row['url'] or '(no callback_url any more)'}")
        echo(f"  {row['waiting']} waiting, the oldest for {row['oldest_s']:g} s; {row['dead']} dead letters")
        if row["tries"]:
            since = f"for {row['failing_s']:g} s, {row['tries']} tries in a row, the next in {row['next_try_s']:g} s"
            echo(f"  fails: {row['last_error']} ({since})")
        if row["dropped"]:
            echo(f"  {row['dropped']} dead letters went for want of room")
