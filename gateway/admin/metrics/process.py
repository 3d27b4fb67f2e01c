"""Metrics of this process: requests and messages accepted, carriers, store calls, supervision, shared limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from gateway.admin.metrics.carriers import carrier_metrics
from gateway.admin.metrics.helpers import counter, gauge, histogram

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gateway.admin.audit import Audit
    from gateway.admin.parts import GatewayParts


class ProcessMetrics(Collector):
    """Collects what the components of this process have counted; asks the store for nothing."""

    def __init__(self, parts: GatewayParts, audit: Audit) -> None:
        self._parts = parts
        self._audit = audit

    def __repr__(self) -> str:
        return f"<ProcessMetrics of {self._parts.owner.node}>"

    def collect(self) -> Iterator[Metric]:
        parts = self._parts
        version_and_node = (parts.version, parts.owner.node)
        yield gauge("info", "Version and node, as labels; always 1.", ("version", "node"), {version_and_node: 1})
        yield from _intake(parts)
        yield from carrier_metrics(parts.carrier_manager.services)
        yield from _store_calls(parts)
        yield from _webhooks(parts)
        yield from _supervision(parts)
        yield counter(
            "operator_actions", "Actions of operators, see GET /audit.", ("action", "outcome"), self._audit.counts
        )
        yield from _loop_lag(parts)
        yield from _shared_limits(parts)


def _intake(parts: GatewayParts) -> Iterator[Metric]:
    yield counter(
        "intake_messages",
        "Messages submitted, by account, result and code.",
        ("account", "result", "code"),
        parts.intake.counters.counts,
    )
    yield counter(
        "http_requests",
        "API requests, by route and HTTP status; status 0: the client disconnected before the response.",
        ("route", "status"),
        {(route, str(status)): count for (route, status), count in parts.requests.answers.items()},
    )
    yield histogram("http_request_seconds", "Time to respond to an API request.", ("route",), parts.requests.seconds)


def _store_calls(parts: GatewayParts) -> Iterator[Metric]:
    times = parts.connection.times
    yield histogram(
        "store_call_seconds",
        "Duration of store round trips, by function; one round trip serves a whole batch.",
        ("function",),
        times.seconds,
    )
    yield counter(
        "store_errors", "Store round trips that failed, by function and kind.", ("function", "kind"), times.errors
    )


def _webhooks(parts: GatewayParts) -> Iterator[Metric]:
    scheduler = parts.webhooks.scheduler
    yield counter(
        "webhook_events",
        "Webhook events picked up, posted and given up (dead); failures: POST requests that failed.",
        ("what",),
        scheduler.counts,
    )
    yield gauge(
        "webhook_failing_seconds",
        "How long the endpoints of an account have been failing; the longest of them.",
        ("account",),
        scheduler.outages(),
    )


def _supervision(parts: GatewayParts) -> Iterator[Metric]:
    supervision = parts.supervision
    yield counter("part_restarts", "Restarts of components after an internal error.", ("part",), supervision.restarts)
    yield counter(
        "failures",
        "Internal errors that affected a single message, receipt or connection.",
        ("where",),
        supervision.failures,
    )
    yield counter(
        "set_aside",
        "Items that could not be processed in three tries and are not tried again.",
        ("kind",),
        supervision.set_aside_counts,
    )
    age = parts.heartbeat.age(asyncio.get_running_loop().time())
    yield gauge(
        "heartbeat_age_seconds",
        "Time since the last heartbeat of this process; from 8 s on it writes nothing.",
        (),
        {(): age},
    )
    yield counter(
        "swept",
        "Work done by the sweeper: messages expired, ended (no receipt or response came) and deleted; "
        "parked receipts matched, orphaned and overflowed.",
        ("what",),
        dict(parts.sweeper.counts),
    )


def _loop_lag(parts: GatewayParts) -> Iterator[Metric]:
    lag = parts.loop_lag
    yield histogram("loop_lag_seconds", "Event loop lag, sampled ten times a second.", (), {(): lag.seconds})
    yield gauge("loop_lag_worst_seconds", "Greatest event loop lag of the last minute.", (), {(): lag.worst})


def _shared_limits(parts: GatewayParts) -> Iterator[Metric]:
    shared = list(parts.shared_limits())
    yield gauge(
        "share_limit",
        "Limit shared by all gateways on the store.",
        ("resource",),
        {one.name: one.limit for one in shared},
    )
    yield gauge(
        "share_held",
        "Share of the limit that this gateway may use now.",
        ("resource",),
        {one.name: one.held for one in shared},
    )
    yield gauge("share_gateways", "Gateways that share limits, including this one.", (), {(): parts.limits.members})
