"""Runs all carriers, and applies a new configuration to them: those that stay keep their connections.

A carrier whose binds are not affected goes on with its new settings; one whose binds are is stopped in order and
started again; new ones start at once, those that are gone empty their windows, store the last results and unbind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.lanes import CarrierHealth, CarrierLanes, RouteShares, lanes_of
from gateway.carriers.mode import CarrierMode
from gateway.carriers.read_budget import shared_credit
from gateway.carriers.service import CarrierService
from gateway.carriers.shared_limits import BindShare, CarrierRate, SenderRate, shared
from gateway.config import Config, Route, needs_rebind
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.model import Redecide
    from gateway.store.keys import Hasher
    from gateway.store.messages import MessageStore
    from gateway.store.receipt_index import ReceiptIndex

log = structlog.get_logger(__name__)


def _no_other_gateways(partitions: Collection[int], urgent: bool) -> None:
    """Do nothing: no other gateway serves this store."""


def _no_shared_limits() -> None:
    """Do nothing: no limits are shared."""


class CarrierManager:
    """Runs the carriers of a gateway until ``stop``; ``apply`` puts a new configuration into force.

    ``limits_changed`` is called when ``shared`` has something new, before any of it is used.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: MessageStore,
        heartbeat: Heartbeat,
        hasher: Hasher,
        forms: ReceiptIdForms,
        redecide: Callable[[list[Redecide]], None],
        index: ReceiptIndex | None = None,
        offer_to_gateways: Callable[[Collection[int], bool], None] = _no_other_gateways,
        limits_changed: Callable[[], None] = _no_shared_limits,
        supervision: Supervision | None = None,
    ) -> None:
        self._limits_changed = limits_changed
        self._supervision = supervision or Supervision()
        self._store = store
        self._offer_to_gateways = offer_to_gateways
        self._heartbeat = heartbeat
        self._hasher = hasher
        self.forms = forms
        self._redecide = redecide
        self._index = index
        self._routes: Sequence[Route] = config.routes
        self._partners = _partners(config.routes)
        self._shares: dict[str, RouteShares] = {}
        self._health = CarrierHealth([carrier.name for carrier in config.carriers], asyncio.get_running_loop().time())
        self._tasks: dict[CarrierService, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._stopped = asyncio.Event()
        self._modes: Mapping[str, int] = {}
        self._shared_credit = shared_credit()
        self.services = [self._build(carrier) for carrier in config.carriers]
        """Those at work and those that are stopping."""

    def __repr__(self) -> str:
        return f"<CarrierManager {', '.join(service.carrier.name for service in self.services) or 'empty'}>"

    def work_available(self, partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
        """Let carriers take from these partitions soon; ``urgent``: a one-time password may wait there.

        Without a ``route`` every carrier takes: another gateway, or a fresh decision, has left work there.

        With one, messages of that route were accepted here. Where several carriers could send them, each partition goes
        to one, always the same: a second one that asks for the same few messages costs as much as the first. What that
        one has no room for it offers to the others, and the sweep of each finds the rest. What no carrier here can take
        now is offered to other gateways.
        """
        if route is None:
            for service in self.services:
                service.dispatcher.work_available(partitions, urgent=urgent)
            return
        now = asyncio.get_running_loop().time()
        serving = [service.dispatcher for service in self.services if service.dispatcher.serves(route, now)]
        ready = [dispatcher for dispatcher in serving if dispatcher.ready(now)]
        if urgent or len(ready) < 2:
            for dispatcher in ready or serving:
                dispatcher.work_available(partitions, urgent=urgent)
        else:
            for index, dispatcher in enumerate(ready):
                if mine := [partition for partition in partitions if partition % len(ready) == index]:
                    dispatcher.work_available(mine)
        if not ready:
            self._offer_to_gateways(partitions, urgent)

    def _offer_to_partners(self, name: str, partitions: Sequence[int]) -> None:
        """Let the carriers that share routes with ``name``, which has no room, take from these partitions."""
        now = asyncio.get_running_loop().time()
        partners = self._partners.get(name, {})
        for service in self.services:
            dispatcher, routes = service.dispatcher, partners.get(service.carrier.name, ())
            if any(dispatcher.serves(route, now) for route in routes) and dispatcher.ready(now):
                dispatcher.work_available(partitions)

    def set_modes(self, modes: Mapping[str, int]) -> None:
        """Set the modes of carriers (name -> ``CarrierMode``), of those added later too."""
        self._modes = modes
        for service in self.services:
            self._set_mode(service)

    def _set_mode(self, service: CarrierService) -> None:
        service.controls.set_mode(CarrierMode.of(self._modes.get(service.carrier.name, CarrierMode.RUNNING)))

    def shared(self) -> Iterator[BindShare | CarrierRate | SenderRate]:
        """Yield the limits of the carriers that all gateways share."""
        return (one for service in self.services for one in shared(service))

    def served(self) -> frozenset[str]:
        """Return the names of the lanes that some carrier serves, now or when it takes over."""
        return frozenset(name for route in self._routes for name in lanes_of(route))

    def routes_by_carrier(self) -> dict[str, str]:
        """Return a route for every carrier that serves one."""
        return {
            carrier: route.lane
            for route in self._routes
            for carrier, weight in zip(route.carriers, route.weights or route.carriers, strict=True)
            if weight
        }

    async def run(self) -> None:
        """Serve all carriers until ``stop``."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for service in self.services:
                self._start(service)
            await self._stopped.wait()
        self._group = None

    async def stop(self) -> None:
        """Take nothing more, empty the windows, unbind, store the last results."""
        await asyncio.gather(*(self._stop(service) for service in self.services))
        self._stopped.set()

    async def apply(self, config: Config) -> None:
        """Apply carriers and routes. Returns when those that had to stop have stopped.

        Do not call it again, or ``stop``, before it has returned.
        """
        wanted = {carrier.name: carrier for carrier in config.carriers}
        self._set_routes(config.routes)
        present = {service.carrier.name: service for service in self.services}
        leaving = []
        for name, service in present.items():
            carrier = wanted.get(name)
            if carrier is None or needs_rebind(service.carrier, carrier):
                leaving.append((service, carrier))
            else:
                service.adjust(carrier)
        for name, carrier in wanted.items():
            if name not in present:
                self._add(carrier)
        self._limits_changed()
        await asyncio.gather(*(self._replace(service, carrier) for service, carrier in leaving))
        order = list(wanted)
        self.services.sort(key=lambda service: order.index(service.carrier.name))

    # ---- inside

    def _build(self, carrier: Carrier) -> CarrierService:
        return CarrierService(
            carrier,
            store=self._store,
            heartbeat=self._heartbeat,
            lanes=CarrierLanes(carrier.name, self._routes, self._health, self._shares),
            health=self._health,
            hasher=self._hasher,
            forms=self.forms,
            redecide=self._redecide,
            offer_to_others=partial(self._offer_to_partners, carrier.name),
            index=self._index,
            first_sequence=carrier.first_sequence,
            supervision=self._supervision,
            shared_credit=self._shared_credit,
        )

    def _set_routes(self, routes: Sequence[Route]) -> None:
        shared = {route.lane: (route.carriers, route.weights) for route in routes if route.weights}
        former = {route.lane: (route.carriers, route.weights) for route in self._routes}
        for lane in [lane for lane in self._shares if shared.get(lane) != former.get(lane)]:
            del self._shares[lane]  # with other weights, what was taken so far does not count
        self._routes = routes
        self._partners = _partners(routes)
        for service in self.services:
            service.dispatcher.set_routes(routes)

    def _start(self, service: CarrierService) -> None:
        assert self._group is not None
        name = f"{service.carrier.name}: carrier"
        self._tasks[service] = self._group.create_task(self._supervision.keep_running(name, service.run), name=name)

    def _add(self, carrier: Carrier) -> None:
        self._health.set_up(carrier.name, False, asyncio.get_running_loop().time())
        service = self._build(carrier)
        self._set_mode(service)
        self.services.append(service)
        self._limits_changed()
        self._start(service)
        log.info("carrier started", carrier=carrier.name)

    async def _stop(self, service: CarrierService) -> None:
        await service.stop()
        task = self._tasks.pop(service, None)
        if task is not None:
            await task

    async def _replace(self, service: CarrierService, carrier: Carrier | None) -> None:
        """Stop a carrier; start it again with ``carrier`` unless that is None. Others serve its lanes meanwhile."""
        self._health.set_up(service.carrier.name, False, asyncio.get_running_loop().time())
        await self._stop(service)
        self.services.remove(service)
        log.info("carrier stopped", carrier=service.carrier.name)
        if carrier is not None:
            self._add(carrier)


def _partners(routes: Sequence[Route]) -> dict[str, dict[str, list[str]]]:
    """Return carrier -> the others of its routes -> those routes."""
    out: dict[str, dict[str, list[str]]] = {}
    for route in routes:
        for carrier in route.carriers:
            for other in route.carriers:
                if other != carrier:
                    out.setdefault(carrier, {}).setdefault(other, []).append(route.lane)
    return out
