"""Metrics of a supervisor: its workers, its own process, and the actions of operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.admin.audit import Audit
from gateway.admin.metrics.helpers import counter, gauge
from gateway.cluster.workers.pool import WorkerPool
from gateway.cluster.workers.worker import WorkerState


class SupervisorMetrics:
    """``page`` is shown beside the pages of the workers."""

    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_WorkersCollector(pool, audit))
        ProcessCollector(registry=self._registry)

    def page(self) -> bytes:
        """Return the metrics in the exposition format."""
        return generate_latest(self._registry)


class _WorkersCollector(Collector):
    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit) -> None:
        self._pool = pool
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        pool = self._pool()
        up = sum(worker.state is WorkerState.UP for worker in pool)
        yield gauge("workers", "Configured workers.", (), {(): pool.config.workers})
        yield gauge("workers_up", "Workers that are up.", (), {(): up})
        yield counter("worker_restarts", "Restarts of workers that died.", (), {(): pool.restarts})
        yield counter(
            "operator_actions", "Actions of operators, see GET /audit.", ("action", "outcome"), self._audit.counts
        )
