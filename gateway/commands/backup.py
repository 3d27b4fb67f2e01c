"""``smpp-gateway backup`` and ``restore``: the store of a configuration into a file, and back into an empty store."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.commands.common import ConfigFile, Exit, Json, echo, fail, load, print_json

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.store.backup.archive import ArchiveReader, Manifest, Report
    from gateway.store.backup.restore import RestorePlan, RestoreResult
    from gateway.store.crypto import Secrets
    from gateway.store.redis.connection import StoreConnection

T = TypeVar("T")

ArchiveFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.", show_default=False)]


def backup(
    file: ArchiveFile,
    config: ConfigFile,
    secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the secrets into this file and not into the backup.", show_default=False
        ),
    ] = None,
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Leave the secrets out; they are kept elsewhere.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Back up the store into a file, while the gateway runs or not.

    The file has all messages, consents and opt-outs of one instant, and the secrets that decrypt them, unless they are
    kept apart: whoever has both can read every number. It is complete or not there at all. In a cluster each partition
    is consistent in itself.

    A server of your own must permit the user in its url to take a snapshot (ACL: +sync +replconf).

    Exit codes: 0 done · 1 refused, or FILE cannot be written · 2 invalid option or configuration · 4 the store cannot
    be used · 130 interrupted

    Example: [cyan]smpp-gateway backup backup-$(date +%F).tar --config config/gateway.toml[/]
    """
    if secrets is not None and no_secrets:
        fail(Exit.USAGE, "pass either --secrets FILE or --no-secrets")
    settings = load(config, as_json).config
    with _errors(f"cannot write {file}"), _progress("backup", octets=True, quiet=as_json) as report:
        manifest = _run(_backup(settings, file, secrets, no_secrets, overwrite, report))
        size = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "size": size, **_shown(manifest)})
        return
    apart = "without the secrets" if no_secrets else f"the secrets are in {secrets}" if secrets else "with the secrets"
    echo(
        f"{file}: {_octets(size)}, everything accepted before {manifest.time}, {manifest.partitions} partitions "
        f"from {len(manifest.snapshots)} server{'s' * (len(manifest.snapshots) > 1)}; {apart}"
    )


def restore(
    file: ArchiveFile,
    config: ConfigFile,
    secrets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The secrets, if they are not in the backup.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty store: the embedded one, a server or a cluster.

    What was accepted before the backup may have been sent since then. So nothing of it is sent, not even one-time
    passwords, until you run [cyan]smpp-gateway held release --restored[/]. What is accepted from now on is sent as
    usual.

    Exit codes: 0 done · 1 refused · 2 invalid option or configuration · 4 the store cannot be used · 130 interrupted

    Example: [cyan]smpp-gateway restore backup-2026-11-28.tar --config config/gateway.toml[/]
    """
    settings = load(config, as_json).config
    with _errors("cannot restore"), _progress("restore", octets=False, quiet=as_json) as report:
        manifest, done = _run(_restore(settings, file, secrets, report))
    if as_json:
        print_json({"file": str(file), "restored": done.restored, "generation": done.generation, **_shown(manifest)})
        return
    echo(f"restored from {file}: the store as it was at {manifest.time}, generation {done.generation}")
    if done.others:
        echo(f"left out, as they are not the gateway's: {done.others} key{'s' * (done.others > 1)}")
    echo("Start the gateway. What was accepted before the backup is held until smpp-gateway held release --restored.")


# ── backup ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _backup(
    config: Config, file: Path, secrets_file: Path | None, no_secrets: bool, overwrite: bool, report: Report
) -> Manifest:
    from gateway.store.backup.archive import ArchiveWriter
    from gateway.store.backup.copy import BackupPlan, take_backup
    from gateway.store.backup.errors import BackupRefused
    from gateway.version import installed_version

    embedded = config.store.embedded
    if embedded and not (Path(config.store.data_dir) / "appendonlydir").exists():
        raise BackupRefused(f"there is no store in {config.store.data_dir}: is it the data_dir of your gateway?")
    secrets, text = _secrets_of(config)
    source = "embedded" if embedded else "cluster" if "+cluster://" in config.store.url else "server"
    in_archive = "" if no_secrets or secrets_file else text
    async with _store(config) as link:
        archive = ArchiveWriter(file, overwrite=overwrite)
        with contextlib.ExitStack() as undo:
            undo.callback(archive.abandon)
            if secrets_file is not None and _keep_secrets(secrets_file, text):
                undo.callback(secrets_file.unlink)
            plan = BackupPlan(installed_version(), source, secrets, in_archive, embedded)
            manifest = await take_backup(link, archive, plan, report)
            undo.pop_all()
            return manifest


def _keep_secrets(path: Path, text: str) -> bool:
    """Write the secrets into a file of their own; return False when they are there already. Raises BackupRefused."""
    from gateway.store.backup.archive import write_durably
    from gateway.store.backup.errors import BackupRefused

    if path.exists():
        if path.read_bytes() == text.encode():
            return False
        raise BackupRefused(f"{path} exists and has something else: name another file for the secrets")
    write_durably(path, text)
    return True


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[StoreConnection]:
    """Connect to the store without opening it; an embedded one is started when no gateway runs. Raises StoreError."""
    from gateway.store.embedded.acl import KEY_FILE
    from gateway.store.embedded.file_lock import open_lock, try_lock
    from gateway.store.embedded.server import EmbeddedServer, launcher_url

    url, server = config.store.url, None
    if config.store.embedded:
        data_dir = Path(config.store.data_dir)
        lock = open_lock(data_dir / "gateway.lock")
        free = try_lock(lock)
        os.close(lock)
        if free:
            server = EmbeddedServer(data_dir, config.store.durability)
            await server.start()
            url = server.launcher_url
        else:
            url = launcher_url(data_dir, (data_dir / KEY_FILE).read_text(encoding="ascii").strip())
    try:
        link = _connection(config, url)
        try:
            yield link
        finally:
            await link.close()
    finally:
        if server is not None:
            await server.stop()


def _connection(config: Config, url: str) -> StoreConnection:
    from gateway.store.keys import tags
    from gateway.store.library import build_library
    from gateway.store.redis.connection import StoreConnection

    return StoreConnection(
        url, tags=tags(config.store.partitions), library=build_library(), connections=4, timeout=30.0
    )


def _secrets_of(config: Config) -> tuple[Secrets, str]:
    """Return the secrets in use and the text of a file with them. Raises BackupRefused, StoreRefused, OSError."""
    from gateway.store import crypto
    from gateway.store.backup.errors import BackupRefused

    given, data_dir = config.privacy, Path(config.store.data_dir)
    path = data_dir / crypto.FILE
    if given.hashing_secret:
        text = crypto.file_text(given.hashing_secret, given.encryption_keys, given.current_key)
        return crypto.from_text(given.hashing_secret, given.encryption_keys, given.current_key), text
    if not path.exists():
        raise BackupRefused(f"{path} is missing: run this with the configuration and data folder of your gateway")
    return crypto.load_or_create(path.parent), path.read_text()


# ── restore ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _restore(
    config: Config, file: Path, secrets_file: Path | None, report: Report
) -> tuple[Manifest, RestoreResult]:
    from gateway.store.backup.archive import ArchiveReader
    from gateway.store.backup.restore import check_manifest, restore_embedded, restore_remote

    with ArchiveReader(file) as reader:
        plan = _plan(config, reader, secrets_file)
        check_manifest(reader.manifest, plan)
        if config.store.embedded:
            return reader.manifest, await restore_embedded(reader, plan, report)
        return reader.manifest, await restore_remote(config.store.url, reader, plan, report)


def _plan(config: Config, reader: ArchiveReader, secrets_file: Path | None) -> RestorePlan:
    """Return where to restore to, with the first secrets there are: configured, in the data folder, given, included."""
    from gateway.clock import now_ms
    from gateway.store import crypto
    from gateway.store.backup.errors import BackupRefused
    from gateway.store.backup.restore import RestorePlan, check_secrets

    store, text = config.store, ""
    given = None
    if secrets_file is not None:
        text = secrets_file.read_text()
        given = crypto.from_file_text(text, str(secrets_file))
        check_secrets(reader.manifest, given, f"the secrets in {secrets_file}")
    if config.privacy.hashing_secret or (Path(store.data_dir) / crypto.FILE).exists():
        secrets, text = _secrets_of(config)[0], ""
    elif given is not None:
        secrets = given
    elif text := reader.secrets():
        secrets = crypto.from_file_text(text, f"{crypto.FILE} in {reader.path}")
    else:
        raise BackupRefused(
            f"{reader.path} was made without the secrets: pass their file with --secrets FILE, or set them in [privacy]"
        )
    return RestorePlan(secrets, text, Path(store.data_dir), store.durability, store.partitions, now_ms())


# ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _run(program: Coroutine[Any, Any, T]) -> T:
    """Run it; SIGTERM ends it as Ctrl-C does, so that nothing half-made stays."""

    import asyncio

    from gateway import logs

    logs.configure("warning")

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await program

    try:
        return asyncio.run(interruptible())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(Exit.INTERRUPTED) from None


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Turn errors into a line on standard error and an exit code."""
    from gateway.store.backup.errors import BackupRefused
    from gateway.store.errors import StoreError

    try:
        yield
    except BackupRefused as error:
        fail(Exit.REFUSED, str(error))
    except StoreError as error:
        fail(Exit.CANNOT_START, f"{doing}: {error}")
    except OSError as error:
        fail(Exit.REFUSED, f"{doing}: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}")


@contextmanager
def _progress(what: str, *, octets: bool, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

    from gateway.commands.output import SafeConsole

    console = SafeConsole(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (DownloadColumn(), TransferSpeedColumn()) if octets else (TaskProgressColumn(),)
    with Progress(TextColumn(what), BarColumn(), *columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _shown(manifest: Manifest) -> dict[str, Any]:
    return {
        "instant": manifest.instant,
        "time": manifest.time,
        "source": manifest.source,
        "partitions": manifest.partitions,
        "secret": manifest.secret,
        "parts": [{"name": part.name, "size": part.size, "sha256": part.sha256} for part in manifest.parts],
    }


def _octets(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} octets"
