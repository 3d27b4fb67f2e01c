"""From a carrier's responses to results for the store: parts are collected per message, each message is judged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import random
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from gateway.carriers.counters import CarrierCounters
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.repeated_refusals import RepeatedRefusals
from gateway.carriers.retry import UNANSWERED, RetryDecision, decide, step_aside
from gateway.carriers.validity import LOG_EVERY, REFUSALS, ValidityRefusals
from gateway.model import LeasedMessage, OnUnknown, PartAnswer, PartState, Reason, Resolution, SubmitResult
from gateway.smpp.message_id import normalise_id
from gateway.smpp.status import RetryClass, classify
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.connection import Bind
    from gateway.carriers.lanes import CarrierLanes
    from gateway.carriers.window_writer import Part
    from gateway.config import Carrier
    from gateway.policy.pace import Pace
    from gateway.smpp.events import Answered

QUEUE_FULL_SAMPLE, QUEUE_FULL_LIMIT = 100, 20
"""More than 20 RMSGQFUL in 100 responses mean the whole message centre: that slows the pace like a throttle."""

ON_UNKNOWN = {"resend": OnUnknown.RESEND, "hold": OnUnknown.HOLD, "never": OnUnknown.NEVER}

UNSENDABLE = RetryDecision(Resolution.REJECTED, Reason.CARRIER_REFUSED)
GATEWAY_FAULT = RetryDecision(Resolution.FAILED, Reason.GATEWAY_FAULT)
UNSENDABLE_HERE = RetryDecision(Resolution.NEXT, Reason.NEXT_CARRIER)
REASONS_KEPT = 64

ENDS = frozenset({Resolution.NEXT, Resolution.REJECTED, Resolution.FAILED})
"""This carrier sees nothing more of the message."""

WITHOUT_VALIDITY = RetryDecision(Resolution.BACK, Reason.CARRIER_RETRY)
ACCEPTED = RetryDecision(Resolution.SENT, Reason.NONE)
LATE_REFUSED = RetryDecision(Resolution.REJECTED, Reason.CARRIER_REFUSED)
LATE_FAILED = RetryDecision(Resolution.FAILED, Reason.RETRIES_EXHAUSTED)

log = structlog.get_logger(__name__)


class ResponseHandler:
    """Judges the messages of one carrier. Every method returns the results that are ready for the store."""

    def __init__(
        self,
        carrier: Carrier,
        lanes: CarrierLanes,
        pace: Pace,
        clock: Callable[[], int],
        excerpt: Callable[[str], bytes] = lambda text: b"",
        *,
        supervision: Supervision | None = None,
    ) -> None:
        """``clock``: ms UTC. ``excerpt``: hash of how a text begins (``store.keys.Hasher.excerpt``)."""
        self._supervision = supervision or Supervision()
        self._validity_settings: tuple[str, str] | None = None
        self.adjust(carrier)
        self._excerpt = excerpt
        self.response_time = 0.0
        """Seconds from a submit to its response, as a moving average."""
        self._lanes = lanes
        self._pace = pace
        self._clock = clock
        self.tally = CarrierCounters()
        self._unsendable_logged: dict[str, float] = {}  # reason -> when it was logged last
        self._queue_full = self._answers = 0
        self._repeated = RepeatedRefusals()
        self.session_faults = 0
        """Answers that blame the session (ESME_RINVBNDSTS and its class)."""

    def adjust(self, carrier: Carrier) -> None:
        """Judge by these settings from now on."""
        settings = carrier.validity, carrier.time_zone
        if settings != self._validity_settings:
            self._validity_settings, self.validity = settings, ValidityRefusals(carrier.name)
        self._name = carrier.name
        self._overrides = carrier.overrides or None
        self._id_form = carrier.id_form
        self._validity_status_configured = any(status in carrier.overrides for status in REFUSALS)
        self._on_unknown = ON_UNKNOWN[carrier.on_unknown]
        self._ids_per_host = carrier.receipt_key == "id" and len(carrier.hosts) > 1

    @property
    def on_unknown(self) -> OnUnknown:
        """What the carrier's configuration says about submits without a response."""
        return self._on_unknown

    def answered(self, bind: Bind, answers: list[Answered], now: float) -> tuple[list[SubmitResult], int]:
        """Apply the responses of one bind; also return how many results concern messages reported before."""
        results: list[SubmitResult] = []
        accepted = throttled = late = 0
        name, form, on_unknown = self._name, self._id_form, self._on_unknown
        host = bind.peer if self._ids_per_host else ""
        validity = self.validity if self.validity.any else None  # some messages went without a validity
        message: InFlightMessage
        index: int
        for context, status, message_id, _ in answers:
            message, index = context  # type: ignore[misc]  # what ``submit`` was given
            try:
                if message.unknown and not message.reported:
                    message.reopen(index)
                if status == 0:
                    accepted += 1
                    if message.reported:
                        part = PartAnswer(index, PartState.ACCEPTED, normalise_id(message_id, form))
                        results.append(self._late(message, part, ACCEPTED, host))
                        late += 1
                        continue
                    message.accept(index, normalise_id(message_id, form))
                else:
                    if message.reported:
                        results.append(self._late_refusal(message, index, status))
                        late += 1
                        continue
                    message.refuse(index, status)
                    throttled += self._count_refusal(status, bind)
                if not message.undecided:
                    if message.refused or message.unknown or message.unwritten or host or not message_id:
                        results.append(self.judge(message, host))
                    else:  # nearly all messages: written out, since a call costs a third more
                        leased = message.leased
                        if validity is not None:
                            validity.ended(leased, accepted=True)
                        message.reported = True
                        results.append(
                            SubmitResult(
                                id=leased.id,
                                lease=leased.lease,
                                carrier=name,
                                resolution=_SENT,
                                reason=_NONE,
                                status=0,
                                due=0,
                                total=len(message.bodies),
                                parts=message.parts,
                                on_unknown=on_unknown,
                                recipient=leased.recipient.key,
                            )
                        )
            except Exception as error:  # noqa: BLE001 - a fault over one response must not cost the others
                results += self._answer_failed(message, index, error)
        if answers:
            self._count(answers, accepted, throttled, now)
        return results, late

    def _count(self, answers: list[Answered], accepted: int, throttled: int, now: float) -> None:
        self._answers += len(answers)
        if self._answers >= QUEUE_FULL_SAMPLE:
            self._answers = self._queue_full = 0
        self.tally.accepted += accepted
        last: InFlightMessage = answers[-1].context[0]  # type: ignore[index]
        response_time = now - last.started
        try:
            self.tally.answered(answers, now, self._clock())
            self.response_time += (response_time - self.response_time) / 8
            self._pace.answered(accepted, throttled, now, response_time)
        except Exception as error:  # noqa: BLE001 - counting must not cost a response
            self._supervision.failed("answer", error)

    def _answer_failed(self, message: InFlightMessage, index: int, error: Exception) -> list[SubmitResult]:
        """Handle a fault of the gateway over a response: unless the part was decided before, it is unknown."""
        self._supervision.failed("answer", error)
        if message.reported:  # what is known of the message is stored, or on its way
            return []
        if all(part.index != index for part in message.parts):
            message.set_unknown(index)
        return [] if message.undecided else [message.result(self._name, UNANSWERED, on_unknown=self._on_unknown)]

    def lost(self, unknown: Iterable[Part], unwritten: Iterable[Part] = ()) -> list[SubmitResult]:
        """Apply the loss of parts: ``unknown`` were written and get no response, ``unwritten`` never left."""
        results: list[SubmitResult] = []
        for message, index in unknown:
            self.tally.lost += 1
            message.set_unknown(index)
            if not message.undecided:
                results += self._judge_lost(message, index)
        for message, index in unwritten:
            self.tally.unwritten += 1
            message.set_unwritten(index)
            if not message.undecided:
                results += self._judge_lost(message, index)
        return results

    def _judge_lost(self, message: InFlightMessage, index: int) -> list[SubmitResult]:
        """Return the result of a message; a fault over it must not keep those of others."""
        try:
            return [self.judge(message)]
        except Exception as error:  # noqa: BLE001
            return self._answer_failed(message, index, error)

    def judge(self, message: InFlightMessage, host: str = "") -> SubmitResult:
        """Return the result of a message without undecided parts. ``host``: that answered, where ids are per host."""
        leased = message.leased
        last = self._lanes.last(leased.route, leased.place)
        if not (message.unknown or self._validity_status_configured) and self.validity.again(
            leased, message.refused, monotonic()
        ):
            return self._judged(message, WITHOUT_VALIDITY, 0, last, host)
        decision = decide(
            message.refused,
            unknown=message.unknown > 0,
            unwritten=message.unwritten > 0,
            attempts=leased.attempts,
            last_place=last,
            overrides=self._overrides,
            random=random(),  # noqa: S311  # spreads retries, hides nothing
        )
        if decision.resolution is Resolution.BACK and message.refused:
            decision = self._step_aside(message, decision, last)
        if self.validity.any and (decision.resolution in ENDS or decision.resolution is Resolution.SENT):
            self.validity.ended(leased, accepted=decision.resolution is Resolution.SENT)
        if message.rest_failed and decision.resolution is Resolution.BACK:
            decision = GATEWAY_FAULT
        due = self._clock() + int(decision.delay * 1000) if decision.resolution is Resolution.RETRY else 0
        return self._judged(message, decision, due, last, host)

    def _step_aside(self, message: InFlightMessage, decision: RetryDecision, last: bool) -> RetryDecision:
        """Review a message that goes back for the sake of pace or session: the message itself may be the cause."""
        leased = message.leased
        if any(part.state is PartState.ACCEPTED for part in message.parts):
            self._repeated.forget(leased.id)
            return decision
        times, others = self._repeated.again(leased.id, self.tally.accepted)
        kind = classify(decision.status, self._overrides)
        return step_aside(
            decision,
            kind,
            times,
            leased.attempts,
            last,
            others=others,
            random=random(),  # noqa: S311
        )

    def _judged(
        self, message: InFlightMessage, decision: RetryDecision, due: int, last: bool, host: str
    ) -> SubmitResult:
        if decision.resolution is not Resolution.SENT:
            self.tally.resolutions[decision.resolution, decision.reason] += 1
        result = message.result(self._name, decision, on_unknown=self._on_unknown, due=due, last_place=last, host=host)
        if len(message.bodies) == 1 and (message.unknown or not result.parts[0].carrier_id):
            result.excerpt = self._excerpt(message.leased.content.text)  # its receipt cannot be matched by an id
        return result

    def unsendable(self, leased: LeasedMessage, error: Exception) -> SubmitResult:
        """Return the result of a message that this carrier cannot express: the next one may."""
        self._log_unsendable(error)
        return self._unsent(leased, UNSENDABLE)

    def gateway_fault(self, leased: LeasedMessage) -> SubmitResult:
        """Return the result of a message over which the gateway itself fails: the next carrier may have it."""
        return self._unsent(leased, GATEWAY_FAULT)

    def _unsent(self, leased: LeasedMessage, at_last_place: RetryDecision) -> SubmitResult:
        last = self._lanes.last(leased.route, leased.place)
        decision = at_last_place if last else UNSENDABLE_HERE
        self.tally.resolutions[decision.resolution, decision.reason] += 1
        message = InFlightMessage(leased, [], 0.0)
        return message.result(self._name, decision, on_unknown=self._on_unknown, last_place=last)

    def _log_unsendable(self, error: Exception) -> None:
        """Log once a minute per reason: what a carrier cannot take, it often cannot take of a whole campaign."""
        now, reason = monotonic(), str(error)
        if len(self._unsendable_logged) >= REASONS_KEPT:
            self._unsendable_logged.clear()
        if now - self._unsendable_logged.get(reason, float("-inf")) >= LOG_EVERY:
            self._unsendable_logged[reason] = now
            log.warning(
                "message cannot be sent by this carrier: it goes to the next one, or is refused",
                carrier=self._name,
                error=reason,
            )

    def _late(
        self, message: InFlightMessage, part: PartAnswer, decision: RetryDecision, host: str = ""
    ) -> SubmitResult:
        """Return the result of a response that came after its message was reported as unknown.

        The store must learn the id in it, or the receipt matches no message.
        """
        late = InFlightMessage(message.leased, message.bodies, 0.0)
        late.parts = [part]
        return late.result(self._name, decision, on_unknown=self._on_unknown, host=host)

    def _late_refusal(self, message: InFlightMessage, index: int, status: int) -> SubmitResult:
        """Return the result of a refusal after the message was reported as unknown; it causes no further try."""
        self.tally.refused[status] += 1
        permanent = classify(status, self._overrides) is RetryClass.PERMANENT
        decision = LATE_REFUSED if permanent else LATE_FAILED
        part = PartAnswer(index, PartState.PENDING, b"", status)
        return self._late(message, part, decision._replace(status=status))

    def _count_refusal(self, status: int, bind: Bind) -> int:
        """Count a refusal and abort the bind if it blames the session; return 1 when it asks for a slower pace."""
        kind = classify(status, self._overrides)
        self.tally.refused[status] += 1
        if kind is RetryClass.THROTTLE:
            return 1
        if kind is RetryClass.SESSION:
            self.session_faults += 1
            asyncio.get_running_loop().call_soon(bind.abort, f"carrier answered 0x{status:08X} to a submit")
        elif kind is RetryClass.QUEUE_FULL:
            self._queue_full += 1
            if self._queue_full >= QUEUE_FULL_LIMIT:
                self._queue_full = 0
                return 1
        return 0


_SENT, _NONE = Resolution.SENT, Reason.NONE
