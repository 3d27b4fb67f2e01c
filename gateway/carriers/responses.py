"""From a carrier's answers to reports for the store: parts are collected per message, and each is judged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from gateway.carriers.counters import CarrierCounters
from gateway.carriers.in_flight import InFlightMessage
from gateway.carriers.repeated_refusals import RepeatedRefusals
from gateway.carriers.retry import UNANSWERED, RetryDecision, blamed, decide
from gateway.carriers.validity import REFUSALS, SAY_EVERY, ValidityRefusals
from gateway.carriers.window_writer import BindPort
from gateway.model import LeasedMessage, OnUnknown, PartAnswer, PartState, Reason, Resolution, SubmitResult
from gateway.policy.pace import Pace
from gateway.smpp.message_id import normalise_id
from gateway.smpp.status import RetryClass, classify
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.carriers.lanes import CarrierLanes
    from gateway.config import Carrier
    from gateway.smpp.events import Answered

QUEUE_FULL_SAMPLE, QUEUE_FULL_LIMIT = 100, 20
"""More than 20 RMSGQFUL in 100 answers mean the whole message centre: that slows the pace like a throttle."""

ON_UNKNOWN = {"resend": OnUnknown.RESEND, "hold": OnUnknown.HOLD, "never": OnUnknown.NEVER}

UNSENDABLE = RetryDecision(Resolution.REJECTED, Reason.CARRIER_REFUSED)
AT_FAULT = RetryDecision(Resolution.FAILED, Reason.GATEWAY_FAULT)
UNSENDABLE_HERE = RetryDecision(Resolution.NEXT, Reason.NEXT_CARRIER)
REASONS_KEPT = 64

ENDS = frozenset({Resolution.NEXT, Resolution.REJECTED, Resolution.FAILED})
"""This carrier sees nothing more of the message."""

WITHOUT_VALIDITY = RetryDecision(Resolution.BACK, Reason.CARRIER_RETRY)
LATE = RetryDecision(Resolution.SENT, Reason.NONE)
LATE_REFUSED = RetryDecision(Resolution.REJECTED, Reason.CARRIER_REFUSED)
LATE_FAILED = RetryDecision(Resolution.FAILED, Reason.RETRIES_EXHAUSTED)

log = structlog.get_logger(__name__)


class ResponseHandler:
    """Judges the messages of one carrier. Every method answers with the reports that are ready for the store."""

    def __init__(
        self,
        carrier: Carrier,
        lanes: CarrierLanes,
        pace: Pace,
        clock: Callable[[], int],
        mark: Callable[[str], bytes] = lambda text: b"",
        *,
        supervision: Supervision | None = None,
    ) -> None:
        """``mark``: names how a text begins (``store.keys.Hasher.excerpt``)."""
        self._supervision = supervision or Supervision()
        self._habit: tuple[str, str] | None = None
        self.adjust(carrier)
        self._mark = mark
        self.took = 0.0
        """Seconds that submits take to be answered, of late."""
        self._lanes = lanes
        self._pace = pace
        self._clock = clock
        self.tally = CarrierCounters()
        self._unsendable: dict[str, float] = {}  # reason -> when it was said last
        self._queue_full = self._answers = 0
        self._blame = RepeatedRefusals()
        self.faults = 0
        """Answers that said that the session is at fault (ESME_RINVBNDSTS and its class)."""

    def adjust(self, carrier: Carrier) -> None:
        """Judge by these settings from now on."""
        habit = carrier.validity, carrier.time_zone
        if habit != self._habit:
            self._habit, self.validity = habit, ValidityRefusals(carrier.name)
        self._name = carrier.name
        self._overrides = carrier.overrides or None
        self._id_form = carrier.id_form
        self._set_by_hand = any(status in carrier.overrides for status in REFUSALS)
        self._on_unknown = ON_UNKNOWN[carrier.on_unknown]
        self._hosted = carrier.receipt_key == "id" and len(carrier.hosts) > 1

    @property
    def on_unknown(self) -> OnUnknown:
        """The carrier's word on submits without an answer."""
        return self._on_unknown

    def answered(self, port: BindPort, answers: list[Answered], now: float) -> tuple[list[SubmitResult], int]:
        """Answers to submits of one bind; also how many of the reports are about messages reported before."""
        reports: list[SubmitResult] = []
        accepted = throttled = late = 0
        name, form, on_unknown = self._name, self._id_form, self._on_unknown
        host = port.peer if self._hosted else ""
        without = self.validity if self.validity.any else None  # messages that went without a validity
        job: Any = None
        index: int
        for context, status, message_id, _ in answers:
            job, index = context  # type: ignore[misc]  # what ``submit`` was given
            try:
                if job.unknown and not job.reported:
                    job.find(index)
                if status == 0:
                    accepted += 1
                    if job.reported:
                        part = PartAnswer(index, PartState.ACCEPTED, normalise_id(message_id, form))
                        reports.append(self._late(job, part, LATE, host))
                        late += 1
                        continue
                    job.accepted(index, normalise_id(message_id, form))
                else:
                    if job.reported:
                        reports.append(self._late_refusal(job, index, status))
                        late += 1
                        continue
                    job.refuse(index, status)
                    throttled += self._note(status, port)
                if not job.left:
                    if job.refused or job.unknown or job.unwritten or host or not message_id:
                        reports.append(self.judge(job, host))
                    else:
                        leased, total, key = job.leased, len(job.bodies), job.leased.recipient.key
                        if without is not None:
                            without.ended(leased, accepted=True)
                        job.reported = True
                        reports.append(
                            SubmitResult(
                                *(leased.id, leased.lease, name, _SENT, _NONE, 0, 0, total),
                                *(job.parts, on_unknown, False, key),
                            )
                        )
            except Exception as error:  # noqa: BLE001 - whatever is odd about one answer, the others count
                reports += self._spoilt(job, index, error)
        if job is not None:
            self._count(answers, accepted, throttled, now)
        return reports, late

    def _count(self, answers: list[Answered], accepted: int, throttled: int, now: float) -> None:
        self._answers += len(answers)
        if self._answers >= QUEUE_FULL_SAMPLE:
            self._answers = self._queue_full = 0
        self.tally.accepted += accepted
        context: Any = answers[-1].context
        took = now - context[0].taken
        try:
            self.tally.answered(answers, now, self._clock())
            self.took += (took - self.took) / 8
            self._pace.answered(accepted, throttled, now, took)
        except Exception as error:  # noqa: BLE001 - counting must not cost an answer
            self._supervision.failed("answer", error)

    def _spoilt(self, job: InFlightMessage, index: int, error: Exception) -> list[SubmitResult]:
        """What is to be made of an answer cannot be said: unless it was noted before that, the part is unknown."""
        self._supervision.failed("answer", error)
        if job.reported:  # what is known of the message is known already, or on its way
            return []
        if all(part.index != index for part in job.parts):
            job.lose(index)
        return [] if job.left else [job.answer(self._name, UNANSWERED, 0, self._on_unknown, False)]

    def lost(self, unknown: Iterable[Any], unwritten: Iterable[Any] = ()) -> list[SubmitResult]:
        """Parts that were written and will not be answered any more, and parts that never left."""
        reports = []
        for context in unknown:
            job, index = context
            self.tally.lost += 1
            job.lose(index)
            if not job.left:
                reports += self._ended(job, index)
        for context in unwritten:
            job, index = context
            self.tally.unwritten += 1
            job.leave(index)
            if not job.left:
                reports += self._ended(job, index)
        return reports

    def _ended(self, job: InFlightMessage, index: int) -> list[SubmitResult]:
        """The report on a message; an error of ours over it keeps nobody else's."""
        try:
            return [self.judge(job)]
        except Exception as error:  # noqa: BLE001
            return self._spoilt(job, index, error)

    def judge(self, job: InFlightMessage, host: str = "") -> SubmitResult:
        """The report on a message of which nothing is undecided any more. ``host``: that answered, where it counts."""
        leased = job.leased
        last = self._lanes.last(leased.route, leased.place)
        if not (job.unknown or self._set_by_hand) and self.validity.again(leased, job.refused, monotonic()):
            return self._judged(job, WITHOUT_VALIDITY, 0, last, host)
        word = decide(
            job.refused,
            unknown=job.unknown > 0,
            unwritten=job.unwritten > 0,
            attempts=leased.attempts,
            last_place=last,
            overrides=self._overrides,
            random=random(),  # noqa: S311  # spreads retries, hides nothing
        )
        if word.resolution is Resolution.BACK and job.refused:
            word = self._blamed(job, word, last)
        if self.validity.any and (word.resolution in ENDS or word.resolution is Resolution.SENT):
            self.validity.ended(leased, accepted=word.resolution is Resolution.SENT)
        if job.spoilt and word.resolution is Resolution.BACK:
            word = AT_FAULT
        due = self._clock() + int(word.delay * 1000) if word.resolution is Resolution.RETRY else 0
        return self._judged(job, word, due, last, host)

    def _blamed(self, job: InFlightMessage, word: RetryDecision, last: bool) -> RetryDecision:
        """What goes back for the sake of pace or session, unless it is the message itself that brings this about."""
        leased = job.leased
        if any(part.state is PartState.ACCEPTED for part in job.parts):
            self._blame.forget(leased.id)
            return word
        times, others = self._blame.again(leased.id, self.tally.accepted)
        kind = classify(word.status, self._overrides)
        return blamed(word, kind, times, leased.attempts, last, others=others, random=random())  # noqa: S311

    def _judged(self, job: InFlightMessage, word: RetryDecision, due: int, last: bool, host: str) -> SubmitResult:
        if word.resolution is not Resolution.SENT:
            self.tally.resolutions[word.resolution, word.reason] += 1
        answer = job.answer(self._name, word, due, self._on_unknown, last)
        answer.host = host
        if len(job.bodies) == 1 and (job.unknown or not answer.parts[0].carrier_id):
            answer.mark = self._mark(job.leased.content.text)  # receipts will not know it by an id
        return answer

    def unsendable(self, leased: LeasedMessage, error: Exception) -> SubmitResult:
        """This carrier cannot express the message: the next one may."""
        self._say_unsendable(error)
        return self._unsent(leased, UNSENDABLE)

    def at_fault(self, leased: LeasedMessage) -> SubmitResult:
        """We ourselves fail over the message: the next carrier may have better luck."""
        return self._unsent(leased, AT_FAULT)

    def _unsent(self, leased: LeasedMessage, end: RetryDecision) -> SubmitResult:
        last = self._lanes.last(leased.route, leased.place)
        word = end if last else UNSENDABLE_HERE
        self.tally.resolutions[word.resolution, word.reason] += 1
        return InFlightMessage(leased, [], 0.0).answer(self._name, word, 0, self._on_unknown, last)

    def _say_unsendable(self, error: Exception) -> None:
        """One line a minute and reason: what a carrier cannot take, it often cannot take of a whole campaign."""
        now, reason = monotonic(), str(error)
        if len(self._unsendable) >= REASONS_KEPT:
            self._unsendable.clear()
        if now - self._unsendable.get(reason, float("-inf")) >= SAY_EVERY:
            self._unsendable[reason] = now
            log.warning(
                "message cannot be sent by this carrier: the next one has it, or it is refused",
                carrier=self._name,
                error=reason,
            )

    def _late(self, job: InFlightMessage, part: PartAnswer, word: RetryDecision, host: str = "") -> SubmitResult:
        """An answer after the message was reported unknown: its id must be known, or its receipt finds nobody."""
        late = InFlightMessage(job.leased, job.bodies, 0.0)
        late.parts = [part]
        answer = late.answer(self._name, word, 0, self._on_unknown, False)
        answer.host = host
        return answer

    def _late_refusal(self, job: InFlightMessage, index: int, status: int) -> SubmitResult:
        """A refusal after the message was reported unknown: that copy was none. It is not tried again for it."""
        self.tally.refused[status] += 1
        permanent = classify(status, self._overrides) is RetryClass.PERMANENT
        word = LATE_REFUSED if permanent else LATE_FAILED
        return self._late(job, PartAnswer(index, PartState.PENDING, b"", status), word._replace(status=status))

    def _note(self, status: int, port: BindPort) -> int:
        """Look at a refusal for what it says of the bind and of the carrier; 1 when it asks for a slower pace."""
        kind = classify(status, self._overrides)
        self.tally.refused[status] += 1
        if kind is RetryClass.THROTTLE:
            return 1
        if kind is RetryClass.SESSION:
            self.faults += 1
            asyncio.get_running_loop().call_soon(port.abort, f"carrier answered 0x{status:08X} to a submit")
        elif kind is RetryClass.QUEUE_FULL:
            self._queue_full += 1
            if self._queue_full >= QUEUE_FULL_LIMIT:
                self._queue_full = 0
                return 1
        return 0


_SENT, _NONE = Resolution.SENT, Reason.NONE
