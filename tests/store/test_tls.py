"""TLS to the store, behind a small end of TLS of our own: the server of the tests has none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.store.errors import StoreRefused, StoreUnavailable
from gateway.store.keys import tags
from gateway.store.library import build_library
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.redis.url import parse
from tests.certificates import Authority
from tests.servers import Server


@asynccontextmanager
async def behind_tls(server: Server, context: ssl.SSLContext) -> AsyncIterator[str]:
    """``host:port`` where the server answers by TLS."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while some := await reader.read(65536):
                writer.write(some)
                await writer.drain()
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(copy(reader, outer), copy(inner, writer))

    end = await asyncio.start_server(join, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{end.sockets[0].getsockname()[1]}"
    end.close()


async def reach(url: str) -> None:
    link = await connect(url, tags=tags(4), library=build_library(), durability="everysec", timeout=5.0)
    try:
        await link.probe()
    finally:
        await link.close()


async def test_certificates_are_checked_on_both_sides(store_url: str, single_server: Server, tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    (cert, key), (odd, odd_key) = ours.issue("gateway"), others.issue("stranger")
    single_server.run("ACL", "SETUSER", "app", "on", ">sec:ret", "~*", "&*", "+@all")
    async with behind_tls(single_server, ours.server("127.0.0.1", clients=ours)) as where:
        url = f"rediss://app:sec%3Aret@{where}/2?ssl_ca_certs={{}}&ssl_certfile={{}}&ssl_keyfile={{}}"
        await reach(url.format(ours.file, cert, key))
        with pytest.raises(StoreRefused, match="certificate that is not trusted"):
            await reach(url.format(others.file, cert, key))
        with pytest.raises(StoreRefused, match="not trusted"):  # another name than the certificate's
            await reach(url.format(ours.file, cert, key).replace("127.0.0.1", "localhost"))
        with pytest.raises(StoreRefused, match=r"check user, password"):
            await reach(url.format(ours.file, cert, key).replace("sec", "cES"))
        for wrong in (url.format(ours.file, odd, odd_key), f"rediss://{where}?ssl_ca_certs={ours.file}"):
            with pytest.raises(StoreUnavailable, match="must be one that it trusts"):
                await reach(wrong)
    single_server.run("ACL", "DELUSER", "app")


async def test_a_snapshot_comes_over_tls(tmp_path: Path) -> None:
    server, ours = Server("--repl-diskless-sync-delay", "0"), Authority(tmp_path, "ours")
    try:
        server.run("SET", "large", os.urandom(3_000_000))
        async with behind_tls(server, ours.server("127.0.0.1")) as where:
            url = f"rediss://{where}?ssl_ca_certs={ours.file}"
            link = StoreConnection(url, tags=tags(4), library=build_library(), connections=1, timeout=5)
            found = b"".join([chunk async for chunk in link.primaries[0].snapshot()])
            await link.close()
        assert found.startswith((b"REDIS", b"VALKEY"))
        assert len(found) > 3_000_000
    finally:
        server.stop()


async def test_a_database_of_its_own(store_url: str, single_server: Server) -> None:
    for number, url in ((3, f"unix://{single_server.socket}?db=3"), (0, store_url)):
        await reach(url)
        single_server.client.select(number)
        assert single_server.client.exists("gateway:meta")
    single_server.client.select(0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?timeout=3", r"\?timeout= is unknown; redis:// has db"),
        ("rediss://h?ssl_ca_cert=x", "unknown; rediss:// has db, ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", r"/nowhere/ca\.pem cannot be used: No such file"),
        ("rediss://h?ssl_certfile=/nowhere/a.crt&ssl_keyfile=/nowhere/a.key", r"/nowhere/a\.key cannot be used"),
        ("rediss://h?ssl_certfile=/nowhere/a.crt", "belong together"),
        ("redis://u:hunter2@h?db=3&ssl_certfile=x", "redis://h: .ssl_certfile= is unknown"),
    ],
)
def test_query_parameters_of_a_store_url_are_checked_before_connecting(url: str, said: str) -> None:
    with pytest.raises(StoreRefused, match=said) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)


def test_a_certificate_file_with_other_content_is_named(tmp_path: Path) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("nothing of that kind")
    with pytest.raises(StoreRefused, match=r"odd\.pem cannot be used"):
        parse(f"rediss://h?ssl_ca_certs={odd}")
