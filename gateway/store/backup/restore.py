"""Restore a backup into an empty store, after which what it had accepted is held until an operator releases it.

The snapshot of an embedded store becomes the base of the new one's append-only file. Otherwise a private server loads
one snapshot after the other, and its keys are copied to the servers that now hold their partitions. So a backup of an
embedded store can be restored into a server or a cluster, and the other way round.

Nothing counts before the end. An embedded store is prepared in a folder beside its data, which is then renamed. In a
server the field ``restoring`` of ``gateway:meta`` keeps gateways away until everything is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gateway.policy.identity import VERSION
from gateway.store.backup.archive import ArchivePart, ArchiveReader, Manifest, Report, sync_folder, write_durably
from gateway.store.backup.errors import BackupRefused
from gateway.store.crypto import FILE, Secrets
from gateway.store.embedded.file_lock import open_lock, try_lock
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreError, StoreRefused
from gateway.store.keys import GENERATION, META, RESTORED, RESTORING, tags
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.redis.node import ErrorReply, StoreNode, pack, translate
from gateway.store.redis.store_id import MARK

CLOCKS_APART = 60_000
"""Milliseconds that the clock of a gateway may have been ahead of that of the backup. Messages carry the former."""

STAGE = "restoring"
"""Folder in the data folder in which an embedded store is prepared."""

_DATA = "appendonlydir"
_BASE = "appendonly.aof.1.base.rdb"
_KEYS = 200  # keys looked at together
_OCTETS = 32 << 20  # copied together, unless one key has more
_LARGE = (b"proto-max-bulk-len", b"8gb", b"client-query-buffer-limit", b"16gb")  # for our own server
_USUAL_ARGUMENT = 512 << 20  # octets; a server's default
_TIMEOUT = 120.0  # seconds for one call; a key may be large


class RestorePlan(NamedTuple):
    """What the configuration says about the store to restore into."""

    secrets: Secrets
    secrets_text: str  # to be written into ``data_dir``; "" = they are there, or in the configuration
    data_dir: Path
    durability: str
    partitions: int
    now: int  # ms UTC


class RestoreResult(NamedTuple):
    """What a restore did."""

    restored: int  # ms UTC; what was accepted earlier is held
    generation: int
    copied: int  # keys; 0 when a snapshot was taken over whole
    others: int  # keys in the snapshots that are not the gateway's, and were left out


def check_manifest(manifest: Manifest, plan: RestorePlan) -> None:
    """Raise BackupRefused unless the backup fits version, partitions and secrets of the configuration."""
    if manifest.identity > VERSION:
        raise BackupRefused(
            f"the backup was made by smpp-gateway {manifest.gateway}, which names recipients by newer rules "
            f"(version {manifest.identity}, this one knows {VERSION}): upgrade this gateway first"
        )
    if manifest.partitions != plan.partitions:
        raise BackupRefused(
            f"the backup has {manifest.partitions} partitions and the configuration says {plan.partitions}: "
            f"set [store] partitions = {manifest.partitions}"
        )
    check_secrets(manifest, plan.secrets, "the secrets of this configuration")
    wanted, found = list(range(manifest.partitions)), sorted(p for part in manifest.snapshots for p in part.partitions)
    if wanted != found:
        raise BackupRefused("the backup does not have every partition: restore another one")


def check_secrets(manifest: Manifest, secrets: Secrets, what: str) -> None:
    """Raise BackupRefused unless these secrets are those with which the data in the backup were made."""
    if secrets.fingerprint != manifest.secret:
        raise BackupRefused(
            f"{what} are not those of the backup (hashing secret {secrets.fingerprint}, the backup has "
            f"{manifest.secret}): without them no number, consent or opt-out in it can be found. Pass the secrets of "
            "the gateway that was backed up with --secrets FILE, or set them in [privacy]"
        )
    for number, mark in manifest.keys.items():
        if secrets.vault.fingerprints.get(int(number)) != mark:
            raise BackupRefused(
                f"{what} have no encryption key {number}, or another one than the backup: what it sealed could not be "
                "read. Add the key of the gateway that was backed up"
            )


async def restore_embedded(reader: ArchiveReader, plan: RestorePlan, report: Report) -> RestoreResult:
    """Restore into the data folder of an embedded store that has no data.

    Raises BackupRefused, StoreError, OSError; the data folder then has no data, as before.
    """
    with _locked(plan.data_dir):
        stage = plan.data_dir / STAGE
        shutil.rmtree(stage, ignore_errors=True)  # of a restore that was killed
        try:
            reader.verify(report)
            result = await _prepare(reader, plan, stage, report)
            if plan.secrets_text:  # before the data: a gateway that finds data without secrets would make new ones
                write_durably(plan.data_dir / FILE, plan.secrets_text)
            os.replace(stage / _DATA, plan.data_dir / _DATA)
            sync_folder(plan.data_dir)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return result


async def _prepare(reader: ArchiveReader, plan: RestorePlan, stage: Path, report: Report) -> RestoreResult:
    """Make the whole store in the folder ``stage`` and stop its server again."""
    manifest, copied = reader.manifest, (0, 0)
    whole = manifest.source == "embedded" and len(manifest.snapshots) == 1
    if whole:
        _write_base(reader, manifest.snapshots[0], stage)
    server = EmbeddedServer(stage, plan.durability)
    await server.start()
    try:
        link = _unopened(server.launcher_url, plan)
        try:
            await link.reach()
            if not whole:
                await link.everywhere(b"CONFIG", b"SET", *_LARGE)
                copied = await _copy_all(reader, link, report)
            restored, generation = await _seal(link, manifest, plan.now)
        finally:
            await link.close()
        await _open_once(server.url, plan)
    finally:
        await server.stop()
    return RestoreResult(restored, generation, *copied)


async def restore_remote(url: str, reader: ArchiveReader, plan: RestorePlan, report: Report) -> RestoreResult:
    """Restore into a server or cluster without any key.

    Raises BackupRefused, StoreError, OSError. When it ends early, gateways refuse the store, and so does ``restore``
    until it is emptied.
    """
    link = _unopened(url, plan)
    try:
        await link.reach()
        await link.check(plan.durability)
        await _check_empty(link)
        reader.verify(report)
        if plan.secrets_text:
            plan.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(plan.data_dir / FILE, plan.secrets_text)
        copied = await _copy_all(reader, link, report)
        restored, generation = await _seal(link, reader.manifest, plan.now)
    finally:
        await link.close()
    await _open_once(url, plan)
    return RestoreResult(restored, generation, *copied)


# -- the target -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Keep gateways off the data folder. Raises BackupRefused when one runs there, or has left data, OSError."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    locks = [open_lock(data_dir / name) for name in ("gateway.lock", "server.lock")]
    try:
        if not all(map(try_lock, locks)):
            raise BackupRefused(
                f"the data folder {data_dir} is in use by a running gateway: stop it, or set another [store] data_dir"
            )
        for name in (_DATA, "dump.rdb"):
            if (data_dir / name).exists():
                raise BackupRefused(
                    f"the data folder {data_dir} holds data ({name}), and a backup is restored into an empty store "
                    "only: move that folder away, or set another [store] data_dir"
                )
        yield
    finally:
        for lock in locks:
            os.close(lock)


async def _check_empty(link: StoreConnection) -> None:
    if RESTORING in await link.meta():
        raise BackupRefused(
            f"the store at {link.primaries[0].name} holds a restore that was not finished: empty it (FLUSHALL on every "
            "primary) and run this again"
        )
    for node, keys in zip(link.primaries, await link.everywhere(b"DBSIZE"), strict=True):
        if keys:
            raise BackupRefused(
                f"the store at {node.name} holds {keys} keys, and a backup is restored into an empty store only: name "
                "another server in [store] url, or another database of it"
            )


def _unopened(url: str, plan: RestorePlan) -> StoreConnection:
    return StoreConnection(url, tags=tags(plan.partitions), library=build_library(), connections=4, timeout=_TIMEOUT)


async def _open_once(url: str, plan: RestorePlan) -> None:
    """Open the store as a gateway does, which checks it and loads the functions. Raises StoreError."""
    link = await connect(
        url,
        tags=tags(plan.partitions),
        library=build_library(),
        durability=plan.durability,
        fingerprint=plan.secrets.fingerprint,
        migrating=True,
    )
    await link.close()


def held_before(instant: int, now: int) -> int:
    """Return before which instant what was accepted is held: that of the backup, and as much later as clocks differ.

    Never later than ``now``, from which on the restored store accepts.
    """
    return max(instant, min(instant + CLOCKS_APART, now))


async def _seal(link: StoreConnection, manifest: Manifest, now: int) -> tuple[int, int]:
    """Set flag and generation; return both. Raises BackupRefused when a partition is missing, StoreError."""
    mark = manifest.meta.get("id", "").encode()
    marks = await link.commands([(p, (b"GET", tag + MARK)) for p, tag in enumerate(link.tags)])
    missing = [str(p) for p, found in enumerate(marks) if mark and found != mark]
    if missing:
        raise BackupRefused(f"the backup lacks the data of partition {', '.join(missing)}: restore another one")
    restored = held_before(manifest.instant, now)
    flag = str(restored).encode()
    await link.commands([(p, (b"HSET", tag + b"f", RESTORED, flag)) for p, tag in enumerate(link.tags)])
    generation = int(manifest.meta.get(GENERATION.decode(), 0)) + 1
    fields = {**manifest.meta, GENERATION.decode(): str(generation)}
    (first, value), *rest = [(name.encode(), text.encode()) for name, text in fields.items()]
    await link.set_meta(first, value, *[word for pair in rest for word in pair])
    await link.drop_meta(RESTORING)
    return restored, generation


# -- from snapshots to keys -------------------------------------------------------------------------------------------


def _write_base(reader: ArchiveReader, part: ArchivePart, folder: Path) -> None:
    """Write a snapshot as the base of the append-only file of a data folder. Raises BackupRefused, OSError."""
    into = folder / _DATA
    into.mkdir(parents=True, mode=0o700)
    made = os.open(into / _BASE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as file:
        for chunk in reader.read(part):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    write_durably(into / "appendonly.aof.manifest", f"file {_BASE} seq 1 type b\n")


@asynccontextmanager
async def _loaded(reader: ArchiveReader, part: ArchivePart) -> AsyncIterator[StoreNode]:
    """Run a private server with a snapshot. Raises BackupRefused, StoreError, OSError."""
    with tempfile.TemporaryDirectory(prefix="smpp-gateway-restore-") as folder:
        _write_base(reader, part, Path(folder))
        server = EmbeddedServer(Path(folder), "everysec")
        await server.start()
        try:
            url = f"{server.launcher_url}?db={reader.manifest.database}"
            link = StoreConnection(url, tags=[b""], library=build_library(), connections=2, timeout=_TIMEOUT)
            try:
                yield link.primaries[0]
            finally:
                await link.close()
        finally:
            await server.stop()


async def _copy_all(reader: ArchiveReader, target: StoreConnection, report: Report) -> tuple[int, int]:
    """Copy the keys of all snapshots; return how many, and how many were left out as they are not the gateway's."""
    await target.set_meta(RESTORING, reader.manifest.time.encode())
    copied = others = 0
    for part in reader.manifest.snapshots:
        async with _loaded(reader, part) as source:
            total = copied + others + await source.command(b"DBSIZE")
            async for count, skipped in _copy(source, target, part):
                copied, others = copied + count, others + skipped
                report(copied + others, total)
    return copied, others


async def _copy(source: StoreNode, target: StoreConnection, part: ArchivePart) -> AsyncIterator[tuple[int, int]]:
    """Copy the keys of a snapshot with their lifetimes. Yield after each round (copied, left out)."""
    places = {target.tags[p]: p for p in part.partitions}
    most = await _longest_argument(target)
    cursor = None
    while cursor != b"0":
        cursor, keys = await source.command(b"SCAN", cursor or b"0", b"COUNT", _KEYS)
        ours = [(places[tag], key) for key in keys if (tag := key[: key.find(b"}") + 1]) in places]
        sizes = await _replies(source, [(b"MEMORY", b"USAGE", key) for _, key in ours])
        for group in _groups(ours, [size or 0 for size in sizes]):
            await _copy_group(source, target, group, most)
        yield len(ours), len([key for key in keys if key != META]) - len(ours)


async def _copy_group(
    source: StoreNode, target: StoreConnection, group: Sequence[tuple[int, bytes]], most: int
) -> None:
    wanted = [command for _, key in group for command in ((b"PEXPIRETIME", key), (b"DUMP", key))]
    replies = await _replies(source, wanted)
    commands: list[tuple[int, Sequence[Any]]] = []
    for (partition, key), expires, dump in zip(group, replies[::2], replies[1::2], strict=True):
        if dump is None:  # expired meanwhile
            continue
        if len(dump) > most:
            raise StoreRefused(
                f"one key of the backup has {len(dump)} octets, and the server takes {most} in one call: run "
                f"CONFIG SET proto-max-bulk-len {2 * len(dump)} there, empty it and run restore again"
            )
        commands.append((partition, (b"RESTORE", key, max(expires, 0), dump, b"REPLACE", b"ABSTTL")))
    try:
        await target.commands(commands)
    except StoreError as error:
        raise _explained(error) from error


async def _replies(node: StoreNode, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the replies of one pipeline. Raises StoreError for an error among them."""
    replies = await node.exchange([pack(*command) for command in commands]) if commands else []
    for reply in replies:
        if isinstance(reply, ErrorReply):
            raise translate(reply.error, node.name)
    return replies


def _groups(keys: Sequence[tuple[int, bytes]], sizes: Sequence[int]) -> Iterator[list[tuple[int, bytes]]]:
    """Divide keys into groups that are copied together: a bucket of records may have a hundred megabytes."""
    group, octets = list[tuple[int, bytes]](), 0
    for key, size in zip(keys, sizes, strict=True):
        if group and octets + size > _OCTETS:
            yield group
            group, octets = [], 0
        group.append(key)
        octets += size
    if group:
        yield group


async def _longest_argument(target: StoreConnection) -> int:
    """Return how many octets every server takes in one argument."""
    limits = [_USUAL_ARGUMENT]
    with contextlib.suppress(StoreError):  # the user may not ask: the usual limit, then
        limits = [int(reply[1]) for reply in await target.everywhere(b"CONFIG", b"GET", b"proto-max-bulk-len")]
    return min(limits)


def _explained(error: StoreError) -> StoreError:
    if "payload version" in str(error):
        return StoreRefused(
            f"{error}: the server is older than the one that comes with this gateway, and cannot read its data; "
            "restore into a newer Valkey, or into an embedded store"
        )
    return error
