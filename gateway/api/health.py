"""``/healthz`` and ``/readyz``: whether the process answers and whether the store can be written to."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.problems import problem
from gateway.api.responses import JsonResponse, problem_answer

MOST_SECONDS = 1.0
"""… that a balancer waits for an answer about readiness."""

log = structlog.get_logger(__name__)


class HealthSource(Protocol):
    """What the application tells about itself."""

    async def status(self) -> Any:
        """Carriers, binds, depths of the lanes, version, uptime: anything that msgspec makes JSON of."""
        ...

    async def ready(self) -> str:
        """ "" when the store can be written to, else why not."""
        ...


class HealthRoutes:
    """``/healthz`` (the process answers) and ``/readyz`` (the store is writable), on both listeners.

    Readiness is asked at most once a second, however often a balancer asks.
    """

    def __init__(self, house: HealthSource, *, fresh: float = 1.0) -> None:
        self._house = house
        self._fresh = fresh
        self._known_until = 0.0
        self._fault = ""

    async def alive(self, _request: Request) -> Response:
        return JsonResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        now = time.monotonic()
        if now >= self._known_until:
            self._known_until = now + self._fresh
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    fault = await self._house.ready()
            except TimeoutError:
                fault = f"the store has not answered for {MOST_SECONDS:g} s"
            if fault and fault != self._fault:
                log.warning("not ready", fault=fault)  # for operators: who asks here may be anybody
            self._fault = fault
        if self._fault:
            return problem_answer(problem("store_unavailable", "the store cannot be written to now"))
        return JsonResponse({"status": "ready"})

    def routes(self) -> list[Route]:
        return [Route("/healthz", self.alive), Route("/readyz", self.ready)]
