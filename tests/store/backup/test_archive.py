"""The file of a backup: complete or not there, and no damage goes unnoticed."""

from __future__ import annotations

import errno
import os
import tarfile
from pathlib import Path

import msgspec
import pytest

from gateway.store.backup.archive import MANIFEST, SECRETS, ArchiveReader, ArchiveWriter, Manifest
from gateway.store.backup.errors import BackupRefused

NOW = 1_795_000_000_000
SNAPSHOT = b"REDIS0011" + os.urandom(3_000_000)


def manifest(writer: ArchiveWriter, **changes: object) -> Manifest:
    made = Manifest(1, "0.1.0", NOW, "then", "embedded", 0, 8, 1, "print", {"1": "k"}, {"id": "i"}, list(writer.parts))
    return msgspec.structs.replace(made, **changes)


def write(path: Path, **changes: object) -> None:
    writer = ArchiveWriter(path)
    with writer.part("snapshot-1.rdb", NOW, [0, 1]) as part:
        for start in range(0, len(SNAPSHOT), 70_001):
            part(SNAPSHOT[start : start + 70_001])
    with writer.part(SECRETS, NOW) as part:
        part(b'{"secret": 1}')
    writer.finish(manifest(writer, **changes))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["b.tar"]
    with ArchiveReader(path) as reader:
        (part,) = reader.manifest.snapshots
        assert (part.partitions, part.size) == ([0, 1], len(SNAPSHOT))
        assert b"".join(reader.read(part)) == SNAPSHOT
        assert reader.secrets() == '{"secret": 1}'
        seen: list[tuple[int, int]] = []
        reader.verify(lambda done, total: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] == len(SNAPSHOT) + 13


def test_ordinary_tar_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["snapshot-1.rdb", SECRETS, MANIFEST]
        member = tar.extractfile("snapshot-1.rdb")
        assert member is not None
        assert member.read() == SNAPSHOT


@pytest.mark.parametrize("share", [0, 0.0001, 0.3, 0.9, 0.9991, 0.9995])
def test_a_cut_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "b.tar"
    write(path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(BackupRefused, match=r"cut off|no backup|damaged"):
        ArchiveReader(path)


@pytest.mark.parametrize("place", [600, 1_500_000, 3_000_000])
def test_a_changed_octet_is_noticed(tmp_path: Path, place: int) -> None:
    path = tmp_path / "b.tar"
    write(path)
    with path.open("r+b") as file:
        file.seek(place)
        octet = file.read(1)
        file.seek(place)
        file.write(bytes((octet[0] ^ 1,)))
    with (
        ArchiveReader(path) as reader,
        pytest.raises(BackupRefused, match=r"snapshot-1\.rdb does not have the SHA-256"),
    ):
        reader.verify(lambda done, total: None)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content, said in ((b"", "no backup"), (b"hello" * 1000, "no backup")):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(BackupRefused, match=said):
            ArchiveReader(tmp_path / "x")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "x", "x")
    with pytest.raises(BackupRefused, match=r"no manifest\.json.*another archive"):
        ArchiveReader(tmp_path / "t.tar")
    with pytest.raises(BackupRefused, match=r"cannot read .*: No such file"):
        ArchiveReader(tmp_path / "none")


def test_a_newer_format_names_the_version_that_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "b.tar", format=2, gateway="9.9")
    with pytest.raises(BackupRefused, match=r"format 2, made by smpp-gateway 9\.9"):
        ArchiveReader(tmp_path / "b.tar")


def test_an_existing_file_is_replaced_only_when_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_text("precious")
    with pytest.raises(BackupRefused, match="--overwrite"):
        ArchiveWriter(path)
    writer = ArchiveWriter(path, overwrite=True)
    assert path.read_text() == "precious"  # until the new one is complete
    writer.finish(manifest(writer))
    with ArchiveReader(path) as reader:
        assert reader.manifest.instant == NOW
    with pytest.raises(BackupRefused, match="is a folder"):
        ArchiveWriter(tmp_path)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    writer = ArchiveWriter(path)
    path.write_text("precious")
    with pytest.raises(BackupRefused, match="exists"):
        writer.finish(manifest(writer))
    writer.abandon()
    assert [one.name for one in tmp_path.iterdir()] == ["b.tar"]
    assert path.read_text() == "precious"


def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write(tmp_path / "b.tar")
    assert done == ["file", "rename", "folder"]


def test_a_failing_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = ArchiveWriter(tmp_path / "b.tar")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        writer.finish(manifest(writer))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []
