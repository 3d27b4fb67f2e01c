"""A real webhook endpoint whose faults are data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

Fault = Callable[[web.Request], web.StreamResponse | None]


class Inbox:
    """Everything that was posted; ``status`` and ``delay`` are what it answers from now on."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.probe_status = 0  # of responses to probes; 0: `status`
        self.delay = 0.0
        self.answer = b"{}"
        self.headers: dict[str, str] = {}
        self.probes = 0  # OPTIONS requests received
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []  # events of posts that were answered well
        self.changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def names(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.posts]

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = self.status
        if request.method == "OPTIONS":
            self.probes += 1
            status = self.probe_status or status
        else:
            self.posts.append(({name.lower(): value for name, value in request.headers.items()}, body))
        if self.delay:
            await asyncio.sleep(self.delay)
        if status == 200 and body:
            self.taken += msgspec.json.decode(body)
        self.changed.set()
        return web.Response(status=status, body=self.answer, headers=self.headers)

    async def until(self, holds: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until something holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                self.changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()
                except TimeoutError:
                    continue


@asynccontextmanager
async def inbox() -> AsyncIterator[Inbox]:
    """Run an endpoint on a free port."""
    box = Inbox()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", box.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box.port = runner.addresses[0][1]
    try:
        yield box
    finally:
        await runner.cleanup()
