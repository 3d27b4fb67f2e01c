"""Webhooks on the admin listener: what each route does, and what the audit records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from gateway.admin.audit import Audit
from gateway.admin.request_body import MAX_BODY
from gateway.admin.webhook_routes import WebhookRoutes
from gateway.api.listener import HttpListener
from gateway.api.responses import HANDLERS
from gateway.webhooks.admin import EndpointStatus, PostedTest, WebhookAdmin
from gateway.webhooks.poster import PostOutcome


class FakeWebhookAdmin:
    """Has one failing endpoint, and records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []

    async def endpoints(self) -> list[EndpointStatus]:
        return [EndpointStatus("shop", "https://a.example/x", own=True, waiting=3, tries=2, last_error="HTTP 500")]

    async def dead(self, account: str, url: str, most: int) -> list[msgspec.Raw]:
        self.calls.append(("dead", account, url))
        return [msgspec.Raw(b'{"id":"1"}')][:most]

    async def replay(self, account: str, url: str) -> int:
        self.calls.append(("replay", account, url))
        return 7

    async def drop(self, account: str, url: str) -> int:
        self.calls.append(("drop", account, url))
        return 6

    def retry(self, account: str, url: str) -> int:
        self.calls.append(("retry", account, url))
        return 5

    async def test(self, account: str, url: str) -> PostedTest | None:
        return PostedTest(PostOutcome(204), 0.012, signed=True) if account == "shop" else None


class AuditRecorder:
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []

    @asynccontextmanager
    async def action(
        self, request: Request, action: str, target: str = "", **detail: Any
    ) -> AsyncIterator[dict[str, Any]]:
        result: dict[str, Any] = {}
        yield result
        self.entries.append((action, target, result))


@pytest.fixture
def webhook_admin() -> FakeWebhookAdmin:
    return FakeWebhookAdmin()


@pytest.fixture
def audit() -> AuditRecorder:
    return AuditRecorder()


Client = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def client(webhook_admin: FakeWebhookAdmin, audit: AuditRecorder) -> AsyncIterator[Client]:
    routes = WebhookRoutes(cast("WebhookAdmin", webhook_admin), cast("Audit", audit)).routes()
    listener = HttpListener(Starlette(routes=routes, exception_handlers=HANDLERS), "127.0.0.1:0")
    await listener.start()

    async def ask(method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with aiohttp.ClientSession(listener.url) as http, http.request(method, path, **more) as response:
            return response.status, await response.json(content_type=None)

    yield ask
    await listener.stop(1)


async def test_endpoints_are_listed(client: Client) -> None:
    status, body = await client("GET", "/webhooks")
    (row,) = body["receivers"]
    assert (status, row["account"], row["waiting"], row["last_error"]) == (200, "shop", 3, "HTTP 500")


async def test_dead_letters(client: Client, webhook_admin: FakeWebhookAdmin) -> None:
    assert await client("GET", "/webhooks/dead?account=shop&limit=1") == (200, {"events": [{"id": "1"}]})
    assert webhook_admin.calls == [("dead", "shop", "")]
    for limit in ("0", "x", "100000"):
        status, body = await client("GET", f"/webhooks/dead?limit={limit}")
        assert (status, body["errors"][0]["field"]) == (400, "limit")


async def test_replay_drop_and_retry_are_recorded(
    client: Client, webhook_admin: FakeWebhookAdmin, audit: AuditRecorder
) -> None:
    chosen = {"account": "shop", "url": "https://a.example/x"}
    assert await client("POST", "/webhooks/replay", json=chosen) == (200, {"events": 7})
    assert await client("POST", "/webhooks/drop", json={"account": "shop"}) == (200, {"events": 6})
    assert await client("POST", "/webhooks/retry") == (200, {"receivers": 5})
    assert webhook_admin.calls == [("replay", "shop", "https://a.example/x"), ("drop", "shop", ""), ("retry", "", "")]
    assert [(action, target) for action, target, _ in audit.entries] == [
        ("webhooks.replay", "shop"),
        ("webhooks.drop", "shop"),
        ("webhooks.retry", ""),
    ]


async def test_dropping_dead_letters_needs_an_account(client: Client, webhook_admin: FakeWebhookAdmin) -> None:
    assert (await client("POST", "/webhooks/drop"))[0] == 400
    assert webhook_admin.calls == []


async def test_a_test_post_is_reported_and_recorded(client: Client, audit: AuditRecorder) -> None:
    status, body = await client("POST", "/webhooks/test", json={"account": "shop"})
    assert (status, body) == (200, {"ok": True, "status": 204, "fault": None, "ms": 12.0, "signed": True})
    assert audit.entries == [("webhooks.test", "shop", {"said": "HTTP 204"})]
    assert (await client("POST", "/webhooks/test", json={"account": "bank"}))[0] == 404


@pytest.mark.parametrize("body", [b"{", b'{"who":"shop"}', b"[]", b'{"account":1}'])
async def test_a_malformed_body_is_refused(client: Client, body: bytes) -> None:
    assert (await client("POST", "/webhooks/replay", data=body))[0] == 400


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    assert (await client("POST", "/webhooks/replay", data=b" " * (MAX_BODY + 1)))[0] == 413
