"""A backup is of one store in one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.store.backup.archive import ArchiveReader, ArchiveWriter
from gateway.store.backup.copy import BackupPlan, take_backup
from gateway.store.backup.errors import BackupRefused
from gateway.store.crypto import Secrets, Vault
from gateway.store.redis.connection import StoreConnection

SECRETS = Secrets(bytes(32), Vault({1: bytes(32)}, 1))
AHEAD = 4_000_000_000  # seconds: the server's clock is ahead


class Node:
    """A primary with a small snapshot."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def command(self, *words: bytes) -> Any:
        return [b"%d" % AHEAD, b"250000"] if words[0] == b"TIME" else b"role:master\r\n"

    async def snapshot(self) -> AsyncIterator[bytes]:
        yield b"REDIS" + self.name.encode()


class Link:
    """Two servers; the shapes that are found one after the other."""

    partitions, database = 2, 0

    def __init__(self, *shapes: dict[Node, list[int]]) -> None:
        self._shapes = list(shapes)
        self.partitions_by_node: dict[Node, list[int]] = {}

    async def reach(self) -> None:
        self.partitions_by_node = self._shapes.pop(0)

    @property
    def primaries(self) -> list[Node]:
        return list(self.partitions_by_node)

    async def meta(self) -> dict[bytes, bytes]:
        return {b"partitions": b"2", b"secret": SECRETS.fingerprint.encode(), b"numbers": b"1"}


async def taken(path: Path, *shapes: dict[Node, list[int]]) -> None:
    link, plan = cast(StoreConnection, Link(*shapes)), BackupPlan("0.1.0", "cluster", SECRETS, "{}")
    await take_backup(link, ArchiveWriter(path), plan, lambda done, total: None)


async def test_every_primary_has_its_snapshot_and_the_instant_is_behind_all_of_them(tmp_path: Path) -> None:
    shape = {Node("a"): [0], Node("b"): [1]}
    await taken(tmp_path / "b.tar", shape, shape)
    with ArchiveReader(tmp_path / "b.tar") as reader:
        found = reader.manifest
        assert [(part.name, part.partitions) for part in found.snapshots] == [
            ("snapshot-1.rdb", [0]),
            ("snapshot-2.rdb", [1]),
        ]
        assert [b"".join(reader.read(part)) for part in found.snapshots] == [b"REDISa", b"REDISb"]
        assert found.instant == AHEAD * 1000 + 250


async def test_a_partition_that_moves_meanwhile_makes_it_fail(tmp_path: Path) -> None:
    one, other = Node("a"), Node("b")
    with pytest.raises(BackupRefused, match="partitions moved between servers during the backup"):
        await taken(tmp_path / "b.tar", {one: [0], other: [1]}, {other: [0, 1]})
    assert not (tmp_path / "b.tar").exists()
