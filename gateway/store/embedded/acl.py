"""Access rules of the embedded server: the gateway may do what it needs, the launcher's key allows everything.

A connection of the gateway can read and write data, but neither empty the store, nor list it, nor run programs in it,
nor turn off what makes it durable. Functions run with the caller's rights.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from hashlib import sha256
from pathlib import Path

USUAL, LAUNCHER = "default", "launcher"
KEY_FILE = "server.key"

_ALLOWED = (
    *("@hash", "@list", "@set", "@sortedset", "@stream", "@string"),  # none of them reveals a key that is not named
    *("del", "unlink", "exists", "type", "expire", "pexpire", "ttl", "pttl"),
    *("fcall", "fcall_ro", "function|load", "function|list"),
    *("ssubscribe", "sunsubscribe", "spublish"),
    *("ping", "hello", "auth", "select", "quit", "reset", "client|setinfo", "client|setname", "client|id"),
    *("time", "info", "config|get", "wait", "waitaof"),
)

GATEWAY = ("on", "nopass", "~*", "&*", "-@all", *(f"+{word}" for word in _ALLOWED))
"""Rules of the gateway's user, without a password: the folder's mode decides who reaches the socket."""


def launcher(key: str) -> tuple[str, ...]:
    """Return the rules of the launcher's user, without the key itself: others can read a command line."""
    return ("on", f"#{sha256(key.encode()).hexdigest()}", "~*", "&*", "+@all")


def load_or_create_key(data_dir: Path) -> str:
    """Return the launcher's key of a data folder, made at the first start, mode 0600. Raises OSError."""
    path = data_dir / KEY_FILE
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()
