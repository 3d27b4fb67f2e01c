"""What operators do from a shell: queue, carriers, held messages, breakers, the audit."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands import completion
from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import Exit, Json, echo, fail, print_json

carriers, held, breakers, queue = typer.Typer(), typer.Typer(), typer.Typer(), typer.Typer()

Name = Annotated[str, typer.Argument(help="The carrier, as in the configuration.", autocompletion=completion.carriers)]
Bind = Annotated[
    int,
    typer.Option(min=0, help="Only its bind of this number, from 1. [dim]Default: all of it.[/]", show_default=False),
]
Worker = Annotated[str, typer.Option(help="… and only at this worker, where there are several.")]
Wait = Annotated[float, typer.Option(min=0, help="Wait so many seconds for it to be done.", show_default=False)]
Account = Annotated[str, typer.Option(help="Messages of this account.", autocompletion=completion.accounts)]
Brand = Annotated[str, typer.Option(help="… and of them only those of this brand.")]
Everybody = Annotated[bool, typer.Option("--everybody", help="All messages, whoever handed them in.")]


@queue.callback(invoke_without_command=True)
def queue_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show what waits, by lane and account: how much, how old the oldest is, when the next delayed one wakes.

    Then of every account how many messages wait, by status: all of them count towards its max_queued.

    A lane is a route, a place (how many of its carriers were tried) and a priority (0 one-time passwords,
    1 transactional, 2 marketing): [cyan]+46#0:1[/].

    Example: [cyan]smpp-gateway queue --json | jq '.lanes[] | select(.oldest_s > 60)'[/]
    """
    if context.invoked_subcommand is not None:
        return
    body = AdminClient.at(url, token, as_json).get("/queue")
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables, printing

    printing.show(operator_tables.lanes(body["lanes"], accounts=True))
    if body["accounts"]:
        printing.show("")
        printing.show(operator_tables.waiting(body["accounts"]))


@queue.command("cancel")
def queue_cancel(
    account: Annotated[str, typer.Option(help="Whose messages.", autocompletion=completion.accounts)],
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Cancel everything that waits of an account, also of one that the configuration no longer has.

    What a carrier has already goes its way. To hold marketing instead: [cyan]breakers open --account NAME[/].

    Example: [cyan]smpp-gateway queue cancel --account shop[/]
    """
    admin_client, canceled, more = AdminClient.at(url, token, as_json), 0, True
    while more:
        body = admin_client.post("/queue/cancel", {"account": account})
        canceled, more = canceled + body["canceled"], body["more"]
    if as_json:
        print_json({"canceled": canceled})
    else:
        echo(f"{canceled} canceled")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of the newest.")] = 50,
    action: Annotated[str, typer.Option(help="Only those whose name begins so, like carrier or breaker.open.")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Show what operators did: who, when, what, and how it ended; the newest first.

    Example: [cyan]smpp-gateway audit --action carrier[/]
    """
    body = AdminClient.at(url, token, as_json).get(f"/audit?limit={limit}&action={quote(action)}")
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables, printing

    printing.show(operator_tables.audit(body["entries"]))


# ── carriers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@carriers.callback(invoke_without_command=True)
def carriers_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Look at carriers and their binds; pause, drain, resume, reconnect them.

    Examples: [cyan]smpp-gateway carriers[/] · [cyan]smpp-gateway carriers drain north --wait 60[/] ·
    [cyan]smpp-gateway carriers reconnect north --bind 2[/]
    """
    if context.invoked_subcommand is None:
        body = AdminClient.at(url, token, as_json).get("/carriers")
        _show_carriers(body["carriers"], as_json, body)


@carriers.command("show")
def carriers_show(name: Name, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Show one carrier with its binds, their state and last error.

    Example: [cyan]smpp-gateway carriers show north --json | jq '.binds[].last_error'[/]
    """
    body = AdminClient.at(url, token, as_json).get(f"/carriers/{quote(name, safe='')}")
    _show_carriers([body], as_json, body)


@carriers.command("pause")
def carriers_pause(
    name: Name, bind: Bind = 0, worker: Worker = "", url: AdminUrl = "", token: Token = "", as_json: Json = False
) -> None:
    """Give it no more messages; it stays bound, answers and receipts still come. Later carriers of a route take over.

    A paused carrier stays paused, over restarts too, until [cyan]resume[/]; a single bind until the gateway ends.

    Example: [cyan]smpp-gateway carriers pause north[/]
    """
    _order("pause", name, (bind, worker), AdminClient.at(url, token, as_json))


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
    """Give it no more messages, wait for the answers that are due, then unbind and stay away until [cyan]resume[/].

    Nothing is lost or sent twice. With --wait the exit code is 1 when it is not done in time.

    Example: [cyan]smpp-gateway carriers drain north --wait 60[/]
    """
    _order("drain", name, (bind, worker), AdminClient.at(url, token, as_json), wait, "drained")


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
    """Let it work again, with all its binds.

    Example: [cyan]smpp-gateway carriers resume north --wait 10[/]
    """
    _order("resume", name, (bind, worker), AdminClient.at(url, token, as_json), wait, "running")


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
    """Bind afresh, one bind after the other, each once its answers are in; one that waits for its next try has it now.

    For a password that the carrier has mended, or a host that moved.

    Example: [cyan]smpp-gateway carriers reconnect north --bind 2[/]
    """
    _order("reconnect", name, (bind, worker), AdminClient.at(url, token, as_json), wait, "running")


def _order(
    verb: str, name: str, which: tuple[int, str], admin_client: AdminClient, wait: float = 0, until: str = ""
) -> None:
    """``which``: number of a bind (0 = all), and its worker ("" = whichever)."""
    bind, worker = which
    if worker and not bind:
        fail(Exit.USAGE, "--worker goes with --bind: a whole carrier is told at every worker")
    path = f"/carriers/{quote(name, safe='')}"
    at = f"?worker={quote(worker)}" if worker else ""
    body = admin_client.post(f"{path}/binds/{bind}/{verb}{at}" if bind else f"{path}/{verb}")
    deadline = time.monotonic() + wait
    while wait and not _stands(body, which, until) and time.monotonic() < deadline:
        time.sleep(0.2)
        body = admin_client.get(path)
    _show_carriers([body], admin_client.as_json, body)
    if wait and not _stands(body, which, until):
        fail(Exit.REFUSED, f"{name} is not there yet after {wait:g} s; it goes on by itself")


def _stands(body: dict[str, Any], which: tuple[int, str], until: str) -> bool:
    """Whether all binds that are meant are where they are to be; running ones are up."""
    bind, worker = which
    binds = [one for one in body["binds"] if not worker or one.get("worker") == worker]
    if bind:
        binds = [one for one in binds if one["name"].endswith(f"/{bind}")]
    return all(one["mode"] == until and (one["up"] or until != "running") for one in binds)


def _show_carriers(rows: list[dict[str, Any]], as_json: bool, body: dict[str, Any]) -> None:
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables, printing

    printing.show(operator_tables.carriers(rows))
    for row in rows:
        printing.show("")
        printing.show(operator_tables.binds(row))


# ── held messages and breakers ─────────────────────────────────────────────────────────────────────────────────────


@held.callback(invoke_without_command=True)
def held_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Look at messages that breakers hold; release them.

    Examples: [cyan]smpp-gateway held[/] · [cyan]smpp-gateway held release --account shop[/]
    """
    if context.invoked_subcommand is None:
        body = AdminClient.at(url, token, as_json).get("/held")
        if as_json:
            print_json(body)
            return
        from gateway.commands import operator_tables, printing

        printing.show(operator_tables.held(body))


@held.command("release")
def held_release(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    message: Annotated[list[str] | None, typer.Option("--id", help="Only this message; may be repeated.")] = None,
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Have held messages decided again. A breaker that is still open holds them again: close it instead.

    Example: [cyan]smpp-gateway held release --account shop[/]
    """
    wanted = _scope(account, brand, everybody) if account or everybody or not message else {}
    body = AdminClient.at(url, token, as_json).post("/held/release", wanted | ({"ids": message} if message else {}))
    if as_json:
        print_json(body)
    else:
        echo(f"{body['released']} released")


@breakers.callback(invoke_without_command=True)
def breakers_list(context: typer.Context, url: AdminUrl = "", token: Token = "", as_json: Json = False) -> None:
    """Open and close breakers: they hold an account's marketing.

    What is handed in while one is open is accepted and held, and what waits already is held when its turn comes.
    One-time passwords, transactional and emergency messages pass.

    Examples: [cyan]smpp-gateway breakers open --account shop --reason 'complaints'[/] ·
    [cyan]smpp-gateway breakers close --account shop[/]
    """
    if context.invoked_subcommand is None:
        _show_breakers(AdminClient.at(url, token, as_json).get("/breakers"), as_json)


@breakers.command("open")
def breakers_open(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    reason: Annotated[str, typer.Option(help="Why; for the audit.")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Hold the marketing of an account, of one of its brands, or of everybody, at once.

    Example: [cyan]smpp-gateway breakers open --account shop --reason 'complaints'[/]
    """
    wanted = _scope(account, brand, everybody)
    _show_breakers(AdminClient.at(url, token, as_json).post("/breakers/open", wanted | {"reason": reason}), as_json)


@breakers.command("close")
def breakers_close(
    account: Account = "",
    brand: Brand = "",
    everybody: Everybody = False,
    scope: Annotated[str, typer.Option(help="As shown for an account that is no longer configured.")] = "",
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Close a breaker and release what it held; each message is decided afresh.

    Example: [cyan]smpp-gateway breakers close --account shop[/]
    """
    body = AdminClient.at(url, token, as_json).post(
        "/breakers/close", {"scope": scope} if scope else _scope(account, brand, everybody)
    )
    if not as_json:
        echo(f"{body['released']} released")
    _show_breakers(body, as_json)


def _scope(account: str, brand: str, everybody: bool) -> dict[str, Any]:
    """Whose messages. Exit code 2 unless it is said."""
    if everybody == bool(account):
        fail(Exit.USAGE, "Say whose: --account NAME (and perhaps --brand), or --everybody")
    return {"everybody": True} if everybody else {"account": account, "brand": brand}


def _show_breakers(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(body)
        return
    from gateway.commands import operator_tables, printing

    printing.show(operator_tables.breakers(body["open"]))
