"""Node names of gateways, and the identity that a supervisor assigns to each of its workers."""

from __future__ import annotations

import socket
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.config import Config


class WorkerIdentity(NamedTuple):
    """One of several workers on this machine."""

    number: int  # from 1
    node: str  # lasting name: the next process with this name takes over at once what this one held
    store: str  # URL
    http: str  # host:port, shared by all workers
    admin: str  # unix:path, where the supervisor sends admin requests
    restarted: bool = False  # the supervisor knows that the former process is dead


def lasting_name(config: Config) -> str:
    """Return the node name: the configured one, else the host's.

    A later process with the same name takes over at once what the former one held. Only the lock on an embedded store
    proves that the former is dead; on a shared store another gateway of this host may well be alive, so there a name
    that is not configured gets a random suffix.
    """
    host = socket.gethostname()
    return config.node or (host if is_lasting(config) else f"{host}-{token_hex(3)}")


def is_lasting(config: Config) -> bool:
    """Return whether the next start gets the same name."""
    return bool(config.node) or config.store.embedded
