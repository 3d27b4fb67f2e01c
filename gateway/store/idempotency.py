"""Requests with an ``Idempotency-Key``: claimed before they run, their answers kept for 24 hours.

A claim lies in the partition of its own name, apart from the messages. Its base is an id that never becomes a message:
the ids of the request's messages are derived from it (``item_id``), so another run of the request makes the same ids.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.store.crypto import Vault
from gateway.store.ids import derived_id, time_of
from gateway.store.owner import LeaseOwner
from gateway.store.requests import ClaimResult

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

_SMALL = 512  # octets that are not worth compressing


class Claim(NamedTuple):
    """A request that wants to run. ``name`` and ``partition``: ``Hasher.claim``; ``body``: 16 octets, a hash of it."""

    name: bytes
    partition: int
    body: bytes
    base: bytes


class StoredResponse(NamedTuple):
    """The answer to the request."""

    status: int
    body: bytes
    kind: bytes = b"application/json"


class Claimed(NamedTuple):
    """``base`` is valid when CLAIMED, ``answer`` when DONE."""

    result: ClaimResult
    base: bytes = b""
    answer: StoredResponse | None = None


class Settled(NamedTuple):
    """The end of a run: its answer, or None so that the next repeat runs it again."""

    name: bytes
    partition: int
    base: bytes
    answer: StoredResponse | None


def item_id(base: bytes, index: int, partition: int) -> bytes:
    """Return the id of the request's message at this index: the same at every repeat."""
    return derived_id(time_of(base), partition, _derived(base, index))


def item_reference(base: bytes, index: int) -> bytes:
    """Return 16 octets that serve as a reference, so that repeats are known when the record is gone."""
    return _derived(base, index)[8:]


def _derived(base: bytes, index: int) -> bytes:
    return blake2b(index.to_bytes(4, "big"), key=base, digest_size=24, person=b"item").digest()


class ClaimStore:
    """Claims of requests and their answers in the store. Raises StoreError; every call may be repeated."""

    def __init__(self, link: StoreConnection, vault: Vault, owner: LeaseOwner) -> None:
        self._link = link
        self._vault = vault
        self._owner = owner.name

    async def claim(self, items: Sequence[Claim]) -> list[Claimed]:
        """Return whether each may run now."""
        partitions: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            partitions.setdefault(item.partition, []).append(index)
        calls: list[tuple[int, str, list[Any]]] = []
        for partition, indices in partitions.items():
            args: list[Any] = [self._owner]
            for index in indices:
                args += (items[index].name, items[index].body, items[index].base)
            calls.append((partition, "claim", args))
        out = [Claimed(ClaimResult.RUNNING)] * len(items)
        for indices, reply in zip(partitions.values(), await self._link.calls(calls), strict=True):
            for index, result, value in zip(indices, reply[::2], reply[1::2], strict=True):
                out[index] = self._claimed(ClaimResult(result), value)
        return out

    def _claimed(self, result: ClaimResult, value: bytes) -> Claimed:
        if result is ClaimResult.DONE:
            return Claimed(result, answer=_unpack(self._vault.open(value)))
        return Claimed(result, value)

    async def settle(self, items: Sequence[Settled]) -> list[None]:
        """Store the answers of what ran."""
        args: dict[int, list[Any]] = {}
        for item in items:
            blob = b"" if item.answer is None else self._vault.seal(_pack(item.answer))
            args.setdefault(item.partition, []).extend((item.name, item.base, blob))
        await self._link.calls([(partition, "settle", each) for partition, each in args.items()])
        return [None] * len(items)


def _pack(answer: StoredResponse) -> bytes:
    """Return status (2 octets, the highest bit: compressed), length of the media type, media type, body."""
    status, body, kind = answer
    if len(body) > _SMALL:
        status, body = status | 0x8000, zlib.compress(body, 1)
    return status.to_bytes(2, "big") + bytes([len(kind)]) + kind + body


def _unpack(packed: bytes) -> StoredResponse:
    status, end = int.from_bytes(packed[:2], "big"), 3 + packed[2]
    body = zlib.decompress(packed[end:]) if status & 0x8000 else packed[end:]
    return StoredResponse(status & 0x7FFF, body, packed[3:end])
