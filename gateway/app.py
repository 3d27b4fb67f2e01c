"""Builds every component of a gateway once, runs them in one TaskGroup, stops them in order.

Start: secrets, store, policy, heartbeat, carriers, listeners. Stop, in reverse: the listeners refuse new messages,
carriers empty their windows and unbind, the last responses are stored, the store stops.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import structlog

from gateway import logs
from gateway.admin.metrics.loop_lag import LoopLag
from gateway.admin.parts import GatewayParts
from gateway.admin.reload_routes import ReloadRoutes, WorkerConfigRoutes
from gateway.admin.reloader import Reloader
from gateway.admin.server import AdminServer
from gateway.admin.webhook_routes import WebhookRoutes
from gateway.api.accounts import Accounts
from gateway.api.http_api import HttpApi
from gateway.api.listener import HttpListener
from gateway.api.request_metrics import RequestMetrics
from gateway.carriers.manager import CarrierManager
from gateway.carriers.receipts_by_id import ParkedReceiptRelocator
from gateway.carriers.service import CarrierService
from gateway.clock import now_ms
from gateway.cluster.flags import SharedFlags
from gateway.cluster.heartbeat import Heartbeat
from gateway.cluster.janitor import Janitor
from gateway.cluster.limits import LimitCoordinator, SharedLimit
from gateway.cluster.notifications import WorkNotifier
from gateway.cluster.receipt_id_forms import ReceiptIdForms
from gateway.cluster.sweeper import Sweeper
from gateway.cluster.worker_identity import WorkerIdentity, lasting_name
from gateway.config import Config, Source, route_table, rulebook
from gateway.config.addresses import AddressGuard
from gateway.intake.coding import demands_of
from gateway.intake.idempotency import IdempotentRequests
from gateway.intake.policy_context import PolicyContext
from gateway.intake.redecide import Redecider
from gateway.intake.service import Intake
from gateway.model import Redecide
from gateway.open_store import open_store
from gateway.policy.rulebook import Rulebook
from gateway.store import crypto
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreError
from gateway.store.former_accounts import EndpointSettings, FormerAccounts
from gateway.store.idempotency import ClaimStore
from gateway.store.keys import Hasher
from gateway.store.lane_rescue import LaneRescue
from gateway.store.legacy_numbers import LegacyNumberStore
from gateway.store.limits import LimitStore
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.receipt_index import ReceiptIndex
from gateway.store.redis.connection import StoreConnection
from gateway.store.requests import Retention
from gateway.store.velocity_counts import VelocityCounts
from gateway.store.webhook_queues import WebhookQueues
from gateway.store.work_channel import WorkChannel
from gateway.supervision import Supervision
from gateway.systemd import NO_MANAGER, Notifier, notifying
from gateway.version import installed_version
from gateway.webhooks.admin import WebhookAdmin
from gateway.webhooks.endpoints import Endpoints, endpoint_settings
from gateway.webhooks.follower import EventFollower
from gateway.webhooks.poster import Poster

GC_THRESHOLDS = (20_000, 20, 20)
"""Thresholds of the garbage collector: a batch creates thousands of objects without cycles, so it runs less often."""

log = structlog.get_logger(__name__)


class App:
    """One running gateway. ``start`` brings it up, ``run`` works until told to stop, ``close`` frees what is left."""

    def __init__(
        self,
        config: Config,
        link: StoreConnection,
        secrets: crypto.Secrets,
        embedded: EmbeddedServer | None = None,
        *,
        source: Source | None = None,
        worker_identity: WorkerIdentity | None = None,
    ) -> None:
        """Build every component and start none. ``worker_identity``: this is one of several workers of a supervisor.

        Raise ConfigError (policy data), OSError (the admin token).
        """
        self.config = config
        self.owner = LeaseOwner.fresh(worker_identity.node if worker_identity else lasting_name(config))
        self._worker_identity = worker_identity
        self._link = link
        self._vault = secrets.vault
        self._embedded = embedded
        self._hasher = Hasher(secrets.hashing, config.store.partitions)
        self.supervision = Supervision()
        self.loop_lag = LoopLag()
        self._build_store()
        self._build_policy()
        self._build_cluster()
        self._build_carriers()
        self._build_webhooks()
        self._build_intake()
        self._build_api()
        self._build_admin(source)

    def __repr__(self) -> str:
        return f"<App {self.owner.name} {self.http!r} {len(self.services)} carriers>"

    # ---- components, in the order in which they are built

    def _build_store(self) -> None:
        kind = MessageStore if self._link.numbers else LegacyNumberStore
        self.store = kind(
            self._link,
            self._hasher,
            self._vault,
            partitions=self.config.store.partitions,
            retention=_retention(self.config),
        )
        self._receipt_index = ReceiptIndex(self.store, self._link)

    def _build_policy(self) -> None:
        config = self.config
        self.policy_context = PolicyContext(
            config.accounts, rulebook(config), route_table(config), self._hasher, config.webhooks.allow_networks
        )
        self.policy_context.demands = demands_of(config.routes, config.carriers)
        self._to_decide: asyncio.Queue[list[Redecide]] = asyncio.Queue()

    def _build_cluster(self) -> None:
        restarted = self._worker_identity is not None and self._worker_identity.restarted
        self.heartbeat = Heartbeat(self.store, self.owner, sole=self.config.store.embedded or restarted)
        self.limits = LimitCoordinator(
            LimitStore(self._link, self.owner, self.config.store.partitions),
            self.heartbeat,
            self.shared_limits,
        )
        self.receipt_id_forms = ReceiptIdForms(self.store)
        self.sweeper = Sweeper(self.store, self.receipt_id_forms, self.supervision)
        self.notifier = WorkNotifier(WorkChannel(self._link, self.owner), self.heartbeat)

    def _build_carriers(self) -> None:
        self.carrier_manager = CarrierManager(
            self.config,
            store=self.store,
            heartbeat=self.heartbeat,
            hasher=self._hasher,
            forms=self.receipt_id_forms,
            redecide=self._to_decide.put_nowait,
            index=self._receipt_index,
            offer_to_gateways=self.notifier.announce,
            limits_changed=self.limits.changed,
            supervision=self.supervision,
        )
        self.redecider = Redecider(
            self.store,
            self.policy_context,
            work_available=self.carrier_manager.work_available,
            supervision=self.supervision,
        )
        self.receipt_relocator = ParkedReceiptRelocator(self.store, self._receipt_index, self.owner, self.supervision)
        self.flags = SharedFlags(
            self.store, self.policy_context, self.carrier_manager.set_modes, self.receipt_id_forms.take_over
        )
        lane_rescue = LaneRescue(self.store, self._link, self._vault)
        self.janitor = Janitor(lane_rescue, self.carrier_manager, self._to_decide.put_nowait)

    def _build_webhooks(self) -> None:
        self.webhook_queues = WebhookQueues(
            self._link,
            self._hasher,
            self._vault,
            partitions=self.config.store.partitions,
            keep=self.config.retention.events,
        )
        self._former_accounts = FormerAccounts(self._link, self._vault)
        self._endpoints = Endpoints(self._poster)
        self.webhooks = EventFollower(
            self.webhook_queues, self.store, self.owner, self._endpoints, supervision=self.supervision
        )
        self._configure_webhooks(self.config)

    def _build_intake(self) -> None:
        self.intake = Intake(
            self.store,
            self.policy_context,
            work_available=self.carrier_manager.work_available,
            announce_callbacks=self.webhooks.follow_accounts,
            max_waiting=self.config.store.max_waiting,
            velocity=VelocityCounts(self._link),
            supervision=self.supervision,
        )

    def _build_api(self) -> None:
        loop_now = asyncio.get_running_loop().time()
        self.api = HttpApi(
            Accounts(self.config.accounts, loop_now, fresh=self.heartbeat.fresh),
            self.intake,
            IdempotentRequests(ClaimStore(self._link, self._vault, self.owner), self._hasher),
            self.store,
            self._hasher,
            health=self,
            version=installed_version(),
        )
        self.requests = RequestMetrics(self.api.app)
        worker = self._worker_identity
        self.http = HttpListener(
            self.requests, worker.http if worker else self.config.http.listen, reuse_port=worker is not None
        )

    def _build_admin(self, source: Source | None) -> None:
        worker = self._worker_identity
        self.reloader = Reloader(self, source, supervised=worker is not None)
        webhook_admin = WebhookAdmin(self.webhook_queues, self._endpoints, self.webhooks.scheduler)
        self.admin_server = AdminServer(
            self._admin_parts(),
            routes=[
                lambda audit: WebhookRoutes(webhook_admin, audit).routes(),
                lambda audit: (
                    WorkerConfigRoutes(self.reloader) if worker else ReloadRoutes(self.reloader, audit)
                ).routes(),
            ],
            private=worker is not None,
        )
        self.admin = HttpListener(self.admin_server.app, worker.admin if worker else self.config.admin.listen)

    def _admin_parts(self) -> GatewayParts:
        return GatewayParts(
            version=installed_version(),
            owner=self.owner,
            config=lambda: self.config,
            accounts=lambda: self.api.accounts,
            ready=self.ready,
            describe_store=(self._embedded or self._link).describe,
            shared_limits=self.shared_limits,
            carrier_manager=self.carrier_manager,
            policy_context=self.policy_context,
            flags=self.flags,
            limits=self.limits,
            heartbeat=self.heartbeat,
            sweeper=self.sweeper,
            supervision=self.supervision,
            intake=self.intake,
            requests=self.requests,
            webhooks=self.webhooks,
            webhook_queues=self.webhook_queues,
            store=self.store,
            connection=self._link,
            loop_lag=self.loop_lag,
        )

    # ---- what components ask of each other

    @property
    def services(self) -> list[CarrierService]:
        """The carriers at work; a reload changes them."""
        return self.carrier_manager.services

    def shared_limits(self) -> Iterator[SharedLimit]:
        """Return everything whose limit is shared between gateways."""
        return chain(self.api.accounts.shared(), self.carrier_manager.shared())

    def _poster(self) -> Poster:
        networks = self.config.webhooks.allow_networks
        return Poster(AddressGuard(networks), agent=f"smpp-gateway/{installed_version()}")

    def _configure_webhooks(self, config: Config, former: Mapping[str, EndpointSettings] | None = None) -> None:
        configured = {account.name: endpoint_settings(account) for account in config.accounts}
        self.webhooks.configure({**(former or {}), **configured}, give_up_after=int(config.webhooks.retry_for))

    async def _configure_former_accounts(self, config: Config) -> None:
        """Keep delivering the events of removed accounts with their last webhook settings. Raise StoreError."""
        settings = {account.name: endpoint_settings(account) for account in config.accounts}
        waiting = {name: sum(states.values()) for name, states in (await self.store.depths()).waiting.items()}
        with_endpoint = {name: one for name, one in settings.items() if one.url or one.keys}
        former = await self._former_accounts.recall(with_endpoint, waiting, now_ms())
        self._configure_webhooks(config, former)

    # ---- life

    async def start(self) -> None:
        """Send the first heartbeat, get shares of the limits, read the flags, listen.

        Raise StoreError, OSError (address in use).
        """
        await self.heartbeat.start()
        await self.limits.start()
        await self.flags.start()
        await self._configure_former_accounts(self.config)
        await self.webhooks.start()
        await self.http.start()
        await self.admin.start()
        self.admin_server.announce(self.admin.url, self.reloader.file, self.http.url)
        # Whatever exists by now lives as long as the process: keep the collector from scanning it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        if not self._link.numbers:
            log.warning(
                "store uses the old number format: every message needs further lookups, one per spelling of its "
                "number; run `smpp-gateway migrate`"
            )
        log.info(
            "gateway is up",
            version=installed_version(),
            http=self.http.url,
            admin=self.admin.url,
            carriers=[carrier.name for carrier in self.config.carriers],
            policy=self.policy_context.rules.version,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then stop in order. A component that fails is restarted alone."""
        self.supervision.watch(asyncio.get_running_loop())
        keep_running = self.supervision.keep_running
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(keep_running(name, run), name=name) for name, run in self._background().items()
            ]
            carriers = group.create_task(keep_running("carriers", self.carrier_manager.run), name="carriers")
            await stop.wait()
            log.info("stopping: new messages are refused, windows are being emptied")
            self.api.close()
            await self.http.stop()
            await self.reloader.close()
            await self.carrier_manager.stop()
            await carriers
            for task in background:
                task.cancel()
        await self.webhooks.stop()
        await self.limits.leave()
        await self.heartbeat.leave()
        log.info("stopped")

    def _background(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the components that run beside the carriers, by the name under which restarts are counted."""
        return {
            "heartbeat": self.heartbeat.run,
            "limits": self.limits.run,
            "sweeper": self.sweeper.run,
            "redecider": self._redecide,
            "flags": self.flags.run,
            "notifications": partial(self.notifier.run, self.carrier_manager.work_available),
            "loop_lag": self.loop_lag.run,
            "webhooks": self.webhooks.run,
            "janitor": self.janitor.run,
            "receipt_relocator": self.receipt_relocator.run,
        }

    async def close(self) -> None:
        """Close the listeners, whatever state they are in."""
        self.admin_server.close()
        await self.http.stop(0)
        await self.admin.stop(0)
        await self.heartbeat.leave()  # has no effect after an orderly stop

    async def _redecide(self) -> None:
        """Decide messages again, a batch at a time. The store hands out after five seconds what failed."""
        while True:
            batch = await self._to_decide.get()
            while not self._to_decide.empty():
                batch = batch + self._to_decide.get_nowait()
            try:
                await self.redecider.redecide(batch)
            except StoreError as error:
                log.warning("new decisions delayed: store unavailable", count=len(batch), error=str(error))

    # ---- reload (admin.reloader.ReloadTarget)

    @property
    def rules_version(self) -> str:
        """The version of the policy rules in force."""
        return self.policy_context.rules.version

    async def check_store(self) -> None:
        """Return if the store can be reached. Raise StoreError."""
        await self.store.flags()

    async def count_waiting(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """Return the number of waiting messages of each of these accounts. Raise StoreError."""
        waiting = (await self.store.depths()).waiting
        return {name: sum(waiting.get(name, {}).values()) for name in accounts}

    async def apply(self, config: Config, rules: Rulebook) -> None:
        """Put a checked configuration into force in every component. Raise StoreError, OSError (the admin token)."""
        former = self.policy_context.rules
        self.policy_context.set_accounts(config.accounts, config.webhooks.allow_networks)
        self.policy_context.routes = route_table(config)
        self.policy_context.demands = demands_of(config.routes, config.carriers)
        self.policy_context.rules = rules.with_flags(former.epoch, former.held, former.pulled, former.restored)
        self.api.accounts = Accounts(config.accounts, asyncio.get_running_loop().time(), self.api.accounts)
        self.limits.changed()
        self.store.set_retention(_retention(config))
        if config.log.level != self.config.log.level:
            logs.configure(config.log.level, config.log.format)
        self.config = config
        self.admin_server.configure(config)
        await self._configure_former_accounts(config)
        await self.webhooks.reload()
        await self.flags.start()  # other rules begin a new epoch
        self.janitor.wake()
        await self.carrier_manager.apply(config)

    # ---- health (api.health.HealthSource)

    async def ready(self) -> str:
        """Return why the store cannot be written to, "" when it can."""
        try:
            await self._link.probe()
        except StoreError as error:
            return str(error)
        return ""

    async def status(self) -> dict[str, Any]:
        """Return the body of ``GET /status``. Raise StoreError."""
        return await self.admin_server.status()


def _retention(config: Config) -> Retention:
    keep = config.retention
    return Retention(
        id_map=int(keep.id_map),
        finished=int(keep.finished),
        refused=int(keep.refused),
        receipt_timeout=int(keep.receipt_timeout),
        hold=int(keep.unknown_hold),
        parked=int(keep.orphans),
        events=keep.events,
        resends=keep.resends,
    )


async def serve(
    config: Config,
    *,
    source: Source | None = None,
    on_ready: Callable[[App], None] | None = None,
    notifier: Notifier = NO_MANAGER,
    stop: asyncio.Event,
) -> None:
    """Run a gateway until ``stop`` is set.

    ``on_ready`` is called and ``notifier`` notified once the gateway accepts messages. ``source`` is read again by
    every reload, which SIGHUP or an operator requests.

    Raise StoreError (the store cannot be used), ConfigError (policy data), OSError (an address is in use).
    """
    async with notifying(notifier, stop), open_store(config) as (link, secrets, embedded):
        app = App(config, link, secrets, embedded, source=source)
        try:
            await app.start()
            if source is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reloader.signal)
            app.reloader.notifier = notifier
            notifier.ready(f"accepting messages at {app.http.url}")
            if on_ready is not None:
                on_ready(app)
            await app.run(stop)
        finally:
            await app.close()
