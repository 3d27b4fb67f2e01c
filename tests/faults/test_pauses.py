"""A store or a gateway that stands still for a while: answers stay quick and true, rates are whole again at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.running_gateway import Message, RunningGateway, extra, missing, running_gateway, until


def one(number: int) -> dict[str, str]:
    return {"to": f"+46700{number:06}", "text": f"Hello {number}"}


async def post(gateway: RunningGateway, number: int) -> tuple[float, int, Any]:
    """Seconds until the answer, status and body."""
    begun = time.monotonic()
    answer = await asyncio.to_thread(gateway.http.post, "/v1/messages", one(number))
    return time.monotonic() - begun, answer.status, answer.body


async def test_a_hanging_store_is_reported_at_once_and_loses_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, ["north"]) as gateway:
        accepted: list[Message] = await gateway.post([one(number) for number in range(200)])
        found = re.search(r"pid (\d+)", (await gateway.status())["store"])
        assert found is not None
        store = int(found[1])
        os.kill(store, signal.SIGSTOP)
        try:
            first = await post(gateway, 1000)
            await asyncio.sleep(2)
            later = [await post(gateway, number) for number in range(1001, 1021)]
        finally:
            os.kill(store, signal.SIGCONT)
        assert (first[1], {status for _, status, _ in later}) == (503, {503})
        assert first[0] < 5.0  # two seconds, on a machine that is busy; a time-out of the store is ten
        assert sum(took for took, _, _ in later) < 5.0, "the others are not waited for"
        begun = time.monotonic()
        while (answer := await post(gateway, 2000))[1] != 202:
            assert time.monotonic() - begun < 10.0
            await asyncio.sleep(0.02)
        accepted.append(Message(answer[2]["to"].lstrip("+"), answer[2]["id"], 1))
        await until(lambda: not missing(accepted, gateway.copies()), 30)
        copies = gateway.copies()
        assert extra(copies) == 0
        surely_not = {body["code"] for _, _, body in later}
        assert surely_not == {"store_unavailable"}, "nothing of these was handed to the store"
        assert not {f"46700{number:06}" for number in range(1001, 1021)} & set(copies)
        assert "Traceback" not in (gateway.folder / "gateway.log").read_text()


@pytest.mark.parametrize("seconds", [3.0, 12.0])
async def test_after_a_pause_a_gateway_has_its_whole_rates_at_once(tmp_path: Path, seconds: float) -> None:
    async with running_gateway(tmp_path, ["north"]) as gateway:
        await gateway.post([one(number) for number in range(200)])
        assert gateway.process is not None
        process = gateway.process.process
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        statuses = [(await post(gateway, 5000 + number))[1] for number in range(100)]
        counted = Counter(statuses)
        assert set(statuses[50:]) == {202}, counted  # before: between the heartbeat and the store's answer to it
        assert counted[202] >= 90, counted
