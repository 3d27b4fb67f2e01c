"""Decides how much to take from the store, and when: as much as the windows have room and the pace has permits for.

A take for one message costs as much as one for thirty, so takes wait until a good part of the windows is free and some
permits are there; one-time passwords do not wait, and a tenth of the windows is kept for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.store.requests import TakeRequest

if TYPE_CHECKING:
    from gateway.carriers.connection import Bind
    from gateway.carriers.lanes import CarrierLanes
    from gateway.carriers.partition_scheduler import PartitionScheduler
    from gateway.carriers.pool import BindPool
    from gateway.carriers.probing import Probing
    from gateway.carriers.responses import ResponseHandler
    from gateway.policy.pace import Pace

SWEEP_EVERY = 0.25
"""Seconds between two rounds over all partitions: they find work that was not announced."""

RESERVE = 10
"""One part in so many of the windows is kept for one-time passwords."""

TAKE_MOST = 1024
"""Parts asked for in one call at most: more would hold up everything else at the store and here."""

ROOM_SHARE = 16
"""Takes wait until one sixteenth of the windows is free …"""

ROOM_MOST = 64
"""… or so many parts."""

PERMIT_TIME = 0.015
"""Takes wait until the pace has permits for so many seconds."""

FEW = 24
BATCHING_DELAY = 0.005
"""After a take of fewer than ``FEW`` parts the next one waits so many seconds for more; one-time passwords do not."""

PROBE_EVERY = 0.01
"""Seconds between two takes of one message: most of them find nothing."""


class TakePlanner:
    """Plans the takes of one carrier. ``in_flight`` counts parts leased whose results are not stored yet."""

    def __init__(
        self,
        carrier: str,
        *,
        pool: BindPool,
        lanes: CarrierLanes,
        pace: Pace,
        scheduler: PartitionScheduler,
        probing: Probing,
        responses: ResponseHandler,
    ) -> None:
        self.in_flight = 0
        self._carrier = carrier
        self._pool = pool
        self._lanes = lanes
        self._pace = pace
        self._scheduler = scheduler
        self._probing = probing
        self._responses = responses
        self._swept = self._not_before = 0.0  # loop time: of the last sweep, of the next take at the earliest

    def __repr__(self) -> str:
        return f"<TakePlanner {self._carrier} {self.in_flight} in flight, {self._scheduler!r}>"

    def sweep(self, now: float, clock: int) -> None:
        """Queue partitions whose time has come. ``now``: loop time (s), ``clock``: ms UTC."""
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            self._scheduler.sweep()
        self._scheduler.wake(clock)

    def has_room(self, now: float) -> bool:
        """Whether something could be taken and written at this instant."""
        return (
            bool(self._pool.binds)
            and self._room() > 0
            and self._pace.available(now) >= 1
            and bool(self._lanes.now(now))
        )

    def plan(self, now: float, *, writing: bool) -> tuple[list[TakeRequest], int]:
        """Return what to ask of the store now, and how many permits that has used; ([], 0) when no call is worth it.

        ``writing``: messages wait to be written, which stops a probe.
        """
        binds = self._pool.binds
        if not binds or not self._scheduler:
            return [], 0
        if self._probing:
            return ([], 0) if writing else self._plan_probe(binds, now)
        windows = sum(bind.window for bind in binds)
        ordinary = self._room()
        if not self._scheduler.urgent and (
            now < self._not_before or ordinary < min(ROOM_MOST, 1 + windows // ROOM_SHARE)
        ):
            return [], 0
        lanes = self._lanes.now(now)
        if not lanes:  # it has had its share; what waits stays queued, and is offered to others
            return [], 0
        room = min(TAKE_MOST, ordinary + windows // RESERVE)
        permits = self._permits(room, now)
        picked = self._scheduler.pick(permits, max(0, ordinary))
        if not picked:
            self._pace.give_back(permits)
            return [], 0
        on_unknown = self._responses.on_unknown
        return [
            TakeRequest(
                partition=one.partition,
                lanes=lanes,
                carrier=self._carrier,
                limit=one.limit,
                keep=one.reserved,
                on_unknown=on_unknown,
            )
            for one in picked
        ], permits

    def taken(self, used: int, permits: int, now: float) -> None:
        """Account for a take that brought ``used`` parts for the ``permits`` it had."""
        if used < permits:
            self._pace.give_back(permits - used)
        elif used > permits:
            self._pace.spend(used - permits, now)
        if used < FEW:
            self._not_before = now + BATCHING_DELAY

    def pause(self, now: float, clock: int) -> float:
        """Return the seconds to sleep when there is nothing to do: until the next sweep, due message or permit."""
        pause = max(0.0, self._swept + SWEEP_EVERY - now)
        due = self._scheduler.next_due()
        if due:
            pause = min(pause, max(0.001, (due - clock) / 1000))
        if self._scheduler:
            wait = max(self._pace.wait(self._least(), now), self._not_before - now)
            if wait > 0:
                pause = min(pause, wait)
        return max(0.0005, pause)

    def _plan_probe(self, binds: Sequence[Bind], now: float) -> tuple[list[TakeRequest], int]:
        """Plan one message at a time until something is answered; at a sick carrier only one that may be resent."""
        outstanding = 0 if self._probing.sick else sum(bind.outstanding for bind in binds)
        if outstanding or not any(bind.free > 0 for bind in binds):
            return [], 0
        lanes = self._lanes.now(now)
        if not lanes or now < self._not_before or self._pace.available(now) < 1:
            return [], 0
        picked = self._scheduler.pick(1, 1)[0]
        self._pace.take(1, now)
        self._not_before = now + PROBE_EVERY
        on_unknown, probe = self._responses.on_unknown, self._probing.only_resendable
        request = TakeRequest(picked.partition, lanes, self._carrier, limit=1, on_unknown=on_unknown, probe=probe)
        return [request], 1

    def _room(self) -> int:
        """Return the parts that the windows have room for now, less what is kept for one-time passwords."""
        windows = free = 0
        for bind in self._pool.binds:
            windows += bind.window
            free += bind.free
        return min(windows - self.in_flight, free) - windows // RESERVE

    def _permits(self, room: int, now: float) -> int:
        """Take permits for ``room`` parts; none before there are enough of them to be worth a call."""
        if room < 1:
            return 0
        if self._pace.available(now) < min(room, self._least(), self._pace.bucket.burst):
            return 0
        return self._pace.take(room, now)

    def _least(self) -> int:
        """Return the permits that make a take worth a call."""
        return 1 if self._scheduler.urgent else max(1, int(self._pace.bucket.rate * PERMIT_TIME))
