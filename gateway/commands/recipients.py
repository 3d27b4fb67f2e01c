"""``smpp-gateway consent`` and ``optout``: consents and opt-outs of an account's recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands import completion
from gateway.commands.common import URL, Exit, Json, Key, Url, answered, client_of, echo, fail, print_json

if TYPE_CHECKING:
    import msgspec

consent = typer.Typer(no_args_is_help=True, help="Record and show consents to marketing.")
optout = typer.Typer(
    no_args_is_help=True, help="Record, show and lift opt-outs. An opt-out also stops messages that are already queued."
)

SCOPES = completion.one_of("marketing", "all")

To = Annotated[str, typer.Argument(help="Recipient in E.164, like +46701234567.", show_default=False)]
ConsentBrand = Annotated[
    str, typer.Option(help="Brand that the consent is for. [dim]Default: the account's first brand.[/]")
]
OptOutBrand = Annotated[str, typer.Option(help="Only this brand. [dim]Default: all brands of the account.[/]")]
Method = Annotated[str, typer.Option(help="How it was given: web_form, keyword, paper, …")]
Evidence = Annotated[str, typer.Option(help="The wording, or where it is kept.")]
Instant = Annotated[str, typer.Option(help="When it was given, like 2026-11-01T09:00:00Z. [dim]Default: now.[/]")]


@consent.command("grant")
def grant(
    to: To,
    method: Method,
    evidence: Evidence,
    brand: ConsentBrand = "",
    occurred_at: Instant = "",
    expires_at: Annotated[str, typer.Option(help="When it expires. [dim]Default: never.[/]")] = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record a consent to marketing.

    Example: [cyan]smpp-gateway consent grant +46701234567 --method web_form --evidence 'Yes, send me offers'[/]
    """
    details: Any = {"occurred_at": occurred_at, "expires_at": expires_at}  # as text; the gateway parses it
    client = client_of(url, key)
    done = answered(lambda: client.grant(to, method=method, evidence=evidence, brand=brand or None, **details), as_json)
    _show([done], as_json, "")


@consent.command("revoke")
def revoke(
    to: To,
    method: Annotated[str, typer.Option(help="How it was revoked: web_form, keyword, phone, …")] = "",
    evidence: Evidence = "",
    brand: ConsentBrand = "",
    occurred_at: Annotated[
        str, typer.Option(help="When it was revoked, like 2026-11-01T09:00:00Z. [dim]Default: now.[/]")
    ] = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record that a consent was revoked.

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
    """Show every recorded consent of a recipient.

    Exit codes: 0 success · 1 no consent on record, or refused · 2 invalid option · 3 no gateway answers

    Example: [cyan]smpp-gateway consent show +46701234567 --json[/]
    """
    client = client_of(url, key)
    _show(answered(lambda: client.consents(to), as_json), as_json, "no consent on record")


@optout.command("add")
def add(
    to: To,
    reason: Annotated[str, typer.Option(help="Reason, kept on record.")],
    scope: Annotated[str, typer.Option(help='"marketing" or "all".', autocompletion=SCOPES)] = "marketing",
    brand: OptOutBrand = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Record an opt-out.

    Example: [cyan]smpp-gateway optout add +46701234567 --scope all --reason 'asked by phone'[/]
    """
    client = client_of(url, key)
    chosen: Any = _scope(scope)
    _show([answered(lambda: client.suppress(to, reason, scope=chosen, brand=brand or None), as_json)], as_json, "")


@optout.command("show")
def show_optouts(to: To, url: Url = URL, key: Key = "", as_json: Json = False) -> None:
    """Show every opt-out in force against the account's messages.

    Exit codes: 0 success · 1 no opt-out in force, or refused · 2 invalid option · 3 no gateway answers

    Example: [cyan]smpp-gateway optout show +46701234567[/]
    """
    client = client_of(url, key)
    _show(answered(lambda: client.suppressions(to), as_json), as_json, "no opt-out in force")


@optout.command("remove")
def remove(
    to: To,
    scope: Annotated[
        str, typer.Option(help='Only "marketing" or only "all". [dim]Default: both.[/]', autocompletion=SCOPES)
    ] = "",
    brand: OptOutBrand = "",
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Lift the account's opt-outs. An operator's suppressions for all accounts stay in force.

    Example: [cyan]smpp-gateway optout remove +46701234567[/]
    """
    client = client_of(url, key)
    chosen: Any = _scope(scope) if scope else None
    answered(lambda: client.unsuppress(to, scope=chosen, brand=brand or None), as_json)
    left = answered(lambda: client.suppressions(to), as_json)
    if as_json or left:
        _show(left, as_json, "")
    else:
        echo("no opt-out in force")


def _scope(scope: str) -> str:
    if scope not in ("marketing", "all"):
        fail(Exit.USAGE, f"invalid --scope {scope!r}: write marketing or all")
    return scope


def _show(items: Sequence[msgspec.Struct], as_json: bool, none: str) -> None:
    """Print records. When there are none and ``none`` is given, print that and exit with code 1."""
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
