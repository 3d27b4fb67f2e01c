"""``smpp-gateway status`` and ``explain``: the state of a gateway, and of one message."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import URL, Exit, Json, Key, client_of, print_json, reach, show_answer


def status(
    message: Annotated[
        str, typer.Argument(help="Id of a message (with --key). [dim]Default: the gateway itself.[/]")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, also on a terminal.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between updates.")] = 2.0,
    url: Annotated[
        str,
        typer.Option(
            help="URL of the admin listener, or for a message of the gateway. "
            f"[dim]Default: your gateway on this machine; for a message {URL}.[/]"
        ),
    ] = "",
    token: Token = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show the status of a gateway: carriers, lanes, submitted messages. Or show one message with its timeline.

    On a terminal the table is updated until Ctrl-C; otherwise, and with --once or --json, it is printed once.

    Exit codes: 0 success · 1 not ready, or no such message · 2 invalid option · 3 no gateway answers

    Examples: [cyan]smpp-gateway status[/] · [cyan]smpp-gateway status --once[/] ·
    [cyan]smpp-gateway status 0199… --key demo[/]
    """
    if message:
        client = client_of(url or os.environ.get("SMPP_GATEWAY_URL") or URL, key)
        answer = reach(lambda: client.get(f"/v1/messages/{message}"))
        show_answer(answer, as_json)
        raise typer.Exit(Exit.OK if answer.ok else Exit.REFUSED)
    admin_client = AdminClient.find(url or os.environ.get("SMPP_GATEWAY_ADMIN_URL", ""), token, as_json)
    ready = admin_client.response("/readyz")
    if not ready.ok:
        show_answer(ready, as_json)
        raise typer.Exit(Exit.REFUSED)
    body = admin_client.get("/status")
    if as_json:
        print_json(body)
    elif once or not sys.stdout.isatty():
        _print_once(body)
    else:
        _watch(admin_client, body, every)


def _print_once(body: dict[str, Any]) -> None:
    from gateway.commands import operator_tables
    from gateway.commands.output import print_tables

    print_tables(operator_tables.status(body))


def _watch(admin_client: AdminClient, body: dict[str, Any], every: float) -> None:
    """Update the table until Ctrl-C. While the gateway is unreachable, show its last status and the error."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gateway.client import Unreachable
    from gateway.commands import operator_tables
    from gateway.commands.output import SafeConsole

    before, sampled = body, time.monotonic()
    try:
        with Live(operator_tables.status(body), console=SafeConsole(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                try:
                    answer = admin_client.client.get("/status")
                except Unreachable as error:
                    live.update(Group(operator_tables.status(before), Text(str(error), style="bold red")), refresh=True)
                    continue
                if not answer.ok:
                    live.update(
                        Group(operator_tables.status(before), Text(str(answer.body), style="bold red")), refresh=True
                    )
                    continue
                now = time.monotonic()
                live.update(
                    operator_tables.status(answer.body, operator_tables.EarlierSample(before, now - sampled)),
                    refresh=True,
                )
                before, sampled = answer.body, now
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def explain(
    message: Annotated[str, typer.Argument(help="Id of a message of any account.")],
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Explain why a message has its status and what happens next.

    Combines its record and timeline, the policy decision, and the current state of its lane and carriers. The number
    is masked and the text is not shown.

    Example: [cyan]smpp-gateway explain 0199a3c4-…[/]
    """
    from urllib.parse import quote

    found = AdminClient.find(url, token, as_json).get(f"/messages/{quote(message, safe='')}")
    if as_json:
        print_json(found)
        return
    from rich.markup import escape

    from gateway.commands.output import status_text, table_console, timeline

    out, record = table_console(), found["message"]
    out.print(
        f"[bold]{escape(found['id'])}[/] of {escape(found['account'])} to {escape(record['to'])}, "
        f"{escape(record['category'])}: {status_text(found['status'])}"
    )
    for sentence in found["why"]:
        out.print(f"  {escape(sentence)}", soft_wrap=True)
    out.print(timeline(record["timeline"]))
