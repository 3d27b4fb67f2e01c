"""What a supervisor counts itself: its workers, its own process, and what operators did through it."""

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
    """``page`` goes beside those of the workers."""

    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_WorkersCollector(pool, audit))
        ProcessCollector(registry=self._registry)

    def page(self) -> bytes:
        """In the exposition format."""
        return generate_latest(self._registry)


class _WorkersCollector(Collector):
    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit) -> None:
        self._pool = pool
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        pool = self._pool()
        yield gauge("workers", "Workers as configured.", {(): pool.config.workers}, ())
        yield gauge("workers_up", "Workers that are up.", {(): sum(w.state is WorkerState.UP for w in pool)}, ())
        yield counter("worker_restarts", "Times that a worker had to be started again.", (), {(): pool.restarts})
        yield counter(
            "operator_actions", "What operators did, see GET /audit.", ("action", "outcome"), self._audit.counts
        )
