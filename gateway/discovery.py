"""How operator commands find the gateway on this machine and its admin token without configuration.

A gateway without a configured token creates one at its first start (``admin.token`` in its data folder, mode 0600). It
writes its addresses and the path of that file to a note in a folder that only the same user can access. Standard
library only, so that the command line starts fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

TOKEN_FILE = "admin.token"  # noqa: S105  # a file name, not a token
_OCTETS = 32


class LocalGateway(NamedTuple):
    """A gateway on this machine: its admin URL, token file, configuration file ("" for the demo, which has none of the
    user's), address for applications and process id."""

    url: str
    token_file: str
    config: str = ""
    http: str = ""
    pid: int = 0

    @property
    def token(self) -> str:
        """The admin token, "" when it cannot be read."""
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip() if self.token_file else ""
        except (OSError, ValueError):
            return ""


def load_or_create_token(data_dir: Path) -> tuple[str, Path]:
    """Return the admin token of a data folder and its file, created at the first start. Raise OSError.

    PermissionError when others can read the file: the token may be known to them.
    """
    path = data_dir.resolve() / TOKEN_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(secrets.token_urlsafe(_OCTETS) + "\n")
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} is readable by other users: run chmod 600, or delete it and start again")
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < _OCTETS:
        raise OSError(f"{path} contains no token: delete it and start again")
    return token, path


def _folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"smpp-gateway-{os.getuid()}"


def _trusted(folder: Path) -> bool:
    """Whether ``folder`` belongs to this user and only this user can access it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and found.st_mode & 0o170077 == 0o040000


def _note(url: str) -> Path:
    return _folder() / (url.partition("://")[2].replace("/", "_") + ".json")


def announce(url: str, token_file: Path | None, config: str = "", http: str = "") -> Path | None:
    """Write the note of the gateway at ``url`` (for applications at ``http``), configured by the file ``config``.

    Return its path, None when no safe folder exists.
    """
    path = _note(url)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _trusted(path.parent):
            return None
        draft = path.with_suffix(f".{os.getpid()}")
        note = {"url": url, "token_file": str(token_file or ""), "config": config, "http": http, "pid": os.getpid()}
        draft.write_text(json.dumps(note))
        draft.replace(path)
        _forget_dead()
    except OSError:
        return None
    return path


def withdraw(note: Path | None) -> None:
    """Delete the note, unless another gateway has replaced it."""
    if note is not None and _read(note).get("pid") == os.getpid():
        with contextlib.suppress(OSError):
            note.unlink()


def find(url: str = "") -> LocalGateway | None:
    """Return the gateway at ``url``; without one, this user's only running gateway. None when there is none."""
    if not url:
        found = running()
        return found[0] if len(found) == 1 else None
    known = _read(_note(url.rstrip("/"))) if _trusted(_folder()) else {}
    return _found(known) if known else None


def running() -> list[LocalGateway]:
    """Return this user's gateways that run on this machine."""
    if not _trusted(_folder()):
        return []
    known = [_read(path) for path in sorted(_folder().glob("*.json"))]
    return [_found(note) for note in known if note and _alive(note["pid"])]


def _forget_dead() -> None:
    """Delete the notes of killed gateways: their process ids will be reused."""
    for path in _folder().glob("*.json"):
        note = _read(path)
        if note and not _alive(note["pid"]):
            path.unlink(missing_ok=True)


def _found(note: dict[str, Any]) -> LocalGateway:
    return LocalGateway(note["url"], note["token_file"], note.get("config", ""), note.get("http", ""), note["pid"])


def _read(path: Path) -> dict[str, Any]:
    """Return a note, {} when it is missing or malformed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = isinstance(found, dict) and {"url", "token_file", "pid"} <= found.keys()
    return found if good else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError):
        return True
    return True
