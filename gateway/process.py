"""Resource limits of the process: as many open files as allowed, and no core dumps, which would contain numbers and
texts. Workers inherit both."""

from __future__ import annotations

import resource
from contextlib import suppress

import structlog

ENOUGH = 4096  # open files sufficient for a busy gateway
MOST = 65_536  # when the system has no limit

log = structlog.get_logger(__name__)


def set_limits() -> None:
    """Raise the limit of open files, disable core dumps; warn when few files are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):  # macOS has a second, lower limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    if (files := open_files()) < ENOUGH:
        log.warning("few open files are allowed", files=files, clients=max_clients(), remedy="raise ulimit -n")


def open_files() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def max_open_files() -> int:
    """Return how many files this process may have open once ``set_limits`` has raised the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if hard == resource.RLIM_INFINITY else hard


def max_clients() -> int:
    """Return how many clients may connect to one listener, which leaves enough files for carriers and store."""
    files = open_files()
    return max(files // 4, files // 2 - 1024)
