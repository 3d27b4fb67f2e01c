"""What a supervisor counts itself: its workers, its own process, and what operators did through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.doors.audit import Audit
from gateway.doors.families import counter, gauge
from gateway.workers.crew import Crew
from gateway.workers.worker import State


class Metrics:
    """``page`` goes beside those of the workers."""

    def __init__(self, crew: Callable[[], Crew], audit: Audit) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Workers(crew, audit))
        ProcessCollector(registry=self._registry)

    def page(self) -> bytes:
        """In the exposition format."""
        return generate_latest(self._registry)


class _Workers(Collector):
    def __init__(self, crew: Callable[[], Crew], audit: Audit) -> None:
        self._crew = crew
        self._audit = audit

    def collect(self) -> Iterator[Metric]:
        crew = self._crew()
        yield gauge("workers", "Workers as configured.", {(): crew.config.workers}, ())
        yield gauge("workers_up", "Workers that are up.", {(): sum(w.state is State.UP for w in crew)}, ())
        yield counter("worker_restarts", "Times that a worker had to be started again.", (), {(): crew.restarts})
        yield counter(
            "operator_actions", "What operators did, see GET /audit.", ("action", "outcome"), self._audit.counts
        )
