"""The channel between supervisor and worker: a socket pair with JSON, one value per line.

The supervisor sends ``WorkerOrders`` once. The worker sends a ``WorkerReport`` every second, when it is ready, and when
it fails. The end of the stream means that the other process is dead.
"""

from __future__ import annotations

import socket
from typing import Literal

import msgspec

from gateway.cluster.worker_identity import WorkerIdentity
from gateway.config import Config

REPORT_EVERY = 1.0
"""Seconds between two reports of a worker."""


class WorkerOrders(msgspec.Struct, frozen=True):
    """A worker's identity and the configuration in force: values, since the file may have changed meanwhile."""

    worker_identity: WorkerIdentity
    config: Config


class WorkerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker reports; ``reason`` says why it failed."""

    kind: Literal["alive", "ready", "failed"] = "alive"
    reason: str = ""


_encode = msgspec.json.Encoder().encode
_decode_orders = msgspec.json.Decoder(WorkerOrders).decode
decode_report = msgspec.json.Decoder(WorkerReport).decode


def encode_line(value: WorkerOrders | WorkerReport) -> bytes:
    """Return the value as one line of the channel."""
    return _encode(value) + b"\n"


def receive_orders(channel: socket.socket) -> WorkerOrders:
    """Block until the orders have arrived, and return them. Raise EOFError when the supervisor is gone."""
    data = bytearray()
    while not data.endswith(b"\n"):
        chunk = channel.recv(65536)
        if not chunk:
            raise EOFError
        data += chunk
    return _decode_orders(data)
