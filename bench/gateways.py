"""When a gateway that was started takes messages."""

from __future__ import annotations

import asyncio

from bench.children import Child
from gateway.client import Client, Unreachable

READY = 30.0
"""Seconds that a start may take on a busy machine."""


async def ready(gateway: Child, admin: Client) -> None:
    """Wait until its operators' listener says so. Raises ChildDied, TimeoutError."""
    async with asyncio.timeout(READY):
        while not await _says_so(admin):
            gateway.check()
            await asyncio.sleep(0.02)


async def _says_so(admin: Client) -> bool:
    try:
        return (await asyncio.to_thread(admin.get, "/readyz")).ok
    except Unreachable:
        return False
