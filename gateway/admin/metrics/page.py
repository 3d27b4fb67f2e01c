"""The page that Prometheus scrapes. Nothing is counted here: what the parts have counted is collected at a scrape.

Every metric is documented in ``docs/metrics.md``, and a test keeps page and document equal. Labels are names of the
configuration (accounts, carriers, lanes), names of functions and codes; never a number, an id or a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.audit import Audit
from gateway.admin.metrics.carriers import carriers
from gateway.admin.metrics.helpers import counter, gauge, histogram
from gateway.admin.metrics.loop_lag import LoopLag
from gateway.admin.metrics.store import StoreReport, said
from gateway.api.request_metrics import RequestMetrics
from gateway.carriers.service import CarrierService
from gateway.cluster.flags import SharedFlags
from gateway.cluster.heartbeat import Heartbeat
from gateway.intake.counters import IntakeCounters
from gateway.store.errors import StoreError
from gateway.store.overview import StoreOverview
from gateway.store.redis.call_times import CallTimes
from gateway.store.requests import QueueDepths
from gateway.supervision import Supervision
from gateway.webhooks.scheduler import DeliveryScheduler

FRESH = 1.0
"""Seconds that what the store said is believed: two scrapers cost what one does."""


class MetricsStore(Protocol):
    """What this needs of the store."""

    async def depths(self) -> QueueDepths: ...


class MetricsSources(NamedTuple):
    """Who has counted."""

    version: str
    node: str
    intake: IntakeCounters
    http: RequestMetrics
    services: Callable[[], Sequence[CarrierService]]
    heartbeat: Heartbeat
    swept: Mapping[str, int]
    webhooks: DeliveryScheduler
    flags: SharedFlags
    audit: Audit
    lag: LoopLag
    supervision: Supervision
    calls: CallTimes
    store: MetricsStore
    outlook: StoreOverview
    servers: Callable[[], Any]
    """Awaitable of (server, field -> value) pairs: what the store's servers say of their memory."""
    queues: Callable[[], Any]
    """Awaitable of (account names, queues towards receivers): ``store.webhook_queues.WebhookQueues.queues``."""


class MetricsPage:
    """``GET /metrics``, with a registry of its own; ``register`` more collectors into it.

    ``?part=own`` is what this process has counted, ``?part=store`` what is the same whichever worker tells it.
    """

    def __init__(self, sources: MetricsSources) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._sources = sources
        self._stored = _StoreCollector(sources)
        self._of_store = CollectorRegistry(auto_describe=False)
        self._asked = float("-inf")
        self._lock = asyncio.Lock()
        self.registry.register(_ProcessCollector(sources))
        self._of_store.register(self._stored)
        ProcessCollector(registry=self.registry)

    def __repr__(self) -> str:
        return f"<MetricsPage of {self._sources.node}>"

    def register(self, collector: Collector) -> None:
        """One more part's, with its own names."""
        self.registry.register(collector)

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.page)]

    async def page(self, request: Request) -> Response:
        """The page; also when the store is away, without what only the store knows."""
        part = request.query_params.get("part")
        text = b"" if part == "store" else generate_latest(self.registry)
        if part != "own":
            await self._look()
            text += generate_latest(self._of_store)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _look(self) -> None:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._asked >= FRESH:
                self._asked = now
                self._stored.seen = await self._ask()

    async def _ask(self) -> StoreReport:
        sources = self._sources
        try:
            view, depths, servers, (_, queues) = await asyncio.gather(
                sources.outlook.lanes(), sources.store.depths(), sources.servers(), sources.queues()
            )
        except StoreError:
            return StoreReport()
        return StoreReport(view, depths, servers, queues)


class _ProcessCollector(Collector):
    def __init__(self, sources: MetricsSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        yield gauge("info", "Version and node, as labels; always 1.", (self._sources.version, self._sources.node))
        yield from _intake(self._sources)
        yield from carriers(self._sources.services())
        yield from _calls(self._sources)
        yield from _house(self._sources)


class _StoreCollector(Collector):
    def __init__(self, sources: MetricsSources) -> None:
        self.seen = StoreReport()
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        up = self.seen.view is not None
        yield gauge("store_up", "1 when the store answered this scrape.", {(): int(up)}, ())
        yield from said(self.seen)
        yield gauge("breakers_open", "Breakers that are open.", {(): len(self._sources.flags.open)}, ())


def _intake(sources: MetricsSources) -> Iterator[Metric]:
    yield counter(
        "intake_messages",
        "Messages handed in, by account and by what became of them at the door.",
        ("account", "result", "code"),
        sources.intake.counts,
    )
    yield counter(
        "http_requests",
        "Requests of apps, by route and HTTP status (0: the client went away first).",
        ("route", "status"),
        {(route, str(status)): count for (route, status), count in sources.http.answers.items()},
    )
    yield histogram("http_request_seconds", "Time to answer a request of an app.", ("route",), sources.http.seconds)


def _calls(sources: MetricsSources) -> Iterator[Metric]:
    yield histogram(
        "store_call_seconds",
        "Round trips to the store by function, one for a whole batch.",
        ("function",),
        sources.calls.seconds,
    )
    yield counter(
        "store_errors", "Round trips that failed, by function and kind.", ("function", "kind"), sources.calls.errors
    )


def _house(sources: MetricsSources) -> Iterator[Metric]:
    yield counter(
        "webhook_events",
        "Events picked up, posted, given up (dead); failures: posts that failed.",
        ("what",),
        sources.webhooks.counts,
    )
    yield gauge(
        "webhook_failing_seconds",
        "How long an account's receivers have been failing, the longest of them.",
        sources.webhooks.outages(),
        ("account",),
    )
    supervision = sources.supervision
    yield counter(
        "part_restarts", "Parts of the gateway that failed and were started anew.", ("part",), supervision.restarts
    )
    yield counter(
        "failures",
        "Errors of ours that harmed one message, receipt or connection alone.",
        ("where",),
        supervision.failures,
    )
    yield counter("set_aside", "What could not be dealt with in three tries.", ("kind",), supervision.aside)
    age = sources.heartbeat.age(asyncio.get_running_loop().time())
    yield gauge("heartbeat_age_seconds", "Since our last heartbeat; from 8 on nothing is written.", {(): age}, ())
    yield counter(
        "swept",
        "What time did: expired, ended (no receipt or answer), deleted; of receipts: matched, orphans, overflowed.",
        ("what",),
        dict(sources.swept),
    )
    yield counter(
        "operator_actions", "What operators did, see GET /audit.", ("action", "outcome"), sources.audit.counts
    )
    yield histogram(
        "loop_lag_seconds", "How late the event loop was, ten looks a second.", (), {(): sources.lag.seconds}
    )
    yield gauge("loop_lag_worst_seconds", "The latest of the last minute.", {(): sources.lag.worst}, ())
