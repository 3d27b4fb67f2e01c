"""Message ids: UUIDv7 (RFC 9562) whose last ten bits are the partition of the message's recipient.

    48 bits milliseconds | 0111 | 12 random | 10 | 52 random | 10 partition

So an id alone says where its record lives, 64 random bits keep it from being guessed, and ids made later sort later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct

MAX_PARTITIONS = 1024

_HALVES = Struct(">QQ")
_VARIANT = 0b10 << 62
_VERSION = 0x7000
_LOW_52 = (1 << 52) - 1
_HEX = frozenset("0123456789abcdef-")


def new_ids(now_ms: int, partitions: Sequence[int]) -> list[bytes]:
    """Return one id of 16 octets for each partition in the list, all of the same instant (ms UTC)."""
    random = memoryview(os.urandom(8 * len(partitions))).cast("Q")
    high, pack = now_ms << 16 | _VERSION, _HALVES.pack
    return [
        pack(high | bits >> 52, _VARIANT | (bits & _LOW_52) << 10 | partition)
        for bits, partition in zip(random, partitions, strict=True)
    ]


def derived_id(now_ms: int, partition: int, seed: bytes) -> bytes:
    """Return an id whose 64 random bits are the first 8 octets of ``seed``: the same when a request is repeated."""
    bits = int.from_bytes(seed[:8], "big")
    return _HALVES.pack(now_ms << 16 | _VERSION | bits >> 52, _VARIANT | (bits & _LOW_52) << 10 | partition)


def partition_of(message_id: bytes) -> int:
    """Return the partition that holds the record of this id."""
    return (message_id[14] & 3) << 8 | message_id[15]


def time_of(message_id: bytes) -> int:
    """Return the instant in the id, ms UTC."""
    return int.from_bytes(message_id[:6], "big")


def text(message_id: bytes) -> str:
    """Return the id as users see it: ``0199c2a4-…``."""
    h = message_id.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse(value: str) -> bytes:
    """Return the 16 octets of an id as users write it, in either case. Raises ValueError for anything else."""
    lower = value.lower()
    if len(value) != 36 or not _HEX.issuperset(lower) or any(lower[i] != "-" for i in (8, 13, 18, 23)):
        raise ValueError(f"not a message id: {value[:64]!r}")
    message_id = bytes.fromhex(lower.replace("-", ""))
    if len(message_id) != 16 or message_id[6] >> 4 != 7 or message_id[8] >> 6 != 2:
        raise ValueError(f"not a message id: {value!r}")
    return message_id
