"""The whole HTTP interface over a store in memory, on a real socket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.api.accounts import Accounts
from gateway.api.http_api import HttpApi
from gateway.api.listener import HttpListener
from gateway.intake.idempotency import IdempotentRequests
from gateway.intake.policy_context import PolicyContext
from gateway.intake.service import Intake
from tests.intake.fakes import NOON, OTHER, SHOP, FakeClaims, FakeStore, hasher, policy_context


class FakeHealth:
    """Stands for the application as the health routes see it."""

    fault = ""
    asked = 0

    async def status(self) -> Any:
        return {"version": "1", "carriers": [{"name": "north", "binds": 2}]}

    async def ready(self) -> str:
        self.asked += 1
        return self.fault


class Answer(NamedTuple):
    """A response, read whole."""

    status: int
    body: Any
    headers: Any


class ApiClient:
    """A client of the shop's (or another's) account."""

    def __init__(
        self, api: HttpApi, store: FakeStore, health: FakeHealth, policy_context: PolicyContext, listener: HttpListener
    ) -> None:
        self.api, self.store, self.health = api, store, health
        self.policy_context, self.listener = policy_context, listener
        self.now = NOON
        self.claims = FakeClaims()
        self.http = aiohttp.ClientSession(listener.url)

    async def __call__(self, method: str, path: str, *, key: str = "shop-key", **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= more.pop("headers", {})
        async with self.http.request(method, path, headers=headers, **more) as response:
            raw = await response.read()
            if raw and "json" in response.content_type.replace("ndjson", ""):
                import msgspec

                return Answer(response.status, msgspec.json.decode(raw), response.headers)
            return Answer(response.status, raw, response.headers)

    async def send(self, key: str = "shop-key", **message: Any) -> Answer:
        """POST /v1/messages."""
        fields = {"to": "+46701740605", "text": "Your parcel waits."} | message
        return await self("POST", "/v1/messages", key=key, json=fields)


@pytest.fixture
async def api_client() -> AsyncIterator[ApiClient]:
    store, health, shared = FakeStore(), FakeHealth(), policy_context()
    holder: list[ApiClient] = []
    clock = lambda: holder[0].now if holder else NOON  # noqa: E731
    intake = Intake(store, shared, clock=clock, gap=0.001)
    accounts = Accounts((SHOP, OTHER), time.monotonic())
    claims = FakeClaims()
    api = HttpApi(
        accounts, intake, IdempotentRequests(claims, hasher(), clock=clock), store, hasher(), health=health, clock=clock
    )
    listener = HttpListener(api.app, "127.0.0.1:0")
    await listener.start()
    api_client = ApiClient(api, store, health, shared, listener)
    api_client.claims = claims
    holder.append(api_client)
    yield api_client
    await api_client.http.close()
    await listener.stop(1)
