"""What gateways share, for Prometheus: limits and what this gateway holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.admin.metrics.helpers import gauge
from gateway.cluster.limits import LimitCoordinator, SharedLimit


class ShareMetrics(Collector):
    """For ``Metrics.register``."""

    def __init__(self, keeper: LimitCoordinator, shared: Callable[[], Iterable[SharedLimit]]) -> None:
        self._keeper = keeper
        self._shared = shared

    def __repr__(self) -> str:
        return f"<ShareMetrics {self._keeper!r}>"

    def collect(self) -> Iterator[Metric]:
        shared = list(self._shared())
        resource = ("resource",)
        yield gauge(
            "share_limit",
            "A limit that all gateways on the store share.",
            {one.name: one.limit for one in shared},
            resource,
        )
        yield gauge(
            "share_held",
            "What of the limit this gateway may use now.",
            {one.name: one.held for one in shared},
            resource,
        )
        yield gauge(
            "share_gateways", "Gateways that share something, this one included.", {(): self._keeper.members}, ()
        )
