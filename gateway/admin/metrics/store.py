"""Metrics of the store's contents: lanes, accounts, webhook queues, and the memory and log of its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.registry import Collector

from gateway.admin.metrics.helpers import gauge
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gateway.admin.parts import GatewayParts
    from gateway.cluster.flags import SharedFlags
    from gateway.store.overview import LanesView, StoreOverview
    from gateway.store.requests import QueueDepths
    from gateway.store.webhook_queues import QueueInfo


class StoreReport(NamedTuple):
    """What the store holds at a scrape; empty while it is away."""

    lanes: LanesView | None = None
    depths: QueueDepths | None = None
    servers: Sequence[tuple[str, Mapping[str, float]]] = ()
    """(server, numeric INFO field -> value)."""
    queues: Sequence[QueueInfo] = ()


class StoreReader:
    """Reads a ``StoreReport`` from the store."""

    def __init__(self, parts: GatewayParts, overview: StoreOverview) -> None:
        self._parts = parts
        self._overview = overview

    def __repr__(self) -> str:
        return f"<StoreReader {self._parts.connection!r}>"

    async def read(self) -> StoreReport:
        """Return a report; an empty one when the store cannot be reached."""
        parts = self._parts
        try:
            lanes, depths, servers, (_, queues) = await asyncio.gather(
                self._overview.lanes(), parts.store.depths(), self._servers(), parts.webhook_queues.queues()
            )
        except StoreError:
            return StoreReport()
        return StoreReport(lanes, depths, servers, queues)

    async def _servers(self) -> list[tuple[str, Mapping[str, float]]]:
        """Return the INFO fields on memory and persistence of every server. Raise StoreError."""
        nodes = self._parts.connection.primaries
        texts = [
            b"".join([await node.command(b"INFO", section) for section in (b"memory", b"persistence")])
            for node in nodes
        ]
        embedded = self._parts.config().store.embedded
        names = ["embedded" if embedded else node.name for node in nodes]
        return [(name, _numeric_fields(text)) for name, text in zip(names, texts, strict=True)]


class StoreMetrics(Collector):
    """Collects ``report``, which the page replaces before a scrape."""

    def __init__(self, flags: SharedFlags) -> None:
        self.report = StoreReport()
        self._flags = flags

    def __repr__(self) -> str:
        return f"<StoreMetrics {'empty' if self.report.lanes is None else 'filled'}>"

    def collect(self) -> Iterator[Metric]:
        report = self.report
        yield gauge("store_up", "1 if the store responded at this scrape.", (), {(): int(report.lanes is not None)})
        if report.lanes is not None and report.depths is not None:
            yield from _lanes(report.lanes)
            yield from _waiting(report.lanes, report.depths)
            yield from _webhook_queues(report.lanes, report.queues)
        yield from _servers(report.servers)
        yield gauge("breakers_open", "Breakers that are open.", (), {(): len(self._flags.open)})
        yield gauge(
            "restored_timestamp_seconds",
            "Messages accepted before this Unix time are held, as the store was restored from a backup; 0: not so.",
            (),
            {(): self._flags.restored / 1000},
        )


_SERVER_METRICS = (
    ("store_memory_bytes", "used_memory", "Memory used by a store server."),
    ("store_memory_limit_bytes", "maxmemory", "Memory limit of a store server; 0: none."),
    ("store_log_bytes", "aof_current_size", "Size of the append-only file of a store server."),
    ("store_log_healthy", "aof_last_write_status", "1 if the last write to the append-only file succeeded."),
)
"""(metric, INFO field, documentation)."""


def _servers(servers: Sequence[tuple[str, Mapping[str, float]]]) -> Iterator[Metric]:
    for name, field, documentation in _SERVER_METRICS:
        values = {server: fields[field] for server, fields in servers if field in fields}
        yield gauge(name, documentation, ("server",), values)


def _lanes(view: LanesView) -> Iterator[Metric]:
    lanes = [lane for lane in view.lanes if lane.ready or lane.delayed]
    yield gauge(
        "lane_messages",
        "Messages waiting in a lane (route#place:priority): ready, or delayed until a later time.",
        ("lane", "state"),
        {(lane.name, state): getattr(lane, state) for lane in lanes for state in ("ready", "delayed")},
    )
    yield gauge(
        "lane_oldest_seconds",
        "Age since acceptance of the oldest ready message in a lane; 0: none is ready.",
        ("lane",),
        {lane.name: view.age(lane.oldest) for lane in lanes},
    )
    ready: dict[str, float] = {}
    oldest: dict[str, float] = {}
    for lane in lanes:
        for one in lane.accounts:
            ready[one.account] = ready.get(one.account, 0) + one.ready
            oldest[one.account] = max(oldest.get(one.account, 0.0), view.age(one.oldest))
    yield gauge("account_ready_messages", "Messages of an account that are ready to be sent.", ("account",), ready)
    yield gauge("account_oldest_seconds", "Age of the account's oldest ready message.", ("account",), oldest)


def _waiting(view: LanesView, depths: QueueDepths) -> Iterator[Metric]:
    yield gauge(
        "account_waiting_messages",
        "Waiting messages of an account by status: queued, scheduled, deferred, held. All count towards max_queued.",
        ("account", "status"),
        {(name, state.name.lower()): n for name, states in depths.waiting.items() for state, n in states.items()},
    )
    yield gauge(
        "held_messages",
        "Messages held by breakers, or because the store was restored from a backup.",
        (),
        {(): depths.held},
    )
    yield gauge("held_oldest_seconds", "Age of the oldest held message; 0: none.", (), {(): view.age(view.oldest_held)})
    yield gauge(
        "leases", "Leases of all workers: batches taken whose outcome is not fully stored yet.", (), {(): depths.leases}
    )
    yield gauge("parked_receipts", "Receipts waiting for their message id to become known.", (), {(): depths.parked})


def _webhook_queues(view: LanesView, queues: Sequence[QueueInfo]) -> Iterator[Metric]:
    waiting: dict[str, float] = {}
    oldest: dict[str, float] = {}
    dead: dict[str, float] = {}
    for queue in queues:
        account = queue.address.account
        waiting[account] = waiting.get(account, 0) + queue.waiting
        oldest[account] = max(oldest.get(account, 0.0), view.age(queue.since))
        dead[account] = dead.get(account, 0) + queue.dead
    yield gauge("webhook_waiting", "Events waiting for the webhook endpoints of an account.", ("account",), waiting)
    yield gauge("webhook_oldest_seconds", "Time that the oldest waiting event has waited.", ("account",), oldest)
    yield gauge("webhook_dead_letters", "Events given up, see smpp-gateway webhooks.", ("account",), dead)


def _numeric_fields(info: bytes) -> dict[str, float]:
    """Return the fields of an INFO reply that are numbers, or ``ok`` (as 1) or ``err`` (as 0)."""
    found: dict[str, float] = {}
    for line in info.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon and value.isdigit():
            found[name] = float(value)
        elif value in ("ok", "err"):
            found[name] = float(value == "ok")
    return found
