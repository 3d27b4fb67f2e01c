"""``smpp-gateway consent`` and ``optout``: what recipients have said, as the account records it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands import completion
from gateway.commands.common import URL, Exit, Json, Key, Url, answered, client_of, echo, fail, print_json

if TYPE_CHECKING:
    import msgspec

consent = typer.Typer(no_args_is_help=True, help="Record and show consent to marketing.")
optout = typer.Typer(
    no_args_is_help=True, help="Record, show and lift opt-outs. They stop what is already queued, too."
)

SCOPES = completion.one_of("marketing", "all")

To = Annotated[str, typer.Argument(help="The recipient in E.164, like +46701234567.", show_default=False)]
Brand = Annotated[str, typer.Option(help="For one brand. [dim]Default: consent: the account's first; opt-out: all.[/]")]
Method = Annotated[str, typer.Option(help="How it was said: web_form, keyword, paper, …")]
Evidence = Annotated[str, typer.Option(help="The words, or where they are kept.")]
Instant = Annotated[str, typer.Option(help="When it was said, like 2026-11-01T09:00:00Z. [dim]Default: now.[/]")]


@consent.command("grant")
def grant(
    to: To,
    method: Method,
    evidence: Evidence,
    brand: Brand = "",
    occurred_at: Instant = "",
    expires_at: Annotated[str, typer.Option(help="Until when it holds. [dim]Default: until revoked.[/]")] = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record that a recipient agreed to marketing.

    Example: [cyan]smpp-gateway consent grant +46701234567 --method web_form --evidence 'Yes, send me offers'[/]
    """
    details: Any = {"occurred_at": occurred_at, "expires_at": expires_at}  # as text; the gateway reads it
    client = client_of(url, key)
    done = answered(lambda: client.grant(to, method=method, evidence=evidence, brand=brand or None, **details), as_json)
    _show([done], as_json, "")


@consent.command("revoke")
def revoke(
    to: To,
    method: Method = "",
    evidence: Evidence = "",
    brand: Brand = "",
    occurred_at: Instant = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record that a recipient took consent back.

    Example: [cyan]smpp-gateway consent revoke +46701234567 --method phone[/]
    """
    details: Any = {"occurred_at": occurred_at}
    client = client_of(url, key)
    done = answered(
        lambda: client.revoke(to, method=method, evidence=evidence, brand=brand or None, **details), as_json
    )
    _show([done], as_json, "")


@consent.command("show")
def show_consents(to: To, url: Url = URL, key: Key = "", as_json: Json = False) -> None:
    """Show every consent on record. Exit code 1 when there is none.

    Example: [cyan]smpp-gateway consent show +46701234567 --json[/]
    """
    client = client_of(url, key)
    _show(answered(lambda: client.consents(to), as_json), as_json, "no consent on record")


@optout.command("add")
def add(
    to: To,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")],
    scope: Annotated[str, typer.Option(help='"marketing" or "all".', autocompletion=SCOPES)] = "marketing",
    brand: Brand = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record that a recipient wants no more messages.

    Example: [cyan]smpp-gateway optout add +46701234567 --scope all --reason 'asked by phone'[/]
    """
    client = client_of(url, key)
    chosen: Any = _scope(scope)
    _show([answered(lambda: client.suppress(to, reason, scope=chosen, brand=brand or None), as_json)], as_json, "")


@optout.command("show")
def show_optouts(to: To, url: Url = URL, key: Key = "", as_json: Json = False) -> None:
    """Show every opt-out that stands against the account's messages. Exit code 1 when there is none.

    Example: [cyan]smpp-gateway optout show +46701234567[/]
    """
    client = client_of(url, key)
    _show(answered(lambda: client.suppressions(to), as_json), as_json, "no opt-out stands")


@optout.command("remove")
def remove(
    to: To,
    scope: Annotated[
        str, typer.Option(help='Only "marketing" or only "all". [dim]Default: both.[/]', autocompletion=SCOPES)
    ] = "",
    brand: Brand = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Lift the account's opt-outs. What an operator has suppressed for everybody stays.

    Example: [cyan]smpp-gateway optout remove +46701234567[/]
    """
    client = client_of(url, key)
    chosen: Any = _scope(scope) if scope else None
    answered(lambda: client.unsuppress(to, scope=chosen, brand=brand or None), as_json)
    left = answered(lambda: client.suppressions(to), as_json)
    if as_json or left:
        _show(left, as_json, "")
    else:
        echo("no opt-out stands any more")


def _scope(scope: str) -> str:
    if scope not in ("marketing", "all"):
        fail(Exit.USAGE, f"--scope {scope!r} is neither marketing nor all")
    return scope


def _show(items: Sequence[msgspec.Struct], as_json: bool, none: str) -> None:
    """What was found, one after the other; ``none`` is said and fails when it is nothing."""
    import msgspec

    from gateway.client import Answer
    from gateway.commands.output import show

    shapes = [
        {name: value for name, value in msgspec.to_builtins(item).items() if value not in (None, "")} for item in items
    ]
    if as_json:
        print_json(shapes)
    else:
        for shape in shapes:
            show(Answer(200, shape))
    if not shapes and none:
        if not as_json:
            echo(none, err=True)
        raise typer.Exit(Exit.REFUSED)
