"""The file of a backup: a tar archive of snapshots, secrets (unless they are kept apart) and, last, the manifest.

    snapshot-1.rdb … snapshot-N.rdb | secrets.json | manifest.json

The manifest names size and SHA-256 of every part. It is written last, so an archive that was cut off has none. The file
is written beside its place and renamed when it is complete and on disk: under its name there is never half a backup.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from gateway.store.backup.errors import BackupRefused

FORMAT = 1
MANIFEST, SECRETS = "manifest.json", "secrets.json"
CHUNK = 1 << 20

_BLOCK = 512
_LARGEST = 1 << 20  # octets of a manifest or of secrets


class ArchivePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file in the archive. ``partitions``: those that a snapshot was responsible for."""

    name: str
    size: int
    sha256: str
    partitions: list[int] = []


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is of. ``meta``: fields of ``gateway:meta``; ``keys``: encryption key id -> fingerprint."""

    format: int
    gateway: str
    instant: int  # ms UTC; everything in it was accepted before
    time: str  # the same for people
    source: str  # "embedded" | "server" | "cluster"
    database: int
    partitions: int
    identity: int  # version of ``policy.identity`` that names recipients
    secret: str  # fingerprint of the hashing secret
    keys: dict[str, str]
    meta: dict[str, str]
    parts: list[ArchivePart]

    @property
    def snapshots(self) -> list[ArchivePart]:
        return [part for part in self.parts if part.name != SECRETS]


Report = Callable[[int, int], None]
"""Called with the progress: how much is done, of how much (0: unknown)."""


class ArchiveWriter:
    """Writes an archive part by part. ``finish`` puts it in its place, ``abandon`` removes what was written.

    Every method may raise OSError.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Raises BackupRefused when there is such a file and it may not be replaced."""
        self.path = path
        self._overwrite = overwrite
        self._check()
        descriptor, self._draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        self._file = os.fdopen(descriptor, "wb")
        self.parts: list[ArchivePart] = []

    def _check(self) -> None:
        if self.path.is_dir():
            raise BackupRefused(f"{self.path} is a folder: name the file to write")
        if not self._overwrite and self.path.exists():
            raise BackupRefused(f"{self.path} exists: name another file, or pass --overwrite")

    @contextlib.contextmanager
    def part(self, name: str, now: int, partitions: list[int] | None = None) -> Iterator[Callable[[bytes], None]]:
        """Write a part of any length: the context gets a function that writes its next octets. ``now``: ms UTC."""
        start, size, digest = self._file.tell(), 0, hashlib.sha256()
        self._file.write(bytes(_BLOCK))

        def write(chunk: bytes) -> None:
            nonlocal size
            self._file.write(chunk)
            digest.update(chunk)
            size += len(chunk)

        yield write
        self._file.write(bytes(-size % _BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(name, size, now))  # only now its size is known
        self._file.seek(end)
        self.parts.append(ArchivePart(name, size, digest.hexdigest(), partitions or []))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, flush everything to disk and rename it. Raises BackupRefused when the name is taken."""
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._file.write(_header(MANIFEST, len(text), manifest.instant))
        self._file.write(text + bytes(-len(text) % _BLOCK) + bytes(2 * _BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._check()
        os.replace(self._draft, self.path)
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Remove the draft. No effect after ``finish``."""
        with contextlib.suppress(OSError):  # a full disk: what was not written yet is of no use
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._draft)


class ArchiveReader:
    """An archive whose manifest was read. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        """Raises BackupRefused for a file that is no complete backup, or from a newer gateway."""
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise BackupRefused(f"cannot read {path}: {error.strerror}") from error
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self._places = self._read_headers()
            self.manifest = self._read_manifest()
            self._check_parts()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_headers(self) -> dict[str, tuple[int, int]]:
        """Return name -> (where it begins, size)."""
        places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                for member in tar:
                    if member.isfile():
                        places[member.name] = member.offset_data, member.size
        except (tarfile.TarError, OSError, EOFError) as error:
            if not places:
                raise BackupRefused(f"{self.path} is no backup of smpp-gateway: {error}") from error
        return places

    def _read_manifest(self) -> Manifest:
        if MANIFEST not in self._places:
            raise BackupRefused(
                f"{self.path} is no complete backup: it has no {MANIFEST}, which is written last. "
                "It was cut off, or it is another archive: take another copy of the file"
            )
        text = self._small(MANIFEST)
        try:
            if (made_as := msgspec.json.decode(text, type=_Versioned)).format != FORMAT:
                raise BackupRefused(
                    f"{self.path} has format {made_as.format}, made by smpp-gateway {made_as.gateway}; this version "
                    f"reads format {FORMAT}: restore it with a gateway of that version"
                )
            return msgspec.json.decode(text, type=Manifest)
        except msgspec.MsgspecError as error:
            raise BackupRefused(
                f"{self.path} is damaged: {MANIFEST}: {error}; take another copy of the file"
            ) from error

    def _check_parts(self) -> None:
        for part in self.manifest.parts:
            place = self._places.get(part.name)
            if place is None or place[1] != part.size or place[0] + part.size > self.size:
                raise BackupRefused(f"{self.path} is damaged: {part.name} is missing or has another size than recorded")

    def _small(self, name: str) -> bytes:
        start, size = self._places[name]
        if size > _LARGEST:
            raise BackupRefused(f"{self.path} is damaged: {name} has {size} octets")
        self._file.seek(start)
        return self._file.read(size)

    def read(self, part: ArchivePart) -> Iterator[bytes]:
        """Yield the octets of a part. Raises BackupRefused at its end when they are not what was written, OSError."""
        start, left = self._places[part.name][0], part.size
        digest = hashlib.sha256()
        self._file.seek(start)
        while left and (chunk := self._file.read(min(CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            yield chunk
        if left or digest.hexdigest() != part.sha256:
            raise BackupRefused(
                f"{self.path} is damaged: {part.name} does not have the SHA-256 that was recorded; "
                "take another copy of the file"
            )

    def verify(self, report: Report) -> None:
        """Read everything. Raises BackupRefused for a part that is damaged, OSError."""
        total, done = sum(part.size for part in self.manifest.parts), 0
        for part in self.manifest.parts:
            for chunk in self.read(part):
                done += len(chunk)
                report(done, total)

    def secrets(self) -> str:
        """Return the content of the secrets file in it, "" when they were kept apart. Raises BackupRefused."""
        found = next((part for part in self.manifest.parts if part.name == SECRETS), None)
        if found is None:
            return ""
        if found.size > _LARGEST:
            raise BackupRefused(f"{self.path} is damaged: {SECRETS} has {found.size} octets")
        return b"".join(self.read(found)).decode("utf-8", "replace")


class _Versioned(msgspec.Struct):
    format: int
    gateway: str = "of an unknown version"


def write_durably(path: Path, text: str) -> None:
    """Write a small file, mode 0600, beside its place and rename it. Raises OSError."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(name: str, size: int, now: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, now // 1000
    return info.tobuf(tarfile.GNU_FORMAT)
