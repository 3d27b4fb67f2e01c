"""Take a backup: a snapshot of every primary goes into an archive while the gateways go on working."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from gateway.clock import now_ms
from gateway.store.backup.archive import FORMAT, SECRETS, ArchivePart, ArchiveWriter, Manifest, Report
from gateway.store.backup.errors import BackupRefused
from gateway.store.keys import NUMBERS
from gateway.store.redis.checks import read_info

if TYPE_CHECKING:
    from gateway.store.crypto import Secrets
    from gateway.store.redis.connection import StoreConnection


class BackupPlan(NamedTuple):
    """What goes into a backup beside the data."""

    version: str  # of the gateway
    source: str  # "embedded" | "server" | "cluster"
    secrets: Secrets
    secrets_text: str = ""  # for the archive; "" = kept apart
    embedded: bool = False  # its server has no other replicas, so it need not wait for them


async def take_backup(link: StoreConnection, archive: ArchiveWriter, plan: BackupPlan, report: Report) -> Manifest:
    """Fill and finish the archive; return its manifest. ``link`` need not be open.

    Raises BackupRefused when the store is not that of the configuration or changes its shape meanwhile, StoreError, and
    OSError of the archive. Nothing is written into the store.
    """
    await link.reach()
    await _check_primaries(link)
    meta = await link.meta()
    _check_meta(link, meta, plan.secrets)
    if plan.embedded:
        await link.everywhere(b"CONFIG", b"SET", b"repl-diskless-sync", b"yes", b"repl-diskless-sync-delay", b"0")
    nodes = link.partitions_by_node
    done = 0
    for number, (node, partitions) in enumerate(nodes.items(), 1):
        with archive.part(f"snapshot-{number}.rdb", now_ms(), partitions) as write:
            async for chunk in node.snapshot():
                write(chunk)
                done += len(chunk)
                report(done, 0)
    # Read after the last snapshot has arrived, so whatever is in one was accepted before.
    instant = max([now_ms(), *[_milliseconds(*await node.command(b"TIME")) for node in nodes]])
    await link.reach()
    if link.partitions_by_node != nodes:
        raise BackupRefused("partitions moved between servers during the backup: run it again when that is over")
    if plan.secrets_text:
        with archive.part(SECRETS, instant) as write:
            write(plan.secrets_text.encode())
    manifest = _manifest(link, plan, meta, instant, archive.parts)
    archive.finish(manifest)
    return manifest


async def _check_primaries(link: StoreConnection) -> None:
    for node in link.primaries:
        info = read_info(await node.command(b"INFO", b"replication"))
        if info.get("role", "master") != "master":
            raise BackupRefused(
                f"{node.name} is a replica, which may be behind: name its primary in [store] url "
                f"({info.get('master_host')}:{info.get('master_port')})"
            )


def _check_meta(link: StoreConnection, meta: dict[bytes, bytes], secrets: Secrets) -> None:
    where = link.primaries[0].name
    if b"partitions" not in meta:
        raise BackupRefused(f"the store at {where} is empty: there is nothing to back up. Is it the right [store]?")
    if int(meta[b"partitions"]) != link.partitions:
        kept = meta[b"partitions"].decode()
        raise BackupRefused(f"the store at {where} has {kept} partitions: set [store] partitions = {kept}")
    if meta.get(b"secret", b"").decode() not in ("", secrets.fingerprint):
        raise BackupRefused(
            f"the secrets of this configuration are not those of the store at {where}: pass the configuration that its "
            "gateways use"
        )
    if b"restoring" in meta:
        raise BackupRefused(f"the store at {where} was not restored to the end: there is no whole data to back up")


def _manifest(
    link: StoreConnection, plan: BackupPlan, meta: dict[bytes, bytes], instant: int, parts: list[ArchivePart]
) -> Manifest:
    return Manifest(
        format=FORMAT,
        gateway=plan.version,
        instant=instant,
        time=datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds"),
        source=plan.source,
        database=link.database,
        partitions=link.partitions,
        identity=int(meta.get(NUMBERS, b"0")),
        secret=plan.secrets.fingerprint,
        keys={str(number): mark for number, mark in plan.secrets.vault.fingerprints.items()},
        meta={name.decode(): value.decode() for name, value in meta.items()},
        parts=list(parts),
    )


def _milliseconds(seconds: bytes, microseconds: bytes) -> int:
    return int(seconds) * 1000 + int(microseconds) // 1000
