"""Apps that send everything again: one message each time, two posts at once and a third later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Faults
from tests.running_gateway import KEY, extra, running_gateway, until

COUNT = 200
FIRST = 46_700_000_000


def by_reference(number: int) -> dict[str, Any]:
    return {"json": {"to": f"+{FIRST + number}", "text": f"Hello {number}", "client_ref": f"order-{number}"}}


def by_key(number: int) -> dict[str, Any]:
    body = {"to": f"+{FIRST + number}", "text": f"Hello {number}"}
    return {"json": body, "headers": {"Idempotency-Key": f"order-{number}"}}


@pytest.mark.parametrize("request_of", [by_reference, by_key])
async def test_every_message_posted_three_times_is_sent_once(
    tmp_path: Path, request_of: Callable[[int], dict[str, Any]]
) -> None:
    async with running_gateway(tmp_path, faults=Faults(latency_ms=5)) as gateway:
        ids: dict[int, list[str]] = {}
        running = 0

        async def post(http: aiohttp.ClientSession, number: int) -> None:
            nonlocal running
            while True:
                async with http.post("/v1/messages", **request_of(number)) as response:
                    body = await response.json(content_type=None)
                if response.status == 202:
                    ids.setdefault(number, []).append(body["id"])
                    return
                assert (response.status, body["code"]) == (409, "idempotency_running")
                running += 1
                await asyncio.sleep(0.01)

        async def work(http: aiohttp.ClientSession, numbers: Any) -> None:
            for number in numbers:
                await asyncio.gather(post(http, number), post(http, number))
                await post(http, number)

        async with aiohttp.ClientSession(gateway.http.url, headers={"Authorization": f"Bearer {KEY}"}) as http:
            numbers = iter(range(COUNT))
            await asyncio.gather(*(work(http, numbers) for _ in range(16)))
        await until(lambda: len(gateway.copies()) >= COUNT, 30)
        carriers = gateway.carriers.values()
        await until(lambda: all(c.stats.receipts_acknowledged >= c.stats.accepted for c in carriers), 30)
        assert len(gateway.copies()) == COUNT
        assert extra(gateway.copies()) == 0
        assert all(len(each) == 3 and len(set(each)) == 1 for each in ids.values())
        assert len({each[0] for each in ids.values()}) == COUNT
        assert await gateway.finals() == {"delivered": COUNT}
