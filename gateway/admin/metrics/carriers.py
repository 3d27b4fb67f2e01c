"""Metrics of carriers: what was written to them and came back, binds, windows and pace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from prometheus_client.core import Metric

from gateway.admin.metrics.helpers import counter, gauge, histogram
from gateway.carriers.connection import Bind
from gateway.carriers.mode import CarrierMode
from gateway.carriers.service import CarrierService
from gateway.model import Reason, Resolution
from gateway.smpp.status import RetryClass, classify
from gateway.smpp.status import name as status_name

CARRIER = ("carrier",)
ByName = Mapping[str, CarrierService]


def carriers(services: Sequence[CarrierService]) -> Iterator[Metric]:
    """What went to each carrier and what came back, its binds and its pace."""
    by_name = {one.carrier.name: one for one in services}  # of two with one name the newer is shown
    yield from _submits(by_name)
    yield from _answering(by_name)
    yield from _copies(by_name)
    yield from _ends(by_name)
    yield from _receipts(by_name)
    yield from _binds(by_name)
    yield from _room(by_name)


def _submits(by_name: ByName) -> Iterator[Metric]:
    tallies = {name: one.dispatcher.tally for name, one in by_name.items()}
    submitted = {name: one.dispatcher.submitted for name, one in by_name.items()}
    yield counter("submits", "Parts written to a carrier (submit_sm).", CARRIER, submitted)
    yield counter(
        "submit_answers",
        "Answers to submit_sm by class; unanswered: none came in time, or the connection was lost first.",
        ("carrier", "class"),
        _answers(by_name),
    )
    yield counter(
        "submit_refusals",
        "Answers to submit_sm with a status other than 0, by status.",
        ("carrier", "status"),
        {(name, status_name(s)): count for name, t in tallies.items() for s, count in t.refused.items()},
    )
    yield histogram(
        "accept_to_submit_seconds",
        "From acceptance to the last submit_sm, deferrals and retries included.",
        ("carrier", "category"),
        {(name, c.name.lower()): seen for name, t in tallies.items() for c, seen in t.submit.items() if seen.count},
    )
    yield histogram(
        "submit_to_answer_seconds",
        "From submit_sm to its answer.",
        CARRIER,
        {name: tally.answer for name, tally in tallies.items()},
    )


def _answering(by_name: ByName) -> Iterator[Metric]:
    """How the carriers answer, and how long we wait for them."""
    totals = {name: one.pool.totals() for name, one in by_name.items()}
    now = monotonic()
    yield counter(
        "submits_given_up",
        "Submits without an answer in time; a late one may have come.",
        CARRIER,
        {name: total.given_up for name, total in totals.items()},
    )
    yield counter(
        "late_answers",
        "Answers to submit_sm after the configured response_timeout, those to submits given up included.",
        CARRIER,
        {name: total.late_answers for name, total in totals.items()},
    )
    yield gauge(
        "response_timeout_seconds",
        "How long a submit is waited for now: response_timeout, or longer (60 s at most) for a slow carrier.",
        {name: one.pool.timeout(now) for name, one in by_name.items()},
        CARRIER,
    )
    yield gauge(
        "binds_sick",
        "Binds up that answer no submits: nothing for a response_timeout; one submit at a time is tried.",
        {name: sum(bind.sick for bind in up) for name, up in _up(by_name).items()},
        CARRIER,
    )
    yield counter(
        "reading_pauses",
        "Times that reading from the carrier stopped because it sent more than was done with.",
        CARRIER,
        {name: total.reading_pauses for name, total in totals.items()},
    )
    yield counter(
        "idle_pdus",
        "PDUs of the carrier that brought neither a message nor an awaited answer: enquire_link, what is refused.",
        CARRIER,
        {name: total.idle for name, total in totals.items()},
    )


def _copies(by_name: ByName) -> Iterator[Metric]:
    yield counter(
        "resent_parts",
        "Parts submitted once more since no answer came: copies that may be one too many.",
        CARRIER,
        {name: one.dispatcher.tally.resent for name, one in by_name.items()},
    )


def _ends(by_name: ByName) -> Iterator[Metric]:
    yield counter(
        "outcomes",
        "Messages that a carrier did not simply accept, by what became of them and why.",
        ("carrier", "fate", "reason"),
        {
            (name, Resolution(resolution).name.lower(), Reason(reason).name.lower()): count
            for name, one in by_name.items()
            for (resolution, reason), count in one.dispatcher.tally.resolutions.items()
        },
    )
    yield counter(
        "gate_drops",
        "Messages ended at the last moment: expired, opted out, consent revoked.",
        CARRIER,
        {name: one.dispatcher.dropped for name, one in by_name.items()},
    )


def _receipts(by_name: ByName) -> Iterator[Metric]:
    yield counter(
        "receipts",
        "Delivery receipts (and other deliver_sm) by what was done with them.",
        ("carrier", "outcome"),
        {(name, what): count for name, one in by_name.items() for what, count in one.receipts.counts.items()},
    )
    yield counter(
        "receipt_states",
        "Delivery receipts by what they say (accepted: an intermediate one).",
        ("carrier", "state"),
        {(name, state.name.lower()): n for name, one in by_name.items() for state, n in one.receipts.said.items()},
    )


def _answers(by_name: ByName) -> dict[tuple[str, str], float]:
    """By retry class, with the carrier's own table of statuses."""
    found: dict[tuple[str, str], float] = {}
    for name, one in by_name.items():
        # From zero on: of a counter that begins with its first case, an alert never sees that case.
        found |= {(name, kind.name.lower()): 0.0 for kind in RetryClass if kind is not RetryClass.NOT_APPLICABLE}
        tally, overrides = one.dispatcher.tally, one.carrier.overrides or None
        found[name, "ok"], found[name, "unanswered"] = tally.accepted, tally.lost
        for status, count in tally.refused.items():
            key = name, classify(status, overrides).name.lower()
            found[key] = found.get(key, 0) + count
    return found


def _binds(by_name: ByName) -> Iterator[Metric]:
    ours = {name: sum(not slot.spare for slot in one.pool.slots) for name, one in by_name.items()}
    yield gauge("binds", "Binds of ours.", ours, CARRIER)
    yield gauge("binds_up", "Binds that are bound.", {name: len(up) for name, up in _up(by_name).items()}, CARRIER)
    yield gauge(
        "carrier_taking",
        "1 when the carrier takes messages now (bound, and not told to stand still).",
        {name: int(bool(one.pool.binds)) for name, one in by_name.items()},
        CARRIER,
    )
    yield gauge(
        "carrier_mode",
        "What operators want of the carrier: 1 for its mode, 0 for the others.",
        {(n, mode.name.lower()): int(o.controls.mode is mode) for n, o in by_name.items() for mode in CarrierMode},
        ("carrier", "mode"),
    )
    yield counter("bind_tries", "Connections tried.", CARRIER, {name: one.pool.tries for name, one in by_name.items()})


def _room(by_name: ByName) -> Iterator[Metric]:
    """What may be on its way, and how fast more may follow."""
    bound = _up(by_name)
    paces = {name: one.dispatcher.pace for name, one in by_name.items()}
    yield gauge(
        "window",
        "Submits that may be unanswered, over the binds that are up.",
        {name: sum(bind.window for bind in up) for name, up in bound.items()},
        CARRIER,
    )
    yield gauge(
        "window_used",
        "Submits that are unanswered.",
        {name: sum(bind.session.outstanding for bind in up) for name, up in bound.items()},
        CARRIER,
    )
    yield gauge(
        "leased_parts",
        "Parts handed to the carrier's side whose outcome is not stored yet.",
        {name: one.dispatcher.out for name, one in by_name.items()},
        CARRIER,
    )
    yield gauge(
        "pace_rate",
        "Parts a second that the pace allows now; 0: no limit.",
        {name: pace.bucket.rate for name, pace in paces.items()},
        CARRIER,
    )
    yield gauge(
        "pace_ceiling",
        "Parts a second that are ours of the configured rate; 0: no limit.",
        {name: pace.ceiling for name, pace in paces.items()},
        CARRIER,
    )
    yield counter(
        "pace_decreases",
        "Times that throttling made the pace slower.",
        CARRIER,
        {name: pace.decreases for name, pace in paces.items()},
    )


def _up(by_name: ByName) -> dict[str, list[Bind]]:
    """Carrier -> its binds that are bound."""
    return {
        name: [slot.bind for slot in one.pool.slots if slot.bind and slot.bind.session.bound]
        for name, one in by_name.items()
    }
