"""``smpp-gateway send``: one message, or a file of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gateway.commands import completion
from gateway.commands.common import URL, Exit, Json, Key, Url, answered, client_of, echo, fail, print_json, show_answer

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.commands.placeholders import PlaceholderText
    from gateway.commands.send_file import FileOptions


def send(
    to: Annotated[str, typer.Option(help="The recipient in E.164, like +46701234567.")] = "",
    text: Annotated[str, typer.Option(help='What to say; "-" reads it from standard input.')] = "",
    template: Annotated[str, typer.Option(help="A template of the account's, instead of --text.")] = "",
    var: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the template; as many as it needs.")] = None,
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", help='Many messages: .csv, .tsv or .txt with a header, or .ndjson; "-" is NDJSON on stdin.'
        ),
    ] = "",
    sender: Annotated[str, typer.Option("--from", help="Sender: a number, a short code or up to 11 letters.")] = "",
    category: Annotated[
        str,
        typer.Option(help="otp, transactional, marketing or emergency.", autocompletion=completion.categories),
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
            help='At night: "defer" until morning or "reject".', autocompletion=completion.one_of("defer", "reject")
        ),
    ] = "",
    wait: Annotated[
        float, typer.Option(help="Follow it for so many seconds to its final state; exit code 5 without one.", min=0)
    ] = 0,
    country: Annotated[
        str, typer.Option(help="With --file: whose national numbers those without + are, like SE or CN.")
    ] = "",
    charset: Annotated[
        str, typer.Option(help="With --file: its character set. [dim]Default: UTF-8, UTF-16 and GB18030 are told[/]")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --file: count messages, segments and faults; send nothing.")
    ] = False,
    failures: Annotated[
        Path | None, typer.Option(help="With --file: where to put what was refused. [dim]Default: FILE.failed.csv[/]")
    ] = None,
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Send one message and say what became of it, or send a file of messages.

    A file has the columns (or JSON fields) to and text and any others of the HTTP interface, in English or Chinese
    (phone, 手机号, 内容, …); options given here hold for rows that do not say otherwise. {name} in --text is filled
    from the column name; a row that leaves it empty is refused. It can be stopped and run again, also when rows were
    mended, added or taken away: a row is known by its client_ref, or else by recipient and text, and what was
    accepted is not sent twice. What was refused goes into a file of the same form, with the reasons.

    Examples:

    [cyan]smpp-gateway send --key demo --to +46701234567 --text 'Your parcel is here' --wait 10[/]

    [cyan]echo 'Hello' | smpp-gateway send --to +46701234567 --text - --json[/]

    [cyan]smpp-gateway send --file parcels.csv --text 'Hello {name}, your parcel is here' --dry-run[/]
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
    _check_options(file, to, text, wait, country, charset, failures, dry_run)
    client = client_of(url, key, patience=300.0 if file else 5.0)
    if file:
        from gateway.commands.message_file import RowDefaults
        from gateway.commands.send_file import FileOptions

        rows = RowDefaults(usual, _places(text) if text else None, client_ref, country.upper())
        _many(client, FileOptions(file, rows, charset, failures, quiet=as_json), dry_run, as_json)
    if not (to and (text or template)):
        fail(Exit.USAGE, "give --to and --text (or --template), or --file")
    body = {"to": to, **usual} | ({"text": sys.stdin.read().rstrip("\n") if text == "-" else text} if text else {})
    _one(client, body | ({"client_ref": client_ref} if client_ref else {}), wait, as_json)


def _check_options(
    file: str, to: str, text: str, wait: float, country: str, charset: str, failures: Path | None, dry_run: bool
) -> None:
    """Exit code 2 when they do not go together."""
    if file and (to or wait or text == "-"):
        fail(Exit.USAGE, "--file goes without --to, --wait and --text -")
    if not file and (country or charset or failures or dry_run):
        fail(Exit.USAGE, "--country, --charset, --failures and --dry-run go with --file")
    if country:
        from gateway.policy.dialling import is_country

        if not is_country(country.upper()):
            fail(Exit.USAGE, f"--country {country}: write the two letters of a country, like SE or CN")


def _places(text: str) -> PlaceholderText:
    from gateway.commands.placeholders import BadPlaceholder, PlaceholderText

    try:
        return PlaceholderText(text)
    except BadPlaceholder as error:
        fail(Exit.USAGE, f"--text: {error}")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        fail(Exit.USAGE, f"--var {word!r} is not NAME=VALUE")
    return name, value


def _one(client: Client, body: dict[str, Any], wait: float, as_json: bool) -> None:
    import msgspec

    from gateway.client import Answer, Message, calls

    try:
        message = msgspec.convert(body, Message)
    except msgspec.ValidationError as error:
        from gateway.api.field_help import in_words

        fail(Exit.USAGE, in_words(error, Message))

    # as it came, for --json
    done: dict[str, Any] = answered(lambda: client.ask(calls.untyped(calls.send(message, None))), as_json)
    if not wait:
        show_answer(Answer(200, done), as_json)
        raise typer.Exit(Exit.OK)
    # first of all: whatever becomes of the waiting, the message is known by it
    echo(f"accepted as {done['id']}", err=as_json)
    found = answered(lambda: _followed(client, str(done["id"]), wait), as_json)
    show_answer(Answer(200, found), as_json)
    status = found.get("status")
    if not found.get("final"):
        fail(
            Exit.TIMED_OUT,
            f"{status} after {wait:g} s, which is no end yet; smpp-gateway status {done['id']} asks again",
        )
    raise typer.Exit(Exit.OK if status == "delivered" else Exit.REFUSED)


def _followed(client: Client, message: str, wait: float) -> dict[str, Any]:
    """The record of a message at its end, or when the time is over."""
    from gateway.client import calls

    client.wait(message, wait)
    return client.ask(calls.untyped(calls.message(message)))


def _many(client: Client, wanted: FileOptions, dry: bool, as_json: bool) -> None:
    from gateway.commands.send_file import send_file, show_tally
    from gateway.commands.text_lines import BadFile

    try:
        if dry:
            _count(wanted, as_json)
        tally, failed = send_file(client, wanted)
    except (BadFile, OSError) as error:
        fail(Exit.USAGE, f"{wanted.file}: {(error.strerror if isinstance(error, OSError) else '') or error}")
    if as_json:
        print_json(tally.as_json() | {"failures": None if failed is None else str(failed)})
    else:
        show_tally(tally, failed)
    if tally.stopped:
        raise typer.Exit(tally.code)
    raise typer.Exit(Exit.REFUSED if tally.refused else Exit.OK)


def _count(wanted: FileOptions, as_json: bool) -> NoReturn:
    """Exit code 1 when some rows would be refused."""
    from gateway.commands.dry_run import dry_run

    forecast = dry_run(wanted)
    if as_json:
        print_json(forecast.as_json())
    else:
        forecast.show()
    raise typer.Exit(Exit.REFUSED if forecast.faults else Exit.OK)
