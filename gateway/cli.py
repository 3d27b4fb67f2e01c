"""The command line, ``smpp-gateway``. Each command imports what it needs when it runs, so that help is instant."""

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
from gateway.commands.backup import backup, restore
from gateway.commands.common import ConfigFile, Exit, Json, echo, fail, finish_help, load, print_json
from gateway.commands.doctor import doctor
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
"""Panels of the help, in the order of their first commands."""

app = typer.Typer(
    name="smpp-gateway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An SMPP gateway: SMS in over HTTP, out to carriers over SMPP, followed to the delivery report.\n\n"
    "New here? [bold]smpp-gateway demo[/] runs the whole gateway on this machine and sends a few messages.",
    epilog="Exit codes: 0 success · 1 refused or failed · 2 invalid option or configuration · 3 no gateway answers · "
    "4 cannot start (store or address) · 5 not done within --wait · 130 interrupted",
)


def _version(wanted: bool) -> None:
    if wanted:
        from gateway.version import installed_version

        typer.echo(f"smpp-gateway {installed_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# ── running ────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(rich_help_panel=START)
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder for the store. [dim]Default: a temporary folder.[/]")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit after the last message.")] = False,
    as_json: Json = False,
) -> None:
    """Run the gateway with two simulated carriers and send a few messages.

    Needs no configuration: the store is embedded and every address is on this machine. The messages show deliveries,
    a refusal for missing consent and a deferral for quiet hours. Then everything keeps running for you to try, until
    Ctrl-C.

    Exit codes: 0 every outcome as expected · 1 another outcome · 4 cannot start · 130 interrupted during shutdown

    Example: [cyan]smpp-gateway demo --once[/]
    """
    from gateway.demo import run

    as_expected = _start(lambda: run(data=data, once=once, as_json=as_json))
    raise typer.Exit(Exit.OK if as_expected else Exit.REFUSED)


@app.command(rich_help_panel=START)
def serve(file: ConfigFile) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Logs go to standard error. Shutdown is graceful: the gateway accepts no new work, waits for outstanding responses,
    unbinds and stops its store. SIGHUP reloads the configuration file.

    Exit codes: 0 stopped · 2 invalid configuration, or the node name is in use · 4 the store cannot be used, or an
    address is in use · 130 interrupted during shutdown

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
    faults: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Faults; see --list.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")] = 2775,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    user: Annotated[
        list[str] | None, typer.Option(help="SYSTEM_ID:PASSWORD to accept; repeatable. [dim]Default: any.[/]")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between statistics lines.")] = 5.0,
    listing: Annotated[bool, typer.Option("--list", help="List the faults with their defaults and exit.")] = False,
    as_json: Json = False,
) -> None:
    """Run a simulated carrier with configurable faults.

    Accepts binds of all types and submit_sm, sends delivery receipts, and misbehaves as the faults say. Prints a line
    of statistics every few seconds, unless nothing happened.

    Exit codes: 0 stopped · 2 invalid option or fault · 4 the address is in use · 130 interrupted during shutdown

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

    _start(lambda: run(_until_stop(lambda: serve_carrier(port, wanted, host=host, users=users, every=every, say=say))))


def _until_stop(serving: Callable[[], Coroutine[Any, Any, None]]) -> Program[None]:
    """Return a program that serves until a stop signal, or until serving fails."""
    import asyncio
    import contextlib

    async def program(stop: asyncio.Event) -> None:
        task, stopping = asyncio.ensure_future(serving()), asyncio.ensure_future(stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return program


def _list_faults(defaults: Faults, as_json: bool) -> None:
    import json

    from gateway.simulator.faults import MEANINGS, choices

    values = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    if as_json:
        print_json(values)
        return
    typer.echo("Times are in milliseconds unless stated otherwise; n = 0 in …_every: never.\n")
    for name, value in values.items():
        written = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        words = choices(name)
        typer.echo(f"{name + '=' + written:<32} {MEANINGS[name]}" + (f" ({' | '.join(words)})" if words else ""))


def _user(word: str) -> tuple[str, str]:
    name, colon, password = word.partition(":")
    if not name or not colon:
        raise ValueError(f"invalid --user {word!r}: write SYSTEM_ID:PASSWORD")
    return name, password


@app.command(rich_help_panel=SETTING_UP)
def migrate(
    file: ConfigFile,
    numbers: Annotated[
        Path | None,
        typer.Option(
            help="File with every number that has a consent or opt-out on record, one per line.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Migrate a store of an earlier version. Stop all its gateways first.

    Consents and opt-outs are now stored under one name for all spellings of a number (+44 7911 …, +44 0 7911 …). A
    store that is not migrated keeps working, but every message looks up the other spellings as well.

    Exit codes: 0 up to date · 1 --numbers is needed, nothing was changed · 2 invalid option or file · 4 the store
    cannot be used, or a gateway runs on it

    Example: [cyan]smpp-gateway migrate --config config/gateway.toml --numbers numbers.txt[/]
    """
    import asyncio

    from gateway.commands.migrate import read_numbers, run_migration, summary

    config_read = load(file, as_json).config
    given = None if numbers is None else read_numbers(numbers)
    done = _start(lambda: asyncio.run(run_migration(config_read, given)))
    if as_json:
        print_json(done._asdict())
    else:
        typer.echo(summary(done))
    raise typer.Exit(Exit.OK if done.done else Exit.REFUSED)


# ── the commands of gateway.commands ───────────────────────────────────────────────────────────────────────────────

app.add_typer(config.config, name="config", rich_help_panel=SETTING_UP)
app.add_typer(keys.key, name="key", rich_help_panel=SETTING_UP)
app.command(rich_help_panel=APPS)(send)
app.command(rich_help_panel=OPERATORS)(status)
app.command(rich_help_panel=OPERATORS)(explain)
app.command(rich_help_panel=SETTING_UP)(doctor)
app.command(rich_help_panel=OPERATORS)(reload)
app.command(rich_help_panel=OPERATORS)(backup)
app.command(rich_help_panel=OPERATORS)(restore)
app.add_typer(operate.queue, name="queue", rich_help_panel=OPERATORS)
app.add_typer(operate.carriers, name="carriers", rich_help_panel=OPERATORS)
app.add_typer(operate.held, name="held", rich_help_panel=OPERATORS)
app.add_typer(operate.breakers, name="breakers", rich_help_panel=OPERATORS)
app.add_typer(webhooks, name="webhooks", rich_help_panel=OPERATORS)
app.command(rich_help_panel=OPERATORS)(operate.audit)
app.add_typer(recipients.consent, name="consent", rich_help_panel=APPS)
app.add_typer(recipients.optout, name="optout", rich_help_panel=APPS)


finish_help(app)


# ── shared by the commands ─────────────────────────────────────────────────────────────────────────────────────────


def _start(program: Callable[[], T]) -> T:
    """Run a program that starts servers; a failure to start becomes a line on standard error and an exit code."""
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
    """Return who listens on the address that is in use, as far as it can be known, else ""."""
    address = re.match(r"cannot listen on (\S+:\d+): ", str(getattr(error, "strerror", "") or ""))
    if not address or not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        return ""
    from gateway.commands.port_owner import port_owner

    return port_owner(address[1])


def _reason(error: BaseException) -> str:
    """Return an error as text, without errno."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def main() -> Any:
    """Entry point of the console script."""
    for number, word in enumerate(sys.argv[1:], 1):
        if any("\ud800" <= char <= "\udfff" for char in word):  # bytes that are not valid in the terminal's encoding
            echo(f"argument {number} is not valid UTF-8: {word}", err=True)
            raise SystemExit(int(Exit.USAGE))
    return app()


if __name__ == "__main__":
    main()
