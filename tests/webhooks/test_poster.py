"""One post, against a real server and with misleading names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gateway.config.addresses import AddressGuard
from gateway.webhooks.poster import AddressNotPermitted, Poster, PostOutcome, permitted
from gateway.webhooks.resolver import look_up
from tests.certificates import Authority
from tests.webhooks.receivers import Inbox, inbox

HERE = ["127.0.0.0/8"]


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as built:
        yield built


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    built = Poster(AddressGuard(HERE), agent="test", connect=2.0, total=2.0)
    yield built
    await built.close()


async def test_a_post_and_its_response(box: Inbox, poster: Poster) -> None:
    outcome = await poster.post(box.url, {"webhook-id": "1", "content-type": "application/json"}, b"[{}]")
    assert outcome.ok
    assert str(outcome) == "HTTP 200"
    headers, body = box.posts[0]
    assert (headers["user-agent"], headers["webhook-id"], body) == ("test", "1", b"[{}]")


async def test_redirects_are_not_followed(box: Inbox, poster: Poster) -> None:
    box.status, box.headers = 302, {"location": box.url}
    outcome = await poster.post(box.url, {}, b"[{}]")
    assert (outcome.status, outcome.ok, outcome.reachable) == (302, False, True)
    assert len(box.posts) == 1


async def test_at_most_64_kib_of_a_response_are_read(box: Inbox, poster: Poster) -> None:
    box.answer = bytes(4 * 1024 * 1024)
    assert (await poster.post(box.url, {}, b"[{}]")).ok


async def test_slow_and_silent_endpoints_time_out(box: Inbox, poster: Poster) -> None:
    box.delay = 5.0
    quick = Poster(AddressGuard(HERE), total=0.3)
    assert await quick.post(box.url, {}, b"[{}]") == PostOutcome(0, "timed out")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert await quick.post(url, {}, b"[{}]") == PostOutcome(0, "timed out")
    await quick.close()
    closed = await poster.post(url, {}, b"[{}]")
    assert closed.status == 0
    assert "Connect" in closed.fault


async def test_a_response_that_is_not_http_is_a_failure(poster: Poster) -> None:
    async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xfe not http\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        outcome = await poster.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"[{}]")
    assert outcome.status == 0
    assert outcome.fault


@pytest.mark.parametrize(
    ("status", "reachable"),
    [
        *((status, True) for status in (200, 400, 401, 403, 404, 405, 422, 501)),
        *((status, False) for status in (0, 408, 425, 429, 500, 502, 503, 504)),
    ],
)
def test_which_statuses_show_a_reachable_endpoint(status: int, reachable: bool) -> None:
    assert PostOutcome(status).reachable is reachable


async def test_retry_after(box: Inbox, poster: Poster) -> None:
    box.status, box.headers = 503, {"retry-after": "7"}
    assert (await poster.post(box.url, {}, b"[{}]")).retry_after == 7.0
    box.headers = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
    assert 95 < (await poster.post(box.url, {}, b"[{}]")).retry_after <= 100
    for over in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-1", ""):
        box.headers = {"retry-after": over}
        assert (await poster.post(box.url, {}, b"[{}]")).retry_after == 0.0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080/", "plain http is permitted only"),
        ("https://127.0.0.1/", "private address"),
        ("https://[::1]/", "private address"),
        ("https://[::ffff:127.0.0.1]/", "private address"),
        ("https://[64:ff9b::7f00:1]/", "private address"),
        ("https://169.254.169.254/latest/meta-data", "private address"),
        ("https://localhost/", "private address"),
        ("https://127.1/", ""),
        ("https://2130706433/", ""),
        ("https://0x7f.1/", "private address"),
        ("http://8.8.8.8/", "plain http is permitted only"),
        ("https://8.8.8.8:25/", "port 25"),
        ("ftp://8.8.8.8/", "invalid URL"),
        ("https://8.8.8.8:99999/", "invalid URL"),
        ("https:///nobody", "invalid URL"),
    ],
)
async def test_private_addresses_are_not_dialled(url: str, said: str) -> None:
    poster = Poster(AddressGuard(), connect=1.0, total=1.0)
    try:
        outcome = await poster.post(url, {}, b"[{}]")
    finally:
        await poster.close()
    assert outcome.status == 0
    assert said in outcome.fault


async def test_a_name_that_resolves_to_a_private_address(box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked once, and what it said then is what counts."""
    asked = []

    def lie(host: str, _port: None, **_more: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    closed, open_ = Poster(AddressGuard(), connect=1.0, total=1.0), Poster(AddressGuard(HERE), connect=1.0, total=1.0)
    try:
        refused = await closed.post("https://receiver.example/", {}, b"[{}]")
        assert "private address" in refused.fault
        assert (await open_.post(f"http://receiver.example:{box.port}/", {}, b"[{}]")).ok
    finally:
        await closed.close()
        await open_.close()
    assert asked == ["receiver.example"] * 2


def test_only_public_addresses_of_a_name_are_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to us and to others: what is private is left out, whatever its form and its place."""
    v4 = ("127.0.0.1", "8.8.8.8", "169.254.169.254", "10.0.0.1")
    v6 = ("::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "fe80::1%eth0", "2606:4700::1111")

    def both(_host: str, _port: None, **_more: Any) -> list[Any]:
        return [
            *((socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in v4),
            *((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (one, 0, 0, 0)) for one in v6),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    found = look_up("receiver.example")
    assert permitted(AddressGuard(), found, plain=False) == ["8.8.8.8", "2606:4700::1111"]
    with pytest.raises(AddressNotPermitted):
        permitted(AddressGuard(), found, plain=True)


async def test_certificates_are_checked_against_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """… of the URL, which the server is told, though the connection goes to an address."""
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("receiver.example")
    names = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n")
        writer.close()

    def here(_host: str, _port: None, **_more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    stranger = Poster(AddressGuard(HERE))
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    knowing = Poster(AddressGuard(HERE))
    monkeypatch.setattr(socket, "getaddrinfo", here)
    async with server:
        assert (await knowing.post(f"https://receiver.example:{port}/", {}, b"[{}]")).ok
        assert "Certificate" in (await knowing.post(f"https://other.example:{port}/", {}, b"[{}]")).fault
        assert "Certificate" in (await stranger.post(f"https://receiver.example:{port}/", {}, b"[{}]")).fault
        await knowing.close()
        await stranger.close()
    assert names == ["receiver.example", "other.example", "receiver.example"]


async def test_a_slow_trickle_of_octets_times_out() -> None:
    """An octet now and then does not keep a post under way for ever."""

    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for octet in b"HTTP/1.1 200 OK\r\n" * 100:
                writer.write(bytes([octet]))
                await asyncio.sleep(0.05)

    quick = Poster(AddressGuard(HERE), total=0.3)
    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await quick.post(url, {}, b"[{}]") == PostOutcome(0, "timed out")
        await quick.close()


async def test_a_timeout_on_a_kept_connection_is_not_repeated() -> None:
    """The server may have read the request: only one that closed without an octet has not."""
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heard.append(await reader.readuntil(b"[{}]"))
                if len(heard) == 1:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    quick = Poster(AddressGuard(HERE), total=1.0)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert (await quick.post(url, {}, b"[{}]")).ok
        assert await quick.post(url, {}, b"[{}]") == PostOutcome(0, "timed out")
        await asyncio.sleep(0.1)  # a second one would arrive
        await quick.close()
    assert len(heard) == 2


@pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1"])
async def test_addresses_in_digits_of_another_script_are_not_dialled(box: Inbox, host: str) -> None:
    poster = Poster(AddressGuard(), connect=1.0, total=1.0)
    try:
        for scheme in ("http", "https"):
            outcome = await poster.post(f"{scheme}://{host}:{box.port}/", {}, b"[{}]")
            assert outcome.status == 0
            assert "allow_networks" in outcome.fault
    finally:
        await poster.close()
    assert not box.posts


async def test_proxies_of_the_environment_are_ignored(
    box: Inbox, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await poster.post(box.url, {}, b"[{}]")).ok


async def test_a_post_by_a_closed_poster_fails_like_any_other(box: Inbox) -> None:
    """A reload makes a new poster; a queue that still has the former one tries again with the new one."""
    poster = Poster(AddressGuard(HERE))
    await poster.close()
    outcome = await poster.post(box.url, {}, b"[{}]")
    assert outcome.status == 0
    assert outcome.fault
