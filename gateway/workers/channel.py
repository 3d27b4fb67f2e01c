"""What supervisor and worker tell each other over the socket between them: JSON, one value a line.

Down: ``Orders``, once. Up: a ``Word`` whenever there is something to say, and every second besides. The end of the
stream says that the other side is dead.
"""

from __future__ import annotations

import socket
from typing import Literal

import msgspec

from gateway.config import Config
from gateway.seat import Seat

BEAT_EVERY = 1.0


class Orders(msgspec.Struct, frozen=True):
    """Where to sit, and the configuration in force: values, since the file may be another by now."""

    seat: Seat
    config: Config


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker has to say; ``why`` it failed, for people."""

    say: Literal["beat", "ready", "failed"] = "beat"
    why: str = ""


_encode = msgspec.json.Encoder().encode
_orders = msgspec.json.Decoder(Orders).decode
hear = msgspec.json.Decoder(Word).decode


def line(value: Orders | Word) -> bytes:
    """As it travels."""
    return _encode(value) + b"\n"


def receive(channel: socket.socket) -> Orders:
    """A worker's first act: wait for its orders. Raises EOFError when the supervisor is gone."""
    data = bytearray()
    while not data.endswith(b"\n"):
        some = channel.recv(65536)
        if not some:
            raise EOFError
        data += some
    return _orders(data)
