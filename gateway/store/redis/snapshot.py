"""A snapshot of a server as a replica gets it: ``SYNC``, answered by an RDB of the instant at which it was asked.

The server forks; its child writes the data as they are at that moment, straight to the connection where the server can
do that (``$EOF:<40 octets>``, data, the same 40 octets), else by way of a file (``$<length>``, data). ``rdb-only``
makes it end the connection then, and collect no later writes for us meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.store.errors import StoreError, StoreRefused, StoreUnavailable

HANDSHAKE = (("REPLCONF", "capa", "eof"), ("REPLCONF", "rdb-only", "1"), ("SYNC",))

_SILENCE = 120.0  # seconds without an octet; a server that prepares a snapshot sends one every ten
_CHUNK = 1 << 18
_DELIMITER = 40
_MAGIC = (b"REDIS", b"VALKEY")
_MAGIC_OCTETS = max(map(len, _MAGIC))


def refused(where: str, text: str) -> StoreError:
    """Return the error for a server that does not answer SYNC with a snapshot."""
    if text.startswith(("NOPERM", "ERR unknown command", "ERR Unknown REPLCONF")):
        return StoreRefused(
            f"the store at {where} does not let this user take a snapshot ({text}): allow it with "
            "ACL SETUSER NAME +sync +replconf, or name a user that may in [store] url; a provider that forbids SYNC "
            "has backups of its own"
        )
    return StoreUnavailable(f"the store at {where} does not give a snapshot now ({text}): try again")


async def read_snapshot(reader: asyncio.StreamReader, where: str) -> AsyncIterator[bytes]:
    """Yield the octets of the RDB that a server sends after SYNC. Raises StoreError unless it is complete, OSError."""
    head = await _line(reader, where)
    if head.startswith(b"-"):
        raise refused(where, head[1:].decode("utf-8", "replace"))
    chunks = _delimited(reader, head[5:]) if head.startswith(b"$EOF:") else _counted(reader, head, where)
    head = b""
    async for chunk in chunks:
        if len(head) < _MAGIC_OCTETS:
            head += chunk[:_MAGIC_OCTETS]
            if not any(magic.startswith(head[: len(magic)]) for magic in _MAGIC):
                raise StoreUnavailable(f"the store at {where} sent something else than a snapshot")
        yield chunk


async def _line(reader: asyncio.StreamReader, where: str) -> bytes:
    """Return the first line that is not empty; until its snapshot begins a server sends empty ones."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                line = await reader.readline()
        except ValueError as error:
            raise StoreUnavailable(f"the store at {where} sent something else than a snapshot") from error
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed before the snapshot began")
        if line.strip():
            return line.strip()


async def _read(reader: asyncio.StreamReader, most: int) -> bytes:
    async with asyncio.timeout(_SILENCE):
        chunk = await reader.read(most)
    if not chunk:
        raise ConnectionResetError("closed in the middle of the snapshot; is its disk or memory full?")
    return chunk


async def _delimited(reader: asyncio.StreamReader, delimiter: bytes) -> AsyncIterator[bytes]:
    kept = b""
    while True:
        kept += await _read(reader, _CHUNK)
        if kept.endswith(delimiter) and len(kept) > _DELIMITER:
            yield kept[:-_DELIMITER]
            return
        if len(kept) > 2 * _DELIMITER:
            yield kept[:-_DELIMITER]
            kept = kept[-_DELIMITER:]


async def _counted(reader: asyncio.StreamReader, head: bytes, where: str) -> AsyncIterator[bytes]:
    if not head.startswith(b"$") or not head[1:].isdigit():
        raise StoreUnavailable(f"the store at {where} answered SYNC with something else: {head[:60]!r}")
    left = int(head[1:])
    while left:
        chunk = await _read(reader, min(_CHUNK, left))
        left -= len(chunk)
        yield chunk
