"""Run a simulated carrier on its own, as ``smpp-gateway simulate`` does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping

import msgspec

from gateway.simulator.carrier import Simulator
from gateway.simulator.faults import Faults


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def run(
    port: int,
    faults: Faults | None = None,
    *,
    host: str = "127.0.0.1",
    users: Mapping[str, str] | None = None,
    every: float = 5.0,
    say: Callable[[str], None] = _say,
) -> None:
    """Serve until cancelled; print a line of statistics every ``every`` seconds in which something happened.

    OSError when the port is in use.
    """
    simulator = Simulator(faults, users=users)
    await simulator.start(host, port)
    say(f"simulated carrier listens on {host}:{simulator.port}")
    before = msgspec.structs.replace(simulator.stats)
    try:
        while True:
            await asyncio.sleep(every)
            if simulator.stats != before:
                say(simulator.stats.line(before, every))
                before = msgspec.structs.replace(simulator.stats)
    finally:
        await simulator.stop()
