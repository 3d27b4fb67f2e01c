"""``status`` and ``explain``: how a gateway is doing, and why a message is where it is."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from gateway.commands.admin_client import AdminClient, AdminUrl, Token
from gateway.commands.common import URL, Exit, Json, Key, client_of, print_json, reach, show_answer


def status(
    message: Annotated[str, typer.Argument(help="A message's id (with --key); without it, the gateway itself.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Print once and leave, also on a terminal.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    url: Annotated[
        str, typer.Option(help=f"Default: the gateway that runs here as this user; for a message {URL}.")
    ] = "",
    token: Token = "",
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Watch how a gateway is doing: carriers, lanes, what was handed in. Or show one message with its timeline.

    On a terminal the table lives until Ctrl-C; elsewhere, with --once or with --json it is printed once.

    Examples: [cyan]smpp-gateway status[/] · [cyan]smpp-gateway status --once[/] ·
    [cyan]smpp-gateway status 0199… --key demo[/]
    """
    if message:
        client = client_of(url or os.environ.get("SMPP_GATEWAY_URL") or URL, key)
        answer = reach(lambda: client.get(f"/v1/messages/{message}"))
        show_answer(answer, as_json)
        raise typer.Exit(Exit.OK if answer.ok else Exit.REFUSED)
    admin_client = AdminClient.at(url or os.environ.get("SMPP_GATEWAY_ADMIN_URL", ""), token, as_json)
    ready = admin_client.ask("/readyz")
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
    from gateway.commands.printing import console

    console().print(operator_tables.status(body))


def _watch(admin_client: AdminClient, body: dict[str, Any], every: float) -> None:
    """Until Ctrl-C. A gateway that is away for a while is shown as it was last, and said to be away."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gateway.client import Unreachable
    from gateway.commands import operator_tables
    from gateway.commands.output import SafeConsole

    before, looked = body, time.monotonic()
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
                    operator_tables.status(answer.body, operator_tables.EarlierSample(before, now - looked)),
                    refresh=True,
                )
                before, looked = answer.body, now
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def explain(
    message: Annotated[str, typer.Argument(help="A message's id, of any account.")],
    url: AdminUrl = "",
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Say in words why a message is where it is, and what happens next.

    From its record and timeline, the decision of policy, and what its lane and carriers do just now. The number is
    masked, the text is not shown.

    Example: [cyan]smpp-gateway explain 0199a3c4-…[/]
    """
    from urllib.parse import quote

    found = AdminClient.at(url, token, as_json).get(f"/messages/{quote(message, safe='')}")
    if as_json:
        print_json(found)
        return
    from rich.markup import escape

    from gateway.commands.output import status_text, timeline
    from gateway.commands.printing import console

    out, seen = console(), found["message"]
    out.print(
        f"[bold]{escape(found['id'])}[/] of {escape(found['account'])} to {escape(seen['to'])}, "
        f"{escape(seen['category'])}: {status_text(found['status'])}"
    )
    for sentence in found["why"]:
        out.print(f"  {escape(sentence)}", soft_wrap=True)
    out.print(timeline(seen["timeline"]))
