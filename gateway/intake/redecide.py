"""Fresh decisions: what ``take`` hands back is decided as if it came in now, and ``permit`` puts it into effect.

A message comes back when its deferral is over, when it fell out of its permitted hours, met a cap or an open breaker,
was released from ``held``, or was decided under an older policy epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gateway.clock import now_ms
from gateway.intake.policy_context import PolicyContext, state_of
from gateway.model import (
    Cap,
    Category,
    DecisionDetail,
    Facts,
    Outcome,
    Permission,
    Permit,
    Reason,
    Redecide,
    RequestedTerms,
    State,
)
from gateway.policy.decide import Request, caps_for, decide
from gateway.supervision import TRIES, FailureCounts, Supervision, isolate_failures

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore

SLICE = 256
"""Messages decided together."""

_NO_TERMS = RequestedTerms()
_NO_PERMISSION = Permission(0, 0, 0, 0, bytes(8), bytes(8))
T = TypeVar("T")


class Redecider:
    """Decide again, in batches. A crash loses nothing: the store hands the messages out again after 5 s."""

    def __init__(
        self,
        store: MessageStore,
        policy_context: PolicyContext,
        *,
        work_available: Callable[[set[int]], None] = lambda partitions: None,
        clock: Callable[[], int] = now_ms,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._failures = FailureCounts()
        self._store = store
        self._policy_context = policy_context
        self._work_available = work_available
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Redecider by {self._policy_context!r}>"

    async def redecide(self, items: Sequence[Redecide]) -> None:
        """Decide these and write the decisions. Raises StoreError; the rest is handed out again later.

        A message that cannot be decided does not hold up the others: the store hands it out again, and at the third
        failure it is rejected (``gateway_fault``).
        """
        for start in range(0, len(items), SLICE):
            await isolate_failures(items[start : start + SLICE], self._decide, self._undecided)

    async def _decide(self, batch: Sequence[Redecide]) -> None:
        caps = [self._caps(item) for item in batch]
        facts = await self._store.facts([item.recipient for item in batch], caps if any(caps) else ())
        now = self._clock()
        await self._store.permit([self._permit(item, known, now) for item, known in zip(batch, facts, strict=True)])
        self._work_available({item.recipient.partition for item in batch})

    async def _undecided(self, item: Redecide, error: Exception) -> None:
        self._supervision.failed("decision", error)
        if self._failures.add(item.id) < TRIES:
            return
        self._failures.forget(item.id)
        self._supervision.set_aside("decision", item.id.hex(), error)
        rejection = Permit(
            item.id,
            item.token,
            state=State.REJECTED,
            reason=Reason.GATEWAY_FAULT,
            due=0,
            route=item.route,
            permission=_NO_PERMISSION,
        )
        try:
            await self._store.permit([rejection])
        except Exception as again:  # noqa: BLE001 - the store hands it out again until it expires
            self._supervision.failed("decision", again)

    def _caps(self, item: Redecide) -> tuple[Cap, ...]:
        """Return the caps to look up: all of them for a message that met one, to learn which one and until when."""
        if item.reason is not Reason.FREQUENCY_CAP:
            return ()
        envelope = item.envelope
        scopes = self._policy_context.scopes(envelope.account, envelope.brand)
        return caps_for(Category(envelope.category), *scopes, self._policy_context.rules)

    def _permit(self, item: Redecide, facts: Facts, now: int) -> Permit:
        envelope = item.envelope
        route = item.route
        if not route or not self._policy_context.has_lane(route):  # a reload removed it while the message waited
            route = self._policy_context.route(
                envelope.to, envelope.sender, Category(envelope.category), envelope.account
            )
        verdict = decide(self._request(item, route), facts, now, self._policy_context.rules)
        state = state_of(verdict)
        next_at = verdict.next_at if verdict.outcome is Outcome.DEFER else 0
        return Permit(
            item.id,
            item.token,
            state=state,
            reason=verdict.code,
            due=verdict.next_at,
            route=route,
            permission=verdict.permission,
            decision=DecisionDetail(
                next_at,
                _if_changed(verdict.rules, envelope.rules),
                _if_changed(verdict.zones, envelope.zones),
                _if_changed(verdict.policy_version, envelope.policy_version),
            ),
        )

    def _request(self, item: Redecide, route: str) -> Request:
        envelope = item.envelope
        terms = envelope.terms or _NO_TERMS
        account_scope, brand_scope = self._policy_context.scopes(envelope.account, envelope.brand)
        return Request(
            digits=envelope.to,
            category=Category(envelope.category),
            account_scope=account_scope,
            brand_scope=brand_scope,
            route=route,
            segments=envelope.segments,
            accepted_at=item.accepted_at,
            send_at=terms.send_at,
            expires_at=item.expires,
            time_zone=terms.time_zone,
            residence=terms.residence != "",
            on_quiet=terms.on_quiet,
            reason=terms.reason,
            template_scope=self._policy_context.template_scope(envelope.account, terms.template),
        )


def _if_changed(new: T, at_intake: T) -> T | None:
    """Return the new value, None when the envelope has it already."""
    return None if new == at_intake else new
