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
from gateway.carriers.carriage import Carriage
from gateway.carriers.fleet import Fleet
from gateway.config import Config, Source, route_table, rulebook
from gateway.doors.accounts import Accounts
from gateway.doors.http_api import Api
from gateway.doors.listener import Listener
from gateway.doors.reload import ReloadRoom, TakeOverRoom
from gateway.doors.timed import Timed
from gateway.doors.webhooks import WebhookRoutes
from gateway.model import Redecide
from gateway.operators import Meters, Operators
from gateway.pipeline.by_id import Relocator
from gateway.pipeline.coding import demands_of
from gateway.pipeline.decisions import Decisions
from gateway.pipeline.desk import Desk
from gateway.pipeline.flags import Flags
from gateway.pipeline.heart import Heart
from gateway.pipeline.herald import Herald
from gateway.pipeline.id_forms import Forms
from gateway.pipeline.idempotency import Runs
from gateway.pipeline.intake import Intake
from gateway.pipeline.parts import Parts
from gateway.pipeline.receiver import Sender, Settings, now_ms
from gateway.pipeline.sharing import Keeper, Shared
from gateway.pipeline.sweeper import Sweeper
from gateway.pipeline.upkeep import Upkeep
from gateway.pipeline.webhook_desk import WebhookDesk
from gateway.pipeline.webhooks import Webhooks, poster
from gateway.policy.rulebook import Rulebook
from gateway.reload import Reloader
from gateway.seat import Seat, lasting_name
from gateway.store import privacy
from gateway.store.by_id import IdIndex
from gateway.store.claims import Claims
from gateway.store.connect import Link, connect
from gateway.store.departed import Departed, Wanted
from gateway.store.embedded import Embedded
from gateway.store.errors import StoreError, StoreUnavailable
from gateway.store.hints import Hints
from gateway.store.hooks import Hooks
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.owner import Owner
from gateway.store.requests import Retention
from gateway.store.salvage import Salvage
from gateway.store.sharing import Sharing
from gateway.store.spelled import SpelledStore
from gateway.store.store import Store
from gateway.store.velocity import VelocityCounts
from gateway.systemd import NOBODY, Notifier, told
from gateway.version import installed_version

COLLECT = (20_000, 20, 20)
"""The collector's thresholds: a batch makes thousands of objects that die by themselves, so it is called less often."""

log = structlog.get_logger(__name__)


class App:
    """One running gateway. ``start`` brings it up, ``run`` keeps it up, ``stop`` ends ``run`` in order."""

    def __init__(
        self,
        config: Config,
        link: Link,
        secrets: privacy.Secrets,
        embedded: Embedded | None = None,
        *,
        source: Source | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.config = config
        self.owner = Owner.fresh(seat.node if seat else lasting_name(config))
        self._link = link
        self._embedded = embedded
        hasher = Hasher(secrets.hashing, config.store.partitions)
        self.meters = Meters.on(link)
        self.parts = Parts()
        kind = Store if link.numbers else SpelledStore
        self.store = kind(
            self.meters.link, hasher, secrets.vault, partitions=config.store.partitions, retention=_retention(config)
        )
        networks = config.webhooks.allow_networks
        self.desk = Desk(config.accounts, rulebook(config), route_table(config), hasher, networks)
        self.desk.demands = demands_of(config.routes, config.carriers)
        self.heart = Heart(self.store, self.owner, sole=config.store.embedded or (seat is not None and seat.again))
        self.shares = Keeper(Sharing(self.meters.link, self.owner, config.store.partitions), self.heart, self.shared)
        self.forms = Forms(self.store)
        self.sweeper = Sweeper(self.store, self.forms, self.parts)
        self.decisions = Decisions(self.store, self.desk, hint=self._hint, parts=self.parts)
        self._to_decide: asyncio.Queue[list[Redecide]] = asyncio.Queue()
        index = IdIndex(self.store, link)
        self.relocator = Relocator(self.store, index, self.owner, self.parts)
        self.herald = Herald(Hints(link, self.owner), self.heart, lambda some, urgent: self._hint(some, urgent=urgent))
        self.fleet = Fleet(
            config,
            store=self.store,
            heart=self.heart,
            numbers=hasher,
            forms=self.forms,
            redecide=self._to_decide.put_nowait,
            index=index,
            beyond=self.herald.beyond_us,
            changed=self.shares.changed,
            parts=self.parts,
        )
        self.flags = Flags(self.store, self.desk, self.fleet.set_modes, self.forms.take_over)
        salvage = Salvage(self.store, link, secrets.vault)
        self.upkeep = Upkeep(salvage, self.fleet, self._to_decide.put_nowait)
        hooks = Hooks(
            self.meters.link, hasher, secrets.vault, partitions=config.store.partitions, keep=config.retention.events
        )
        self._departed = Departed(link, secrets.vault)
        self.webhooks = Webhooks(hooks, self.store, self.owner, self._poster, parts=self.parts)
        self._configure_webhooks(config)
        self.intake = Intake(
            self.store,
            self.desk,
            hint=self.fleet.accepted,
            named=self.webhooks.named,
            max_waiting=config.store.max_waiting,
            velocity=VelocityCounts(link),
            parts=self.parts,
        )
        self.runs = Runs(Claims(link, secrets.vault, self.owner), hasher)
        loop_now = asyncio.get_running_loop().time()
        self.api = Api(
            Accounts(config.accounts, loop_now, fresh=self.heart.fresh),
            self.intake,
            self.runs,
            self.store,
            hasher,
            house=self,
            version=installed_version(),
        )
        self.reloader = Reloader(self, source, supervised=seat is not None)
        timed = Timed(self.api.app)
        self.http = Listener(timed, seat.http if seat else config.http.listen, reuse_port=seat is not None)
        desk = WebhookDesk(hooks, self.webhooks)
        rooms = [
            lambda audit: WebhookRoutes(desk, audit).routes(),
            lambda audit: (TakeOverRoom(self.reloader) if seat else ReloadRoom(self.reloader, audit)).routes(),
        ]
        self.operators = Operators(
            self,
            link,
            self.meters,
            hooks=hooks,
            http=timed,
            version=installed_version(),
            rooms=rooms,
            private=seat is not None,
        )
        self.admin = Listener(self.operators.door, seat.door if seat else config.admin.listen)

    def __repr__(self) -> str:
        return f"<App {self.owner.name} {self.http!r} {len(self.carriages)} carriers>"

    @property
    def carriages(self) -> list[Carriage]:
        """The carriers at work; a reload changes them."""
        return self.fleet.carriages

    def shared(self) -> Iterator[Shared]:
        """All that has a limit which gateways share."""
        return chain(self.api.accounts.shared(), self.fleet.shared())

    def _hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        self.fleet.hint(partitions, urgent=urgent)

    def _poster(self) -> Sender:
        return poster(self.config.webhooks.allow_networks, f"smpp-gateway/{installed_version()}")

    def _configure_webhooks(self, config: Config, departed: Iterable[Settings] = ()) -> None:
        settings = [*map(Settings.of, config.accounts), *departed]
        self.webhooks.configure(settings, give_up_after=int(config.webhooks.retry_for))

    async def _recall_departed(self, config: Config) -> None:
        """Let events of accounts that have left the configuration go out as they wanted. Raises StoreError."""
        here = {
            one.account: Wanted(one.url, one.keys, one.batch, one.everything)
            for one in map(Settings.of, config.accounts)
            if one.url or one.keys
        }
        waiting = {name: sum(states.values()) for name, states in (await self.store.depths()).waiting.items()}
        configured = {account.name for account in config.accounts}
        left = await self._departed.recall(here, waiting, now_ms())
        self._configure_webhooks(
            config,
            [
                Settings(name, one.url, one.keys, one.batch, one.everything)
                for name, one in left.items()
                if name not in configured
            ],
        )

    # ---- life

    async def start(self) -> None:
        """First heartbeat, our shares, policy epoch, both listeners. Raises StoreError, OSError (address in use)."""
        await self.heart.start()
        await self.shares.start()
        await self.flags.start()
        await self._recall_departed(self.config)
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
            policy=self.desk.rules.version,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then end in order. A part that fails is started anew alone (see ``Parts``)."""
        self.parts.watch(asyncio.get_running_loop())
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self.parts.keep(name, run), name=name) for name, run in self._background().items()
            ]
            serving = group.create_task(self.parts.keep("carriers", self.fleet.run), name="carriers")
            await stop.wait()
            log.info("stopping: no new messages, windows are emptied")
            self.api.close()
            await self.http.stop()
            await self.reloader.close()
            await self.fleet.stop()
            await serving
            for task in background:
                task.cancel()
        await self.webhooks.stop()
        await self.shares.leave()
        await self.heart.leave()
        log.info("stopped")

    def _background(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside the carriers as long as the gateway does."""
        return {
            "heart": self.heart.run,
            "shares": self.shares.run,
            "sweeper": self.sweeper.run,
            "decisions": self._decide,
            "flags": self.flags.run,
            "herald": self.herald.run,
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
        await self.heart.leave()  # if it was not done in order

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
        former = self.desk.rules
        self.desk.set_accounts(config.accounts, config.webhooks.allow_networks)
        self.desk.routes = route_table(config)
        self.desk.demands = demands_of(config.routes, config.carriers)
        self.desk.rules = rules.with_flags(former.epoch, former.held, former.pulled)
        self.api.accounts = Accounts(config.accounts, asyncio.get_running_loop().time(), self.api.accounts)
        self.shares.changed()
        self.store.set_retention(_retention(config))
        if config.log.level != self.config.log.level:
            logs.configure(config.log.level, config.log.format)
        self.config = config
        self.operators.configure(config)
        await self._recall_departed(config)
        await self.webhooks.renew()
        await self.flags.start()  # other rules begin a new epoch
        self.upkeep.wake()
        await self.fleet.apply(config)

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
        return self.desk.rules.version

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
) -> AsyncIterator[tuple[Link, privacy.Secrets, Embedded | None]]:
    """The store and its secrets, for as long as the gateway runs. Raises StoreError."""
    embedded: Embedded | None = None
    settings = config.store
    url = settings.url
    if settings.embedded:
        embedded = Embedded(Path(settings.data_dir), settings.durability)
        await embedded.start()
        url = embedded.url
    try:
        async with linked(config, url, migrating=migrating) as (link, secrets):
            yield link, secrets, embedded
    except StoreUnavailable as error:
        why = embedded.obituary() if embedded is not None else ""
        if why:
            raise StoreUnavailable(f"the embedded store has died: {why}") from error
        raise
    finally:
        if embedded is not None:
            await embedded.stop()


@asynccontextmanager
async def linked(config: Config, url: str, *, migrating: bool = False) -> AsyncIterator[tuple[Link, privacy.Secrets]]:
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


def _secrets(config: Config) -> privacy.Secrets:
    """Secrets from the configuration, else those of the data folder. Raises StoreRefused."""
    given = config.privacy
    if given.hashing_secret:
        return privacy.from_text(given.hashing_secret, given.encryption_keys, given.current_key)
    return privacy.load_or_create(Path(config.store.data_dir))


async def serve(
    config: Config,
    *,
    source: Source | None = None,
    on_ready: Callable[[App], None] | None = None,
    notifier: Notifier = NOBODY,
    stop: asyncio.Event,
) -> None:
    """Run a gateway until ``stop`` is set. ``on_ready`` is called once it takes messages, when ``notifier`` is told.

    ``source`` is read again for a reload: on SIGHUP, or as operators ask.

    Raises StoreError (the store cannot be used), ConfigError (policy data), OSError (an address is in use).
    """
    async with told(notifier, stop), opened(config) as (link, secrets, embedded):
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
