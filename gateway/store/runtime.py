"""Short folders of our own for sockets: their paths may have 108 octets."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from gateway.store.errors import StoreRefused


def runtime_dir(of: Path) -> Path:
    """A folder that only this user may enter, the same whenever it is asked for the same path.

    Raises StoreRefused when somebody else owns it.
    """
    name = hashlib.blake2b(str(of).encode(), digest_size=6).hexdigest()
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(base) / f"smpp-gateway-{os.getuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StoreRefused(f"{folder} cannot be made for sockets: {error.strerror}") from error
    if found.st_uid != os.getuid() or found.st_mode & 0o170077 != 0o040000:
        raise StoreRefused(f"{folder} belongs to somebody else or is open to others: remove it, or set XDG_RUNTIME_DIR")
    if len(str(folder)) > 100:
        raise StoreRefused(f"{folder} is too long for a socket's path: set XDG_RUNTIME_DIR to a shorter folder")
    return folder
