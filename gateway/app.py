"""The parts list: builds everything once, runs it in one TaskGroup, ends it in order.

Up: secrets, store, policy, carriers, heart, doors. Down, the other way round: the doors refuse new messages, carriers
empty their windows and unbind, the last answers are stored, the store stops.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import structlog

from gateway import logs
from gateway.admin.reload_routes import ReloadRoutes, TakeOverRoutes
from gateway.admin.reloader import Reloader
from gateway.admin.server import AdminServer, Measurements
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
from gateway.policy.rulebook import Rulebook
from gateway.store import crypto
from gateway.store.embedded.server import EmbeddedServer
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.former_accounts import EndpointSettings, FormerAccounts
from gateway.store.idempotency import ClaimStore
from gateway.store.keys import Hasher, tags
from gateway.store.lane_rescue import LaneRescue
from gateway.store.legacy_numbers import LegacyNumberStore
from gateway.store.library import build_library
from gateway.store.limits import LimitStore
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.receipt_index import ReceiptIndex
from gateway.store.redis.connection import StoreConnection, connect
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

COLLECT = (20_000, 20, 20)
"""The collector's thresholds: a batch makes thousands of objects that die by themselves, so it is called less often."""

log = structlog.get_logger(__name__)


class App:
    """One running gateway. ``start`` brings it up, ``run`` keeps it up, ``stop`` ends ``run`` in order."""

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
        self.config = config
        self.owner = LeaseOwner.fresh(worker_identity.node if worker_identity else lasting_name(config))
        self._link = link
        self._embedded = embedded
        hasher = Hasher(secrets.hashing, config.store.partitions)
        self.meters = Measurements.on(link)
        self.supervision = Supervision()
        kind = MessageStore if link.numbers else LegacyNumberStore
        self.store = kind(link, hasher, secrets.vault, partitions=config.store.partitions, retention=_retention(config))
        networks = config.webhooks.allow_networks
        self.policy_context = PolicyContext(config.accounts, rulebook(config), route_table(config), hasher, networks)
        self.policy_context.demands = demands_of(config.routes, config.carriers)
        self.heartbeat = Heartbeat(
            self.store,
            self.owner,
            sole=config.store.embedded or (worker_identity is not None and worker_identity.again),
        )
        self.shares = LimitCoordinator(
            LimitStore(link, self.owner, config.store.partitions), self.heartbeat, self.shared
        )
        self.forms = ReceiptIdForms(self.store)
        self.sweeper = Sweeper(self.store, self.forms, self.supervision)
        self.decisions = Redecider(self.store, self.policy_context, hint=self._hint, supervision=self.supervision)
        self._to_decide: asyncio.Queue[list[Redecide]] = asyncio.Queue()
        index = ReceiptIndex(self.store, link)
        self.relocator = ParkedReceiptRelocator(self.store, index, self.owner, self.supervision)
        self.notifier = WorkNotifier(
            WorkChannel(link, self.owner), self.heartbeat, lambda some, urgent: self._hint(some, urgent=urgent)
        )
        self.carrier_manager = CarrierManager(
            config,
            store=self.store,
            heartbeat=self.heartbeat,
            numbers=hasher,
            forms=self.forms,
            redecide=self._to_decide.put_nowait,
            index=index,
            beyond=self.notifier.beyond_us,
            changed=self.shares.changed,
            supervision=self.supervision,
        )
        self.flags = SharedFlags(self.store, self.policy_context, self.carrier_manager.set_modes, self.forms.take_over)
        salvage = LaneRescue(self.store, link, secrets.vault)
        self.upkeep = Janitor(salvage, self.carrier_manager, self._to_decide.put_nowait)
        webhook_queues = WebhookQueues(
            link, hasher, secrets.vault, partitions=config.store.partitions, keep=config.retention.events
        )
        self._former_accounts = FormerAccounts(link, secrets.vault)
        endpoints = Endpoints(self._poster)
        self.webhooks = EventFollower(webhook_queues, self.store, self.owner, endpoints, supervision=self.supervision)
        self._configure_webhooks(config)
        self.intake = Intake(
            self.store,
            self.policy_context,
            hint=self.carrier_manager.accepted,
            named=self.webhooks.follow_accounts,
            max_waiting=config.store.max_waiting,
            velocity=VelocityCounts(link),
            supervision=self.supervision,
        )
        self.runs = IdempotentRequests(ClaimStore(link, secrets.vault, self.owner), hasher)
        loop_now = asyncio.get_running_loop().time()
        self.api = HttpApi(
            Accounts(config.accounts, loop_now, fresh=self.heartbeat.fresh),
            self.intake,
            self.runs,
            self.store,
            hasher,
            house=self,
            version=installed_version(),
        )
        self.reloader = Reloader(self, source, supervised=worker_identity is not None)
        timed = RequestMetrics(self.api.app)
        self.http = HttpListener(
            timed,
            worker_identity.http if worker_identity else config.http.listen,
            reuse_port=worker_identity is not None,
        )
        webhook_admin = WebhookAdmin(webhook_queues, endpoints, self.webhooks.scheduler)
        rooms = [
            lambda audit: WebhookRoutes(webhook_admin, audit).routes(),
            lambda audit: (
                TakeOverRoutes(self.reloader) if worker_identity else ReloadRoutes(self.reloader, audit)
            ).routes(),
        ]
        self.operators = AdminServer(
            self,
            link,
            self.meters,
            webhook_queues=webhook_queues,
            http=timed,
            version=installed_version(),
            rooms=rooms,
            private=worker_identity is not None,
        )
        self.admin = HttpListener(self.operators.door, worker_identity.door if worker_identity else config.admin.listen)

    def __repr__(self) -> str:
        return f"<App {self.owner.name} {self.http!r} {len(self.services)} carriers>"

    @property
    def services(self) -> list[CarrierService]:
        """The carriers at work; a reload changes them."""
        return self.carrier_manager.services

    def shared(self) -> Iterator[SharedLimit]:
        """All that has a limit which gateways share."""
        return chain(self.api.accounts.shared(), self.carrier_manager.shared())

    def _hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        self.carrier_manager.hint(partitions, urgent=urgent)

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
        """First heartbeat, our shares, policy epoch, both listeners. Raises StoreError, OSError (address in use)."""
        await self.heartbeat.start()
        await self.shares.start()
        await self.flags.start()
        await self._configure_former_accounts(self.config)
        await self.webhooks.start()
        await self.http.start()
        await self.admin.start()
        self.operators.announce(self.admin.url, self.reloader.file, self.http.url)
        # What exists by now lives as long as the process: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        if not self._link.numbers:
            log.warning(
                "this store is from before one name stood for all spellings of a number: the other ones are looked up "
                "with every message; `smpp-gateway migrate` ends that"
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
        """Work until ``stop`` is set, then end in order. A part that fails is started anew alone (see
        ``Supervision``)."""
        self.supervision.watch(asyncio.get_running_loop())
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self.supervision.keep(name, run), name=name)
                for name, run in self._background().items()
            ]
            serving = group.create_task(self.supervision.keep("carriers", self.carrier_manager.run), name="carriers")
            await stop.wait()
            log.info("stopping: no new messages, windows are emptied")
            self.api.close()
            await self.http.stop()
            await self.reloader.close()
            await self.carrier_manager.stop()
            await serving
            for task in background:
                task.cancel()
        await self.webhooks.stop()
        await self.shares.leave()
        await self.heartbeat.leave()
        log.info("stopped")

    def _background(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside the carriers as long as the gateway does."""
        return {
            "heart": self.heartbeat.run,
            "shares": self.shares.run,
            "sweeper": self.sweeper.run,
            "decisions": self._decide,
            "flags": self.flags.run,
            "herald": self.notifier.run,
            "lag": self.meters.lag.run,
            "webhooks": self.webhooks.run,
            "upkeep": self.upkeep.run,
            "relocator": self.relocator.run,
        }

    async def close(self) -> None:
        """Close the doors, whatever state they are in."""
        self.operators.close()
        await self.http.stop(0)
        await self.admin.stop(0)
        await self.heartbeat.leave()  # if it was not done in order

    async def _decide(self) -> None:
        """Fresh decisions, a batch at a time. What fails is handed out again by the store after five seconds."""
        while True:
            batch = await self._to_decide.get()
            while not self._to_decide.empty():
                batch = batch + self._to_decide.get_nowait()
            try:
                await self.decisions.redecide(batch)
            except StoreError as error:
                log.warning("fresh decisions put off", count=len(batch), error=str(error))

    async def take_over(self, config: Config, rules: Rulebook) -> None:
        """Let every part work by a new configuration; for ``reload``, which has checked it. Raises StoreError."""
        former = self.policy_context.rules
        self.policy_context.set_accounts(config.accounts, config.webhooks.allow_networks)
        self.policy_context.routes = route_table(config)
        self.policy_context.demands = demands_of(config.routes, config.carriers)
        self.policy_context.rules = rules.with_flags(former.epoch, former.held, former.pulled)
        self.api.accounts = Accounts(config.accounts, asyncio.get_running_loop().time(), self.api.accounts)
        self.shares.changed()
        self.store.set_retention(_retention(config))
        if config.log.level != self.config.log.level:
            logs.configure(config.log.level, config.log.format)
        self.config = config
        self.operators.configure(config)
        await self._configure_former_accounts(config)
        await self.webhooks.reload()
        await self.flags.start()  # other rules begin a new epoch
        self.upkeep.wake()
        await self.carrier_manager.apply(config)

    async def waiting(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """How many messages of these accounts wait. Raises StoreError."""
        waiting = (await self.store.depths()).waiting
        return {name: sum(waiting.get(name, {}).values()) for name in accounts}

    async def hears(self) -> None:
        """Whether the store hears us, for ``reload``. Raises StoreError."""
        await self.store.flags()

    @property
    def rules_version(self) -> str:
        """Of the policy that is in force."""
        return self.policy_context.rules.version

    # ---- what the operators' door asks (doors.admin.House)

    async def ready(self) -> str:
        """Why the store cannot be written to; the empty text when it can."""
        try:
            await self._link.probe()
        except StoreError as error:
            return str(error)
        return ""

    async def status(self) -> dict[str, Any]:
        """Everything at a glance."""
        return await self.operators.status(asyncio.get_running_loop())

    @property
    def store_words(self) -> str:
        """The store in a line."""
        return repr(self._embedded or self._link)


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


@asynccontextmanager
async def opened(
    config: Config, *, migrating: bool = False
) -> AsyncIterator[tuple[StoreConnection, crypto.Secrets, EmbeddedServer | None]]:
    """The store and its secrets, for as long as the gateway runs. Raises StoreError."""
    embedded: EmbeddedServer | None = None
    settings = config.store
    url = settings.url
    if settings.embedded:
        embedded = EmbeddedServer(Path(settings.data_dir), settings.durability)
        await embedded.start()
        url = embedded.url
    try:
        async with linked(config, url, migrating=migrating) as (link, secrets):
            yield link, secrets, embedded
    except StoreUnavailable as error:
        why = embedded.fault_text() if embedded is not None else ""
        if why:
            raise StoreUnavailable(f"the embedded store has died: {why}") from error
        raise
    finally:
        if embedded is not None:
            await embedded.stop()


@asynccontextmanager
async def linked(
    config: Config, url: str, *, migrating: bool = False
) -> AsyncIterator[tuple[StoreConnection, crypto.Secrets]]:
    """The store at ``url``, with the secrets that open what it holds. Raises StoreError."""
    settings, secrets = config.store, _secrets(config)
    link = await connect(
        url,
        tags=tags(settings.partitions),
        library=build_library(),
        durability=settings.durability,
        fingerprint=secrets.fingerprint,
        migrating=migrating,
    )
    try:
        yield link, secrets
    finally:
        await link.close()


def _secrets(config: Config) -> crypto.Secrets:
    """Secrets from the configuration, else those of the data folder. Raises StoreRefused."""
    given = config.privacy
    if given.hashing_secret:
        return crypto.from_text(given.hashing_secret, given.encryption_keys, given.current_key)
    return crypto.load_or_create(Path(config.store.data_dir))


async def serve(
    config: Config,
    *,
    source: Source | None = None,
    on_ready: Callable[[App], None] | None = None,
    notifier: Notifier = NO_MANAGER,
    stop: asyncio.Event,
) -> None:
    """Run a gateway until ``stop`` is set. ``on_ready`` is called once it takes messages, when ``notifier`` is told.

    ``source`` is read again for a reload: on SIGHUP, or as operators ask.

    Raises StoreError (the store cannot be used), ConfigError (policy data), OSError (an address is in use).
    """
    async with notifying(notifier, stop), opened(config) as (link, secrets, embedded):
        app = App(config, link, secrets, embedded, source=source)
        try:
            await app.start()
            if source is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reloader.signal)
            app.reloader.notifier = notifier
            notifier.ready(f"taking messages at {app.http.url}")
            if on_ready is not None:
                on_ready(app)
            await app.run(stop)
        finally:
            await app.close()
