"""From the lanes to a carrier's binds and back: take, encode, write, collect answers, report.

One ``Dispatcher`` per carrier. It asks the store for no more than its binds have room and its pace has permits for, so
nothing waits here holding a message: what cannot be written within a second goes back. A message counts against the
windows until its answer is stored, so a crash leaves at most binds x window messages unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from time import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.carriers.counters import CarrierCounters
from gateway.carriers.failing_messages import FailingMessages
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.leases import LeaseStore, LeaseTracker
from gateway.carriers.partition_scheduler import PartitionScheduler
from gateway.carriers.probing import Probing
from gateway.carriers.responses import ResponseHandler
from gateway.carriers.submit import SubmitEncoder
from gateway.carriers.validity import PermissionEnded, ValidityRefusals
from gateway.carriers.window_writer import BindPort, WindowWriter
from gateway.model import PRIORITY, LeasedMessage, Priority, Reason, Redecide, Resolution, SubmitResult
from gateway.policy.pace import Pace
from gateway.policy.senders import NOW, SenderLimits, Turn
from gateway.smpp.errors import LocalError
from gateway.smpp.text import TextError
from gateway.store.errors import StoreError
from gateway.store.ids import partition_of
from gateway.store.owner import LeaseOwner
from gateway.store.requests import TakeRequest, TakeResult
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.lanes import CarrierHealth, CarrierLanes
    from gateway.carriers.progress import ProgressWriter
    from gateway.cluster.heartbeat import Heartbeat
    from gateway.config import Carrier, Route
    from gateway.smpp.events import Answered

SWEEP_EVERY = 0.25
RESERVE = 10
"""One part in so many of the windows is kept for one-time passwords."""

TAKE_MOST = 1024
"""Parts asked for in one call at most: more would hold up everything else at the store and here."""

ROOM_SHARE = 16
"""Takes wait until one sixteenth of the windows is free, since a call for one costs as much as one for thirty."""

ROOM_MOST = 64
PERMIT_TIME = 0.015
"""… and until the pace has so many seconds' worth of permits."""

FEW = 24
COMPANY = 0.005
"""After a take that brought only a few messages the next one waits so many seconds for more; one-time passwords do
not."""

PROBE_EVERY = 0.01
"""Seconds between two takes of one message: most of them find nothing."""

ALL = float("inf")
"""The time at which whatever waits to be written has waited too long."""

TURNS_EVERY = 20
"""Milliseconds: the turns of senders are kept to this grid, so that a take is worth its call."""

log = structlog.get_logger(__name__)


class BindSource(Protocol):
    """The binds of a carrier that are up (``gateway.carriers.pool.BindPool``)."""

    @property
    def binds(self) -> Sequence[BindPort]: ...

    @property
    def sick(self) -> bool:
        """Whether none of them answers submits."""


class TakeStore(LeaseStore, Protocol):
    """What dispatching needs of the store."""

    partitions: int

    async def take(self, owner: LeaseOwner, requests: Sequence[TakeRequest]) -> list[TakeResult]: ...
    async def regate(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> list[Reason | None]: ...


class Dispatcher:
    """Feeds one carrier. ``hint`` wakes it, ``run`` is its life, ``stop`` ends the taking."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        store: TakeStore,
        heartbeat: Heartbeat,
        lanes: CarrierLanes,
        health: CarrierHealth,
        pace: Pace,
        progress_writer: ProgressWriter,
        redecide: Callable[[list[Redecide]], None],
        left: Callable[[Sequence[int]], None] = lambda partitions: None,
        mark: Callable[[str], bytes] = lambda text: b"",
        clock: Callable[[], float] = time,
        supervision: Supervision | None = None,
    ) -> None:
        """``left`` hears of partitions that may hold something for which there is no room here. ``mark``: see
        ``ResponseHandler``."""
        self.name = carrier.name
        self.pace = pace
        self.binds: BindSource | None = None  # set before ``run``: the pool needs the dispatcher as its listener first
        self.taken = self.dropped = self.takes = 0
        self._store = store
        self._heartbeat = heartbeat
        self._lanes = lanes
        self._health = health
        self._progress_writer = progress_writer
        self._redecide = redecide
        self._left = left
        self._clock = clock
        self.senders = SenderLimits(carrier.sender_rates)
        self._elsewhere = False
        self._writer = WindowWriter()
        self._outcomes = ResponseHandler(carrier, lanes, pace, self._now, mark, supervision=supervision)
        self._probing = Probing(store.partitions)
        self._encoder = SubmitEncoder(carrier, self._outcomes.validity)
        self._scheduler = PartitionScheduler(store.partitions)
        self._out = 0  # parts leased and not yet reported
        self._leases = LeaseTracker(carrier.name, store, heartbeat, self._scheduler)
        self._failing = FailingMessages(
            carrier.name, supervision or Supervision(), self._leases, self._outcomes, self._now
        )
        self._wake = asyncio.Event()
        self._stopping = False
        self._swept = self._not_before = 0.0

    def __repr__(self) -> str:
        waiting = f", {len(self._writer)} waiting" if self._writer else ""
        return f"<Dispatcher {self.name} {self._out} out{waiting}, {self.submitted} submitted, {self.pace!r}>"

    @property
    def validity(self) -> ValidityRefusals:
        """What this carrier makes of validity_period."""
        return self._outcomes.validity

    @property
    def tally(self) -> CarrierCounters:
        """What was counted here, for operators."""
        return self._outcomes.tally

    @property
    def submitted(self) -> int:
        """submit_sm written so far."""
        return self._writer.submitted

    @property
    def out(self) -> int:
        """Parts that are leased and whose outcome is not stored yet."""
        return self._out

    # ---- from outside

    def hint(self, partitions: Iterable[int], *, urgent: bool = False) -> None:
        """Something was accepted into these partitions; ``urgent``: a one-time password is among it."""
        self._scheduler.hint(partitions, urgent=urgent)
        self._wake.set()

    def serves(self, route: str, now: float) -> bool:
        """Whether fresh messages of this route are this carrier's at this instant."""
        return self._lanes.fresh(route, now)

    def ready(self, now: float) -> bool:
        """Whether something could be taken and written at this instant."""
        return bool(self._ports()) and not self._writer and self._room() > 0 and self.pace.available(now) >= 1

    def wake(self) -> None:
        """Look again: something has changed about the binds."""
        self._wake.set()

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Serve the routes of a (new) configuration."""
        self._lanes.set_routes(routes)
        self.wake()

    def set_elsewhere(self, up: bool) -> None:
        """Whether other gateways have binds of this carrier up: then it is not down, whatever we have of it."""
        self._elsewhere = up

    def adjust(self, carrier: Carrier, now: float) -> None:
        """Send by these settings from the next message on."""
        self._outcomes.adjust(carrier)
        self._encoder = SubmitEncoder(carrier, self._outcomes.validity)
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
            for port in [port for port in self._writer.rests if self._writer.due(port)]:
                await self._follow(port)
            requests, permits = self._plan(now) if not self._leases.strayed else ([], 0)
            if requests:
                await self._take(requests, permits)
            else:
                await self._sleep(self._pause(now))
        self._drop_overdue(ALL)
        await self._leases.give_back()

    # ---- planning

    def _tend(self, now: float) -> None:
        """What comes round with time: the sweep, what wakes, what waited too long, whether we are up."""
        here = bool(self._ports())
        sick = here and self.binds is not None and self.binds.sick
        self._health.set_sick(self.name, sick or (self._probing.failing and not self._elsewhere))
        if self._probing.look(sick, now):
            for port in list(self._ports()):
                port.abort("submits are not answered")
        self._health.set_up(self.name, self._elsewhere or here, now)
        self._health.set_away(self.name, self._elsewhere and not here)
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            self._scheduler.sweep()
        self._scheduler.wake(self._now())
        if self._writer:
            self._drop_overdue(now)  # first: after a pause of ours it may be somebody else's by now
            self._write(now)

    def _plan(self, now: float) -> tuple[list[TakeRequest], int]:
        """What to ask of the store now, and how many permits that has used; nothing when it is not worth a call."""
        ports = self._ports()
        if not ports or not self._scheduler or len(self._writer) or not self._heartbeat.fresh(now):
            return [], 0
        if self._probing:
            return self._plan_probe(now)
        windows = sum(port.window for port in ports)
        ordinary = self._room()
        if not self._scheduler.urgent and (
            now < self._not_before or ordinary < min(ROOM_MOST, 1 + windows // ROOM_SHARE)
        ):
            return [], 0
        room = min(TAKE_MOST, ordinary + windows // RESERVE)
        permits = self._permits(room, now)
        asks = self._scheduler.pick(permits, max(0, ordinary))
        lanes = self._lanes.now(now) if asks else ()
        if not lanes:
            self.pace.give_back(permits)
            return [], 0
        return [
            TakeRequest(ask.partition, lanes, self.name, ask.limit, ask.keep, self._outcomes.on_unknown) for ask in asks
        ], permits

    def _plan_probe(self, now: float) -> tuple[list[TakeRequest], int]:
        """One message at a time until something is answered; at a sick carrier only one that may be resent."""
        if self._writer or self._outstanding() or not any(port.free > 0 for port in self._ports()):
            return [], 0
        lanes = self._lanes.now(now)
        if not lanes or now < self._not_before or self.pace.available(now) < 1:
            return [], 0
        ask = self._scheduler.pick(1, 1)[0]
        self.pace.take(1, now)
        self._not_before = now + PROBE_EVERY
        word, probe = self._outcomes.on_unknown, self._probing.only_resendable
        return [TakeRequest(ask.partition, lanes, self.name, 1, 0, word, probe=probe)], 1

    def _outstanding(self) -> int:
        """Submits on their way, but for those of a bind that has waited for them too long."""
        return 0 if self._probing.sick else sum(port.outstanding for port in self._ports())

    def _room(self) -> int:
        """Parts that the windows have room for now, but for what is kept for one-time passwords."""
        windows = free = 0
        for port in self._ports():
            windows += port.window
            free += port.free
        return min(windows - self._out, free) - windows // RESERVE

    def _permits(self, room: int, now: float) -> int:
        """Permits for this take: none before there are enough of them to be worth a call."""
        if room < 1:
            return 0
        least = 1 if self._scheduler.urgent else max(1, int(self.pace.bucket.rate * PERMIT_TIME))
        if self.pace.available(now) < min(room, least, self.pace.bucket.burst):
            return 0
        return self.pace.take(room, now)

    def _pause(self, now: float) -> float:
        """Seconds to sleep when there is nothing to do: room and hints wake us, permits and sweeps come with time."""
        pause = max(0.0, self._swept + SWEEP_EVERY - now)
        due = self._scheduler.next_due()
        if due:
            pause = min(pause, max(0.001, (due - self._now()) / 1000))
        if self._scheduler:
            least = 1 if self._scheduler.urgent else max(1, int(self.pace.bucket.rate * PERMIT_TIME))
            wait = max(self.pace.wait(least, now), self._not_before - now)
            if wait > 0:
                pause = min(pause, wait)
        return max(0.0005, pause)

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _ports(self) -> Sequence[BindPort]:
        return self.binds.binds if self.binds is not None else ()

    def _now(self) -> int:
        return int(self._clock() * 1000)

    # ---- taking and writing

    async def _take(self, requests: list[TakeRequest], permits: int) -> None:
        loop = asyncio.get_running_loop()
        self.takes += 1
        self._leases.strayed = True  # until all of the answer is ours
        try:
            answers = await self._store.take(self._heartbeat.owner, requests)
        except StoreError as error:
            self.pace.give_back(permits)
            self._scheduler.hint(request.partition for request in requests)
            log.warning("cannot take", carrier=self.name, error=str(error))
            await self._leases.wait()
            return
        now = loop.time()
        used = 0
        redecide: list[Redecide] = []
        for request, taken in zip(requests, answers, strict=True):
            found = self._lease(taken.leased, now)
            if taken.unread or taken.undecided:
                self._not_read(taken)
            self._scheduler.answered(request.partition, found=found, more=taken.more, next_due=taken.next_due)
            self.dropped += taken.dropped
            redecide += taken.redecide
            used += found
        self._leases.strayed = False
        self._probing.took(used, now)
        if used < permits:
            self.pace.give_back(permits - used)
        elif used > permits:
            self.pace.spend(used - permits, now)
        if redecide:
            self._redecide(redecide)
        self._health.set_full(self.name, any(taken.more for taken in answers) and bool(self._scheduler), now)
        if self._writer:
            self._write(now)
        if used < FEW:
            self._not_before = now + COMPANY
        if self._scheduler and not self.ready(now):
            self._left(self._scheduler.waiting)

    async def _follow(self, port: BindPort) -> None:
        """The next window of a message that is longer than one: a transmission of its own, so the gate is asked."""
        jobs = self._writer.begun(port)
        try:
            words = await self._store.regate(self._heartbeat.owner, [(job.leased.id, job.leased.lease) for job in jobs])
        except StoreError as error:
            log.warning("cannot ask for the rest of long messages", carrier=self.name, error=str(error))
            await self._leases.wait()
            return
        stopped = {job for job, word in zip(jobs, words, strict=True) if word is not None}
        now = asyncio.get_running_loop().time()
        if self._heartbeat.fresh(now):
            self._report(self._outcomes.lost((), self._writer.follow(port, stopped, now)))
            self._not_written()

    def _write(self, now: float) -> None:
        if self._heartbeat.fresh(now):
            self._writer.write(self._ports(), now)
            self._not_written()
        else:
            self._drop_overdue(ALL)  # it may be somebody else's by now, and with our next heartbeat it would be written

    def _not_written(self) -> None:
        """What binds could not take, for no reason of theirs."""
        if not self._writer.failed:
            return
        failed, self._writer.failed = self._writer.failed, []
        reports: list[SubmitResult] = []
        for job, index, port, error in failed:
            if len(job.bodies) > 1:  # parts of it may be on their way
                if self._failing.last(job.leased, error):
                    job.spoilt = True
                reports += self._outcomes.lost((), [(job, index)])
                continue
            self._out -= job.left
            if port not in self._ports():  # it is no more
                self._leases.untake(job.leased)
            else:
                reports += self._failing.failed(job.leased, error)
        self._report(reports)

    def _not_read(self, taken: TakeResult) -> None:
        self._leases.leased(taken.unread)
        self._failing.undecided(taken.undecided)
        self._report(self._failing.unread(taken.unread))

    def _lease(self, leased: Sequence[LeasedMessage], now: float) -> int:
        """Encode what was taken and queue it for the binds; answers how many parts that is."""
        if not leased:
            return 0
        self.taken += len(leased)
        clock = self._now()
        parts = 0
        counts: dict[str, int] = {}
        jobs: list[InFlightMessage] = []
        decided: list[SubmitResult] = []
        encode, senders = self._encoder.encode, self.senders
        self._leases.leased(leased)
        for message in leased:
            counts[message.route] = counts.get(message.route, 0) + 1
            try:
                job = InFlightMessage(message, encode(message, clock), now)
                if not job.left:  # every part was accepted before
                    decided.append(self._outcomes.judge(job))
                    continue
                if job.left > 1 and self._too_late(job, clock):
                    self._leases.postpone(message, message.closes, turn=False)
                    continue
                if senders and (turn := self._turn(job, now)).wait:
                    due = -(-ceil(clock + turn.wait * 1000) // TURNS_EVERY) * TURNS_EVERY
                    self._leases.postpone(message, due, turn=turn.kept)
                    continue
            except PermissionEnded as closing:
                self._leases.postpone(message, closing.at, turn=False)
                continue
            except (TextError, LocalError) as error:
                decided.append(self._outcomes.unsendable(message, error))
                continue
            except Exception as error:  # noqa: BLE001 - whatever is odd about one message harms it alone
                decided += self._failing.failed(message, error)
                continue
            parts += job.left
            if message.resent:
                self.tally.resent += job.left
            jobs.append(job)
        self._writer.put(jobs)
        self._out += parts
        self._lanes.taken(counts)
        if decided:
            self._progress_writer.answers(decided)
        return parts

    def _too_late(self, job: InFlightMessage, clock: int) -> bool:
        """Whether the close of its window would come before its last part is written, at the rate measured.

        A message that may be sent at any hour has its close far away; what is to be decided afresh then, waits for it.
        """
        ports = self._ports()
        window = max((port.window for port in ports), default=1)
        rounds = -(-job.left // max(1, window)) - 1
        rate = self.pace.bucket.rate
        seconds = rounds * self._outcomes.took + (job.left / rate if rate else 0.0)
        return clock + seconds * 1000 > job.leased.closes

    def _turn(self, job: InFlightMessage, now: float) -> Turn:
        """When the sender of this message has its turn."""
        leased = job.leased
        if leased.turn == self.name:
            return NOW
        urgent = PRIORITY[leased.category] is Priority.OTP
        return self.senders.turn(leased.envelope.sender, job.left, now, urgent=urgent)

    def _drop_overdue(self, now: float) -> None:
        """What was leased too long ago without being written goes back to its lane."""
        for job in self._writer.overdue(now):
            self._out -= job.left
            self._leases.untake(job.leased)

    # ---- what binds tell (see carriers.bind.Listener)

    def answered(self, port: BindPort, answers: list[Answered], now: float) -> None:
        """Answers to submits of one bind."""
        faults = self._outcomes.faults
        reports, late = self._outcomes.answered(port, answers, now)
        self._out += late  # as ``reported`` will take them off again
        faults = self._outcomes.faults - faults
        if faults < len(answers):
            self._probing.answered()
        if faults:
            self._probing.lost()
        self._report(reports)

    def timed_out(self, port: BindPort, contexts: Sequence[Any], now: float) -> None:
        """No answer, and no late one either: unknown."""
        self._report(self._outcomes.lost(contexts))

    def lost(self, port: BindPort, unknown: Sequence[Any], unwritten: Sequence[Any], now: float) -> None:
        """A bind is over: no answer can come any more, and the rest of its long messages cannot follow."""
        if unknown:
            self._probing.lost()
        self._report(self._outcomes.lost(unknown, (*unwritten, *self._writer.give_up(port))))

    def room(self, port: BindPort) -> None:
        """A bind can take work."""
        self._wake.set()

    def reported(self, answers: Sequence[SubmitResult]) -> None:
        """The store holds these answers: their room is free, and what went back can be taken again."""
        parts = 0
        self._leases.reported(answers)
        back = set()
        for answer in answers:
            parts += len(answer.parts)
            if answer.resolution is not Resolution.SENT:
                back.add(partition_of(answer.id))
        if self._probing.sick or self._probing.failing:
            self._left(sorted(back))  # those that take over come first, or it would be lost here again and again
        else:
            self._scheduler.hint(back)
        self._out -= parts
        self._wake.set()

    def set_aside(self, answers: Sequence[SubmitResult]) -> None:
        """The store will not hold these. Their messages stay leased, lest they are sent again as if nothing had been
        said; they become unknown when this gateway ends."""
        self._out -= sum(len(answer.parts) for answer in answers)
        self._wake.set()

    def _report(self, reports: list[SubmitResult]) -> None:
        if reports:
            self._progress_writer.answers(reports)
        self._wake.set()
