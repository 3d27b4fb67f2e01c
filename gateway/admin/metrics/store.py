"""What the store says at a scrape: who waits where and for how long, receivers behind, its servers' memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import Metric

from gateway.admin.metrics.helpers import gauge
from gateway.store.overview import LanesView
from gateway.store.requests import QueueDepths
from gateway.store.webhook_queues import QueueInfo


class StoreReport(NamedTuple):
    """What the store said; None where it was away."""

    view: LanesView | None = None
    depths: QueueDepths | None = None
    servers: Sequence[tuple[str, Mapping[str, float]]] = ()
    queues: Sequence[QueueInfo] = ()


def said(stored: StoreReport) -> Iterator[Metric]:
    """Nothing of what the store was not there to say."""
    if stored.view is not None and stored.depths is not None:
        yield from _waiting(stored.view, stored.depths)
        yield from _receivers(stored.view, stored.queues)
    for name, field, words in _SERVER_FIELDS:
        values = {server: fields[field] for server, fields in stored.servers if field in fields}
        yield gauge(name, words, values, ("server",))


_SERVER_FIELDS = (
    ("store_memory_bytes", "used_memory", "Memory that a server of the store uses."),
    ("store_memory_limit_bytes", "maxmemory", "Memory that it may use; 0: no limit."),
    ("store_log_bytes", "aof_current_size", "Size of its append-only file."),
    ("store_log_healthy", "aof_last_write_status", "1 when its last write to disk went well."),
)


def _waiting(view: LanesView, depths: QueueDepths) -> Iterator[Metric]:
    lanes = [lane for lane in view.lanes if lane.ready or lane.delayed]
    yield gauge(
        "lane_messages",
        "Messages that wait in a lane (route#place:priority): ready, or delayed until an instant.",
        {(lane.name, kind): getattr(lane, kind) for lane in lanes for kind in ("ready", "delayed")},
        ("lane", "state"),
    )
    yield gauge(
        "lane_oldest_seconds",
        "Age since acceptance of the oldest message that is ready in a lane; 0: none is.",
        {lane.name: view.age(lane.oldest) for lane in lanes},
        ("lane",),
    )
    ready: dict[str, float] = {}
    oldest: dict[str, float] = {}
    for lane in lanes:
        for one in lane.accounts:
            ready[one.account] = ready.get(one.account, 0) + one.ready
            oldest[one.account] = max(oldest.get(one.account, 0.0), view.age(one.oldest))
    yield gauge("account_ready_messages", "Messages of an account that are ready to be sent.", ready, ("account",))
    yield gauge(
        "account_waiting_messages",
        "Messages of an account that wait, by status: queued, scheduled, deferred, held. All count towards max_queued.",
        {(name, s.name.lower()): n for name, states in depths.waiting.items() for s, n in states.items()},
        ("account", "status"),
    )
    yield gauge("account_oldest_seconds", "Age of its oldest ready message.", oldest, ("account",))
    yield gauge("held_messages", "Messages held by breakers.", {(): depths.held}, ())
    yield gauge("held_oldest_seconds", "Age of the oldest held message; 0: none.", {(): view.age(view.oldest_held)}, ())
    yield gauge("leases", "Takes of which something is not reported yet, of all workers.", {(): depths.leases}, ())
    yield gauge("parked_receipts", "Receipts that wait for their message's id.", {(): depths.parked}, ())


def _receivers(view: LanesView, queues: Sequence[QueueInfo]) -> Iterator[Metric]:
    waiting: dict[str, float] = {}
    oldest: dict[str, float] = {}
    dead: dict[str, float] = {}
    for queue in queues:
        account = queue.address.account
        waiting[account] = waiting.get(account, 0) + queue.waiting
        oldest[account] = max(oldest.get(account, 0.0), view.age(queue.since))
        dead[account] = dead.get(account, 0) + queue.dead
    yield gauge("webhook_waiting", "Events that wait for an account's receivers.", waiting, ("account",))
    yield gauge("webhook_oldest_seconds", "How long the oldest of them has waited.", oldest, ("account",))
    yield gauge("webhook_dead_letters", "Events given up: see smpp-gateway webhooks.", dead, ("account",))
