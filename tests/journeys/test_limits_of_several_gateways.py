"""Two gateways, processes of their own, on one store: limits hold for both together, and whole for one alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bench.limits import GatewayGroup, gateway_group

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
RATE, PACE = 200, 100
SETTINGS = {"account": f"rate = {RATE}", "carrier": f"rate = {PACE}\nbinds = 2"}


async def both_share(group: GatewayGroup, kind: str, total: float, count: int) -> None:
    """Wait until ``count`` gateways hold ``total`` together, none of them nothing."""
    async with asyncio.timeout(20):
        while len(held := await group.shares(kind)) != count or sum(held) < total - 1 or min(held) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert sum(held) <= total + 1


async def test_limits_hold_for_two_gateways_together_and_go_to_the_remaining_one(tmp_path: Path) -> None:
    async with gateway_group(tmp_path, 2, SETTINGS) as group:
        one, two = group.gateways
        await both_share(group, "up", 2, 2)
        assert group.carrier.stats.bound == 2
        await both_share(group, "ceiling", PACE, 2)
        await both_share(group, "rate", RATE, 2)
        for gateway in (one, two):
            while await group.post(gateway, 20):  # a second's worth was saved up
                pass
        accepted, submitted = await group.rates([one, two], 1.5, 10)
        assert RATE * 0.7 <= accepted <= RATE * 1.2
        assert PACE * 0.7 <= submitted <= PACE * 1.15
        await one.stop()
        await both_share(group, "rate", RATE, 1)
        await both_share(group, "up", 2, 1)


@pytest.mark.skipif(not THOROUGH, reason="waits ten seconds for a killed gateway's share: HYPOTHESIS_PROFILE=thorough")
async def test_the_share_of_a_killed_gateway_goes_to_the_others_within_ten_seconds(tmp_path: Path) -> None:
    async with gateway_group(tmp_path, 3, SETTINGS) as group:
        one, two, three = group.gateways
        await group.rates(group.gateways, 4.0, 10)
        accepted, submitted = await group.rates(group.gateways, 10.0, 10)
        assert RATE * 0.85 <= accepted <= RATE * 1.05
        assert PACE * 0.8 <= submitted <= PACE * 1.05
        await group.rates([three], 4.0, 10)
        accepted, _ = await group.rates([three], 5.0, 10)
        assert RATE * 0.85 <= accepted <= RATE * 1.05, "what the others do not want is all its own"
        await asyncio.gather(one.kill(), two.kill())
        await asyncio.sleep(12.0)
        await both_share(group, "up", 2, 1)
        accepted, submitted = await group.rates([three], 5.0, 10)
        assert RATE * 0.85 <= accepted <= RATE * 1.3
        assert PACE * 0.8 <= submitted <= PACE * 1.05
