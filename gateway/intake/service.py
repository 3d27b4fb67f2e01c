"""The one intake, whichever interface a message comes in by: check, decide, write, and only then answer.

A batch goes in, its results come out in the order sent. It is cut into slices, so that a large one does not hold up
the loop; each slice costs two calls to the store (``facts``, ``accept``), however many messages it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from gateway.clock import now_ms
from gateway.config import Account
from gateway.intake.batcher import Batcher
from gateway.intake.counters import IntakeCounters
from gateway.intake.duplicates import without_passed_instants
from gateway.intake.durable_write import (
    INTERNAL,
    STORE_TIMEOUT,
    DurableWriter,
    UnstorableMessage,
    not_sent,
    nothing_written,
    read_in_time,
    unstored_problem,
)
from gateway.intake.frequency import BatchFrequency, Caps
from gateway.intake.policy_context import PolicyContext, state_of
from gateway.intake.queue_limits import QueueEntry, QueueLimits
from gateway.intake.recorded_decisions import verdict_of
from gateway.intake.rights import AccountRights
from gateway.intake.slice_order import SliceOrder
from gateway.intake.submission import Submission, SubmissionProblem, SubmissionResult
from gateway.intake.validated import (
    BatchContext,
    DecidedSubmission,
    IdempotentOrigin,
    IncomingSubmission,
    ValidatedSubmission,
    message_of,
    request_of,
    result_of,
)
from gateway.intake.validation import check
from gateway.intake.velocity_limits import VelocityLimits
from gateway.model import PRIORITY, AcceptResult, Facts, Priority, Recipient, State
from gateway.policy.decide import caps_for, decide
from gateway.store.errors import StoreError, StoreFull
from gateway.store.ids import new_ids
from gateway.supervision import Supervision

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore
    from gateway.store.velocity_counts import VelocityCounts

log = structlog.get_logger(__name__)

__all__ = ["Intake", "Submission", "SubmissionProblem", "SubmissionResult"]

SLICE = 512
"""Messages of a batch that take the steps together. While one slice is written, the next is checked and decided."""

SLICE_ALONE = 256
"""The same while no other batch is on its way: so the first messages of a batch are with a carrier before the last are
looked at. Under load that would only cost, for the batches of others fill the time."""

GAP, LONGEST = 0.003, 0.008
"""Seconds: single messages wait while others follow within a gap, and for so long at most …"""

ENOUGH = 64
"""… or until there are so many: a call costs each partition as much as several messages do."""

STRIDE = 128
"""Messages checked or decided before the loop gets its turn, after some three milliseconds at most."""

MAX_CALL = 1024
"""Messages of different requests in one call to the store; more would hold up everything else there."""

Outcome = SubmissionResult | SubmissionProblem
Problems = dict[int, SubmissionProblem]
"""Index in the slice -> why the submission goes no further."""


class WorkAvailable(Protocol):
    """Called with partitions in which messages wait to be sent (``carriers.manager.CarrierManager.work_available``).

    ``urgent``: a one-time password is among them. ``route``: that of all of them; None = any.
    """

    def __call__(self, partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None: ...


def _no_carriers(partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
    """Do nothing: no carrier runs."""


async def _no_announcement(accounts: set[str]) -> None:
    """Do nothing: no webhooks follow."""


class Intake:
    """Accepts messages: ``one`` on its own, or ``many`` as a batch.

    ``work_available`` gets the partitions with new messages. ``announce_callbacks`` is called with the accounts whose
    messages have a ``callback_url``, before these are stored. ``velocity`` counts messages to ranges of numbers that
    have limits.
    """

    def __init__(
        self,
        store: MessageStore,
        policy_context: PolicyContext,
        *,
        work_available: WorkAvailable = _no_carriers,
        announce_callbacks: Callable[[set[str]], Awaitable[None]] = _no_announcement,
        clock: Callable[[], int] = now_ms,
        gap: float = GAP,
        max_waiting: int = 10_000_000,
        velocity: VelocityCounts | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._store = store
        self._policy_context = policy_context
        self._work_available = work_available
        self._announce_callbacks = announce_callbacks
        self._clock = clock
        self._velocity = None if velocity is None else VelocityLimits(velocity, store)
        self._queue_limits = QueueLimits(store, max_waiting)
        self._singles: Batcher[IncomingSubmission, Outcome] = Batcher(
            self._accept_singles, gap=gap, longest=LONGEST, enough=ENOUGH
        )
        self._facts: Batcher[tuple[Recipient, Caps], Facts] = Batcher(
            self._read_facts,
            gap=0,
            limit=MAX_CALL,
            timeout=STORE_TIMEOUT,
            timed_out=not_sent,
            not_sent=not_sent,
            divide=True,
        )
        self._writer = DurableWriter(store.accept, limit=MAX_CALL)
        self._large_batches = 0  # on their way, of more than SLICE_ALONE messages
        self.counters = IntakeCounters()

    def __repr__(self) -> str:
        return f"<Intake {self._singles!r} {self._policy_context!r}>"

    async def one(self, account: Account, submission: Submission, base: bytes | None = None) -> Outcome:
        """Accept one message, batched with others that arrive within a moment. Raises StoreError.

        ``base``: of a request that may be repeated (see ``store.idempotency``): the same base makes the same message.
        """
        origin = None if base is None else IdempotentOrigin(base, 0)
        return (await self._singles.put([(account, submission, origin)]))[0]

    async def many(
        self, account: Account, submissions: Sequence[Submission], base: bytes | None = None
    ) -> list[Outcome]:
        """Accept a batch as of now. Raises StoreError when nothing was accepted. ``base`` as for ``one``."""
        if base is None:
            return await self.accept(account, submissions, self._clock())
        return await self._accept(
            [(account, each, IdempotentOrigin(base, index)) for index, each in enumerate(submissions)], self._clock()
        )

    async def accept(self, account: Account, submissions: Sequence[Submission], now: int) -> list[Outcome]:
        """Return the results in the order sent, once the store has the messages.

        Raises StoreError when nothing was accepted.
        """
        return await self._accept([(account, each, None) for each in submissions], now)

    async def _accept_singles(self, items: list[IncomingSubmission]) -> list[Outcome]:
        return await self._accept(items, self._clock())

    async def _accept(self, items: Sequence[IncomingSubmission], now: int) -> list[Outcome]:
        accounts = [account.name for account, _, _ in items]
        size, large = SLICE if self._large_batches else SLICE_ALONE, len(items) > SLICE_ALONE
        self._large_batches += large
        try:
            results = await self._accept_slices(items, now, size)
        except StoreError as error:
            self.counters.add_failed(accounts, "store_full" if isinstance(error, StoreFull) else "store_unavailable")
            raise
        finally:
            self._large_batches -= large
        self.counters.add(accounts, results)
        return results

    async def _accept_slices(self, items: Sequence[IncomingSubmission], now: int, size: int) -> list[Outcome]:
        await self._queue_limits.refresh()
        batch = BatchContext(now, BatchFrequency())
        order = SliceOrder()
        if len(items) <= size:
            try:
                return await self._accept_slice(0, items, batch, order)
            except StoreError as raised:
                raise nothing_written(raised) from raised
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        slices = [self._accept_slice(number, part, batch, order) for number, part in enumerate(parts)]
        results: list[Outcome] = []
        for answer in await asyncio.gather(*slices, return_exceptions=True):
            if isinstance(answer, StoreError):  # by a read before the write, or the store has surely not written
                error = nothing_written(answer)
                if not any(result.id for result in results):
                    raise error from answer
                rest = unstored_problem(error, "the store failed before this message was reached; send it again")
                return results + [rest] * (len(items) - len(results))
            if isinstance(answer, BaseException):
                raise answer
            results += answer
        return results

    async def _accept_slice(
        self, number: int, items: Sequence[IncomingSubmission], batch: BatchContext, order: SliceOrder
    ) -> list[Outcome]:
        """Take a slice through the steps. Each returns what goes on, and the problem of what does not, by index."""
        with self._queue_limits.entry() as queue:
            async with order.preparing(number):
                items = await without_passed_instants(items, self._store, self._policy_context.hasher, batch.now)
                validated, invalid = await self._check(items, queue, batch.now)
                within, over_limit = await self._limit(validated, queue, batch.now)
                decided, undecided = await self._decide(within, queue, batch)
            async with order.storing(number):
                written = await self._write(decided)
            results = await self._results(decided, written, queue, batch)
        outcomes: dict[int, Outcome] = {**invalid, **over_limit, **undecided, **results}
        assert len(outcomes) == len(items), f"{len(items)} submissions have {len(outcomes)} outcomes"
        return [outcomes[index] for index in range(len(items))]

    # ---- check

    async def _check(
        self, items: Sequence[IncomingSubmission], queue: QueueEntry, now: int
    ) -> tuple[list[ValidatedSubmission], Problems]:
        """Check everything that must hold before policy decides; what passes enters the queue."""
        policy_context = self._policy_context
        rules, recipient_of = policy_context.rules, policy_context.hasher.recipient
        validated: list[ValidatedSubmission] = []
        problems: Problems = {}
        for index, (account, submission, origin) in enumerate(items):
            if index and index % STRIDE == 0:
                await asyncio.sleep(0)
                rules = policy_context.rules
            rights = self._admit(account)
            if isinstance(rights, SubmissionProblem):
                problems[index] = rights
                continue
            try:
                checked = check(submission, rights, now, policy_context, rules.allow_prefixes)
                if isinstance(checked, SubmissionProblem):
                    problems[index] = checked
                    continue
                brand_scope = rights.brand_scopes[checked.brand]
                caps = caps_for(checked.category, rights.account_scope, brand_scope, rules)
                recipient = recipient_of(checked.digits)
            except Exception as error:  # noqa: BLE001 - whatever one message provokes must not fail the others
                problems[index] = self._internal_problem(error)
                continue
            validated.append(ValidatedSubmission(index, submission, rights, checked, recipient, origin, caps))
            queue.add(account.name)
        return validated, problems

    def _admit(self, account: Account) -> AccountRights | SubmissionProblem:
        """Return the account's rights, or the problem when a queue is full or a reload has removed the account."""
        if (problem := self._queue_limits.problem(account)) is not None:
            return problem
        rights = self._policy_context.rights.get(account.name)
        return SubmissionProblem("unauthorized", "this account no longer exists") if rights is None else rights

    def _internal_problem(self, error: Exception) -> SubmissionProblem:
        self._supervision.failed("intake", error)
        return SubmissionProblem("internal", INTERNAL)

    # ---- limits by destination

    async def _limit(
        self, validated: list[ValidatedSubmission], queue: QueueEntry, now: int
    ) -> tuple[list[ValidatedSubmission], Problems]:
        """Hold back what exceeds a velocity limit."""
        policy_context = self._policy_context
        if self._velocity is None or not (policy_context.rules.velocity or policy_context.velocity):
            return validated, {}
        over = await self._velocity.over_limit(validated, policy_context.rules.velocity, self._reference, now)
        if not over:
            return validated, over
        for each in validated:
            if each.index in over:
                queue.remove(each.rights.name)
        return [each for each in validated if each.index not in over], over

    # ---- facts and decisions

    async def _decide(
        self, validated: list[ValidatedSubmission], queue: QueueEntry, batch: BatchContext
    ) -> tuple[list[DecidedSubmission], Problems]:
        """Let policy decide by what the store knows of each recipient, and make the messages to store."""
        if not validated:
            return [], {}
        facts = await self._facts.put([(each.recipient, each.caps) for each in validated])
        ids = new_ids(batch.now, [each.recipient.partition for each in validated])
        decided: list[DecidedSubmission] = []
        problems: Problems = {}
        for start in range(0, len(validated), STRIDE):
            if start:
                await asyncio.sleep(0)
            stride = slice(start, start + STRIDE)
            for each, known, message_id in zip(validated[stride], facts[stride], ids[stride], strict=True):
                try:
                    decided.append(self._decide_one(each, known, message_id, batch))
                except Exception as error:  # noqa: BLE001 - whatever one message provokes must not fail the others
                    problems[each.index] = self._internal_problem(error)
                    queue.remove(each.rights.name)
        return decided, problems

    async def _read_facts(self, wanted: Sequence[tuple[Recipient, Caps]]) -> list[Facts]:
        caps = [caps for _, caps in wanted]
        return await self._store.facts([recipient for recipient, _ in wanted], caps if any(caps) else ())

    def _decide_one(
        self, validated: ValidatedSubmission, facts: Facts, message_id: bytes, batch: BatchContext
    ) -> DecidedSubmission:
        recipient, caps = validated.recipient, validated.caps
        if caps:
            facts = batch.frequency.apply(recipient, caps, facts)
        verdict = decide(request_of(validated, batch.now), facts, batch.now, self._policy_context.rules)
        state, counted = state_of(verdict), False
        if caps and state is State.QUEUED:
            client_ref = validated.submission.client_ref
            name = f"{validated.rights.name}/{client_ref}" if client_ref else ""
            counted = batch.frequency.count(recipient, caps, facts, name)
        message = message_of(message_id, validated, verdict, state, self._reference(validated))
        return DecidedSubmission(validated, verdict, state, counted, message)

    def _reference(self, validated: ValidatedSubmission) -> bytes:
        name = validated.submission.client_ref
        if name is None:
            return b""
        return self._policy_context.hasher.reference(validated.rights.name, validated.recipient, name)

    # ---- write

    async def _write(self, decided: list[DecidedSubmission]) -> Sequence[AcceptResult | StoreError]:
        """Write the messages and wake the dispatchers. Raises StoreError when surely none is stored."""
        if not decided:
            return []
        if accounts := {each.validated.rights.name for each in decided if each.validated.submission.callback_url}:
            await self._announce_callbacks(accounts)
        written = await self._writer.put([each.message for each in decided])
        self._wake_dispatchers(decided)
        return written

    def _wake_dispatchers(self, decided: list[DecidedSubmission]) -> None:
        places: dict[str, set[int]] = {}
        urgent = False
        for _, _, state, _, message in decided:
            if state is State.QUEUED:
                places.setdefault(message.route, set()).add(message.recipient.partition)
                urgent = urgent or PRIORITY[message.category] is Priority.OTP
        if places:
            try:
                for route, partitions in places.items():
                    self._work_available(partitions, urgent=urgent, route=route)
            except Exception as error:  # noqa: BLE001 - they are stored, and found by the next sweep
                self._supervision.failed("work_available", error)

    # ---- results

    async def _results(
        self,
        decided: list[DecidedSubmission],
        written: Sequence[AcceptResult | StoreError],
        queue: QueueEntry,
        batch: BatchContext,
    ) -> dict[int, Outcome]:
        """Return what each app is told, by index; what is not going to wait leaves the queue."""
        results: dict[int, Outcome] = {}
        repeats: dict[int, SubmissionResult] = {}
        for each, outcome in zip(decided, written, strict=True):
            validated, _, state, counted, message = each
            if isinstance(outcome, StoreError):
                problem = unstored_problem(outcome, "the store failed; send the message again", message.id)
                results[validated.index] = problem
                if isinstance(outcome, UnstorableMessage):
                    queue.remove(validated.rights.name)
                    self._supervision.failed("intake", outcome.fault)
                continue
            result = results[validated.index] = result_of(each, outcome)
            if state is State.REJECTED:
                queue.remove(validated.rights.name)
            if not outcome.new:
                if counted:
                    batch.frequency.uncount(validated.recipient, validated.caps)
                result.duplicate = outcome.id != message.id
                repeats[validated.index] = result
        return results | await self._describe(repeats) if repeats else results

    async def _describe(self, repeats: dict[int, SubmissionResult]) -> dict[int, Outcome]:
        """Return the results of repeated requests and references: the first message as it is now."""
        try:
            records = await read_in_time(self._store.find([result.id for result in repeats.values()]))
        except StoreError as error:
            log.info("repeats could not be looked up", messages=len(repeats), error=str(error))
            return {
                index: SubmissionProblem("write_unconfirmed", _STATUS_UNREAD, id=result.id)
                for index, result in repeats.items()
            }
        for result, record in zip(repeats.values(), records, strict=True):
            if result.duplicate:
                result.replaced = None  # the first message may have had another text
            if record is not None:
                result.state, result.verdict = record.state, verdict_of(record)
                result.segments, result.encoding = record.segments, record.envelope.encoding
                if record.state is State.REJECTED and record.timeline[0].state is not State.REJECTED:
                    result.duplicate = True  # it was accepted, and refused later
        return dict(repeats)


_STATUS_UNREAD = "this message was accepted before, under this id; the store could not say what became of it: ask again"
