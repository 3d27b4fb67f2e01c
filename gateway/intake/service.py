"""The one intake of both doors: check, decide, write; only then answer.

Batch in, results out in the order sent. A batch is cut into slices, so that a large one never holds up the loop for
long; each slice costs two calls to the store (``facts``, ``accept``), however many messages it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import structlog

from gateway.clock import now_ms
from gateway.config import Account
from gateway.intake.batcher import Batcher
from gateway.intake.counters import IntakeCounters
from gateway.intake.duplicates import Item, without_instants
from gateway.intake.durable_write import (
    FAILS_OVER,
    PATIENCE,
    DurableWriter,
    UnstorableMessage,
    definite,
    in_time,
    silent,
    unstored,
)
from gateway.intake.frequency import BatchFrequency, Caps
from gateway.intake.policy_context import PolicyContext, state_of, verdict_of
from gateway.intake.queue_limits import QueueLimits
from gateway.intake.submission import AccountRights, Submission, SubmissionProblem, SubmissionResult, check
from gateway.intake.validated import (
    BatchContext,
    IdempotentOrigin,
    RoutedVerdict,
    ValidatedSubmission,
    message_of,
    request_of,
    result_of,
    trace,
)
from gateway.intake.velocity_limits import DestinationCounts, VelocityLimits
from gateway.model import PRIORITY, AcceptResult, Cap, Facts, NewMessage, Priority, Recipient, State
from gateway.policy.decide import caps_for, decide
from gateway.store.errors import StoreError, StoreFull
from gateway.store.ids import new_ids
from gateway.store.records import MessageRecord
from gateway.store.requests import QueueDepths
from gateway.supervision import Supervision

log = structlog.get_logger(__name__)

__all__ = ["Intake", "Submission", "SubmissionProblem", "SubmissionResult"]

SLICE = 512
"""Messages of a batch that are taken in together."""

STRIDE = 128
"""Messages checked or decided between two breaths: nothing else waits for longer than some three milliseconds."""

TOGETHER = 1024
"""Messages of different requests in one call to the store; more would hold up everything else there."""

Outcomes = list[SubmissionResult | SubmissionProblem]


class IntakeStore(Protocol):
    """What intake needs of the store."""

    async def accept(self, items: Sequence[NewMessage]) -> list[AcceptResult]: ...
    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]: ...
    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]: ...
    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]: ...
    async def depths(self) -> QueueDepths: ...


class WorkAvailable(Protocol):
    """Called with partitions in which messages wait to be sent (``carriers.manager.CarrierManager.work_available``).

    ``urgent``: a one-time password is among them. ``route``: that of all of them; None = any.
    """

    def __call__(self, partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None: ...


def _no_carriers(partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
    """Tell nobody: no carrier runs."""


async def _no_receivers(accounts: set[str]) -> None:
    """Nobody follows events."""


class Intake:
    """``one`` for a message on its own, ``many`` for a batch; ``work_available`` gets the partitions with new messages.

    It is told whether a one-time password is among it. ``named`` hears whose messages name a receiver for their events.
    ``velocity`` counts what accounts hand in for ranges of numbers that are limited.
    """

    def __init__(
        self,
        store: IntakeStore,
        policy_context: PolicyContext,
        *,
        work_available: WorkAvailable = _no_carriers,
        named: Callable[[set[str]], Awaitable[None]] = _no_receivers,
        clock: Callable[[], int] = now_ms,
        gap: float = 0.002,
        max_waiting: int = 10_000_000,
        velocity: DestinationCounts | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._velocity = None if velocity is None else VelocityLimits(velocity, store)
        self._store = store
        self._policy_context = policy_context
        self._work_available = work_available
        self._named = named
        self._clock = clock
        self._singles: Batcher[Item, SubmissionResult | SubmissionProblem] = Batcher(self._gathered, gap=gap)
        self._facts: Batcher[tuple[Recipient, Caps], Facts] = Batcher(
            self._look_up, gap=0, limit=TOGETHER, patience=PATIENCE, lost=silent, kept=silent, divide=True
        )
        self._writes = DurableWriter(store.accept, limit=TOGETHER)
        self.tally = IntakeCounters()
        self._bounds = QueueLimits(store, max_waiting)

    def __repr__(self) -> str:
        return f"<Intake {self._singles!r} {self._policy_context!r}>"

    async def one(
        self, account: Account, asked: Submission, base: bytes | None = None
    ) -> SubmissionResult | SubmissionProblem:
        """One message, gathered with others that arrive within a moment. Raises StoreError.

        ``base``: of a request that may be repeated (see ``store.idempotency``): the same one makes the same message.
        """
        return (await self._singles.put([(account, asked, None if base is None else IdempotentOrigin(base, 0))]))[0]

    async def many(self, account: Account, asked: Sequence[Submission], base: bytes | None = None) -> Outcomes:
        """A batch of an account, as of now. Raises StoreError when nothing was accepted. ``base`` as for ``one``."""
        if base is None:
            return await self.accept(account, asked, self._clock())
        return await self._accept(
            [(account, each, IdempotentOrigin(base, index)) for index, each in enumerate(asked)], self._clock()
        )

    async def accept(self, account: Account, submissions: Sequence[Submission], now: int) -> Outcomes:
        """Results in the order sent, after the store holds them. Raises StoreError when nothing was accepted."""
        return await self._accept([(account, asked, None) for asked in submissions], now)

    async def _gathered(self, items: list[Item]) -> Outcomes:
        return await self._accept(items, self._clock())

    async def _accept(self, items: Sequence[Item], now: int) -> Outcomes:
        accounts = [account.name for account, _, _ in items]
        try:
            results = await self._take_in(items, now)
        except StoreError as error:
            self.tally.failed(accounts, "store_full" if isinstance(error, StoreFull) else "store_unavailable")
            raise
        self.tally.add(accounts, results)
        return results

    async def _take_in(self, items: Sequence[Item], now: int) -> Outcomes:
        await self._bounds.refresh()
        batch = BatchContext(now, BatchFrequency())
        results: Outcomes = []
        for start in range(0, len(items), SLICE):
            try:
                results += await self._slice(items[start : start + SLICE], batch)
            except StoreError as error:  # of what is read before the write, or the store has surely not written
                if not any(result.id for result in results):
                    raise definite(error) from error
                rest = unstored(definite(error), "the store failed before this message was reached; send it again")
                return results + [rest] * (len(items) - start)
        return results

    async def _slice(self, items: Sequence[Item], batch: BatchContext) -> Outcomes:
        items = await without_instants(items, self._store, self._policy_context.hasher, batch.now)
        results: list[SubmissionResult | SubmissionProblem | None] = [None] * len(items)
        cases: list[ValidatedSubmission] = []
        refused: list[str] = []
        try:
            for start in range(0, len(items), STRIDE):
                if start:
                    await asyncio.sleep(0)
                cases += self._check(items[start : start + STRIDE], start, results, batch.now)
            within = await self._within_velocity(cases, results, refused, batch.now)
            if within:
                await self._store_cases(within, results, refused, batch)
        finally:
            self._bounds.arrived([case.rights.name for case in cases], refused)
        return [result for result in results if result is not None]

    async def _within_velocity(
        self,
        cases: list[ValidatedSubmission],
        results: list[SubmissionResult | SubmissionProblem | None],
        refused: list[str],
        now: int,
    ) -> list[ValidatedSubmission]:
        """The cases but for those over a limit of their destination: their faults go into ``results``."""
        policy_context = self._policy_context
        if self._velocity is None or not (policy_context.rules.velocity or policy_context.velocity):
            return cases
        over = await self._velocity.over(cases, policy_context.rules.velocity, self._reference, now)
        for place, problem in over.items():
            results[place] = problem
        refused += [case.rights.name for case in cases if case.place in over]
        return [case for case in cases if case.place not in over] if over else cases

    async def _store_cases(
        self,
        cases: Sequence[ValidatedSubmission],
        results: list[SubmissionResult | SubmissionProblem | None],
        refused: list[str],
        batch: BatchContext,
    ) -> None:
        """Decide and write what passed the checks; ``refused`` gets the accounts of what policy refuses."""
        known = await self._facts.put([(case.recipient, case.caps) for case in cases])
        cases, rulings, messages = await self._rule(cases, known, batch, results, refused)
        if not cases:
            return
        if naming := {case.rights.name for case in cases if case.asked.callback_url}:
            await self._named(naming)  # before the first event of theirs is raised
        accepted = await self._writes.put(messages)
        self._tell(cases, rulings)
        repeats: list[SubmissionResult] = []
        for case, ruling, message, done in zip(cases, rulings, messages, accepted, strict=True):
            if isinstance(done, StoreError):
                results[case.place] = unstored(done, "the store failed; send it again", message.id)
                if isinstance(done, UnstorableMessage):
                    refused.append(case.rights.name)
                    self._supervision.failed("intake", done.fault)
                continue
            result = results[case.place] = result_of(case, ruling, done)
            if ruling.state is State.REJECTED:
                refused.append(case.rights.name)
            if not done.new:
                if ruling.counted:
                    batch.frequency.was_there(case.recipient, case.caps)
                result.duplicate = done.id != message.id
                repeats.append(result)
        if repeats:
            await self._describe(repeats, results)

    async def _look_up(self, asked: Sequence[tuple[Recipient, Caps]]) -> list[Facts]:
        caps = [caps for _, caps in asked]
        return await self._store.facts([recipient for recipient, _ in asked], caps if any(caps) else ())

    async def _rule(
        self,
        cases: Sequence[ValidatedSubmission],
        known: Sequence[Facts],
        batch: BatchContext,
        results: list[SubmissionResult | SubmissionProblem | None],
        refused: list[str],
    ) -> tuple[list[ValidatedSubmission], list[RoutedVerdict], list[NewMessage]]:
        """Decide every case and make the messages to store; the cases that are left, their rulings and messages."""
        ids = new_ids(batch.now, [case.recipient.partition for case in cases])
        left: list[ValidatedSubmission] = []
        rulings: list[RoutedVerdict] = []
        messages: list[NewMessage] = []
        for start in range(0, len(cases), STRIDE):
            if start:
                await asyncio.sleep(0)
            for place in range(start, min(start + STRIDE, len(cases))):
                case = cases[place]
                try:
                    ruling = self._decide(case, known[place], batch)
                    message = message_of(ids[place], case, ruling, self._reference(case))
                    if case.origin is not None:
                        trace(message, *case.origin)
                except Exception as error:  # noqa: BLE001 - whatever is odd about one message harms it alone
                    results[case.place] = self._baffled(error)
                    refused.append(case.rights.name)
                    continue
                left.append(case)
                rulings.append(ruling)
                messages.append(message)
        return left, rulings, messages

    def _baffled(self, error: Exception) -> SubmissionProblem:
        self._supervision.failed("intake", error)
        return SubmissionProblem("internal", FAILS_OVER)

    def _tell(self, cases: Sequence[ValidatedSubmission], rulings: Sequence[RoutedVerdict]) -> None:
        """Wake the dispatchers for what may go."""
        places: dict[str, set[int]] = {}
        urgent = False
        for case, ruling in zip(cases, rulings, strict=True):
            if ruling.state is State.QUEUED:
                places.setdefault(ruling.route, set()).add(case.recipient.partition)
                urgent = urgent or PRIORITY[case.checked.category] is Priority.OTP
        if places:
            try:
                for route, partitions in places.items():
                    self._work_available(partitions, urgent=urgent, route=route)
            except Exception as error:  # noqa: BLE001 - they are stored, and found by the next sweep
                self._supervision.failed("work_available", error)

    def _check(
        self,
        items: Sequence[Item],
        start: int,
        results: list[SubmissionResult | SubmissionProblem | None],
        now: int,
    ) -> list[ValidatedSubmission]:
        """Cases of what passes; the faults of the rest go into ``results``. ``start``: the place of the first."""
        recipient_of, enter, rules = (
            self._policy_context.hasher.recipient,
            self._bounds.enter,
            self._policy_context.rules,
        )
        cases: list[ValidatedSubmission] = []
        for place, (account, asked, origin) in enumerate(items, start):
            rights = self._admit(account)
            if isinstance(rights, SubmissionProblem):
                results[place] = rights
                continue
            try:
                checked = check(asked, rights, now, self._policy_context, rules.allow_prefixes)
                if isinstance(checked, SubmissionProblem):
                    results[place] = checked
                    continue
                brand = rights.brand_scopes[checked.brand]
                caps = caps_for(checked.category, rights.account_scope, brand, rules)
                case = ValidatedSubmission(place, asked, rights, checked, recipient_of(checked.digits), origin, caps)
            except Exception as error:  # noqa: BLE001 - whatever is odd about one message harms it alone
                results[place] = self._baffled(error)
                continue
            enter(account.name)
            cases.append(case)
        self._bounds.leaves([case.rights.name for case in cases])
        return cases

    def _admit(self, account: Account) -> AccountRights | SubmissionProblem:
        """The account's rights, unless its queue or everybody's is full, or a reload took it away meanwhile."""
        if (full := self._bounds.fault(account)) is not None:
            return full
        rights = self._policy_context.rights.get(account.name)
        return SubmissionProblem("unauthorized", "this account does not exist any more") if rights is None else rights

    def _decide(self, case: ValidatedSubmission, facts: Facts, batch: BatchContext) -> RoutedVerdict:
        asked, rights, checked, caps = case.asked, case.rights, case.checked, case.caps
        route = checked.route
        if caps:
            facts = batch.frequency.known(case.recipient, caps, facts)
        verdict = decide(request_of(case, route, batch.now), facts, batch.now, self._policy_context.rules)
        state, counted = state_of(verdict), False
        if caps and state is State.QUEUED:
            name = f"{rights.name}/{asked.client_ref}" if asked.client_ref else ""
            counted = batch.frequency.let_in(case.recipient, caps, facts, name)
        return RoutedVerdict(verdict, state, route, counted)

    def _reference(self, case: ValidatedSubmission) -> bytes:
        name = case.asked.client_ref
        return b"" if name is None else self._policy_context.hasher.reference(case.rights.name, case.recipient, name)

    async def _describe(
        self, repeats: Sequence[SubmissionResult], results: list[SubmissionResult | SubmissionProblem | None]
    ) -> None:
        """A repeated request or reference is answered with the first message as it stands now."""
        try:
            records = await in_time(self._store.find([result.id for result in repeats]))
        except StoreError as error:
            log.info("repeats could not be looked up", messages=len(repeats), error=str(error))
            places = {id(result): place for place, result in enumerate(results)}
            for repeat in repeats:
                results[places[id(repeat)]] = SubmissionProblem("write_unconfirmed", _UNREAD, id=repeat.id)
            return
        for result, record in zip(repeats, records, strict=True):
            if result.duplicate:
                result.replaced = None  # it was another text
            if record is not None:
                result.state, result.verdict = record.state, verdict_of(record)
                result.segments, result.encoding = record.segments, record.envelope.encoding
                if record.state is State.REJECTED and record.timeline[0].state is not State.REJECTED:
                    result.duplicate = True  # it was accepted; what refused it came later


_UNREAD = "it was accepted before, under this id, and the store could not say how it stands: ask again"
