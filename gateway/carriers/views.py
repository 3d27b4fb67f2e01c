"""A carrier as operators see it: its mode, its binds with state and last error, its pace, what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.smpp.pdu import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER
from gateway.smpp.status import name as status_name

if TYPE_CHECKING:
    from gateway.carriers.pool import BindSlot
    from gateway.carriers.service import CarrierService

KINDS = {BIND_TRANSCEIVER: "transceiver", BIND_TRANSMITTER: "transmitter", BIND_RECEIVER: "receiver"}


class BindView(msgspec.Struct, gc=False):
    """One configured bind. Times in seconds; ``window`` 0: it carries no submits."""

    name: str
    kind: str
    mode: str  # running | paused | draining | drained | reconnecting | elsewhere
    state: str  # bound, binding, …; "down" without a connection
    up: bool
    peer: str = ""
    up_s: float = 0.0
    window: int = 0
    outstanding: int = 0
    last_error: str = ""
    failures: int = 0  # of that kind in a row
    next_try_s: float = 0.0
    worker: str = ""  # that has it, when there are several workers
    sick: bool = False  # it answers no submits: one at a time is sent


class CarrierView(msgspec.Struct, gc=False):
    """One carrier at this gateway. ``limit`` 0: no rate is configured; then ``rate`` 0 means no limit."""

    name: str
    mode: str  # running | paused | drained: as operators set it
    up: int  # binds that are bound
    taking: bool  # whether it takes messages now
    window: int
    outstanding: int
    rate: float
    ceiling: float
    slowed: bool
    decreases: int
    leased: int  # parts whose result is not stored yet
    submitted: int
    accepted: int
    refused: dict[str, int]
    unanswered: int
    receipts: dict[str, int]
    store_away_s: float
    binds: list[BindView]  # held here, including those that leave for other gateways and still empty their windows
    binds_of: int = 0  # as configured, for all gateways together
    limit: float = 0.0  # the rate as configured, for all gateways together; ``ceiling`` is this gateway's share of it
    gateways: int = 1  # that share the carrier, this one included
    sick: bool = False  # none of its binds answers submits, or none is up
    response_timeout: float = 0.0  # seconds, as in force now
    late_answers: int = 0  # to submits, after the configured timeout
    given_up: int = 0  # submits that had no response in time; a late one may have come


def carrier_view(service: CarrierService, now: float) -> CarrierView:
    """Return the carrier's state at ``now`` (loop time)."""
    dispatcher, pool, pace = service.dispatcher, service.pool, service.dispatcher.pace
    totals = pool.totals()
    tally = dispatcher.tally
    binds = [_bind_view(service, slot, now) for slot in pool.slots if slot.bind is not None or not slot.elsewhere]
    away = service.progress_writer.away_since
    return CarrierView(
        name=service.carrier.name,
        mode=service.controls.mode.name.lower(),
        up=sum(bind.up for bind in binds),
        taking=bool(pool.binds),
        window=sum(bind.window for bind in binds if bind.up),
        outstanding=sum(bind.outstanding for bind in binds),
        rate=0.0 if pace.closed else round(pace.bucket.rate, 1),
        ceiling=round(pace.ceiling, 1),
        slowed=pace.slowed,
        decreases=pace.decreases,
        leased=dispatcher.in_flight,
        submitted=dispatcher.submitted,
        accepted=tally.accepted,
        refused={status_name(status): count for status, count in tally.refused.most_common()},
        unanswered=tally.lost,
        receipts=dict(service.receipts.counts),
        store_away_s=0.0 if away is None else round(now - away, 1),
        binds=binds,
        binds_of=len(pool.slots),
        limit=pace.share.limit,
        gateways=pool.members,
        sick=pool.sick,
        response_timeout=round(pool.timeout(now), 1),
        late_answers=totals.late_answers,
        given_up=totals.given_up,
    )


def _bind_view(service: CarrierService, slot: BindSlot, now: float) -> BindView:
    bind = slot.bind
    view = BindView(slot.name, KINDS[slot.command_id], service.controls.state(slot), "down", up=False)
    view.last_error, view.failures = slot.last_error, slot.failures
    if bind is None:
        view.next_try_s = 0.0 if slot.kept_down else round(max(0.0, slot.next_try - now), 1)
        return view
    view.state, view.peer = bind.session.state.value, bind.peer
    view.up = bind.session.bound
    view.up_s = round(now - bind.since, 1) if bind.since else 0.0
    view.window, view.outstanding, view.sick = bind.window, bind.session.outstanding, bind.sick
    return view
