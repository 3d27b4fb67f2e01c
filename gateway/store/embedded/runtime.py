"""Short folders for sockets, whose paths are limited to 108 octets; those of killed gateways are removed."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
import stat
import tempfile
from pathlib import Path

from gateway.store.errors import StoreRefused

SETTLED = 600.0
"""Seconds after which a folder without a live socket is abandoned: one that is starting is younger."""


def runtime_path(of: Path) -> Path:
    """Return the folder for this path, always the same; it may not exist yet."""
    name = hashlib.blake2b(str(of).encode(), digest_size=6).hexdigest()
    return _base() / f"{_prefix()}{name}"


def socket_of(data_dir: Path) -> Path | None:
    """Return the socket of the embedded server that runs on this data folder, None when none runs."""
    socket_ = runtime_path(data_dir.resolve()) / "s"
    return socket_ if socket_.exists() else None


def runtime_dir(of: Path) -> Path:
    """Make the folder for this path, which only this user may enter; it counts as young from now on.

    Raises StoreRefused when another user owns it.
    """
    folder = runtime_path(of)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not _ours(found):
            raise StoreRefused(
                f"{folder} belongs to another user or is open to others: remove it, or set XDG_RUNTIME_DIR"
            )
        os.utime(folder)
    except OSError as error:
        raise StoreRefused(f"{folder} cannot be made for sockets: {error.strerror}; set XDG_RUNTIME_DIR") from error
    if len(str(folder)) > 100:
        raise StoreRefused(f"{folder} is too long for a socket's path: set XDG_RUNTIME_DIR to a shorter folder")
    return folder


def clear(folder: Path, *, before: float = math.inf) -> None:
    """Remove the folder, if it is ours, with its dead sockets; it stays when it has anything else.

    ``before``: only when nothing was made in it since, in seconds since 1970.
    """
    with contextlib.suppress(OSError):  # gone already
        found = folder.lstat()
        if not _ours(found) or found.st_mtime > before:
            return
        for path in folder.iterdir():
            if not _dead(path):
                return
            path.unlink()
        folder.rmdir()


def clear_stale(now: float) -> None:
    """Remove the folders of gateways that were killed. ``now``: seconds since 1970."""
    for folder in _base().glob(f"{_prefix()}*"):
        clear(folder, before=now - SETTLED)


def _base() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())


def _prefix() -> str:
    return f"smpp-gateway-{os.getuid()}-"


def _ours(found: os.stat_result) -> bool:
    """Tell whether it is a folder of ours that only we may enter."""
    return found.st_uid == os.getuid() and found.st_mode & 0o170077 == 0o040000


def _dead(path: Path) -> bool:
    """Tell whether it is a socket without a listener. Raises OSError."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False
