"""The components of a running gateway that operators see and control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.admin.metrics.loop_lag import LoopLag
    from gateway.api.accounts import Accounts
    from gateway.api.request_metrics import RequestMetrics
    from gateway.carriers.manager import CarrierManager
    from gateway.cluster.flags import SharedFlags
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.cluster.limits import LimitCoordinator, SharedLimit
    from gateway.cluster.sweeper import Sweeper
    from gateway.config import Config
    from gateway.intake.policy_context import PolicyContext
    from gateway.intake.service import Intake
    from gateway.store.messages import MessageStore
    from gateway.store.owner import LeaseOwner
    from gateway.store.redis.connection import StoreConnection
    from gateway.store.webhook_queues import WebhookQueues
    from gateway.supervision import Supervision
    from gateway.webhooks.follower import EventFollower


@dataclass(frozen=True, kw_only=True)
class GatewayParts:
    """What the admin server needs of a gateway. A callable returns what a reload may have replaced."""

    version: str
    owner: LeaseOwner
    config: Callable[[], Config]
    accounts: Callable[[], Accounts]
    ready: Callable[[], Awaitable[str]]
    """Return why the store cannot be written to, "" when it can."""
    describe_store: Callable[[], str]
    shared_limits: Callable[[], Iterable[SharedLimit]]
    carrier_manager: CarrierManager
    policy_context: PolicyContext
    flags: SharedFlags
    limits: LimitCoordinator
    heartbeat: Heartbeat
    sweeper: Sweeper
    supervision: Supervision
    intake: Intake
    requests: RequestMetrics
    webhooks: EventFollower
    webhook_queues: WebhookQueues
    store: MessageStore
    connection: StoreConnection
    loop_lag: LoopLag
