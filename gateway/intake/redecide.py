"""Fresh decisions: what ``take`` hands back is decided as if it arrived now, and ``permit`` carries it out.

A message comes back when its deferral is over, when it fell out of its permitted hours, met a cap or an open breaker,
was released from ``held``, or was decided under an older policy epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from gateway.clock import now_ms
from gateway.intake.policy_context import PolicyContext, state_of
from gateway.intake.submission import RequestedTerms
from gateway.model import (
    Cap,
    Category,
    DecisionDetail,
    Facts,
    Outcome,
    Permission,
    Permit,
    Reason,
    Recipient,
    Redecide,
    State,
)
from gateway.policy.decide import Request, caps_for, decide
from gateway.supervision import TRIES, FailureCounts, Supervision, sift

SLICE = 256
_NOTHING = Permission(0, 0, 0, 0, bytes(8), bytes(8))
T = TypeVar("T")


class RedecideStore(Protocol):
    """What fresh decisions need of the store."""

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]: ...
    async def permit(self, items: Sequence[Permit]) -> list[bool]: ...


class Redecider:
    """Decides again, in batches. A dead decider loses nothing: the store hands the message out again after 5 s."""

    def __init__(
        self,
        store: RedecideStore,
        policy_context: PolicyContext,
        *,
        hint: Callable[[set[int]], None] = lambda partitions: None,
        clock: Callable[[], int] = now_ms,
        supervision: Supervision | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._store = store
        self._policy_context = policy_context
        self._hint = hint
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Redecider by {self._policy_context!r}>"

    async def redecide(self, items: Sequence[Redecide]) -> None:
        """Decide these and tell the store. Raises StoreError; then the rest is handed out again later.

        One that cannot be decided keeps no other back: the store hands it out again, and at the third time it is
        rejected (``gateway_fault``).
        """
        for start in range(0, len(items), SLICE):
            await sift(items[start : start + SLICE], self._decide, self._undecidable)

    async def _decide(self, batch: Sequence[Redecide]) -> None:
        asked = [self._caps(item) for item in batch]
        known = await self._store.facts([item.recipient for item in batch], asked if any(asked) else ())
        now = self._clock()
        await self._store.permit([self._permit(item, facts, now) for item, facts in zip(batch, known, strict=True)])
        self._hint({item.recipient.partition for item in batch})

    async def _undecidable(self, item: Redecide, error: Exception) -> None:
        self._supervision.failed("decision", error)
        if self._tries.add(item.id) < TRIES:
            return
        self._tries.forget(item.id)
        self._supervision.set_aside("decision", item.id.hex(), error)
        end = Permit(item.id, item.token, State.REJECTED, Reason.GATEWAY_FAULT, 0, item.route, _NOTHING)
        try:
            await self._store.permit([end])
        except Exception as again:  # noqa: BLE001 - it is handed out again until it expires
            self._supervision.failed("decision", again)

    def _caps(self, item: Redecide) -> tuple[Cap, ...]:
        """Caps to be asked about: of what met one, so that it is told apart which, and until when it is full."""
        if item.reason is not Reason.FREQUENCY_CAP:
            return ()
        envelope = item.envelope
        scopes = self._policy_context.scopes(envelope.account, envelope.brand)
        return caps_for(Category(envelope.category), *scopes, self._policy_context.rules)

    def _permit(self, item: Redecide, facts: Facts, now: int) -> Permit:
        envelope = item.envelope
        route = item.route
        if not route or not self._policy_context.has_lane(
            route
        ):  # taken out of the configuration while the message waited
            route = self._policy_context.route(
                envelope.to, envelope.sender, Category(envelope.category), envelope.account
            )
        verdict = decide(self._request(item, route), facts, now, self._policy_context.rules)
        state = state_of(verdict)
        next_at = verdict.next_at if verdict.outcome is Outcome.DEFER else 0
        return Permit(
            item.id,
            item.token,
            state,
            verdict.code,
            verdict.next_at,
            route,
            verdict.permission,
            DecisionDetail(
                next_at,
                _unless(verdict.rules, envelope.rules),
                _unless(verdict.zones, envelope.zones),
                _unless(verdict.policy_version, envelope.policy_version),
            ),
        )

    def _request(self, item: Redecide, route: str) -> Request:
        envelope = item.envelope
        asked = RequestedTerms() if envelope.facts is None else msgspec.convert(envelope.facts, RequestedTerms)
        account_scope, brand_scope = self._policy_context.scopes(envelope.account, envelope.brand)
        return Request(
            digits=envelope.to,
            category=Category(envelope.category),
            account_scope=account_scope,
            brand_scope=brand_scope,
            route=route,
            segments=envelope.segments,
            accepted_at=item.accepted_at,
            send_at=asked.send_at,
            expires_at=item.expires,
            time_zone=asked.time_zone,
            residence=asked.residence != "",
            on_quiet=asked.on_quiet,
            reason=asked.reason,
            template_scope=self._policy_context.template_scope(envelope.account, asked.template),
        )


def _unless(said: T, at_the_door: T) -> T | None:
    """None for what need not be kept again."""
    return None if said == at_the_door else said
