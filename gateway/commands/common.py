"""Shared by the commands: exit codes, options, calls to a gateway, printing. Imports nothing slow."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from gateway.sanitize import visible, visible_json

if TYPE_CHECKING:
    from typer.models import CommandInfo, TyperInfo

    from gateway.client import Answer, Client
    from gateway.config import LoadedConfig

T = TypeVar("T")

URL = "http://127.0.0.1:8080"
ADMIN_URL = "http://127.0.0.1:8081"


KEY_HINT = "Pass the account's key with --key or SMPP_GATEWAY_KEY; smpp-gateway key new ACCOUNT makes one."


class Exit(IntEnum):
    """Exit codes of all commands."""

    OK = 0
    REFUSED = 1  # refused by the gateway, or the message was not delivered
    USAGE = 2  # invalid option or configuration
    UNREACHABLE = 3  # no gateway answers
    CANNOT_START = 4  # the store cannot be used, or an address is in use
    TIMED_OUT = 5  # accepted, but not done within --wait
    INTERRUPTED = 130


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Option(envvar="SMPP_GATEWAY_KEY", help="API key of the account.", show_default=False)]
Url = Annotated[str, typer.Option(envvar="SMPP_GATEWAY_URL", help="URL of the gateway.")]


ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="SMPP_GATEWAY_CONFIG", help="The configuration file (TOML).")
]

USUAL_EXIT_CODES = "Exit codes: 0 success · 1 refused or failed · 2 invalid option · 3 no gateway answers"
"""The epilog of commands whose docstring does not list exit codes of its own."""


def finish_help(app: typer.Typer) -> None:
    """Join the lines of each paragraph in every command's help, and add the usual exit codes where none are listed."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            finish_help(group.typer_instance)
    known: list[CommandInfo | TyperInfo] = [*app.registered_commands]
    if app.registered_callback is not None:
        known.append(app.registered_callback)
    for one in known:
        if one.callback is not None and one.callback.__doc__ and not isinstance(one.help, str):
            paragraphs = inspect.cleandoc(one.callback.__doc__).split("\n\n")
            one.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
            if "Exit codes:" not in one.help:
                one.epilog = USUAL_EXIT_CODES


def echo(text: str, *, err: bool = False) -> None:
    """Print a line with control characters made visible."""
    typer.echo(visible(text), err=err)


def fail(code: Exit, text: str) -> NoReturn:
    """Print a reason on standard error and exit with this code."""
    echo(text, err=True)
    raise typer.Exit(code)


def print_json(data: object) -> None:
    """Print JSON, indented on a terminal."""
    import json

    typer.echo(visible_json(json.dumps(data, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)))


def load(file: Path, as_json: bool = False) -> LoadedConfig:
    """Return the configuration in a file, or print every problem with it and exit with code 2."""
    from gateway.config import ConfigError, read

    try:
        return read(file)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": [problem._asdict() for problem in error.problems]})
            raise typer.Exit(Exit.USAGE) from None
        count = len(error.problems)
        fail(Exit.USAGE, f"{error}\n{count} problem{'s' * (count != 1)} in {file}")


def client_of(url: str, key: str, *, patience: float = 5.0, timeout: float = 10.0) -> Client:
    """Return a client, or exit with code 2 when the URL is invalid.

    ``patience``: seconds in which a call is retried; ``timeout``: seconds per attempt.
    """
    from gateway.client import BadAddress, Client, Retry

    try:
        return Client(url, key, timeout, retry=Retry(tries=3 if patience < 60 else 100, patience=patience, first=0.1))
    except BadAddress as error:
        fail(Exit.USAGE, str(error))


def reach(call: Callable[[], T]) -> T:
    """Return what ``call`` returns, or exit with code 3 when no gateway answers."""
    from gateway.client import Answer, BadAnswer, Unreachable

    try:
        answer = call()
    except Unreachable as error:
        fail(
            Exit.UNREACHABLE,
            f"{error}\nIs it running? Start it with smpp-gateway serve --config FILE, or smpp-gateway demo.",
        )
    except BadAnswer as error:
        fail(Exit.UNREACHABLE, f"{error}\nIs --url the URL of a gateway?")
    if isinstance(answer, Answer) and isinstance(answer.body, dict) and answer.body.keys() == {"text"}:
        fail(
            Exit.UNREACHABLE, f"the response (HTTP {answer.status}) is not a gateway's\nIs --url the URL of a gateway?"
        )
    return answer


def answered(call: Callable[[], T], as_json: bool) -> T:
    """Return what ``call`` returns, or print the gateway's problem and exit with code 1."""
    from gateway.client import Answer, ApiError, problem_body

    try:
        return reach(call)
    except ApiError as error:
        show_answer(Answer(error.status, problem_body(error.problem)), as_json)
        raise typer.Exit(Exit.REFUSED) from None


def show_answer(answer: Answer, as_json: bool, unauthorized: str = KEY_HINT) -> None:
    """Print a response as JSON or as a table. ``unauthorized``: what to do about a 401."""
    if as_json:
        print_json(answer.body)
        return
    from gateway.commands.output import show

    show(answer._replace(body=answer.body | {"detail": unauthorized}) if answer.status == 401 else answer)
