"""The command line, ``smpp-gateway``. Every command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.commands import config, keys, operate, recipients
from gateway.commands.common import Exit, Json, echo, fail, load, print_json, tidy_help
from gateway.commands.reload import reload
from gateway.commands.send import send
from gateway.commands.status import explain, status
from gateway.commands.webhooks import webhooks

if TYPE_CHECKING:
    import asyncio

    from gateway.runner import Program
    from gateway.simulator import Faults

T = TypeVar("T")

START, APPS, OPERATORS, SETTING_UP = "Start here", "For applications", "For operators", "Setting up"
"""Panels of the help; the first command of each decides their order."""

app = typer.Typer(
    name="smpp-gateway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An SMPP gateway: SMS in over HTTP, out to carriers over SMPP, followed to the delivery report.\n\n"
    "New here? [bold]smpp-gateway demo[/] runs everything on this machine and shows what happens.",
    epilog="Exit codes: 0 done · 1 refused or failed · 2 wrong option or configuration · 3 no gateway answers · "
    "4 cannot start (store or address) · 5 accepted, but no end within --wait · 130 interrupted",
)


def _version(wanted: bool) -> None:
    if wanted:
        from gateway.version import installed_version

        typer.echo(f"smpp-gateway {installed_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


# ── running things ─────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(rich_help_panel=START)
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Keep the store in this folder. [dim]Default: a temporary one.[/]")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Leave when the story is told.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole gateway here, with two simulated carriers, and watch a few messages travel.

    Nothing to install or configure besides: the store is embedded, every address is on this machine. The story shows
    deliveries, a refusal for want of consent and a deferral for the night; then everything keeps running for you to
    try, until Ctrl-C.

    Example: [cyan]smpp-gateway demo --once[/]
    """
    from gateway import demo as story

    as_told = _start(lambda: story.run(data=data, once=once, as_json=as_json))
    raise typer.Exit(Exit.OK if as_told else Exit.REFUSED)


@app.command(rich_help_panel=START)
def serve(
    file: Annotated[
        Path, typer.Option("--config", "-c", envvar="SMPP_GATEWAY_CONFIG", help="The configuration, a TOML file.")
    ],
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Logs go to standard error. The end is orderly: no new work, windows emptied, binds closed, store stopped.

    Example: [cyan]smpp-gateway serve --config config/gateway.toml[/]
    """
    loaded = load(file)

    def program() -> None:
        import structlog

        from gateway import logs, process
        from gateway.config import Source
        from gateway.runner import run
        from gateway.systemd import Notifier

        notifier = Notifier.of(os.environ)

        async def serve_until(stop: asyncio.Event) -> None:
            if loaded.config.workers > 1:
                from gateway.cluster.workers.supervisor import supervise

                await supervise(loaded.config, source=Source(file), notifier=notifier, stop=stop)
            else:
                from gateway.app import serve as serve_alone

                await serve_alone(loaded.config, source=Source(file), notifier=notifier, stop=stop)

        logs.configure(loaded.config.log.level, loaded.config.log.format)
        log = structlog.get_logger()
        for warning in loaded.warnings:
            log.warning("configuration", key=warning.path, fault=warning.fault, remedy=warning.remedy)
        process.set_limits()
        run(serve_until)

    _start(program)


@app.command(rich_help_panel=START)
def simulate(
    faults: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Faults, see below.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 lets the kernel choose one.")] = 2775,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    user: Annotated[list[str] | None, typer.Option(help="SYSTEM_ID:PASSWORD let in. [dim]Default: anybody.[/]")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between lines of statistics.")] = 5.0,
    listing: Annotated[bool, typer.Option("--list", help="List the faults with their defaults and leave.")] = False,
    as_json: Json = False,
) -> None:
    """Run a simulated carrier whose faults are data.

    Binds of all types, submit_sm with receipts, and whatever goes wrong that you ask for; one line of statistics each
    few seconds in which something happened.

    Examples:

    [cyan]smpp-gateway simulate --port 2775[/]

    [cyan]smpp-gateway simulate latency_ms=20 rate=100 drop_every=500 'receipt_states={"DELIVRD": 9, "UNDELIV": 1}'[/]

    All faults: [cyan]smpp-gateway simulate --list[/]
    """
    import json

    from gateway.runner import run
    from gateway.simulator import Faults, read_faults
    from gateway.simulator import run as serve_carrier

    if listing:
        _list_faults(Faults(), as_json)
        return
    try:
        wanted = read_faults(faults or ())
        users = dict(_user(word) for word in user) if user else None
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    say = (lambda line: typer.echo(json.dumps({"carrier": line}))) if as_json else typer.echo

    _start(lambda: run(_until_asked(lambda: serve_carrier(port, wanted, host=host, users=users, every=every, say=say))))


def _until_asked(serving: Callable[[], Coroutine[Any, Any, None]]) -> Program[None]:
    """A program that serves until it is asked to stop, or until serving fails."""
    import asyncio
    import contextlib

    async def program(stop: asyncio.Event) -> None:
        task, asked = asyncio.ensure_future(serving()), asyncio.ensure_future(stop.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return program


def _list_faults(defaults: Faults, as_json: bool) -> None:
    from gateway.simulator.faults import choices

    values = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        words = choices(name)
        typer.echo(f"{name} = {value!r}" + (f"  # {' | '.join(words)}" if words else ""))


def _user(word: str) -> tuple[str, str]:
    name, colon, password = word.partition(":")
    if not name or not colon:
        raise ValueError(f"--user {word!r} is not SYSTEM_ID:PASSWORD")
    return name, password


@app.command(rich_help_panel=SETTING_UP)
def migrate(
    file: Annotated[
        Path, typer.Option("--config", "-c", envvar="SMPP_GATEWAY_CONFIG", help="The configuration, a TOML file.")
    ],
    numbers: Annotated[
        Path | None,
        typer.Option(help="Every number whose consent or opt-out you keep, one a line.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a store of an earlier version up to date, while no gateway runs on it.

    One name stands for all spellings of a number (+44 7911 …, +44 0 7911 …). A store from before that goes on working,
    but looks up the other spellings with every message, until this has run.

    Exit codes: 0 up to date · 1 the numbers are needed, nothing was changed · 2 wrong option or file · 4 the store
    cannot be used, or a gateway runs on it.

    Example: [cyan]smpp-gateway migrate --config config/gateway.toml --numbers numbers.txt[/]
    """
    import asyncio

    from gateway.commands.migrate import migrated, read_numbers, told

    config_read = load(file, as_json).config
    given = None if numbers is None else read_numbers(numbers)
    done = _start(lambda: asyncio.run(migrated(config_read, given)))
    if as_json:
        print_json(done._asdict())
    else:
        typer.echo(told(done))
    raise typer.Exit(Exit.OK if done.done else Exit.REFUSED)


# ── those of gateway.commands ──────────────────────────────────────────────────────────────────────────────────────

app.add_typer(config.config, name="config", rich_help_panel=SETTING_UP)
app.add_typer(keys.key, name="key", rich_help_panel=SETTING_UP)
app.command(rich_help_panel=APPS)(send)
app.command(rich_help_panel=OPERATORS)(status)
app.command(rich_help_panel=OPERATORS)(explain)
app.command(rich_help_panel=OPERATORS)(reload)
app.add_typer(operate.queue, name="queue", rich_help_panel=OPERATORS)
app.add_typer(operate.carriers, name="carriers", rich_help_panel=OPERATORS)
app.add_typer(operate.held, name="held", rich_help_panel=OPERATORS)
app.add_typer(operate.breakers, name="breakers", rich_help_panel=OPERATORS)
app.add_typer(webhooks, name="webhooks", rich_help_panel=OPERATORS)
app.command(rich_help_panel=OPERATORS)(operate.audit)
app.add_typer(recipients.consent, name="consent", rich_help_panel=APPS)
app.add_typer(recipients.optout, name="optout", rich_help_panel=APPS)


tidy_help(app)


# ── shared by the commands ─────────────────────────────────────────────────────────────────────────────────────────


def _start(program: Callable[[], T]) -> T:
    """Run a program that starts servers; what keeps it from running becomes a clear line and an exit code."""
    from gateway.config import ConfigError
    from gateway.runner import Interrupted, leaves
    from gateway.store.errors import NameTaken, StoreError

    try:
        return program()
    except Interrupted:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except (ConfigError, StoreError, OSError, ExceptionGroup) as error:
        causes = list(leaves(error))
        if not all(isinstance(cause, ConfigError | StoreError | OSError) for cause in causes):
            raise
        for cause in causes:
            echo(f"cannot start: {_reason(cause)}", err=True)
            if owner := _owner(cause):
                echo(owner, err=True)
        wrong_config = any(isinstance(cause, ConfigError | NameTaken) for cause in causes)
        raise typer.Exit(Exit.USAGE if wrong_config else Exit.CANNOT_START) from None


def _owner(error: BaseException) -> str:
    """Whose a port is that we cannot have, as far as it can be known."""
    address = re.match(r"cannot listen on (\S+:\d+): ", str(getattr(error, "strerror", "") or ""))
    if not address or not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        return ""
    from gateway.commands.port_owner import whose

    return whose(address[1])


def _reason(error: BaseException) -> str:
    """Without the number of the system's error, which tells nobody anything."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def main() -> Any:
    """Entry point of the console script."""
    for number, word in enumerate(sys.argv[1:], 1):
        if any("\ud800" <= char <= "\udfff" for char in word):  # octets that the terminal's character set has not
            echo(f"argument {number} is not UTF-8: {word}", err=True)
            raise SystemExit(int(Exit.USAGE))
    return app()


if __name__ == "__main__":
    main()
