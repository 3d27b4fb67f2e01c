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

from gateway.carriers.allowance import spare_credit
from gateway.carriers.carriage import Carriage, CarriageStore
from gateway.carriers.mode import Mode
from gateway.carriers.sharing import BindShare, CarrierRate, SenderRate, shared
from gateway.config import Config, Route, restarts
from gateway.model import Redecide
from gateway.pipeline.by_id import Index
from gateway.pipeline.lanes import Board, Lanes, Shares, lanes_of
from gateway.pipeline.parts import Parts
from gateway.pipeline.receipts import Numbers

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.pipeline.heart import Heart
    from gateway.pipeline.id_forms import Forms

log = structlog.get_logger(__name__)


def _nobody(partitions: set[int], urgent: bool) -> None:
    """No other gateway is to hear of it."""


def _no_sharing() -> None:
    """Nobody shares carriers with us."""


class Fleet:
    """``run`` until ``stop`` has done its work; ``apply`` a new configuration in between.

    ``changed`` hears that ``shared`` has something new, before any of it is used.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: CarriageStore,
        heart: Heart,
        numbers: Numbers,
        forms: Forms,
        redecide: Callable[[list[Redecide]], None],
        index: Index | None = None,
        beyond: Callable[[set[int], bool], None] = _nobody,
        changed: Callable[[], None] = _no_sharing,
        parts: Parts | None = None,
    ) -> None:
        self._changed = changed
        self._parts = parts or Parts()
        self._store = store
        self._beyond = beyond
        self._heart = heart
        self._numbers = numbers
        self.forms = forms
        self._redecide = redecide
        self._index = index
        self._routes: Sequence[Route] = config.routes
        self._partners = _partners(config.routes)
        self._shares: dict[str, Shares] = {}
        self._board = Board([carrier.name for carrier in config.carriers], asyncio.get_running_loop().time())
        self._tasks: dict[Carriage, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._over = asyncio.Event()
        self._modes: Mapping[str, int] = {}
        self._spare = spare_credit()
        self.carriages = [self._build(carrier) for carrier in config.carriers]
        """Those at work and those that are being ended."""

    def __repr__(self) -> str:
        return f"<Fleet {', '.join(carriage.carrier.name for carriage in self.carriages) or 'empty'}>"

    def hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Something was accepted into these partitions; ``urgent``: a one-time password is among it."""
        for carriage in self.carriages:
            carriage.hint(partitions, urgent=urgent)

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
            serving = [carriage for carriage in self.carriages if carriage.dispatcher.serves(route, now)]
            ready = [carriage for carriage in serving if carriage.dispatcher.ready(now)]
            if not ready:
                beyond.update(partitions)
            if urgent or len(ready) < 2:
                for carriage in ready or serving:
                    carriage.hint(partitions, urgent=urgent)
                continue
            for place, carriage in enumerate(ready):
                if mine := [partition for partition in partitions if partition % len(ready) == place]:
                    carriage.hint(mine)
        if beyond:
            self._beyond(beyond, urgent)

    def _pass_on(self, name: str, partitions: Sequence[int]) -> None:
        """A carrier has no room for what these partitions may hold: those that take of its routes now are told."""
        now = asyncio.get_running_loop().time()
        partners = self._partners.get(name, {})
        for carriage in self.carriages:
            dispatcher, routes = carriage.dispatcher, partners.get(carriage.carrier.name, ())
            if any(dispatcher.serves(route, now) for route in routes) and dispatcher.ready(now):
                carriage.hint(partitions)

    def set_modes(self, modes: Mapping[str, int]) -> None:
        """Carriers stand as operators wish (name -> ``Mode``), those that come later too."""
        self._modes = modes
        for carriage in self.carriages:
            self._set_mode(carriage)

    def _set_mode(self, carriage: Carriage) -> None:
        carriage.controls.set_mode(Mode.of(self._modes.get(carriage.carrier.name, Mode.RUNNING)))

    def shared(self) -> Iterator[BindShare | CarrierRate | SenderRate]:
        """What of the carriers all gateways share."""
        return (one for carriage in self.carriages for one in shared(carriage))

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
            for carriage in self.carriages:
                self._start(carriage)
            await self._over.wait()
        self._group = None

    async def stop(self) -> None:
        """Take nothing more, empty the windows, unbind, store the last answers."""
        await asyncio.gather(*(self._end(carriage) for carriage in self.carriages))
        self._over.set()

    async def apply(self, config: Config) -> None:
        """Take over carriers and routes. Returns when those that had to end have ended.

        Not to be called again, nor ``stop``, before it has returned.
        """
        wanted = {carrier.name: carrier for carrier in config.carriers}
        self._set_routes(config.routes)
        present = {carriage.carrier.name: carriage for carriage in self.carriages}
        leaving = []
        for name, carriage in present.items():
            carrier = wanted.get(name)
            if carrier is None or restarts(carriage.carrier, carrier):
                leaving.append((carriage, carrier))
            else:
                carriage.adjust(carrier)
        for name, carrier in wanted.items():
            if name not in present:
                self._add(carrier)
        self._changed()
        await asyncio.gather(*(self._replace(carriage, carrier) for carriage, carrier in leaving))
        order = list(wanted)
        self.carriages.sort(key=lambda carriage: order.index(carriage.carrier.name))

    # ---- inside

    def _build(self, carrier: Carrier) -> Carriage:
        return Carriage(
            carrier,
            store=self._store,
            heart=self._heart,
            lanes=Lanes(carrier.name, self._routes, self._board, self._shares),
            board=self._board,
            numbers=self._numbers,
            forms=self.forms,
            redecide=self._redecide,
            left=partial(self._pass_on, carrier.name),
            index=self._index,
            first_sequence=carrier.first_sequence,
            parts=self._parts,
            spare=self._spare,
        )

    def _set_routes(self, routes: Sequence[Route]) -> None:
        shared = {route.lane: (route.carriers, route.weights) for route in routes if route.weights}
        former = {route.lane: (route.carriers, route.weights) for route in self._routes}
        for lane in [lane for lane in self._shares if shared.get(lane) != former.get(lane)]:
            del self._shares[lane]  # other shares: what was taken so far counts for nothing
        self._routes = routes
        self._partners = _partners(routes)
        for carriage in self.carriages:
            carriage.dispatcher.set_routes(routes)

    def _start(self, carriage: Carriage) -> None:
        assert self._group is not None
        name = f"{carriage.carrier.name}: carrier"
        self._tasks[carriage] = self._group.create_task(self._parts.keep(name, carriage.run), name=name)

    def _add(self, carrier: Carrier) -> None:
        self._board.set_up(carrier.name, False, asyncio.get_running_loop().time())
        carriage = self._build(carrier)
        self._set_mode(carriage)
        self.carriages.append(carriage)
        self._changed()
        self._start(carriage)
        log.info("carrier begins", carrier=carrier.name)

    async def _end(self, carriage: Carriage) -> None:
        await carriage.stop()
        task = self._tasks.pop(carriage, None)
        if task is not None:
            await task

    async def _replace(self, carriage: Carriage, carrier: Carrier | None) -> None:
        """End one; then begin it anew, when it is still wanted. Others take over its lanes meanwhile."""
        self._board.set_up(carriage.carrier.name, False, asyncio.get_running_loop().time())
        await self._end(carriage)
        self.carriages.remove(carriage)
        log.info("carrier has ended", carrier=carriage.carrier.name)
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
