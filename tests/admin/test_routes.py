"""The admin listener without a gateway behind it: health, tokens, the shape of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from gateway.admin.auth import AdminGuard, Tokens
from gateway.admin.routes import admin_app
from gateway.api import health
from gateway.api.listener import HttpListener
from gateway.config import AdminConfig
from tests.api.conftest import FakeHealth

TOKEN, READER, ALICE = "t" * 32, "r" * 32, "a" * 32
SETTINGS = AdminConfig(
    token="sha256:" + sha256(TOKEN.encode()).hexdigest(), read_token=READER, operators={"alice": ALICE}
)


class Operator:
    """A client of the admin listener."""

    def __init__(self, health: FakeHealth, listener: HttpListener) -> None:
        self.health, self.listener = health, listener

    async def __call__(self, path: str, token: str = TOKEN, method: str = "GET") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(self.listener.url, headers=headers) as http,
            http.request(method, path) as response,
        ):
            return response.status, await (
                response.json(content_type=None) if "json" in response.content_type else response.text()
            )


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    source = FakeHealth()
    guard = AdminGuard(Tokens.of(SETTINGS), admin_app(source), lambda header: header == b"Bearer shop-key")
    listener = HttpListener(guard, "127.0.0.1:0")
    await listener.start()
    yield Operator(source, listener)
    await listener.stop(1)


@pytest.mark.parametrize("token", [TOKEN, READER, ALICE])
async def test_every_token_may_read_the_status(operator: Operator, token: str) -> None:
    status, body = await operator("/status", token)
    assert (status, body["carriers"]) == (200, [{"name": "north", "binds": 2}])


async def test_health_and_readiness_need_no_token(operator: Operator) -> None:
    assert await operator("/healthz", "") == (200, {"status": "ok"})
    assert await operator("/readyz", "") == (200, {"status": "ready"})


async def test_the_store_fault_is_logged_and_not_shown_in_the_readiness_response(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = operator.health.fault = "the store at 10.1.2.3:6379 is away: WRONGPASS"
    for _ in range(3):
        status, body = await operator("/readyz", "")
        assert (status, body["code"], body["retryable"]) == (503, "store_unavailable", True)
        assert "10.1.2.3" not in str(body)
        assert "WRONGPASS" not in str(body)
    assert operator.health.asked == 1
    assert capsys.readouterr().out.count(fault) == 1
    assert (await operator("/healthz", ""))[0] == 200


async def test_readiness_responds_in_time_while_the_store_hangs(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(operator.health, "ready", never)
    monkeypatch.setattr(health, "READY_TIMEOUT", 0.05)
    async with asyncio.timeout(5):
        assert (await operator("/readyz", ""))[0] == 503


@pytest.mark.parametrize("path", ["/status", "/metrics", "/carriers", "/no-such-thing"])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "sha256:" + sha256(TOKEN.encode()).hexdigest()])
async def test_other_paths_need_a_valid_token(operator: Operator, path: str, token: str) -> None:
    status, body = await operator(path, token)
    assert (status, body["code"]) == (401, "unauthorized")


async def test_an_api_key_of_an_account_is_refused(operator: Operator) -> None:
    status, body = await operator("/status", "shop-key")
    assert (status, body["code"]) == (403, "forbidden")


async def test_a_read_only_token_cannot_act(operator: Operator) -> None:
    status, body = await operator("/status", READER, "POST")
    assert (status, body["code"]) == (403, "forbidden")
    assert (await operator("/status", ALICE, "POST"))[0] == 405


async def test_unknown_paths_are_not_found(operator: Operator) -> None:
    status, body = await operator("/v1/messages")
    assert (status, body["code"]) == (404, "not_found")


def test_a_token_identifies_its_operator() -> None:
    tokens = Tokens.of(SETTINGS)
    assert repr(tokens) == "<Tokens of admin, alice, read>"
    assert [tokens.operator(f"bearer {t}".encode()) for t in (ALICE, "")] == [("alice", True, "", "", False), None]


def test_a_generated_token_is_accepted() -> None:
    assert repr(Tokens.of(AdminConfig(), generated="m" * 32)) == "<Tokens of admin>"
