"""Receipts and replies on their way to apps: by due time, within each bind's window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.simulator.app_link import AppLink
from gateway.simulator.faults import Faults
from gateway.simulator.stats import SimulatorStats
from gateway.simulator.timer_wheel import TimerWheel
from gateway.smpp.status import RetryClass, classify

MAX_WAITING = 1_000_000
"""Deliveries kept for an app that accepts none (about 0.5 GB); beyond it the oldest are lost."""

_AGAIN = frozenset({RetryClass.THROTTLE, RetryClass.QUEUE_FULL, RetryClass.RETRY, RetryClass.SESSION})
"""Classes of responses after which a receipt is sent again; any other refusal is final."""


class Delivery(NamedTuple):
    """One deliver_sm or data_sm for an app. ``origin`` is the bind that submitted, None for any bind."""

    system_id: bytes
    command_id: int
    body: bytes
    origin: AppLink | None
    tries: int = 0


class DeliveryQueue:
    """Deliveries of all apps. What an app cannot take now waits in its queue, in order."""

    def __init__(
        self, faults: Callable[[], Faults], stats: SimulatorStats, mark_dirty: Callable[[AppLink], None]
    ) -> None:
        self.wheel: TimerWheel[Delivery] = TimerWheel()
        self._faults = faults
        self._stats = stats
        self._mark_dirty = mark_dirty
        self._receivers: dict[bytes, deque[AppLink]] = {}
        self._waiting: dict[bytes, deque[Delivery]] = {}

    @property
    def waiting(self) -> int:
        """Deliveries that are due and wait for room in a window."""
        return sum(map(len, self._waiting.values()))

    def __len__(self) -> int:
        return len(self.wheel) + self.waiting

    def add_bind(self, link: AppLink, now: float) -> None:
        """Add a bind that receives, and send what waits for its app."""
        self._receivers.setdefault(link.system_id, deque()).append(link)
        self.send_waiting(link.system_id, now)

    def remove_bind(self, link: AppLink, unanswered: Iterable[object]) -> None:
        """Remove a bind; its unacknowledged deliveries return to the head of the queue, or are lost."""
        receivers = self._receivers.get(link.system_id)
        if receivers and link in receivers:
            receivers.remove(link)
        self.requeue(unanswered)

    def requeue(self, contexts: Iterable[object]) -> None:
        """Put unacknowledged deliveries back at the head of their queues, or count them as lost."""
        lost = [delivery for delivery in contexts if isinstance(delivery, Delivery)]
        if not self._faults().receipt_redeliver:
            self._stats.receipts_lost += len(lost)
            return
        self._stats.receipts_redelivered += len(lost)
        for delivery in reversed(lost):
            waiting = self._waiting.setdefault(delivery.system_id, deque(maxlen=MAX_WAITING))
            if len(waiting) < MAX_WAITING:
                waiting.appendleft(delivery)
            else:
                self._stats.receipts_lost += 1

    def send_due(self, now: float) -> None:
        """Send everything that is due."""
        for delivery in self.wheel.due(now):
            self.send(delivery, now)

    def send(self, delivery: Delivery, now: float) -> None:
        """Send a delivery now, or queue it behind those waiting."""
        waiting = self._waiting.get(delivery.system_id)
        link = None if waiting else self._link_for(delivery)
        if link is None:
            if waiting is None:
                waiting = self._waiting[delivery.system_id] = deque(maxlen=MAX_WAITING)
            self._stats.receipts_lost += len(waiting) == MAX_WAITING
            waiting.append(delivery)
            return
        self._send(link, delivery, now)

    def send_waiting(self, system_id: bytes, now: float) -> None:
        """Send what waits for an app, as far as its windows allow."""
        waiting = self._waiting.get(system_id)
        while waiting:
            link = self._link_for(waiting[0])
            if link is None:
                return
            self._send(link, waiting.popleft(), now)

    def on_response(self, delivery: object, status: int, now: float) -> None:
        """Handle the app's response to a delivery (the context of its request): done, retry or give up."""
        assert isinstance(delivery, Delivery)
        if status == 0:
            self._stats.receipts_acknowledged += 1
            return
        self._stats.receipts_refused += 1
        faults = self._faults()
        if classify(status) in _AGAIN and delivery.tries + 1 < faults.receipt_tries:
            self._stats.receipts_redelivered += 1
            self.wheel.add(now + faults.receipt_retry_ms / 1000, delivery._replace(tries=delivery.tries + 1))

    def _send(self, link: AppLink, delivery: Delivery, now: float) -> None:
        link.session.request(delivery.command_id, delivery.body, delivery, now)
        self._stats.receipts_sent += 1
        if not link.dirty:
            self._mark_dirty(link)

    def _link_for(self, delivery: Delivery) -> AppLink | None:
        origin = delivery.origin
        if origin is not None and origin.free > 0:
            return origin
        receivers = self._receivers.get(delivery.system_id)
        if not receivers:
            return None
        for _ in range(len(receivers)):
            receivers.rotate()
            if receivers[0].free > 0:
                return receivers[0]
        return None
