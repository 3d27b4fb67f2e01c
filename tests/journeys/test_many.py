"""Many messages through two carriers: none lost, none doubled, every one brought to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.simulator import Faults
from tests.running_gateway import Message, RunningGateway, extra, missing, running_gateway, until

TEXTS = (
    "Your parcel is waiting at the corner shop.",
    "Grüße aus Köln: 20 € gespart! [{~}]",
    "您的订单已发货。",
    "A long one. " * 30,
    "Длинное сообщение из нескольких частей. 🚚 " * 6,
)


def batch(start: int, size: int = 500) -> list[dict[str, Any]]:
    return [
        {"to": f"+{46_700_000_000 + number}", "text": f"{TEXTS[number % len(TEXTS)]} {number}"}
        for number in range(start, start + size)
    ]


async def post_all(gateway: RunningGateway, count: int, at_once: int = 3) -> list[Message]:
    """Hand in ``count`` messages in batches, some requests in flight."""
    starts = iter(range(0, count, 500))
    accepted: list[Message] = []

    async def work() -> None:
        for start in starts:
            accepted.extend(await gateway.post(batch(start)))

    await asyncio.gather(*(work() for _ in range(at_once)))
    return accepted


async def test_twenty_thousand_messages_of_every_category_survive_an_outage(tmp_path: Path) -> None:
    """One carrier goes away in the middle for two seconds; what it had not answered may come twice, nothing else."""
    faults = Faults(receipt_delay_ms=100)
    async with running_gateway(tmp_path, faults=faults, settings="binds = 2\nwindow = 100") as gateway:
        posting = asyncio.create_task(post_all(gateway, 20_000))
        north = gateway.carriers["north"]
        await until(lambda: north.stats.accepted > 2_000, 30)
        await north.outage(2.0)
        accepted = await posting
        parts = sum(message.segments for message in accepted)
        assert len(accepted) == 20_000
        carriers = gateway.carriers.values()
        await until(lambda: sum(carrier.stats.accepted for carrier in carriers) >= parts, 90)
        await until(lambda: all(c.stats.receipts_acknowledged >= c.stats.accepted for c in carriers), 60)
        copies = gateway.copies()
        assert missing(accepted, copies) == []
        assert set(copies) == {message.to for message in accepted}
        assert extra(copies) <= 2 * 100  # the windows that were open when it went
        assert await gateway.finals() == {"delivered": 20_000}
        assert (await gateway.status())["leases"] == 0
        assert await gateway.stop() == 0


async def test_five_thousand_messages_arrive_exactly_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, faults=Faults(latency_ms=5, jitter_ms=20, receipt_delay_ms=20)) as gateway:
        accepted = await post_all(gateway, 5_000)
        parts = sum(message.segments for message in accepted)
        carriers = gateway.carriers.values()
        await until(lambda: sum(carrier.stats.receipts_acknowledged for carrier in carriers) >= parts, 60)
        copies = gateway.copies()
        assert (missing(accepted, copies), extra(copies)) == ([], 0)
        assert await gateway.finals() == {"delivered": 5_000}
