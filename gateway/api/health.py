"""``/healthz`` and ``/readyz``: whether the process answers, and whether the store can be written to."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import problem
from gateway.api.responses import JsonResponse, problem_json

READY_TIMEOUT = 1.0
"""Seconds until a store that does not answer counts as not ready; load balancers wait little longer."""

log = structlog.get_logger(__name__)


class HealthSource(Protocol):
    """What the routes need of the application (``gateway.app.App``, which stands above this package)."""

    async def status(self) -> Any:
        """Return carriers, binds, depths of the lanes, version, uptime: anything that msgspec can encode."""
        ...

    async def ready(self) -> str:
        """Return "" when the store can be written to, else why not."""
        ...


class HealthRoutes:
    """``/healthz`` (the process answers) and ``/readyz`` (the store is writable), on both listeners.

    The store is asked at most once a second, however often a load balancer asks.
    """

    def __init__(self, source: HealthSource, *, fresh: float = 1.0) -> None:
        self._source = source
        self._fresh = fresh
        self._valid_until = 0.0
        self._fault = ""

    async def alive(self, _request: Request) -> Response:
        return JsonResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        now = time.monotonic()
        if now >= self._valid_until:
            self._valid_until = now + self._fresh
            try:
                async with asyncio.timeout(READY_TIMEOUT):
                    fault = await self._source.ready()
            except TimeoutError:
                fault = f"the store has not answered for {READY_TIMEOUT:g} s"
            if fault and fault != self._fault:
                log.warning("not ready", fault=fault)  # the response says less: it needs no key
            self._fault = fault
        if self._fault:
            return problem_json(problem("store_unavailable", "the store cannot be written to"))
        return JsonResponse({"status": "ready"})

    def routes(self) -> list[Route]:
        return [Route("/healthz", self.alive), Route("/readyz", self.ready)]
