"""What the system lets this process have: as many open files as it may, and no core dump, which would hold numbers and
texts. Workers inherit both."""

from __future__ import annotations

import resource
from contextlib import suppress

import structlog

ENOUGH = 4096  # open files that a busy gateway is well served with
MOST = 65_536  # where the system sets no bound of its own

log = structlog.get_logger(__name__)


def settle() -> None:
    """Take what is allowed; say so when it is little."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):  # macOS bounds it by another number as well
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    if (files := open_files()) < ENOUGH:
        log.warning("few open files are allowed", files=files, clients=clients(), remedy="raise ulimit -n")


def open_files() -> int:
    """How many this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def clients() -> int:
    """How many may be connected at a door, so that carriers, store and files never go short for them."""
    files = open_files()
    return max(files // 4, files // 2 - 1024)
