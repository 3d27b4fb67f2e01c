"""One post, against a real server and names that lie."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.pipeline.addresses import Guard
from gateway.pipeline.post import Poster
from gateway.pipeline.receiver import Outcome
from tests.pipeline.receivers import Inbox, inbox

HERE = ["127.0.0.0/8"]


@pytest.fixture
async def box() -> AsyncIterator[Inbox]:
    async with inbox() as built:
        yield built


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    built = Poster(Guard(HERE), agent="test", connect=0.5, total=0.5)
    yield built
    await built.close()


async def test_a_post_and_its_answer(box: Inbox, poster: Poster) -> None:
    outcome = await poster.post(box.url, {"webhook-id": "1", "content-type": "application/json"}, b"[{}]")
    assert outcome.good
    assert str(outcome) == "HTTP 200"
    headers, body = box.posts[0]
    assert (headers["user-agent"], headers["webhook-id"], body) == ("test", "1", b"[{}]")


async def test_redirects_are_not_followed(box: Inbox, poster: Poster) -> None:
    box.status, box.headers = 302, {"location": box.url}
    outcome = await poster.post(box.url, {}, b"[{}]")
    assert (outcome.status, outcome.good, outcome.alive) == (302, False, True)
    assert len(box.posts) == 1


async def test_no_more_than_64_kib_of_an_answer_is_read(box: Inbox, poster: Poster) -> None:
    box.answer = bytes(32 * 1024 * 1024)
    assert (await poster.post(box.url, {}, b"[{}]")).good


async def test_slow_and_silent_receivers(box: Inbox, poster: Poster) -> None:
    box.delay = 5.0
    assert await poster.post(box.url, {}, b"[{}]") == Outcome(0, "timed out")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert await poster.post(url, {}, b"[{}]") == Outcome(0, "timed out")
    closed = await poster.post(url, {}, b"[{}]")
    assert closed.status == 0
    assert "Connect" in closed.fault


async def test_a_receiver_that_talks_nonsense(poster: Poster) -> None:
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
    ("status", "alive"),
    [
        *((status, True) for status in (200, 400, 401, 403, 404, 405, 422, 501)),
        *((status, False) for status in (0, 408, 425, 429, 500, 502, 503, 504)),
    ],
)
def test_who_is_alive(status: int, alive: bool) -> None:
    assert Outcome(status).alive is alive


async def test_retry_after(box: Inbox, poster: Poster) -> None:
    box.status, box.headers = 503, {"retry-after": "7"}
    assert (await poster.post(box.url, {}, b"[{}]")).retry_after == 7.0
    box.headers = {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert (await poster.post(box.url, {}, b"[{}]")).retry_after == 0.0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080/", "plain http goes only"),
        ("https://127.0.0.1/", "a private address"),
        ("https://[::1]/", "a private address"),
        ("https://[::ffff:127.0.0.1]/", "a private address"),
        ("https://[64:ff9b::7f00:1]/", "a private address"),
        ("https://169.254.169.254/latest/meta-data", "a private address"),
        ("https://localhost/", "a private address"),
        ("https://127.1/", ""),
        ("https://2130706433/", ""),
        ("https://0x7f.1/", "a private address"),
        ("http://8.8.8.8/", "plain http goes only"),
        ("https://8.8.8.8:25/", "port 25"),
        ("ftp://8.8.8.8/", "cannot be read"),
        ("https://8.8.8.8:99999/", "cannot be read"),
        ("https:///nobody", "cannot be read"),
    ],
)
async def test_nothing_private_is_dialled(url: str, said: str) -> None:
    poster = Poster(Guard(), connect=1.0, total=1.0)
    try:
        outcome = await poster.post(url, {}, b"[{}]")
    finally:
        await poster.close()
    assert outcome.status == 0
    assert said in outcome.fault


async def test_a_name_that_leads_inside(box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked once, and what it said then is what counts."""
    asked = []

    async def lie(_self: Any, host: str, port: int, **_more: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", lie)
    closed, open_ = Poster(Guard(), connect=1.0, total=1.0), Poster(Guard(HERE), connect=1.0, total=1.0)
    try:
        refused = await closed.post("https://receiver.example/", {}, b"[{}]")
        assert "private address" in refused.fault
        assert (await open_.post(f"http://receiver.example:{box.port}/", {}, b"[{}]")).good
    finally:
        await closed.close()
        await open_.close()
    assert asked == ["receiver.example"] * 2


async def test_proxies_of_the_environment_are_ignored(
    box: Inbox, poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await poster.post(box.url, {}, b"[{}]")).good
