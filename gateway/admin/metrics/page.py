"""``GET /metrics``: the page that Prometheus scrapes.

Nothing is computed for a metric while messages are processed: the page collects what the components have counted. Every
metric is documented in ``docs/metrics.md``, and a test keeps page and document equal. Labels are names from the
configuration (accounts, carriers, lanes), function names and codes; never a number, an id or a path.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.metrics.process import ProcessMetrics
from gateway.admin.metrics.store import StoreMetrics, StoreReader

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.admin.audit import Audit
    from gateway.admin.parts import GatewayParts
    from gateway.store.overview import StoreOverview

FRESH = 1.0
"""Seconds for which what was read from the store is reused: two scrapers cost as much as one."""


class MetricsPage:
    """The route, with registries of its own for what this process has counted and for what the store holds."""

    def __init__(self, parts: GatewayParts, overview: StoreOverview, audit: Audit) -> None:
        self._node = parts.owner.node
        self._reader = StoreReader(parts, overview)
        self._process = CollectorRegistry(auto_describe=False)
        self._process.register(ProcessMetrics(parts, audit))
        ProcessCollector(registry=self._process)
        self._store_metrics = StoreMetrics(parts.flags)
        self._store = CollectorRegistry(auto_describe=False)
        self._store.register(self._store_metrics)
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<MetricsPage of {self._node}>"

    def routes(self) -> list[Route]:
        """Return the single route."""
        return [Route("/metrics", self.page)]

    async def page(self, request: Request) -> Response:
        """``GET /metrics[?part=own|store]``: all metrics; while the store is away, those of the process.

        ``part=own``: what this process has counted. ``part=store``: what is the same whichever worker reads it.
        """
        part = request.query_params.get("part")
        text = b"" if part == "store" else generate_latest(self._process)
        if part != "own":
            await self._refresh()
            text += generate_latest(self._store)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _refresh(self) -> None:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._read_at >= FRESH:
                self._read_at = now
                self._store_metrics.report = await self._reader.read()
