"""A snapshot over the replication protocol, however its octets arrive; and never half of one."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.errors import StoreError, StoreRefused, StoreUnavailable
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection
from gateway.store.redis.snapshot import read_snapshot
from tests.servers import Server
from tests.store.message_driver import MessageDriver

RDB = b"REDIS0011" + bytes(range(256)) * 3
MARK = b"0123456789abcdef0123456789abcdef01234567"
COUNTED = b"\n\n$%d\r\n%s" % (len(RDB), RDB)
DELIMITED = b"\n$EOF:%s\r\n%s%s" % (MARK, RDB, MARK)


async def read(pieces: list[bytes]) -> bytes:
    reader = asyncio.StreamReader()

    async def feed() -> None:
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()

    feeding = asyncio.create_task(feed())
    try:
        return b"".join([chunk async for chunk in read_snapshot(reader, "here")])
    finally:
        await feeding


@given(st.sampled_from([COUNTED, DELIMITED]), st.lists(st.integers(0, len(DELIMITED)), max_size=8))
def test_any_chunking_gives_the_same_snapshot(wire: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(wire)]
    pieces = [wire[start:end] for start, end in pairwise(places) if start < end]
    assert asyncio.run(read(pieces)) == RDB


@pytest.mark.parametrize("wire", [COUNTED, DELIMITED])
@pytest.mark.parametrize("missing", [1, 39, 41, 700])
def test_a_snapshot_that_ends_early_is_no_snapshot(wire: bytes, missing: int) -> None:
    with pytest.raises(ConnectionResetError, match="in the middle of the snapshot"):
        asyncio.run(read([wire[:-missing]]))


@pytest.mark.parametrize(
    ("wire", "kind", "said"),
    [
        (b"-NOPERM User shop has no permissions to run the 'sync' command\r\n", StoreRefused, r"\+sync \+replconf"),
        (b"-ERR unknown command 'SYNC'\r\n", StoreRefused, "a provider that forbids SYNC has backups of its own"),
        (b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n", StoreUnavailable, "try again"),
        (b"$9\r\nsomething", StoreUnavailable, "something else than a snapshot"),
        (b"+OK\r\n", StoreUnavailable, "answered SYNC with something else"),
    ],
)
def test_another_answer_is_explained(wire: bytes, kind: type[StoreError], said: str) -> None:
    with pytest.raises(kind, match=said):
        asyncio.run(read([wire]))


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_server_gives_a_snapshot_either_way(diskless: str) -> None:
    server = Server("--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
    driver = MessageDriver(server.url)
    try:
        driver.reset()
        driver.accept(*[driver.message() for _ in range(50)])

        async def snapshot() -> bytes:
            link = StoreConnection(server.url, tags=driver.link.tags, library=build_library(), connections=1, timeout=5)
            try:
                return b"".join([chunk async for chunk in link.primaries[0].snapshot()])
            finally:
                await link.close()

        found = driver.run(snapshot())
        assert found.startswith((b"REDIS", b"VALKEY"))
        assert b"p0." in found
    finally:
        driver.close()
        server.stop()


async def test_a_user_without_the_right_is_told_which_one(single_server: Server) -> None:
    single_server.run("ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all", "-sync")
    url = f"unix://app:word@{single_server.socket}"
    link = StoreConnection(url, tags=[b"{a}"], library=build_library(), connections=1, timeout=5)
    try:
        with pytest.raises(StoreRefused, match=r"NOPERM.*ACL SETUSER NAME \+sync \+replconf"):
            [chunk async for chunk in link.primaries[0].snapshot()]
    finally:
        await link.close()
        single_server.run("ACL", "DELUSER", "app")
