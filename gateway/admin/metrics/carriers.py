"""Metrics of carriers: submits and their responses, receipts, binds, windows and pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from gateway.admin.metrics.helpers import counter, gauge, histogram
from gateway.carriers.mode import CarrierMode
from gateway.model import Reason, Resolution
from gateway.smpp.status import RetryClass, classify
from gateway.smpp.status import name as status_name

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gateway.carriers.connection import Bind
    from gateway.carriers.service import CarrierService

Services = Mapping[str, "CarrierService"]
NumberOf = Callable[["CarrierService"], float]


def carrier_metrics(services: Sequence[CarrierService]) -> Iterator[Metric]:
    """Yield the metrics of all carriers. During a reload two may have one name; the newer one is shown."""
    by_name = {service.carrier.name: service for service in services}
    for name, documentation, number_of in _COUNTERS:
        yield counter(name, documentation, ("carrier",), {key: number_of(one) for key, one in by_name.items()})
    for name, documentation, number_of in _GAUGES:
        yield gauge(name, documentation, ("carrier",), {key: number_of(one) for key, one in by_name.items()})
    yield gauge(
        "carrier_mode",
        "Mode set by operators: 1 for the mode in force, 0 for the others.",
        ("carrier", "mode"),
        {
            (name, mode.name.lower()): int(one.controls.mode is mode)
            for name, one in by_name.items()
            for mode in CarrierMode
        },
    )
    yield from _responses(by_name)
    yield from _durations(by_name)
    yield from _receipts(by_name)


def _up(service: CarrierService) -> list[Bind]:
    """Return the binds of a carrier that are bound."""
    return [slot.bind for slot in service.pool.slots if slot.bind and slot.bind.session.bound]


_COUNTERS: tuple[tuple[str, str, NumberOf], ...] = (
    ("submits", "Message parts submitted (submit_sm).", lambda one: one.dispatcher.submitted),
    (
        "submits_given_up",
        "Submits without a response in time; a late response is still counted in late_answers.",
        lambda one: one.pool.totals().given_up,
    ),
    (
        "late_answers",
        "Responses to submit_sm after the configured response_timeout, including those to submits given up.",
        lambda one: one.pool.totals().late_answers,
    ),
    (
        "reading_pauses",
        "Times that reading from the carrier paused because it sent faster than its PDUs were processed.",
        lambda one: one.pool.totals().reading_pauses,
    ),
    (
        "idle_pdus",
        "PDUs from the carrier without a message or an expected response: enquire_link, and PDUs that are refused.",
        lambda one: one.pool.totals().idle,
    ),
    (
        "resent_parts",
        "Parts submitted again because no response came; the recipient may receive them twice.",
        lambda one: one.dispatcher.tally.resent,
    ),
    (
        "gate_drops",
        "Messages dropped when they were about to be sent: expired, opted out or consent revoked.",
        lambda one: one.dispatcher.dropped,
    ),
    ("bind_tries", "Attempts to connect to the carrier.", lambda one: one.pool.tries),
    (
        "pace_decreases",
        "Times that throttling by the carrier lowered the pace.",
        lambda one: one.dispatcher.pace.decreases,
    ),
)
_GAUGES: tuple[tuple[str, str, NumberOf], ...] = (
    (
        "response_timeout_seconds",
        "Response timeout in force: response_timeout, or longer (60 s at most) for a slow carrier.",
        lambda one: one.pool.timeout(monotonic()),
    ),
    (
        "binds_sick",
        "Bound binds without any response to submits for a response_timeout; they are probed one submit at a time.",
        lambda one: sum(bind.sick for bind in _up(one)),
    ),
    ("binds", "Binds that this process keeps.", lambda one: sum(not slot.elsewhere for slot in one.pool.slots)),
    ("binds_up", "Binds that are bound.", lambda one: len(_up(one))),
    (
        "carrier_taking",
        "1 if the carrier takes messages now: bound, and not paused or drained.",
        lambda one: int(bool(one.pool.binds)),
    ),
    ("window", "Total window size of the bound binds, in submits.", lambda one: sum(bind.window for bind in _up(one))),
    (
        "window_used",
        "Submits awaiting a response.",
        lambda one: sum(bind.session.outstanding for bind in _up(one)),
    ),
    (
        "leased_parts",
        "Parts taken for the carrier whose outcome is not stored yet.",
        lambda one: one.dispatcher.in_flight,
    ),
    (
        "pace_rate",
        "Parts per second that the pace allows now; 0: no limit.",
        lambda one: one.dispatcher.pace.bucket.rate,
    ),
    (
        "pace_ceiling",
        "This process's share of the configured rate, in parts per second; 0: no limit.",
        lambda one: one.dispatcher.pace.ceiling,
    ),
)


def _responses(services: Services) -> Iterator[Metric]:
    yield counter(
        "submit_answers",
        "Responses to submit_sm by class; unanswered: none came in time, or the connection was lost first.",
        ("carrier", "class"),
        _by_class(services),
    )
    yield counter(
        "submit_refusals",
        "Responses to submit_sm with a status other than 0, by status.",
        ("carrier", "status"),
        {
            (name, status_name(status)): count
            for name, one in services.items()
            for status, count in one.dispatcher.tally.refused.items()
        },
    )
    yield counter(
        "outcomes",
        "Messages that a carrier did not accept, by what became of them (fate) and reason.",
        ("carrier", "fate", "reason"),
        {
            (name, Resolution(resolution).name.lower(), Reason(reason).name.lower()): count
            for name, one in services.items()
            for (resolution, reason), count in one.dispatcher.tally.resolutions.items()
        },
    )


def _by_class(services: Services) -> dict[tuple[str, str], float]:
    """Return (carrier, class) -> responses, by retry class under the carrier's own status table."""
    found: dict[tuple[str, str], float] = {}
    for name, one in services.items():
        # Every class is shown from 0 on: an alert on rate() would miss the first response of a class that appears later
        found |= {(name, kind.name.lower()): 0.0 for kind in RetryClass if kind is not RetryClass.NOT_APPLICABLE}
        tally, overrides = one.dispatcher.tally, one.carrier.overrides or None
        found[name, "ok"], found[name, "unanswered"] = tally.accepted, tally.lost
        for status, count in tally.refused.items():
            key = name, classify(status, overrides).name.lower()
            found[key] = found.get(key, 0) + count
    return found


def _durations(services: Services) -> Iterator[Metric]:
    yield histogram(
        "accept_to_submit_seconds",
        "Time from acceptance to the last submit_sm, including deferrals and retries.",
        ("carrier", "category"),
        {
            (name, category.name.lower()): seen
            for name, one in services.items()
            for category, seen in one.dispatcher.tally.submit.items()
            if seen.count
        },
    )
    yield histogram(
        "submit_to_answer_seconds",
        "Time from submit_sm to its response.",
        ("carrier",),
        {name: one.dispatcher.tally.answer for name, one in services.items()},
    )


def _receipts(services: Services) -> Iterator[Metric]:
    yield counter(
        "receipts",
        "Delivery receipts and other deliver_sm, by how they were processed.",
        ("carrier", "outcome"),
        {(name, outcome): count for name, one in services.items() for outcome, count in one.receipts.counts.items()},
    )
    yield counter(
        "receipt_states",
        "Delivery receipts by the state that they report; accepted: an intermediate receipt.",
        ("carrier", "state"),
        {
            (name, state.name.lower()): count
            for name, one in services.items()
            for state, count in one.receipts.states.items()
        },
    )
