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
    to: Annotated[str, typer.Option(help="Recipient in E.164, like +46701234567.")] = "",
    text: Annotated[str, typer.Option(help='Text of the message; "-" reads standard input.')] = "",
    template: Annotated[str, typer.Option(help="Template of the account, instead of --text.")] = "",
    var: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the template; repeatable.")] = None,
    file: Annotated[
        str,
        typer.Option(
            "--file",
            "-f",
            help='File of messages: .csv, .tsv or .txt with a header, or .ndjson; "-": NDJSON on standard input.',
        ),
    ] = "",
    sender: Annotated[str, typer.Option("--from", help="Sender: a number, a short code or up to 11 characters.")] = "",
    category: Annotated[
        str,
        typer.Option(help="otp, transactional, marketing or emergency.", autocompletion=completion.categories),
    ] = "",
    brand: Annotated[str, typer.Option(help="Brand whose consent counts, when the account has several.")] = "",
    client_ref: Annotated[
        str,
        typer.Option(
            "--ref", "--client-ref", help="Your own reference, accepted once within 72 h; with --file: a prefix."
        ),
    ] = "",
    send_at: Annotated[str, typer.Option(help="Send no earlier than this, like 2026-12-01T09:00:00Z.")] = "",
    expires_at: Annotated[str, typer.Option(help="Send no later than this.")] = "",
    on_quiet: Annotated[
        str,
        typer.Option(
            help='Marketing in quiet hours: "defer" or "reject".', autocompletion=completion.one_of("defer", "reject")
        ),
    ] = "",
    wait: Annotated[float, typer.Option(help="Wait up to this many seconds for the final status.", min=0)] = 0,
    country: Annotated[str, typer.Option(help="With --file: country of numbers without +, like SE or CN.")] = "",
    charset: Annotated[
        str,
        typer.Option(help="With --file: its character set. [dim]Default: UTF-8, UTF-16 or GB18030, as detected.[/]"),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --file: count messages, segments and errors; send nothing.")
    ] = False,
    failures: Annotated[
        Path | None, typer.Option(help="With --file: file for refused rows. [dim]Default: FILE.failed.csv[/]")
    ] = None,
    url: Url = URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Send SMS: one message, or a file of messages.

    A file has the columns (or JSON fields) to and text, and any others of the HTTP interface, in English or Chinese
    (phone, 手机号, 内容, …). Options are defaults for rows that leave the field empty. {name} in --text is replaced by
    the column name; a row where it is empty is refused. Refused rows go into a file of the same format, with the
    reasons. A file can be sent again after an interruption, also with rows corrected, added or removed: a row is
    identified by its client_ref, else by recipient and text, and no accepted row is sent twice.

    Exit codes: 0 accepted (with --wait: delivered) · 1 refused, or not delivered · 2 invalid option or file ·
    3 no gateway answers · 5 accepted, but not final within --wait · 130 interrupted

    Examples:

    [cyan]smpp-gateway send --key demo --to +46701234567 --text 'Your parcel is here' --wait 10[/]

    [cyan]echo 'Hello' | smpp-gateway send --to +46701234567 --text - --json[/]

    [cyan]smpp-gateway send --file parcels.csv --text 'Hello {name}, your parcel is here' --dry-run[/]
    """
    fields = {
        "template": template,
        "from": sender,
        "category": category,
        "brand": brand,
        "send_at": send_at,
        "expires_at": expires_at,
        "on_quiet": on_quiet,
    }
    usual: dict[str, Any] = {name: value for name, value in fields.items() if value}
    if var:
        usual["vars"] = dict(_pair(word) for word in var)
    _check_options(file, to, text, wait, country, charset, failures, dry_run)
    client = client_of(url, key, patience=300.0 if file else 5.0)
    if file:
        from gateway.commands.message_file import RowDefaults
        from gateway.commands.send_file import FileOptions

        rows = RowDefaults(usual, _placeholders(text) if text else None, client_ref, country.upper())
        _send_file(client, FileOptions(file, rows, charset, failures, quiet=as_json), dry_run, as_json)
    if not (to and (text or template)):
        fail(Exit.USAGE, "pass --to and --text (or --template), or --file")
    body = {"to": to, **usual} | ({"text": sys.stdin.read().rstrip("\n") if text == "-" else text} if text else {})
    _send_one(client, body | ({"client_ref": client_ref} if client_ref else {}), wait, as_json)


def _check_options(
    file: str, to: str, text: str, wait: float, country: str, charset: str, failures: Path | None, dry_run: bool
) -> None:
    """Exit with code 2 when options exclude each other."""
    if file and (to or wait or text == "-"):
        fail(Exit.USAGE, "--file cannot be used with --to, --wait or --text -")
    if not file and (country or charset or failures or dry_run):
        fail(Exit.USAGE, "--country, --charset, --failures and --dry-run require --file")
    if country:
        from gateway.policy.dialling import is_country

        if not is_country(country.upper()):
            fail(Exit.USAGE, f"invalid --country {country}: write an ISO 3166 code of two letters, like SE or CN")


def _placeholders(text: str) -> PlaceholderText:
    from gateway.commands.placeholders import BadPlaceholder, PlaceholderText

    try:
        return PlaceholderText(text)
    except BadPlaceholder as error:
        fail(Exit.USAGE, f"--text: {error}")


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        fail(Exit.USAGE, f"invalid --var {word!r}: write NAME=VALUE")
    return name, value


def _send_one(client: Client, body: dict[str, Any], wait: float, as_json: bool) -> None:
    import msgspec

    from gateway.client import Answer, Message, calls

    try:
        message = msgspec.convert(body, Message)
    except msgspec.ValidationError as error:
        from gateway.api.field_help import in_words

        fail(Exit.USAGE, in_words(error, Message))

    # untyped, so that --json prints the response as received
    done: dict[str, Any] = answered(lambda: client.ask(calls.untyped(calls.send(message, None))), as_json)
    if not wait:
        show_answer(Answer(200, done), as_json)
        raise typer.Exit(Exit.OK)
    # before waiting: the id is known even if the wait is interrupted
    echo(f"accepted as {done['id']}", err=as_json)
    found = answered(lambda: _final_record(client, str(done["id"]), wait), as_json)
    show_answer(Answer(200, found), as_json)
    status = found.get("status")
    if not found.get("final"):
        fail(
            Exit.TIMED_OUT,
            f"not final after {wait:g} s ({status}); check again with smpp-gateway status {done['id']}",
        )
    raise typer.Exit(Exit.OK if status == "delivered" else Exit.REFUSED)


def _final_record(client: Client, message: str, wait: float) -> dict[str, Any]:
    """Wait for a message to be final, at most ``wait`` seconds, and return its record."""
    from gateway.client import calls

    client.wait(message, wait)
    return client.ask(calls.untyped(calls.message(message)))


def _send_file(client: Client, options: FileOptions, dry: bool, as_json: bool) -> None:
    from gateway.commands.send_file import print_summary, send_file
    from gateway.commands.text_lines import BadFile

    try:
        if dry:
            _dry_run(options, as_json)
        progress, failed = send_file(client, options)
    except (BadFile, OSError) as error:
        fail(Exit.USAGE, f"{options.file}: {(error.strerror if isinstance(error, OSError) else '') or error}")
    if as_json:
        print_json(progress.as_json() | {"failures": None if failed is None else str(failed)})
    else:
        print_summary(progress, failed)
    if progress.stopped:
        raise typer.Exit(progress.code)
    raise typer.Exit(Exit.REFUSED if progress.refused else Exit.OK)


def _dry_run(options: FileOptions, as_json: bool) -> NoReturn:
    """Print what a file would become. Exits with code 1 when rows would be refused."""
    from gateway.commands.dry_run import dry_run

    forecast = dry_run(options)
    if as_json:
        print_json(forecast.as_json())
    else:
        forecast.show()
    raise typer.Exit(Exit.REFUSED if forecast.errors else Exit.OK)
