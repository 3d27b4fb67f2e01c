"""All binds of one carrier: kept up over one or more hosts, tried again with patience, ended in order.

Each configured bind is a slot with a task of its own. All slots share one gate (two tries a second), and what one slot
learns helps the others: a refused password makes all of them wait, a bind that comes up lets all of them try at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from random import random
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.carriers.backoff import BindFailure, delay, failure
from gateway.carriers.connection import Bind, BindListener, BindSettings
from gateway.carriers.mode import CarrierMode
from gateway.carriers.read_budget import ReadBudget, ReadCredit
from gateway.policy.pace import TokenBucket
from gateway.smpp.pdu import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER
from gateway.smpp.response_times import ResponseTimes
from gateway.smpp.status import name as status_name
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.config import Carrier

HOPELESS_AFTER = 3
"""Failures in a row of every bind of ours after which other gateways may have them."""

HOPELESS_FOR = 60.0
"""Seconds until we want binds again."""

VERSIONS = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
"""interface_version (5.2.4) as the configuration writes it."""

TRIES_PER_SECOND = 2.0
TICK = 0.5

log = structlog.get_logger(__name__)


class BindSlot:
    """One configured bind: the connection it has now, or why it has none."""

    __slots__ = (
        "asked",
        "away",
        "bind",
        "brief",
        "command_id",
        "failures",
        "kind",
        "last",
        "mode",
        "name",
        "spare",
        "still",
        "try_at",
        "wake",
    )

    def __init__(self, name: str, command_id: int) -> None:
        self.name = name
        self.command_id = command_id
        self.bind: Bind | None = None
        self.kind: BindFailure | None = None  # of the last failure
        self.failures = 0  # of that kind in a row
        self.last = ""  # the last failure in words
        self.brief = 0  # binds in a row that came up and were over before they had worked
        self.try_at = 0.0
        self.wake = asyncio.Event()
        self.mode = CarrierMode.RUNNING  # of this bind alone
        self.spare = False  # another gateway has it
        self.still = False  # takes no messages
        self.away = False  # is not to be bound
        self.asked = False  # the bind is about to end because an operator wished it

    def __repr__(self) -> str:
        if self.bind is not None:
            return repr(self.bind)
        return f"<BindSlot {self.name} down, {self.failures} failures ({self.last or 'not tried yet'})>"


class BindTotals(NamedTuple):
    """What binds count, over all that a carrier has had."""

    late_answers: int  # to submits, after the response timeout
    given_up: int  # submits without an answer in time; a late one may have come
    reading_pauses: int  # times that reading stopped because the carrier sent too much
    idle: int  # PDUs that brought neither a message nor an awaited answer


class BindPool:
    """The binds of a carrier. ``run`` keeps them up until it is cancelled or ``finish`` was called."""

    def __init__(
        self,
        carrier: Carrier,
        listener: BindListener,
        *,
        first_sequence: int = 1,
        supervision: Supervision | None = None,
        spare: ReadCredit | None = None,
    ) -> None:
        """``spare``: credit for what is of no use, shared by all carriers (``allowance``)."""
        self.carrier = carrier
        self._supervision = supervision or Supervision()
        self._over = asyncio.Event()  # set with ``_finishing``
        self._listener = listener
        self._settings = BindSettings(
            carrier=carrier.name,
            system_id=carrier.system_id.encode("latin-1", "replace"),
            password=carrier.password.encode("latin-1", "replace"),
            system_type=carrier.system_type.encode("latin-1", "replace"),
            address_range=carrier.address_range.encode("latin-1", "replace"),
            ton=carrier.bind_ton,
            npi=carrier.bind_npi,
            interface_version=VERSIONS[carrier.interface_version],
            window=carrier.window,
            enquire_interval=carrier.enquire_interval,
            response_timeout=carrier.response_timeout,
            first_sequence=first_sequence,
            tls=tls_context(carrier) if carrier.tls else None,
            tls_name=carrier.tls_name,
        )
        self.times = ResponseTimes(carrier.response_timeout)
        self._ended = BindTotals(0, 0, 0, 0)  # of binds that are over
        self._allowance = ReadBudget(spare)
        self._gate: TokenBucket | None = None
        self._finishing = False
        self.tries = 0
        self.slots = [BindSlot(f"{carrier.name}/{number}", kind) for number, kind in enumerate(_kinds(carrier), 1)]
        self.asked = False  # the store had a word on how many binds are ours; until then all are
        self._hopeless_until = 0.0
        self.members = 1  # gateways that share the binds, this one included
        self.first = 0  # binds of other gateways that come before ours when hosts are gone through in turn

    def __repr__(self) -> str:
        up = sum(1 for slot in self.slots if slot.bind is not None and slot.bind.session.bound)
        return f"<BindPool {self.carrier.name} {up}/{len(self.slots)} up, {self.tries} tries>"

    @property
    def binds(self) -> list[Bind]:
        """The binds that carry submits now."""
        return [slot.bind for slot in self.slots if slot.bind is not None and slot.bind.able and not slot.still]

    @property
    def sick(self) -> bool:
        """Whether no bind answers submits: none is up, or all that are have let submits wait for too long."""
        return all(bind.sick for bind in self.binds)

    def timeout(self, now: float) -> float:
        """Seconds that a submit is waited for at present: what is configured, or longer for a slow carrier."""
        return self.times.timeout(now)

    def totals(self) -> BindTotals:
        """What all binds so far have counted."""
        live = [_totals(slot.bind) for slot in self.slots if slot.bind is not None]
        return BindTotals(*map(sum, zip(self._ended, *live, strict=True)))

    @property
    def units(self) -> list[list[BindSlot]]:
        """The slots by what the configuration calls a bind: a pair of transmitter and receiver is one."""
        size = len(self.slots) // self.carrier.binds
        return [self.slots[start : start + size] for start in range(0, len(self.slots), size)]

    @property
    def held(self) -> int:
        """Binds that are ours, those included that others are to have and that still empty their windows."""
        return sum(any(slot.bind is not None or not slot.spare for slot in unit) for unit in self.units)

    def hopeless(self, now: float) -> bool:
        """Whether we cannot reach the carrier, so that another gateway, if there is one, had better try."""
        ours = [slot for slot in self.slots if not slot.spare]
        if any(slot.bind is not None and slot.bind.session.bound for slot in ours):
            self._hopeless_until = 0.0
        elif ours and all(slot.failures >= HOPELESS_AFTER for slot in ours):
            self._hopeless_until = now + HOPELESS_FOR
        return now < self._hopeless_until

    @property
    def window(self) -> int:
        """How many submits may be outstanding over the binds that are up."""
        return sum(bind.window for bind in self.binds)

    def adjust(self, carrier: Carrier) -> None:
        """Settings that no bind is made anew for; certificates are read again for those to come."""
        self.carrier = carrier
        if carrier.tls:
            self._settings = self._settings._replace(tls=tls_context(carrier))

    async def run(self) -> None:
        """Keep every slot bound."""
        loop = asyncio.get_running_loop()
        self._gate = TokenBucket(TRIES_PER_SECOND, loop.time() - 1 / TRIES_PER_SECOND)
        async with asyncio.TaskGroup() as group:
            keep, over = self._supervision.keep_running, self._over
            group.create_task(keep(f"{self.carrier.name}: timers", self._tick, over))
            for number, slot in enumerate(self.slots):
                group.create_task(keep(f"{slot.name}: bind", partial(self._keep, slot, number), over))

    async def finish(self) -> None:
        """Wait for open windows (10 s), unbind everywhere; no slot binds again."""
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

    async def _keep(self, slot: BindSlot, number: int) -> None:
        """The life of a slot: wait for its turn, connect, bind, stay until it is over; again."""
        hosts = self.carrier.addresses
        while not self._finishing:
            await self._turn(slot)
            if self._finishing:
                return
            host, port = hosts[(self.first + number) % len(hosts)]
            number += 1  # the next try goes to the next host
            self.tries += 1
            bind = slot.bind = Bind(
                slot.name,
                slot.command_id,
                self._settings,
                self._listener,
                times=self.times,
                allowance=self._allowance,
                supervision=self._supervision,
            )
            try:
                await self._live(slot, bind, host, port)
            finally:
                self._ended = BindTotals(*map(sum, zip(self._ended, _totals(bind), strict=True)))
                slot.bind = None
            if slot.asked:
                slot.asked, slot.last, slot.failures, slot.try_at = False, "ended by an operator", 0, 0.0
            elif not self._finishing:
                self._learn(slot, bind)

    async def _live(self, slot: BindSlot, bind: Bind, host: str, port: int) -> None:
        try:
            await bind.connect(host, port)
        except OSError as error:  # includes TimeoutError and TLS errors
            bind.abort(f"{host}:{port}: {error.strerror or error or type(error).__name__}")
            return
        try:
            await bind.decided.wait()
            if bind.session.bound:
                slot.failures = 0
                self._others_may_try()
            await bind.closed.wait()
        finally:
            bind.abort("stopped")

    async def _turn(self, slot: BindSlot) -> None:
        """Wait until this slot may try: its own delay first, then the gate that all slots share."""
        loop = asyncio.get_running_loop()
        assert self._gate is not None
        while not self._finishing:
            now = loop.time()
            if slot.away:
                await self._sleep(slot, 60.0)
            elif slot.try_at > now:  # also what another slot has learnt while this one stood at the gate
                await self._sleep(slot, slot.try_at - now)
            elif self._gate.take(1, now):
                return
            else:
                await asyncio.sleep(self._gate.wait(1, now) + 0.01 * random())  # noqa: S311  # no secret in this

    @staticmethod
    async def _sleep(slot: BindSlot, seconds: float) -> None:
        slot.wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await slot.wake.wait()

    def _learn(self, slot: BindSlot, bind: Bind) -> None:
        """Say why the bind is not up (any more) and when the slot tries again."""
        now = asyncio.get_running_loop().time()
        kind = failure(bind.refused, was_up=now - bind.since if bind.since else 0.0, proven=bind.proven)
        slot.failures = slot.failures + 1 if slot.kind is kind else 1
        if kind is not BindFailure.UNREACHABLE:
            slot.brief = 0
        elif bind.since:  # to come up is no success
            slot.brief += 1
            slot.failures = slot.brief
        slot.kind = kind
        slot.last = status_name(bind.refused) if bind.refused is not None else bind.reason
        wait = delay(kind, slot.failures, random())  # noqa: S311
        slot.try_at = now + wait
        if kind is BindFailure.FORBIDDEN:
            log.error("carrier refuses our credentials", bind=slot.name, status=slot.last, next_try_s=round(wait))
            for other in self.slots:  # more tries from other slots would only lock the account
                other.try_at = max(other.try_at, slot.try_at)
        elif slot.failures == 1 or slot.failures & (slot.failures - 1) == 0:  # 1, 2, 4, 8: an outage floods no log
            log.warning(
                "carrier bind failed", bind=slot.name, reason=slot.last, tries=slot.failures, next_try_s=round(wait, 1)
            )

    def _others_may_try(self) -> None:
        now = asyncio.get_running_loop().time()
        for other in self.slots:
            if other.bind is None and other.kind is BindFailure.UNREACHABLE and not other.brief:
                other.try_at = now
                other.wake.set()


def _totals(bind: Bind) -> BindTotals:
    session = bind.session
    return BindTotals(session.late_answers, session.timed_out, bind.reading.pauses, session.idle)


def _kinds(carrier: Carrier) -> Sequence[int]:
    if carrier.bind == "transceiver":
        return [BIND_TRANSCEIVER] * carrier.binds
    return [BIND_TRANSMITTER, BIND_RECEIVER] * carrier.binds


def tls_context(carrier: Carrier) -> ssl.SSLContext:
    """TLS 1.2 or newer; the carrier's certificate is checked against ``ca`` (default: the system's)."""
    context = ssl.create_default_context(cafile=carrier.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if carrier.cert:
        context.load_cert_chain(carrier.cert, carrier.key or None)
    return context
