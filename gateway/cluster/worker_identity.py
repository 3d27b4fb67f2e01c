"""Names of gateways, and what one of several workers is given instead of choosing it."""

from __future__ import annotations

import socket
from secrets import token_hex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.config import Config


class WorkerIdentity(NamedTuple):
    """One of several workers on this machine."""

    number: int  # from 1
    node: str  # its lasting name; the next worker of this number takes over at once what this one held
    store: str  # URL
    http: str  # host:port, shared by all workers
    door: str  # unix:path of its admin API, for the supervisor
    again: bool = False  # the supervisor knows that its former process is dead


def lasting_name(config: Config) -> str:
    """Return a gateway's lasting name, the host's when the configuration gives none.

    A later process of the same name takes over at once what a former one held. Only the lock on an embedded store
    proves that the former is dead; on a shared store another gateway of this host may be alive.
    """
    host = socket.gethostname()
    return config.node or (host if is_lasting(config) else f"{host}-{token_hex(3)}")


def is_lasting(config: Config) -> bool:
    """Whether the next start gets the same name."""
    return bool(config.node) or config.store.embedded
