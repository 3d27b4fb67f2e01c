"""``smpp-gateway send``: one message, or a file of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands import complete
from gateway.commands.shared import URL, Exit, Json, Key, Url, answered, client_of, fail, print_json, show_answer

if TYPE_CHECKING:
    from gateway.client import Client


def send(
    to: Annotated[str, typer.Option(help="The recipient in E.164, like +46701234567.")] = "",
    text: Annotated[str, typer.Option(help='What to say; "-" reads it from standard input.')] = "",
    template: Annotated[str, typer.Option(help="A template of the account's, instead of --text.")] = "",
    var: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the template; as many as it needs.")] = None,
    file: Annotated[
        str,
        typer.Option("--file", "-f", help='Many messages: a .csv with a header, or .ndjson; "-" is NDJSON on stdin.'),
    ] = "",
    sender: Annotated[str, typer.Option("--from", help="Sender: a number, a short code or up to 11 letters.")] = "",
    category: Annotated[
        str,
        typer.Option(help="otp, transactional, marketing or emergency.", autocompletion=complete.categories),
    ] = "",
    brand: Annotated[str, typer.Option(help="Whose consent counts, when the account has several brands.")] = "",
    client_ref: Annotated[
        str,
        typer.Option("--ref", "--client-ref", help="Your own reference, accepted once in 72 h; with --file a prefix."),
    ] = "",
    send_at: Annotated[str, typer.Option(help="Not before this instant, like 2026-12-01T09:00:00Z.")] = "",
    expires_at: Annotated[str, typer.Option(help="Not after this instant.")] = "",
    on_quiet: Annotated[
        str,
        typer.Option(
            help='At night: "defer" until morning or "reject".', autocompletion=complete.one_of("defer", "reject")
        ),
    ] = "",
    wait: Annotated[float, typer.Option(help="Follow it for so many seconds to its final state.", min=0)] = 0,
    failures: Annotated[
        Path | None, typer.Option(help="With --file: where to put what was refused. [dim]Default: FILE.failed.csv[/]")
    ] = None,
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Send one message and say what became of it, or send a file of messages.

    A file has the columns (or JSON fields) to and text and any others of the HTTP interface; options given here hold
    for rows that do not say otherwise. It can be stopped and run again: what was accepted is not sent twice. What was
    refused goes into a file of the same form, with the reasons.

    Examples:

    [cyan]smpp-gateway send --key demo --to +46701234567 --text 'Your parcel is here' --wait 10[/]

    [cyan]echo 'Hello' | smpp-gateway send --to +46701234567 --text - --json[/]

    [cyan]smpp-gateway send --file parcels.csv --text 'Your parcel is here' --category transactional[/]
    """
    said = {
        "template": template,
        "from": sender,
        "category": category,
        "brand": brand,
        "send_at": send_at,
        "expires_at": expires_at,
        "on_quiet": on_quiet,
    }
    usual: dict[str, Any] = {name: value for name, value in said.items() if value}
    if var:
        usual["vars"] = dict(_pair(word) for word in var)
    client = client_of(url, key, patience=300.0 if file else 5.0)
    if file:
        if to or wait or text == "-":
            fail(Exit.USAGE, "--file goes without --to, --wait and --text -")
        _many(client, file, usual | ({"text": text} if text else {}), client_ref, failures, as_json)
    if not (to and (text or template)):
        fail(Exit.USAGE, "give --to and --text (or --template), or --file")
    body = {"to": to, **usual} | ({"text": sys.stdin.read().rstrip("\n") if text == "-" else text} if text else {})
    _one(client, body | ({"client_ref": client_ref} if client_ref else {}), wait, as_json)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        fail(Exit.USAGE, f"--var {word!r} is not NAME=VALUE")
    return name, value


def _one(client: Client, body: dict[str, Any], wait: float, as_json: bool) -> None:
    import msgspec

    from gateway.client import Answer, Message, calls

    try:
        call = calls.untyped(calls.send(msgspec.convert(body, Message), None))
    except msgspec.ValidationError as error:
        fail(Exit.USAGE, str(error).replace(" - at `$.", ": ").rstrip("`"))

    def ask() -> dict[str, Any]:
        done: dict[str, Any] = client.ask(call)  # as it came, for --json
        if not wait:
            return done
        client.wait(str(done["id"]), wait)
        return client.ask(calls.untyped(calls.message(str(done["id"]))))

    found = answered(ask, as_json)
    show_answer(Answer(200, found), as_json)
    failed = found.get("final") and found.get("status") != "delivered"
    raise typer.Exit(Exit.REFUSED if failed else Exit.OK)


def _many(client: Client, file: str, usual: dict[str, Any], prefix: str, failures: Path | None, as_json: bool) -> None:
    from gateway.commands.rows import BadFile
    from gateway.commands.send_file import send_file, show_tally

    try:
        tally, failed = send_file(client, file, usual, prefix=prefix, failures=failures, quiet=as_json)
    except (BadFile, OSError) as error:
        fail(Exit.USAGE, f"{file}: {(error.strerror if isinstance(error, OSError) else '') or error}")
    if as_json:
        print_json(tally.as_json() | {"failures": None if failed is None else str(failed)})
    else:
        show_tally(tally, failed)
    if tally.stopped:
        raise typer.Exit(tally.code)
    raise typer.Exit(Exit.REFUSED if tally.refused else Exit.OK)
