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

from gateway.carriers.carriage import Carriage
from gateway.doors.audit import Audit
from gateway.doors.carrier_metrics import carriers
from gateway.doors.families import counter, gauge, histogram
from gateway.doors.store_metrics import Stored, said
from gateway.doors.timed import Timed
from gateway.pipeline.flags import Flags
from gateway.pipeline.heart import Heart
from gateway.pipeline.lag import Lag
from gateway.pipeline.outbox import Outbox
from gateway.pipeline.parts import Parts
from gateway.pipeline.tallies import IntakeTally
from gateway.store.errors import StoreError
from gateway.store.outlook import Outlook
from gateway.store.requests import Depths
from gateway.store.timed import TimedLink

FRESH = 1.0
"""Seconds that what the store said is believed: two scrapers cost what one does."""


class Ledger(Protocol):
    """What this needs of the store."""

    async def depths(self) -> Depths: ...


class Sources(NamedTuple):
    """Who has counted."""

    version: str
    node: str
    intake: IntakeTally
    http: Timed
    carriages: Callable[[], Sequence[Carriage]]
    heart: Heart
    swept: Mapping[str, int]
    webhooks: Outbox
    flags: Flags
    audit: Audit
    lag: Lag
    parts: Parts
    link: TimedLink
    store: Ledger
    outlook: Outlook
    servers: Callable[[], Any]
    """Awaitable of (server, field -> value) pairs: what the store's servers say of their memory."""
    queues: Callable[[], Any]
    """Awaitable of (account names, queues towards receivers): ``store.hooks.Hooks.queues``."""


class Metrics:
    """``GET /metrics``, with a registry of its own; ``register`` more collectors into it.

    ``?part=own`` is what this process has counted, ``?part=store`` what is the same whichever worker tells it.
    """

    def __init__(self, sources: Sources) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._sources = sources
        self._stored = _Stored(sources)
        self._of_store = CollectorRegistry(auto_describe=False)
        self._asked = float("-inf")
        self._lock = asyncio.Lock()
        self.registry.register(_Own(sources))
        self._of_store.register(self._stored)
        ProcessCollector(registry=self.registry)

    def __repr__(self) -> str:
        return f"<Metrics of {self._sources.node}>"

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

    async def _ask(self) -> Stored:
        sources = self._sources
        try:
            view, depths, servers, (_, queues) = await asyncio.gather(
                sources.outlook.lanes(), sources.store.depths(), sources.servers(), sources.queues()
            )
        except StoreError:
            return Stored()
        return Stored(view, depths, servers, queues)


class _Own(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        yield gauge("info", "Version and node, as labels; always 1.", (self._sources.version, self._sources.node))
        yield from _intake(self._sources)
        yield from carriers(self._sources.carriages())
        yield from _calls(self._sources)
        yield from _house(self._sources)


class _Stored(Collector):
    def __init__(self, sources: Sources) -> None:
        self.seen = Stored()
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        up = self.seen.view is not None
        yield gauge("store_up", "1 when the store answered this scrape.", {(): int(up)}, ())
        yield from said(self.seen)
        yield gauge("breakers_open", "Breakers that are open.", {(): len(self._sources.flags.open)}, ())


def _intake(sources: Sources) -> Iterator[Metric]:
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


def _calls(sources: Sources) -> Iterator[Metric]:
    yield histogram(
        "store_call_seconds",
        "Round trips to the store by function, one for a whole batch.",
        ("function",),
        sources.link.seconds,
    )
    yield counter(
        "store_errors", "Round trips that failed, by function and kind.", ("function", "kind"), sources.link.errors
    )


def _house(sources: Sources) -> Iterator[Metric]:
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
    parts = sources.parts
    yield counter("part_restarts", "Parts of the gateway that failed and were started anew.", ("part",), parts.restarts)
    yield counter(
        "failures", "Errors of ours that harmed one message, receipt or connection alone.", ("where",), parts.failures
    )
    yield counter("set_aside", "What could not be dealt with in three tries.", ("kind",), parts.aside)
    age = sources.heart.age(asyncio.get_running_loop().time())
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
