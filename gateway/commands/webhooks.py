"""``smpp-gateway webhooks``: endpoints, dead letters, a test event."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands import completion
from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, print_json

webhooks = typer.Typer()

Account = Annotated[str, typer.Option(help="Only endpoints of this account.", autocompletion=completion.accounts)]
To = Annotated[str, typer.Option(help="Only this endpoint URL, when the account has several.")]


@webhooks.callback(invoke_without_command=True)
def webhooks_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show webhook endpoints; test them, replay or drop their dead letters.

    Lists the endpoints with waiting events, dead letters or failures.

    Examples: [cyan]smpp-gateway webhooks[/] · [cyan]smpp-gateway webhooks test shop[/] ·
    [cyan]smpp-gateway webhooks replay --account shop[/]
    """
    if context.invoked_subcommand is None:
        _print_endpoints(AdminClient.find(url, token, as_json))


@webhooks.command("list")
def list_endpoints(
    account: Account = "",
    dead: Annotated[
        bool, typer.Option("--dead", help="List the dead letters themselves, as one JSON object per line.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Show at most this many dead letters.")] = 100,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """List endpoints, or dead letters with --dead.

    Example: [cyan]smpp-gateway webhooks list --dead --account shop | jq .data.message_id[/]
    """
    admin_client = AdminClient.find(url, token, as_json)
    if not dead:
        _print_endpoints(admin_client, account)
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
    """Post dead letters again. Their ids are unchanged, so receivers can deduplicate.

    Example: [cyan]smpp-gateway webhooks replay --account shop[/]
    """
    body = AdminClient.find(url, token, as_json).post("/webhooks/replay", {"account": account, "url": to})
    _print_count(body, as_json, "will be posted again")


@webhooks.command("drop")
def drop(
    account: Annotated[
        str, typer.Option(help="Name of the account.", show_default=False, autocompletion=completion.accounts)
    ],
    to: To = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Delete dead letters permanently.

    Example: [cyan]smpp-gateway webhooks drop --account shop[/]
    """
    body = AdminClient.find(url, token, as_json).post("/webhooks/drop", {"account": account, "url": to})
    _print_count(body, as_json, "dropped")


@webhooks.command("retry")
def retry(account: Account = "", to: To = "", url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Retry failing endpoints now instead of at their next attempt.

    Example: [cyan]smpp-gateway webhooks retry --account shop[/]
    """
    body = AdminClient.find(url, token, as_json).post("/webhooks/retry", {"account": account, "url": to})
    if as_json:
        print_json(body)
    else:
        echo(f"retrying {body['receivers']} endpoint queue{'s' * (body['receivers'] != 1)}")


@webhooks.command("test")
def test(
    account: Annotated[
        str,
        typer.Argument(help="Name of the account.", show_default=False, autocompletion=completion.accounts),
    ],
    to: Annotated[str, typer.Option(help="URL to post to. [dim]Default: the account's callback_url.[/]")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Post one signed event of type webhook.test and print the endpoint's response.

    Exit codes: 0 the response was 2xx · 1 it was not, or the request was refused · 2 invalid option · 3 no gateway
    answers

    Example: [cyan]smpp-gateway webhooks test shop[/]
    """
    body = AdminClient.find(url, token, as_json).post("/webhooks/test", {"account": account, "url": to})
    if as_json:
        print_json(body)
    else:
        result = body["fault"] or f"HTTP {body['status']}"
        unsigned = "" if body["signed"] else ", unsigned: the account has no webhook_secret"
        echo(f"{'ok' if body['ok'] else 'failed'}: {result} in {body['ms']:g} ms{unsigned}")
    raise typer.Exit(Exit.OK if body["ok"] else Exit.REFUSED)


def _print_count(body: dict[str, Any], as_json: bool, done: str) -> None:
    if as_json:
        print_json(body)
    else:
        echo(f"{body['events']} event{'s' * (body['events'] != 1)} {done}")


def _print_endpoints(admin_client: AdminClient, account: str = "") -> None:
    body = admin_client.get("/webhooks")
    rows = [row for row in body["receivers"] if account in ("", row["account"])]
    if admin_client.as_json:
        print_json(body | {"receivers": rows})
        return
    if not rows:
        echo("no waiting events, dead letters or failures")
        return
    for row in rows:
        echo(f"{row['account']}  {row['url'] or '(callback_url was removed)'}")
        echo(f"  {row['waiting']} waiting, oldest {row['oldest_s']:g} s; {row['dead']} dead letters")
        if row["tries"]:
            since = f"for {row['failing_s']:g} s, {row['tries']} attempts, next in {row['next_try_s']:g} s"
            echo(f"  failing: {row['last_error']} ({since})")
        if row["dropped"]:
            echo(f"  {row['dropped']} dead letters dropped because the list was full")
