"""SIGKILL in the middle of the work: nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from gateway.client import Unreachable
from gateway.simulator import Faults
from tests.running_gateway import Message, extra, missing, running_gateway, until

BATCH, PAUSE = 100, 0.1  # 1,000 a second
WINDOWS = 2 * 2 * 50  # carriers × binds × window


async def test_a_killed_gateway_continues_without_loss(tmp_path: Path) -> None:
    """At 1,000 a second: after the restart everything is drained within 30 s; doubled are at most the open windows."""
    faults = Faults(latency_ms=20, receipt_delay_ms=200)
    async with running_gateway(tmp_path, faults=faults, settings="binds = 2\nwindow = 50") as gateway:
        accepted: list[Message] = []

        async def work() -> None:
            number = 46_700_000_000
            while True:
                messages = [{"to": f"+{number + i}", "text": f"Hello {number + i}"} for i in range(BATCH)]
                number += BATCH
                accepted.extend(await gateway.post(messages))
                await asyncio.sleep(PAUSE)

        working = asyncio.create_task(work())
        await until(lambda: len(accepted) >= 4_000, 60)
        await gateway.kill()
        with contextlib.suppress(Unreachable):
            await working
        await gateway.start()
        carriers = gateway.carriers.values()
        await until(lambda: not missing(accepted, gateway.copies()), 30)
        await until(lambda: all(c.stats.receipts_acknowledged >= c.stats.accepted for c in carriers), 30)
        copies = gateway.copies()
        assert missing(accepted, copies) == []
        assert extra(copies) <= WINDOWS
        finals = await gateway.finals()
        # the request that got no answer may have been accepted as well
        assert len(accepted) <= sum(finals.values()) <= len(accepted) + BATCH
        assert set(finals) == {"delivered"}
        assert (await gateway.status())["leases"] == 0
