"""Waiting until a started gateway accepts messages."""

from __future__ import annotations

import asyncio

from bench.children import Child
from gateway.client import Client, Unreachable

READY = 30.0
"""Seconds that a start may take on a busy machine."""


async def ready(gateway: Child, admin: Client) -> None:
    """Wait until its admin listener reports it ready. Raises ChildDied, TimeoutError."""
    async with asyncio.timeout(READY):
        while not await _is_ready(admin):
            gateway.check()
            await asyncio.sleep(0.02)


async def _is_ready(admin: Client) -> bool:
    try:
        return (await asyncio.to_thread(admin.get, "/readyz")).ok
    except Unreachable:
        return False
