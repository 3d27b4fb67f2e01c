"""From the lanes to a carrier's binds and back: take, encode, write, collect answers, report.

One ``Dispatcher`` per carrier. It asks the store for no more than its binds have room and its pace has permits for
(``take_planner``), so nothing waits here holding a message: what cannot be written within a second goes back. A message
counts against the windows until its result is stored, so a crash leaves at most binds x window messages unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from time import time
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.failing_messages import FailingMessages
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.leases import LeaseTracker
from gateway.carriers.partition_scheduler import PartitionScheduler
from gateway.carriers.probing import Probing
from gateway.carriers.responses import ResponseHandler
from gateway.carriers.submit import SubmitEncoder
from gateway.carriers.take_planner import TakePlanner
from gateway.carriers.validity import PermissionEnded
from gateway.carriers.window_writer import WindowWriter
from gateway.model import PRIORITY, LeasedMessage, Priority, Redecide, Resolution, SubmitResult
from gateway.policy.senders import NOW, SenderLimits, Turn
from gateway.smpp.errors import LocalError
from gateway.smpp.text import TextError
from gateway.store.errors import StoreError
from gateway.store.ids import partition_of
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.connection import Bind
    from gateway.carriers.counters import CarrierCounters
    from gateway.carriers.lanes import CarrierHealth, CarrierLanes
    from gateway.carriers.pool import BindPool
    from gateway.carriers.progress import ProgressWriter
    from gateway.carriers.validity import ValidityRefusals
    from gateway.carriers.window_writer import Part
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.config import Carrier, Route
    from gateway.policy.pace import Pace
    from gateway.smpp.events import Answered
    from gateway.store.messages import MessageStore
    from gateway.store.requests import TakeRequest, TakeResult

EVERYTHING = float("inf")
"""The time at which whatever waits to be written has waited too long."""

TURN_GRID = 20
"""Milliseconds: the turns of senders are rounded up to this grid, so that a take is worth its call."""

log = structlog.get_logger(__name__)


class Dispatcher:
    """Feeds one carrier. ``work_available`` wakes it, ``run`` serves until ``stop``."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        store: MessageStore,
        heartbeat: Heartbeat,
        lanes: CarrierLanes,
        health: CarrierHealth,
        pace: Pace,
        pool: BindPool,
        progress_writer: ProgressWriter,
        redecide: Callable[[list[Redecide]], None],
        offer_to_others: Callable[[Sequence[int]], None] = lambda partitions: None,
        excerpt: Callable[[str], bytes] = lambda text: b"",
        clock: Callable[[], float] = time,
        supervision: Supervision | None = None,
    ) -> None:
        """``offer_to_others`` gets partitions that may hold work for which there is no room here. ``excerpt``: see
        ``ResponseHandler``. ``clock``: seconds UTC."""
        self.name = carrier.name
        self.pace = pace
        self.senders = SenderLimits(carrier.sender_rates)
        self.taken = self.dropped = 0
        self._store = store
        self._heartbeat = heartbeat
        self._lanes = lanes
        self._health = health
        self._pool = pool
        self._progress_writer = progress_writer
        self._redecide = redecide
        self._offer_to_others = offer_to_others
        self._clock = clock
        self._up_elsewhere = False
        self._writer = WindowWriter()
        self._responses = ResponseHandler(carrier, lanes, pace, self._now, excerpt, supervision=supervision)
        self._probing = Probing(store.partitions)
        self._encoder = SubmitEncoder(carrier, self._responses.validity)
        self._scheduler = PartitionScheduler(store.partitions)
        self._planner = TakePlanner(
            carrier.name,
            pool=pool,
            lanes=lanes,
            pace=pace,
            scheduler=self._scheduler,
            probing=self._probing,
            responses=self._responses,
        )
        self._leases = LeaseTracker(carrier.name, store, heartbeat, self._scheduler)
        self._failing = FailingMessages(
            carrier.name, supervision or Supervision(), self._leases, self._responses, self._now
        )
        self._wake = asyncio.Event()
        self._stopping = False

    def __repr__(self) -> str:
        waiting = f", {len(self._writer)} waiting" if self._writer else ""
        return (
            f"<Dispatcher {self.name} {self.in_flight} in flight{waiting}, {self.submitted} submitted, {self.pace!r}>"
        )

    @property
    def validity(self) -> ValidityRefusals:
        """What is known of this carrier and validity_period."""
        return self._responses.validity

    @property
    def tally(self) -> CarrierCounters:
        """Counters for operators."""
        return self._responses.tally

    @property
    def submitted(self) -> int:
        """submit_sm written so far."""
        return self._writer.submitted

    @property
    def in_flight(self) -> int:
        """Parts that are leased and whose results are not stored yet."""
        return self._planner.in_flight

    # ---- called by the service and the manager

    def work_available(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Take from these partitions soon: something may wait in them; ``urgent``: a one-time password."""
        self._scheduler.work_available(partitions, urgent=urgent)
        self._wake.set()

    def serves(self, route: str, now: float) -> bool:
        """Whether fresh messages of this route are this carrier's at this instant."""
        return self._lanes.fresh(route, now)

    def ready(self, now: float) -> bool:
        """Whether something could be taken and written at this instant."""
        return not self._writer and self._planner.has_room(now)

    def wake(self) -> None:
        """Look again: something about the binds has changed."""
        self._wake.set()

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Serve the routes of a (new) configuration."""
        self._lanes.set_routes(routes)
        self.wake()

    def set_up_elsewhere(self, up: bool) -> None:
        """Note whether other gateways have binds of this carrier up: then it is not down, whatever is up here."""
        self._up_elsewhere = up

    def adjust(self, carrier: Carrier, now: float) -> None:
        """Send by these settings from the next message on."""
        self._responses.adjust(carrier)
        self._encoder = SubmitEncoder(carrier, self._responses.validity)
        if carrier.sender_rates != self.senders.rates:
            self.senders = SenderLimits(carrier.sender_rates, now)
        self.pace.set_limit(carrier.rate, now)
        self.wake()

    def stop(self) -> None:
        """Take nothing more; ``run`` gives back what is not written and ends."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Take and write until ``stop``."""
        loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wake.clear()
            now = loop.time()
            self._tend(now)
            if self._leases:
                await self._leases.give_back()
            for bind in self._writer.rest_due():
                await self._write_rest(bind)
            requests, permits = self._plan(now)
            if requests:
                await self._take(requests, permits)
            else:
                await self._sleep(self._planner.pause(now, self._now()))
        self._drop_overdue(EVERYTHING)
        await self._leases.give_back()

    def _tend(self, now: float) -> None:
        """Report the carrier's health, queue partitions, write what waits, give back what waited too long."""
        binds = self._pool.binds
        sick = bool(binds) and self._pool.sick
        self._health.set_sick(self.name, sick or (self._probing.failing and not self._up_elsewhere))
        if self._probing.look(sick, now):
            for bind in binds:
                bind.abort("submits are not answered")
        self._health.set_up(self.name, self._up_elsewhere or bool(binds), now)
        self._health.set_away(self.name, self._up_elsewhere and not binds)
        self._planner.sweep(now, self._now())
        if self._writer:
            self._drop_overdue(now)  # first: after a pause of this process others may hold these messages
            self._write(now)

    def _plan(self, now: float) -> tuple[list[TakeRequest], int]:
        if self._leases.strayed or len(self._writer) or not self._heartbeat.fresh(now):
            return [], 0
        return self._planner.plan(now, writing=bool(self._writer))

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _now(self) -> int:
        return int(self._clock() * 1000)

    # ---- taking and writing

    async def _take(self, requests: list[TakeRequest], permits: int) -> None:
        loop = asyncio.get_running_loop()
        self._leases.strayed = True  # until the whole answer is handled
        try:
            taken = await self._store.take(self._heartbeat.owner, requests)
        except StoreError as error:
            self.pace.give_back(permits)
            self._scheduler.work_available(request.partition for request in requests)
            log.warning("cannot take messages", carrier=self.name, error=str(error))
            await self._leases.wait()
            return
        now = loop.time()
        used = 0
        redecide: list[Redecide] = []
        for request, answer in zip(requests, taken, strict=True):
            found = self._lease(answer.leased, now)
            if answer.unread or answer.undecided:
                self._handle_unreadable(answer)
            self._scheduler.answered(request.partition, found=found, more=answer.more, next_due=answer.next_due)
            self.dropped += answer.dropped
            redecide += answer.redecide
            used += found
        self._leases.strayed = False
        self._probing.took(used, now)
        self._planner.taken(used, permits, now)
        if redecide:
            self._redecide(redecide)
        self._health.set_full(self.name, any(answer.more for answer in taken) and bool(self._scheduler), now)
        if self._writer:
            self._write(now)
        if self._scheduler and not self.ready(now):
            self._offer_to_others(self._scheduler.waiting)

    async def _write_rest(self, bind: Bind) -> None:
        """Write the next window of messages longer than one: a transmission of its own, so the gate is asked again."""
        messages = self._writer.next_of_rest(bind)
        leases = [(message.leased.id, message.leased.lease) for message in messages]
        try:
            reasons = await self._store.regate(self._heartbeat.owner, leases)
        except StoreError as error:
            log.warning("cannot check permission for the rest of long messages", carrier=self.name, error=str(error))
            await self._leases.wait()
            return
        stopped = {message for message, reason in zip(messages, reasons, strict=True) if reason is not None}
        now = asyncio.get_running_loop().time()
        if self._heartbeat.fresh(now):
            self._report(self._responses.lost((), self._writer.write_rest(bind, stopped, now)))
            self._handle_write_failures()

    def _write(self, now: float) -> None:
        if self._heartbeat.fresh(now):
            self._writer.write(self._pool.binds, now)
            self._handle_write_failures()
        else:  # others may hold these messages by now; the next heartbeat must not let them be written
            self._drop_overdue(EVERYTHING)

    def _handle_write_failures(self) -> None:
        """Deal with parts that a bind could not take, through no fault of the carrier."""
        if not self._writer.failed:
            return
        failed, self._writer.failed = self._writer.failed, []
        results: list[SubmitResult] = []
        for message, index, bind, error in failed:
            if len(message.bodies) > 1:  # parts of it may be on their way
                if self._failing.failed_partly(message.leased, error):
                    message.rest_failed = True
                results += self._responses.lost((), [(message, index)])
                continue
            self._planner.in_flight -= message.undecided
            if bind not in self._pool.binds:  # it has closed
                self._leases.untake(message.leased)
            else:
                results += self._failing.failed(message.leased, error)
        self._report(results)

    def _handle_unreadable(self, answer: TakeResult) -> None:
        self._leases.leased(answer.unread)
        self._failing.undecidable(answer.undecided)
        self._report(self._failing.unreadable(answer.unread))

    def _lease(self, leased: Sequence[LeasedMessage], now: float) -> int:
        """Encode what was taken and queue it for the binds; return how many parts that is."""
        if not leased:
            return 0
        self.taken += len(leased)
        clock = self._now()
        parts = 0
        counts: dict[str, int] = {}
        ready: list[InFlightMessage] = []
        decided: list[SubmitResult] = []
        encode, senders = self._encoder.encode, self.senders
        self._leases.leased(leased)
        for one in leased:
            counts[one.route] = counts.get(one.route, 0) + 1
            try:
                message = InFlightMessage(one, encode(one, clock), now)
                if not message.undecided:  # every part was accepted before
                    decided.append(self._responses.judge(message))
                    continue
                if message.undecided > 1 and self._too_late(message, clock):
                    self._leases.postpone(one, one.closes, turn=False)
                    continue
                if senders and (turn := self._turn(message, now)).wait:
                    due = -(-ceil(clock + turn.wait * 1000) // TURN_GRID) * TURN_GRID
                    self._leases.postpone(one, due, turn=turn.kept)
                    continue
            except PermissionEnded as ended:
                self._leases.postpone(one, ended.at, turn=False)
                continue
            except (TextError, LocalError) as error:
                decided.append(self._responses.unsendable(one, error))
                continue
            except Exception as error:  # noqa: BLE001 - a fault over one message must not cost the others
                decided += self._failing.failed(one, error)
                continue
            parts += message.undecided
            if one.resent:
                self.tally.resent += message.undecided
            ready.append(message)
        self._writer.put(ready)
        self._planner.in_flight += parts
        self._lanes.taken(counts)
        if decided:
            self._progress_writer.add_results(decided)
        return parts

    def _too_late(self, message: InFlightMessage, clock: int) -> bool:
        """Whether the message's permitted hours would close before its last part is written, at the measured rate.

        A message that may be sent at any hour closes far in the future.
        """
        window = max((bind.window for bind in self._pool.binds), default=1)
        rounds = -(-message.undecided // max(1, window)) - 1
        rate = self.pace.bucket.rate
        seconds = rounds * self._responses.response_time + (message.undecided / rate if rate else 0.0)
        return clock + seconds * 1000 > message.leased.closes

    def _turn(self, message: InFlightMessage, now: float) -> Turn:
        """Return when the sender of this message has its turn."""
        leased = message.leased
        if leased.turn == self.name:
            return NOW
        urgent = PRIORITY[leased.category] is Priority.OTP
        return self.senders.turn(leased.envelope.sender, message.undecided, now, urgent=urgent)

    def _drop_overdue(self, now: float) -> None:
        """Give back messages that were leased too long ago without being written."""
        for message in self._writer.overdue(now):
            self._planner.in_flight -= message.undecided
            self._leases.untake(message.leased)

    # ---- called by binds (``connection.SubmitListener``)

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> None:
        """Handle answers to submits of one bind."""
        faults = self._responses.session_faults
        results, late = self._responses.answered(bind, answers, now)
        self._planner.in_flight += late  # ``stored`` will subtract them a second time
        faults = self._responses.session_faults - faults
        if faults < len(answers):
            self._probing.answered()
        if faults:
            self._probing.lost()
        self._report(results)

    def timed_out(self, bind: Bind, parts: Sequence[Part], now: float) -> None:
        """Handle submits without an answer, not even a late one: their outcome is unknown."""
        self._report(self._responses.lost(parts))

    def lost(self, bind: Bind, unknown: Sequence[Part], unwritten: Sequence[Part], now: float) -> None:
        """Handle the end of a bind: no answer can come any more, and its long messages get no further parts."""
        if unknown:
            self._probing.lost()
        self._report(self._responses.lost(unknown, (*unwritten, *self._writer.give_up(bind))))

    def capacity_changed(self, bind: Bind) -> None:
        """Look again: the bind can take work, or its health has changed."""
        self._wake.set()

    # ---- called by the progress writer (``progress.ResultListener``)

    def stored(self, results: Sequence[SubmitResult]) -> None:
        """Free the room of messages whose results the store holds; what went back can be taken again."""
        parts = 0
        self._leases.reported(results)
        returned = set()
        for result in results:
            parts += len(result.parts)
            if result.resolution is not Resolution.SENT:
                returned.add(partition_of(result.id))
        if self._probing.sick or self._probing.failing:
            self._offer_to_others(sorted(returned))  # carriers that take over come first, or it is lost here again
        else:
            self._scheduler.work_available(returned)
        self._planner.in_flight -= parts
        self._wake.set()

    def set_aside(self, results: Sequence[SubmitResult]) -> None:
        """Free the room of messages whose results the store will never hold.

        The messages stay leased, lest they are sent again; they become unknown when this gateway ends.
        """
        self._planner.in_flight -= sum(len(result.parts) for result in results)
        self._wake.set()

    def _report(self, results: list[SubmitResult]) -> None:
        if results:
            self._progress_writer.add_results(results)
        self._wake.set()
