"""Commands for operators: queue, carriers, held messages, breakers, audit log."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands import completion
from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, fail, print_json

carriers, held, breakers, queue = typer.Typer(), typer.Typer(), typer.Typer(), typer.Typer()

Name = Annotated[str, typer.Argument(help="Name of the carrier.", autocompletion=completion.carriers)]
Bind = Annotated[
    int,
    typer.Option(min=0, help="Only the bind with this number, from 1. [dim]Default: all binds.[/]", show_default=False),
]
Worker = Annotated[str, typer.Option(help="With --bind: only at this worker, when there are several.")]
Wait = Annotated[float, typer.Option(min=0, help="Wait up to this many seconds until it is done.", show_default=False)]
Account = Annotated[str, typer.Option(help="Messages of this account.", autocompletion=completion.accounts)]
Brand = Annotated[str, typer.Option(help="With --account: only messages of this brand.")]
Everybody = Annotated[bool, typer.Option("--everybody", help="Messages of all accounts.")]


@queue.callback(invoke_without_command=True)
def queue_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show waiting messages by lane and account; cancel them.

    For each lane: how many messages are ready, the age of the oldest, and when the next delayed one is due. For each
    account: how many messages wait, by status; all of them count towards its max_queued.

    A lane is a route, a place (how many of its carriers were tried) and a priority (0 one-time passwords,
    1 transactional, 2 marketing): [cyan]+46#0:1[/].

    Example: [cyan]smpp-gateway queue --json | jq '.lanes[] | select(.oldest_s > 60)'[/]
    """
    if context.invoked_subcommand is not None:
        return
    body = AdminClient.find(url, token, as_json).get("/queue")
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    tables = [operator_tables.lanes(body["lanes"], accounts=True)]
    if body["accounts"]:
        tables.append(operator_tables.waiting(body["accounts"]))
    print_tables(*tables)


@queue.command("cancel")
def queue_cancel(
    account: Annotated[str, typer.Option(help="Name of the account.", autocompletion=completion.accounts)],
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Cancel all waiting messages of an account, also one removed from the configuration.

    Messages that a carrier already has are not affected. To hold marketing instead:
    [cyan]breakers open --account NAME[/].

    Example: [cyan]smpp-gateway queue cancel --account shop[/]
    """
    admin_client, canceled, more = AdminClient.find(url, token, as_json), 0, True
    while more:
        body = admin_client.post("/queue/cancel", {"account": account})
        canceled, more = canceled + body["canceled"], body["more"]
    if as_json:
        print_json({"canceled": canceled})
    else:
        echo(f"{canceled} canceled")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many entries.")] = 50,
    action: Annotated[
        str, typer.Option(help="Only actions whose name starts with this, like carrier or breaker.open.")
    ] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Show the audit log: who did what, when, and with what outcome; newest first.

    Example: [cyan]smpp-gateway audit --action carrier[/]
    """
    body = AdminClient.find(url, token, as_json).get(f"/audit?limit={limit}&action={quote(action)}")
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    print_tables(operator_tables.audit(body["entries"]))


# ── carriers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@carriers.callback(invoke_without_command=True)
def carriers_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show carriers and their binds; pause, drain, resume and reconnect them.

    Examples: [cyan]smpp-gateway carriers[/] · [cyan]smpp-gateway carriers drain north --wait 60[/] ·
    [cyan]smpp-gateway carriers reconnect north --bind 2[/]
    """
    if context.invoked_subcommand is None:
        body = AdminClient.find(url, token, as_json).get("/carriers")
        _show_carriers(body["carriers"], as_json, body)


@carriers.command("show")
def carriers_show(name: Name, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show one carrier with its binds, their state and last error.

    Example: [cyan]smpp-gateway carriers show north --json | jq '.binds[].last_error'[/]
    """
    body = AdminClient.find(url, token, as_json).get(f"/carriers/{quote(name, safe='')}")
    _show_carriers([body], as_json, body)


@carriers.command("pause")
def carriers_pause(
    name: Name, bind: Bind = 0, worker: Worker = "", url: AdminUrl = "", token: Token = "", as_json: Json = False
) -> None:
    """Stop sending messages to a carrier. It stays bound: responses and receipts still arrive.

    Its messages go to the next carriers of their routes. A paused carrier stays paused, across restarts, until
    [cyan]resume[/]; a single paused bind until the gateway stops.

    Example: [cyan]smpp-gateway carriers pause north[/]
    """
    _change_mode("pause", name, (bind, worker), AdminClient.find(url, token, as_json))


@carriers.command("drain")
def carriers_drain(
    name: Name,
    bind: Bind = 0,
    worker: Worker = "",
    wait: Wait = 0,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Stop sending messages to a carrier, wait for outstanding responses, then unbind until [cyan]resume[/].

    No message is lost or sent twice.

    Exit codes: 0 success · 1 refused, or not drained within --wait · 2 invalid option · 3 no gateway answers

    Example: [cyan]smpp-gateway carriers drain north --wait 60[/]
    """
    _change_mode("drain", name, (bind, worker), AdminClient.find(url, token, as_json), wait, "drained")


@carriers.command("resume")
def carriers_resume(
    name: Name,
    bind: Bind = 0,
    worker: Worker = "",
    wait: Wait = 0,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Resume a paused or drained carrier, with all its binds.

    Exit codes: 0 success · 1 refused, or not bound within --wait · 2 invalid option · 3 no gateway answers

    Example: [cyan]smpp-gateway carriers resume north --wait 10[/]
    """
    _change_mode("resume", name, (bind, worker), AdminClient.find(url, token, as_json), wait, "running")


@carriers.command("reconnect")
def carriers_reconnect(
    name: Name,
    bind: Bind = 0,
    worker: Worker = "",
    wait: Wait = 0,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Rebind a carrier one bind at a time, each after its outstanding responses have arrived.

    A bind that waits for its next attempt tries at once. Use it after the carrier has changed a password or an address.

    Exit codes: 0 success · 1 refused, or not bound within --wait · 2 invalid option · 3 no gateway answers

    Example: [cyan]smpp-gateway carriers reconnect north --bind 2[/]
    """
    _change_mode("reconnect", name, (bind, worker), AdminClient.find(url, token, as_json), wait, "running")


def _change_mode(
    verb: str, name: str, which: tuple[int, str], admin_client: AdminClient, wait: float = 0, until: str = ""
) -> None:
    """Post an action and wait up to ``wait`` seconds until its binds have the mode ``until``.

    ``which``: number of a bind (0: all) and its worker ("": any).
    """
    bind, worker = which
    if worker and not bind:
        fail(Exit.USAGE, "--worker requires --bind; without --bind an action applies to all workers")
    path = f"/carriers/{quote(name, safe='')}"
    query = f"?worker={quote(worker)}" if worker else ""
    body = admin_client.post(f"{path}/binds/{bind}/{verb}{query}" if bind else f"{path}/{verb}")
    deadline = time.monotonic() + wait
    while wait and not _is_done(body, which, until) and time.monotonic() < deadline:
        time.sleep(0.2)
        body = admin_client.get(path)
    _show_carriers([body], admin_client.as_json, body)
    if wait and not _is_done(body, which, until):
        fail(Exit.REFUSED, f"{name}: {verb} not finished after {wait:g} s; it continues in the background")


def _is_done(body: dict[str, Any], which: tuple[int, str], until: str) -> bool:
    """Whether all binds concerned have the mode ``until``, and are up when that is running."""
    bind, worker = which
    binds = [one for one in body["binds"] if not worker or one.get("worker") == worker]
    if bind:
        binds = [one for one in binds if one["name"].endswith(f"/{bind}")]
    return all(one["mode"] == until and (one["up"] or until != "running") for one in binds)


def _show_carriers(rows: list[dict[str, Any]], as_json: bool, body: dict[str, Any]) -> None:
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    print_tables(operator_tables.carriers(rows), *(operator_tables.binds(row) for row in rows))


# ── held messages and breakers ─────────────────────────────────────────────────────────────────────────────────────


@held.callback(invoke_without_command=True)
def held_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show messages that breakers or a restored backup hold; release them.

    Examples: [cyan]smpp-gateway held[/] · [cyan]smpp-gateway held release --account shop[/]
    """
    if context.invoked_subcommand is not None:
        return
    body = AdminClient.find(url, token, as_json).get("/held")
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    print_tables(operator_tables.held(body))


@held.command("release")
def held_release(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    message: Annotated[list[str] | None, typer.Option("--id", help="Only this message; repeatable.")] = None,
    restored: Annotated[
        bool, typer.Option("--restored", help="Messages from before the backup that was restored, of all accounts.")
    ] = False,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Release held messages: each is decided again.

    A breaker that is still open holds them again; close it instead. What is held since a restore is released with
    --restored only: messages that were sent after the backup was made are then sent a second time.

    Examples: [cyan]smpp-gateway held release --account shop[/] · [cyan]smpp-gateway held release --restored[/]
    """
    if restored:
        if account or brand or everybody or message:
            fail(Exit.USAGE, "--restored releases all messages of the backup; leave the other options out")
        body = AdminClient.find(url, token, as_json).post("/held/release", {"restored": True})
        if as_json:
            print_json(body)
        else:
            echo(f"{body['released']} released; what still waits in its lane is sent as usual from now on")
        return
    wanted = _scope(account, brand, everybody) if account or everybody or not message else {}
    body = AdminClient.find(url, token, as_json).post("/held/release", wanted | ({"ids": message} if message else {}))
    if as_json:
        print_json(body)
    else:
        echo(f"{body['released']} released")


@breakers.callback(invoke_without_command=True)
def breakers_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show, open and close breakers, which hold an account's marketing.

    While a breaker is open, new messages are accepted and held; queued messages are held when their turn comes.
    One-time passwords, transactional and emergency messages are not affected.

    Examples: [cyan]smpp-gateway breakers open --account shop --reason 'complaints'[/] ·
    [cyan]smpp-gateway breakers close --account shop[/]
    """
    if context.invoked_subcommand is None:
        _show_breakers(AdminClient.find(url, token, as_json).get("/breakers"), as_json)


@breakers.command("open")
def breakers_open(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the audit log.")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Hold the marketing of an account, of one of its brands, or of all accounts.

    Example: [cyan]smpp-gateway breakers open --account shop --reason 'complaints'[/]
    """
    wanted = _scope(account, brand, everybody)
    _show_breakers(AdminClient.find(url, token, as_json).post("/breakers/open", wanted | {"reason": reason}), as_json)


@breakers.command("close")
def breakers_close(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    scope: Annotated[
        str, typer.Option(help="The scope that breakers shows for an account that is no longer configured.")
    ] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Close a breaker and release the messages it holds: each is decided again.

    Example: [cyan]smpp-gateway breakers close --account shop[/]
    """
    body = AdminClient.find(url, token, as_json).post(
        "/breakers/close", {"scope": scope} if scope else _scope(account, brand, everybody)
    )
    if not as_json:
        echo(f"{body['released']} released")
    _show_breakers(body, as_json)


def _scope(account: str, brand: str, everybody: bool) -> dict[str, Any]:
    """Return the request body that names whose messages are meant, or exit with code 2 when the options do not."""
    if everybody == bool(account):
        fail(Exit.USAGE, "pass either --account NAME (optionally with --brand) or --everybody")
    return {"everybody": True} if everybody else {"account": account, "brand": brand}


def _show_breakers(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    print_tables(operator_tables.breakers(body["open"]))
