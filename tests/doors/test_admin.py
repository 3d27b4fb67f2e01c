from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway.doors.admin import admin_app
from gateway.doors.listener import Listener
from tests.doors.conftest import FakeHouse


class Operator:
    """A client of the operators' listener."""

    def __init__(self, house: FakeHouse, listener: Listener) -> None:
        self.house, self.listener = house, listener

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession(self.listener.url) as http, http.get(path) as response:
            return response.status, await (
                response.json(content_type=None) if "json" in response.content_type else response.text()
            )


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    house, registry = FakeHouse(), CollectorRegistry()
    Counter("sms_accepted", "Messages accepted", registry=registry).inc(3)
    listener = Listener(admin_app(house, registry), "127.0.0.1:0")
    await listener.start()
    yield Operator(house, listener)
    await listener.stop(1)


async def test_status(operator: Operator) -> None:
    status, body = await operator.get("/status")
    assert (status, body["carriers"]) == (200, [{"name": "north", "binds": 2}])


async def test_health_and_readiness(operator: Operator) -> None:
    assert await operator.get("/healthz") == (200, {"status": "ok"})
    assert await operator.get("/readyz") == (200, {"status": "ready"})


async def test_not_ready_says_why_and_asks_once_a_second(operator: Operator) -> None:
    operator.house.fault = "the disk is full"
    for _ in range(3):
        status, body = await operator.get("/readyz")
        assert (status, body["detail"], body["retryable"]) == (503, "the disk is full", True)
    assert operator.house.asked == 1
    assert (await operator.get("/healthz"))[0] == 200


async def test_metrics(operator: Operator) -> None:
    status, text = await operator.get("/metrics")
    assert status == 200
    assert "sms_accepted_total 3.0" in text


async def test_elsewhere(operator: Operator) -> None:
    status, body = await operator.get("/v1/messages")
    assert (status, body["code"]) == (404, "not_found")
