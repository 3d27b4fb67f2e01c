"""What the commands have in common: exit codes, options, reaching a gateway, printing. Light to import."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from gateway.sanitize import visible, visible_json

if TYPE_CHECKING:
    from pathlib import Path

    from typer.models import CommandInfo, TyperInfo

    from gateway.client import Answer, Client
    from gateway.config import Loaded

T = TypeVar("T")

URL = "http://127.0.0.1:8080"
ADMIN_URL = "http://127.0.0.1:8081"


KEY_WANTED = "Give the account's key with --key or in SMPP_GATEWAY_KEY; smpp-gateway key new ACCOUNT makes one."


class Exit(IntEnum):
    """What a script learns from the exit code."""

    OK = 0
    REFUSED = 1  # the gateway said no, or the message did not arrive
    USAGE = 2  # a wrong option, or a configuration with problems
    UNREACHABLE = 3  # no gateway answers at the address
    CANNOT_START = 4  # the store cannot be used, or an address is taken
    TIMED_OUT = 5  # accepted, but not at its end when the waiting was over
    INTERRUPTED = 130


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Key = Annotated[str, typer.Option(envvar="SMPP_GATEWAY_KEY", help="API key of the account.", show_default=False)]
Url = Annotated[str, typer.Option(envvar="SMPP_GATEWAY_URL", help="Where the gateway listens.")]


def tidy_help(app: typer.Typer) -> None:
    """Let the paragraphs of every command's help run on: they are broken for the source, not for a terminal."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            tidy_help(group.typer_instance)
    known: list[CommandInfo | TyperInfo] = [*app.registered_commands]
    if app.registered_callback is not None:
        known.append(app.registered_callback)
    for one in known:
        if one.callback is not None and one.callback.__doc__ and not isinstance(one.help, str):
            paragraphs = inspect.cleandoc(one.callback.__doc__).split("\n\n")
            one.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line; nothing in it moves the cursor of a terminal."""
    typer.echo(visible(text), err=err)


def fail(code: Exit, text: str) -> NoReturn:
    """Say why on standard error and leave with this code."""
    echo(text, err=True)
    raise typer.Exit(code)


def print_json(data: object) -> None:
    """For scripts; indented when somebody watches."""
    import json

    typer.echo(visible_json(json.dumps(data, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)))


def load(file: Path, as_json: bool = False) -> Loaded:
    """The configuration in a file, or every problem with it and exit code 2."""
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
    """A client, or exit code 2 when the address cannot be one. ``patience``: seconds of trying again; ``timeout``: of
    one answer."""
    from gateway.client import BadAddress, Client, Retry

    try:
        return Client(url, key, timeout, retry=Retry(tries=3 if patience < 60 else 100, patience=patience, first=0.1))
    except BadAddress as error:
        fail(Exit.USAGE, str(error))


def reach(ask: Callable[[], T]) -> T:
    """What ``ask`` answers, or exit code 3 when no gateway does."""
    from gateway.client import Answer, BadAnswer, Unreachable

    try:
        answer = ask()
    except Unreachable as error:
        fail(Exit.UNREACHABLE, f"{error}\nIs it running? smpp-gateway serve --config FILE, or smpp-gateway demo")
    except BadAnswer as error:
        fail(Exit.UNREACHABLE, f"{error}\nIs --url the address of a gateway?")
    if isinstance(answer, Answer) and isinstance(answer.body, dict) and answer.body.keys() == {"text"}:
        fail(Exit.UNREACHABLE, f"what answers there ({answer.status}) is no gateway\nIs --url the address of one?")
    return answer


def answered(ask: Callable[[], T], as_json: bool) -> T:
    """What ``ask`` answers; when the gateway says no, its problem is shown and the exit code is 1."""
    from gateway.client import Answer, ApiError, problem_body

    try:
        return reach(ask)
    except ApiError as error:
        show_answer(Answer(error.status, problem_body(error.problem)), as_json)
        raise typer.Exit(Exit.REFUSED) from None


def show_answer(answer: Answer, as_json: bool, unauthorized: str = KEY_WANTED) -> None:
    """An answer as it came, or in a form for people, who are told how to give a key or token."""
    if as_json:
        print_json(answer.body)
        return
    from gateway.commands.output import show

    show(answer._replace(body=answer.body | {"detail": unauthorized}) if answer.status == 401 else answer)
