"""What supervisor and worker tell each other over the socket between them: JSON, one value a line.

Down: ``WorkerOrders``, once. Up: a ``WorkerReport`` whenever there is something to say, and every second besides. The
end of the stream says that the other side is dead.
"""

from __future__ import annotations

import socket
from typing import Literal

import msgspec

from gateway.cluster.worker_identity import WorkerIdentity
from gateway.config import Config

BEAT_EVERY = 1.0


class WorkerOrders(msgspec.Struct, frozen=True):
    """Where to sit, and the configuration in force: values, since the file may be another by now."""

    worker_identity: WorkerIdentity
    config: Config


class WorkerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker has to say; ``why`` it failed, for people."""

    say: Literal["beat", "ready", "failed"] = "beat"
    why: str = ""


_encode = msgspec.json.Encoder().encode
_orders = msgspec.json.Decoder(WorkerOrders).decode
hear = msgspec.json.Decoder(WorkerReport).decode


def line(value: WorkerOrders | WorkerReport) -> bytes:
    """As it travels."""
    return _encode(value) + b"\n"


def receive(channel: socket.socket) -> WorkerOrders:
    """A worker's first act: wait for its orders. Raises EOFError when the supervisor is gone."""
    data = bytearray()
    while not data.endswith(b"\n"):
        some = channel.recv(65536)
        if not some:
            raise EOFError
        data += some
    return _orders(data)
