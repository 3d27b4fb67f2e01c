"""All carriers at work, and what a new configuration makes of them: those that stay keep their connections.

A carrier whose binds are not concerned goes on with its new settings; one whose binds are is ended in order and started
anew; new ones start at once, those that are gone empty their windows, store the last answers and unbind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.lanes import CarrierHealth, CarrierLanes, RouteShares, lanes_of
from gateway.carriers.mode import CarrierMode
from gateway.carriers.read_budget import spare_credit
from gateway.carriers.receipts import RecipientNames
from gateway.carriers.receipts_by_id import Index
from gateway.carriers.service import CarrierService, CarrierStore
from gateway.carriers.shared_limits import BindShare, CarrierRate, SenderRate, shared
from gateway.config import Config, Route, needs_rebind
from gateway.model import Redecide
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier

log = structlog.get_logger(__name__)


def _nobody(partitions: set[int], urgent: bool) -> None:
    """No other gateway is to hear of it."""


def _no_sharing() -> None:
    """Nobody shares carriers with us."""


class CarrierManager:
    """``run`` until ``stop`` has done its work; ``apply`` a new configuration in between.

    ``changed`` hears that ``shared`` has something new, before any of it is used.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: CarrierStore,
        heartbeat: Heartbeat,
        numbers: RecipientNames,
        forms: ReceiptIdForms,
        redecide: Callable[[list[Redecide]], None],
        index: Index | None = None,
        beyond: Callable[[set[int], bool], None] = _nobody,
        changed: Callable[[], None] = _no_sharing,
        supervision: Supervision | None = None,
    ) -> None:
        self._changed = changed
        self._supervision = supervision or Supervision()
        self._store = store
        self._beyond = beyond
        self._heartbeat = heartbeat
        self._numbers = numbers
        self.forms = forms
        self._redecide = redecide
        self._index = index
        self._routes: Sequence[Route] = config.routes
        self._partners = _partners(config.routes)
        self._shares: dict[str, RouteShares] = {}
        self._health = CarrierHealth([carrier.name for carrier in config.carriers], asyncio.get_running_loop().time())
        self._tasks: dict[CarrierService, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._over = asyncio.Event()
        self._modes: Mapping[str, int] = {}
        self._spare = spare_credit()
        self.services = [self._build(carrier) for carrier in config.carriers]
        """Those at work and those that are being ended."""

    def __repr__(self) -> str:
        return f"<CarrierManager {', '.join(service.carrier.name for service in self.services) or 'empty'}>"

    def hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Something was accepted into these partitions; ``urgent``: a one-time password is among it."""
        for service in self.services:
            service.hint(partitions, urgent=urgent)

    def accepted(self, places: Mapping[str, Iterable[int]], *, urgent: bool = False) -> None:
        """Messages were accepted. ``places``: route -> the partitions they lie in; ``urgent``: see ``hint``.

        Where several carriers could send them, each partition is told to one, always the same: a second one that asks
        for the same few messages costs as much as the first. What that one has no room for the others hear of
        (``_pass_on``), and the sweep of each finds whatever nobody was told. What none of ours can take now is said to
        ``beyond``.
        """
        now = asyncio.get_running_loop().time()
        beyond: set[int] = set()
        for route, partitions in places.items():
            serving = [service for service in self.services if service.dispatcher.serves(route, now)]
            ready = [service for service in serving if service.dispatcher.ready(now)]
            if not ready:
                beyond.update(partitions)
            if urgent or len(ready) < 2:
                for service in ready or serving:
                    service.hint(partitions, urgent=urgent)
                continue
            for place, service in enumerate(ready):
                if mine := [partition for partition in partitions if partition % len(ready) == place]:
                    service.hint(mine)
        if beyond:
            self._beyond(beyond, urgent)

    def _pass_on(self, name: str, partitions: Sequence[int]) -> None:
        """A carrier has no room for what these partitions may hold: those that take of its routes now are told."""
        now = asyncio.get_running_loop().time()
        partners = self._partners.get(name, {})
        for service in self.services:
            dispatcher, routes = service.dispatcher, partners.get(service.carrier.name, ())
            if any(dispatcher.serves(route, now) for route in routes) and dispatcher.ready(now):
                service.hint(partitions)

    def set_modes(self, modes: Mapping[str, int]) -> None:
        """Carriers stand as operators wish (name -> ``CarrierMode``), those that come later too."""
        self._modes = modes
        for service in self.services:
            self._set_mode(service)

    def _set_mode(self, service: CarrierService) -> None:
        service.controls.set_mode(CarrierMode.of(self._modes.get(service.carrier.name, CarrierMode.RUNNING)))

    def shared(self) -> Iterator[BindShare | CarrierRate | SenderRate]:
        """What of the carriers all gateways share."""
        return (one for service in self.services for one in shared(service))

    def served(self) -> frozenset[str]:
        """Names of the lanes that some carrier serves, now or when it is its turn."""
        return frozenset(name for route in self._routes for name in lanes_of(route))

    def routes_by_carrier(self) -> dict[str, str]:
        """A route of every carrier that serves one."""
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
            await self._over.wait()
        self._group = None

    async def stop(self) -> None:
        """Take nothing more, empty the windows, unbind, store the last answers."""
        await asyncio.gather(*(self._end(service) for service in self.services))
        self._over.set()

    async def apply(self, config: Config) -> None:
        """Take over carriers and routes. Returns when those that had to end have ended.

        Not to be called again, nor ``stop``, before it has returned.
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
        self._changed()
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
            numbers=self._numbers,
            forms=self.forms,
            redecide=self._redecide,
            left=partial(self._pass_on, carrier.name),
            index=self._index,
            first_sequence=carrier.first_sequence,
            supervision=self._supervision,
            spare=self._spare,
        )

    def _set_routes(self, routes: Sequence[Route]) -> None:
        shared = {route.lane: (route.carriers, route.weights) for route in routes if route.weights}
        former = {route.lane: (route.carriers, route.weights) for route in self._routes}
        for lane in [lane for lane in self._shares if shared.get(lane) != former.get(lane)]:
            del self._shares[lane]  # other shares: what was taken so far counts for nothing
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
        self._changed()
        self._start(service)
        log.info("carrier begins", carrier=carrier.name)

    async def _end(self, service: CarrierService) -> None:
        await service.stop()
        task = self._tasks.pop(service, None)
        if task is not None:
            await task

    async def _replace(self, service: CarrierService, carrier: Carrier | None) -> None:
        """End one; then begin it anew, when it is still wanted. Others take over its lanes meanwhile."""
        self._health.set_up(service.carrier.name, False, asyncio.get_running_loop().time())
        await self._end(service)
        self.services.remove(service)
        log.info("carrier has ended", carrier=service.carrier.name)
        if carrier is not None:
            self._add(carrier)


def _partners(routes: Sequence[Route]) -> dict[str, dict[str, list[str]]]:
    """Carrier -> the others of its routes -> those routes."""
    out: dict[str, dict[str, list[str]]] = {}
    for route in routes:
        for carrier in route.carriers:
            for other in route.carriers:
                if other != carrier:
                    out.setdefault(carrier, {}).setdefault(other, []).append(route.lane)
    return out
