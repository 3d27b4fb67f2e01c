"""All binds of one carrier: kept up over one or more hosts, tried again with growing delays, ended in order.

Each configured bind is a slot with a task of its own. All slots share a limit of two tries a second, and what one slot
learns helps the others: a refused password makes all of them wait, a bind that comes up lets all of them try at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from random import random
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.carriers.backoff import BindFailure, delay, failure
from gateway.carriers.bind_settings import BindSettings, tls_context
from gateway.carriers.connection import Bind, BindListeners
from gateway.carriers.mode import CarrierMode
from gateway.carriers.read_budget import ReadBudget, ReadCredit
from gateway.policy.pace import TokenBucket
from gateway.smpp.pdu import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER
from gateway.smpp.response_times import ResponseTimes
from gateway.smpp.status import name as status_name
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.config import Carrier

UNREACHABLE_AFTER = 3
"""Failures in a row of every bind held here after which other gateways may have them."""

UNREACHABLE_FOR = 60.0
"""Seconds until binds are wanted again."""

TRIES_PER_SECOND = 2.0
TICK = 0.5

log = structlog.get_logger(__name__)


class BindSlot:
    """One configured bind: the connection it has now, or why it has none."""

    __slots__ = (
        "bind",
        "command_id",
        "elsewhere",
        "ended_on_request",
        "failure",
        "failures",
        "kept_down",
        "last_error",
        "mode",
        "name",
        "next_try",
        "short_lived",
        "suspended",
        "wake",
    )

    def __init__(self, name: str, command_id: int) -> None:
        self.name = name
        self.command_id = command_id
        self.bind: Bind | None = None
        self.failure: BindFailure | None = None  # kind of the last failure
        self.failures = 0  # of that kind in a row
        self.last_error = ""
        self.short_lived = 0  # binds in a row that came up and ended before they were proven
        self.next_try = 0.0  # loop time
        self.wake = asyncio.Event()
        self.mode = CarrierMode.RUNNING  # of this bind alone
        self.elsewhere = False  # another gateway has it
        self.suspended = False  # takes no messages
        self.kept_down = False  # must not bind
        self.ended_on_request = False  # the bind is about to end because an operator asked for it

    def __repr__(self) -> str:
        if self.bind is not None:
            return repr(self.bind)
        return f"<BindSlot {self.name} down, {self.failures} failures ({self.last_error or 'not tried yet'})>"


class BindTotals(NamedTuple):
    """What binds count, over all that a carrier has had."""

    late_answers: int  # to submits, after the response timeout
    given_up: int  # submits without a response in time; a late one may have come
    reading_pauses: int  # times that reading stopped because the carrier sent too much
    idle: int  # PDUs that brought neither a message nor an awaited response


class BindPool:
    """The binds of a carrier. ``run`` keeps them up until it is cancelled or ``finish`` was called."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        first_sequence: int = 1,
        supervision: Supervision | None = None,
        shared_credit: ReadCredit | None = None,
    ) -> None:
        """``shared_credit``: of all carriers together, for PDUs of no use (``read_budget``)."""
        self.carrier = carrier
        self._supervision = supervision or Supervision()
        self._settings = BindSettings.of(carrier, first_sequence)
        self.times = ResponseTimes(carrier.response_timeout)
        self._closed_totals = BindTotals(0, 0, 0, 0)  # of binds that have ended
        self._read_budget = ReadBudget(shared_credit)
        self._try_limit: TokenBucket | None = None
        self._finishing = False
        self._over = asyncio.Event()  # set with ``_finishing``
        self.tries = 0
        self.slots = [BindSlot(f"{carrier.name}/{number}", kind) for number, kind in enumerate(_kinds(carrier), 1)]
        self.share_known = False  # the store has said how many binds are ours; until then all are
        self._unreachable_until = 0.0
        self.members = 1  # gateways that share the binds, this one included
        self.first_host = 0  # binds of other gateways that come before ours when hosts are used in turn

    def __repr__(self) -> str:
        up = sum(1 for slot in self.slots if slot.bind is not None and slot.bind.session.bound)
        return f"<BindPool {self.carrier.name} {up}/{len(self.slots)} up, {self.tries} tries>"

    @property
    def binds(self) -> list[Bind]:
        """The binds that carry submits now."""
        return [slot.bind for slot in self.slots if slot.bind is not None and slot.bind.able and not slot.suspended]

    @property
    def sick(self) -> bool:
        """Whether no bind answers submits: none is up, or all that are up have let submits wait for too long."""
        return all(bind.sick for bind in self.binds)

    def timeout(self, now: float) -> float:
        """Return the response timeout in force (s): the configured one, or a longer one for a slow carrier."""
        return self.times.timeout(now)

    def totals(self) -> BindTotals:
        """Return what all binds so far have counted."""
        live = [_totals(slot.bind) for slot in self.slots if slot.bind is not None]
        return BindTotals(*map(sum, zip(self._closed_totals, *live, strict=True)))

    @property
    def units(self) -> list[list[BindSlot]]:
        """The slots by what the configuration calls a bind: a pair of transmitter and receiver is one."""
        size = len(self.slots) // self.carrier.binds
        return [self.slots[start : start + size] for start in range(0, len(self.slots), size)]

    @property
    def held(self) -> int:
        """Binds held by this gateway, including those that leave for others and still empty their windows."""
        return sum(any(slot.bind is not None or not slot.elsewhere for slot in unit) for unit in self.units)

    def unreachable(self, now: float) -> bool:
        """Whether every bind held here has failed repeatedly, so that another gateway had better try."""
        ours = [slot for slot in self.slots if not slot.elsewhere]
        if any(slot.bind is not None and slot.bind.session.bound for slot in ours):
            self._unreachable_until = 0.0
        elif ours and all(slot.failures >= UNREACHABLE_AFTER for slot in ours):
            self._unreachable_until = now + UNREACHABLE_FOR
        return now < self._unreachable_until

    def adjust(self, carrier: Carrier) -> None:
        """Apply settings that need no new binds; certificates are read again for later binds."""
        self.carrier = carrier
        if carrier.tls:
            self._settings = self._settings._replace(tls=tls_context(carrier))

    async def run(self, listeners: BindListeners) -> None:
        """Keep every slot bound; the binds report to ``listeners``."""
        loop = asyncio.get_running_loop()
        self._try_limit = TokenBucket(TRIES_PER_SECOND, loop.time() - 1 / TRIES_PER_SECOND)
        async with asyncio.TaskGroup() as group:
            keep, over = self._supervision.keep_running, self._over
            group.create_task(keep(f"{self.carrier.name}: timers", self._tick, over))
            for number, slot in enumerate(self.slots):
                serve = partial(self._serve, slot, number, listeners)
                group.create_task(keep(f"{slot.name}: bind", serve, over))

    async def finish(self) -> None:
        """Wait for open windows (10 s) and unbind everywhere; no slot binds again."""
        self._finishing = True
        self._over.set()
        for slot in self.slots:
            slot.wake.set()
        await asyncio.gather(*(slot.bind.finish() for slot in self.slots if slot.bind is not None))

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._finishing and all(slot.bind is None for slot in self.slots)):
            now = loop.time()
            for slot in self.slots:
                if slot.bind is not None:
                    slot.bind.tick(now)
            await asyncio.sleep(TICK)

    async def _serve(self, slot: BindSlot, number: int, listeners: BindListeners) -> None:
        """Wait until the slot may try, connect, bind, stay until the bind ends; again."""
        hosts = self.carrier.addresses
        while not self._finishing:
            await self._wait_for_try(slot)
            if self._finishing:
                return
            host, port = hosts[(self.first_host + number) % len(hosts)]
            number += 1  # the next try goes to the next host
            self.tries += 1
            bind = slot.bind = Bind(
                slot.name,
                slot.command_id,
                self._settings,
                listeners,
                times=self.times,
                read_budget=self._read_budget,
                supervision=self._supervision,
            )
            try:
                await self._connect(slot, bind, host, port)
            finally:
                self._closed_totals = BindTotals(*map(sum, zip(self._closed_totals, _totals(bind), strict=True)))
                slot.bind = None
            if slot.ended_on_request:
                slot.ended_on_request, slot.last_error = False, "ended by an operator"
                slot.failures, slot.next_try = 0, 0.0
            elif not self._finishing:
                self._plan_next_try(slot, bind)

    async def _connect(self, slot: BindSlot, bind: Bind, host: str, port: int) -> None:
        """Connect and return when the bind has ended."""
        try:
            await bind.connect(host, port)
        except OSError as error:  # includes TimeoutError and TLS errors
            bind.abort(f"{host}:{port}: {error.strerror or error or type(error).__name__}")
            return
        try:
            await bind.decided.wait()
            if bind.session.bound:
                slot.failures = 0
                self._let_others_try()
            await bind.closed.wait()
        finally:
            bind.abort("stopped")

    async def _wait_for_try(self, slot: BindSlot) -> None:
        """Wait until this slot may try: its own delay first, then the limit that all slots share."""
        loop = asyncio.get_running_loop()
        assert self._try_limit is not None
        while not self._finishing:
            now = loop.time()
            if slot.kept_down:
                await self._sleep(slot, 60.0)
            elif slot.next_try > now:  # also what another slot has learnt while this one waited for the limit
                await self._sleep(slot, slot.next_try - now)
            elif self._try_limit.take(1, now):
                return
            else:
                await asyncio.sleep(self._try_limit.wait(1, now) + 0.01 * random())  # noqa: S311  # no secret in this

    @staticmethod
    async def _sleep(slot: BindSlot, seconds: float) -> None:
        slot.wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await slot.wake.wait()

    def _plan_next_try(self, slot: BindSlot, bind: Bind) -> None:
        """Record and log why the bind is not up, and set when the slot tries again."""
        now = asyncio.get_running_loop().time()
        kind = failure(bind.refused, was_up=now - bind.since if bind.since else 0.0, proven=bind.proven)
        slot.failures = slot.failures + 1 if slot.failure is kind else 1
        if kind is not BindFailure.UNREACHABLE:
            slot.short_lived = 0
        elif bind.since:  # a bind that comes up and ends at once is no success
            slot.short_lived += 1
            slot.failures = slot.short_lived
        slot.failure = kind
        slot.last_error = status_name(bind.refused) if bind.refused is not None else bind.reason
        wait = delay(kind, slot.failures, random())  # noqa: S311
        slot.next_try = now + wait
        if kind is BindFailure.FORBIDDEN:
            log.error("carrier refuses our credentials", bind=slot.name, status=slot.last_error, next_try_s=round(wait))
            for other in self.slots:  # more tries from other slots would only lock the account
                other.next_try = max(other.next_try, slot.next_try)
        elif slot.failures == 1 or slot.failures & (slot.failures - 1) == 0:  # 1, 2, 4, 8: an outage floods no log
            log.warning(
                "carrier bind failed",
                bind=slot.name,
                reason=slot.last_error,
                tries=slot.failures,
                next_try_s=round(wait, 1),
            )

    def _let_others_try(self) -> None:
        now = asyncio.get_running_loop().time()
        for other in self.slots:
            if other.bind is None and other.failure is BindFailure.UNREACHABLE and not other.short_lived:
                other.next_try = now
                other.wake.set()


def _totals(bind: Bind) -> BindTotals:
    session = bind.session
    return BindTotals(session.late_answers, session.timed_out, bind.reading.pauses, session.idle)


def _kinds(carrier: Carrier) -> Sequence[int]:
    if carrier.bind == "transceiver":
        return [BIND_TRANSCEIVER] * carrier.binds
    return [BIND_TRANSMITTER, BIND_RECEIVER] * carrier.binds
