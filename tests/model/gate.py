"""A message on its way through the store, as the model has it: accepted, gated, leased, decided again.

Written from the table of states, not from the functions. Where the store is free to choose (which of several ready
messages, how many at once) the model follows the store's choice. Time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.model import (
    FINAL,
    AcceptResult,
    Cap,
    Check,
    NewMessage,
    OnUnknown,
    Reason,
    Rule,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store import keys
from gateway.store.ids import time_of
from gateway.store.requests import Retention
from tests.model.message import Message, Moved

GIVEN_BACK = 5_000  # ms that a message handed back is reserved for its decider
REFERENCES_KEPT = 72 * 3_600_000


class Gate:
    """All messages, rules, flags, reservations, ids and parked receipts of a store; what ``take`` asks of them."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.messages: dict[bytes, Message] = {}
        self.recipients: dict[bytes, bytes] = {}  # of all messages ever
        self.references: dict[bytes, tuple[bytes, int]] = {}
        self.rules: dict[tuple[bytes, RuleGroup, bytes], Rule] = {}
        self.flags: dict[bytes, int] = {}
        self.reserved: dict[bytes, tuple[int, tuple[Cap, ...]]] = {}  # message -> when, under which caps
        self.events: list[Moved] = []
        self.takes = 0  # messages ever taken

    # -- moving --------------------------------------------------------------------------------------------------------

    def _move(
        self,
        m: Message,
        state: State,
        reason: Reason,
        now: int,
        *,
        final: bool = False,
        due: int = 0,
        error: str = "",
    ) -> None:
        previous = m.state if m.sequence else None
        final = final or state in FINAL
        m.state, m.reason, m.due, m.final, m.released = state, reason, due, final, False
        m.sequence += 1
        if previous is State.SENDING and state in (State.UNKNOWN, State.SENT):
            m.handed[m.handed_to][-1] = (m.handed[m.handed_to][-1][0], True)
        if state is not State.SENDING:
            m.owner, m.flying = "", set()
        m.since = now
        if final:
            m.ended_at, m.bare = now, True
            self._give_back(m)
        self.events.append(Moved(m.new.id, m.sequence, state, previous, reason, final, m.accepted, error))

    def _give_back(self, m: Message) -> None:
        """Give caps back: what cannot have reached its recipient does not count under them any more."""
        if m.out or m.new.id not in self.reserved:
            return
        at, caps = self.reserved.pop(m.new.id)
        now = {(cap.scope, cap.window) for cap in m.permission.caps}
        others = tuple(cap for cap in caps if (cap.scope, cap.window) not in now)
        if others:
            self.reserved[m.new.id] = at, others

    def _left_unknown(self, m: Message, reason: Reason, now: int) -> None:
        """Leave it unknown: a copy may have arrived, so it is not final before the time for receipts is over."""
        m.bare = True
        self._move(m, State.UNKNOWN, reason, now, due=now + 1000 * self.retention.receipt_timeout)

    def _end(self, m: Message, state: State, reason: Reason, now: int) -> None:
        """End it as refused, failed or expired; not in a final state while a copy is doubtful."""
        if m.doubtful:
            self._left_unknown(m, reason, now)
        elif state is State.REJECTED and m.had:
            self._move(m, State.FAILED, reason, now)
        else:
            self._move(m, state, reason, now)

    def accept(self, items: Iterable[NewMessage], now: int) -> list[AcceptResult]:
        fresh: dict[bytes, bytes] = {}  # references of this very call
        return [self._accept(item, now, fresh) for item in items]

    def _accept(self, item: NewMessage, now: int, fresh: dict[bytes, bytes]) -> AcceptResult:
        if item.id in self.messages:
            return AcceptResult(item.id, False)
        first, at = self.references.get(item.reference, (b"", 0)) if item.reference else (b"", 0)
        if first and (now - at < REFERENCES_KEPT or fresh.get(item.reference) == first):
            return AcceptResult(first, False)
        m = self.messages[item.id] = Message(item, now, item.state, item.reason)
        self.recipients[item.id] = item.recipient.key
        self._move(m, item.state, item.reason, now, due=item.due)
        if item.reference and item.state is not State.REJECTED:
            self.references[item.reference] = (item.id, time_of(item.id))  # a repeat comes with the id of the first
            fresh[item.reference] = item.id
        return AcceptResult(item.id, True)

    def found(self, reference: bytes, now: int) -> bytes | None:
        """Return the id that a reference stands for."""
        first, at = self.references.get(reference, (b"", 0))
        return first if first and now - at < REFERENCES_KEPT else None

    # -- taking --------------------------------------------------------------------------------------------------------

    def asks(self, m: Message, now: int) -> Reason | None:
        """Return why a waking message would be handed back for a decision, None when it would not."""
        if m.final or m.due > now:
            return None
        if m.state is State.HELD and m.released:
            return m.reason
        return m.reason if m.state in (State.SCHEDULED, State.DEFERRED) else None

    def gate(self, m: Message, now: int, *, begun: bool = False) -> tuple[State, Reason]:
        """Return SENDING (may be sent), REJECTED or EXPIRED (dropped), or QUEUED with a reason to decide again.

        ``begun``: its first parts are submitted. There is no fresh decision, and it counts under its caps already.
        """
        p = m.permission
        if p.expires < now:
            return State.EXPIRED, Reason.EXPIRED
        if p.epoch < self.flags.get(keys.EPOCH, 0) and not begun:
            return State.QUEUED, Reason.NONE
        stopped = self._stopped(m, now)
        if stopped:
            return State.REJECTED, stopped
        if time_of(m.new.id) < self.flags.get(keys.RESTORED, 0):
            return State.QUEUED, Reason.RESTORED
        scopes = (p.account_scope, p.brand_scope, p.template_scope, keys.GLOBAL_SCOPE)
        if self.flags.get(keys.pulled(p.template_scope)):
            return State.REJECTED, Reason.CONTENT_REFUSED
        if p.checks & Check.BREAKER and any(self.flags.get(keys.breaker(scope)) for scope in scopes):
            return State.QUEUED, Reason.BREAKER_OPEN
        if not p.opens <= now < p.closes:
            return State.QUEUED, Reason.QUIET_HOURS
        free = all(self.used(m, cap.scope, cap.window, now) < cap.limit for cap in p.caps)
        if not free and m.new.id not in self.reserved and not begun:
            return State.QUEUED, Reason.FREQUENCY_CAP
        return State.SENDING, Reason.NONE

    def _stopped(self, m: Message, now: int) -> Reason:
        p, who = m.permission, m.new.recipient.key
        scopes = (p.account_scope, p.brand_scope, keys.GLOBAL_SCOPE)
        for check, group in ((Check.ALL_OPT_OUT, RuleGroup.ALL), (Check.MARKETING_OPT_OUT, RuleGroup.MARKETING)):
            if p.checks & check and any(self._says(who, group, scope, now) is RuleStatus.STOPS for scope in scopes):
                return Reason.OPTED_OUT
        if p.checks & Check.CONSENT:
            word = self._says(who, RuleGroup.CONSENT, p.brand_scope, now)
            if word is not RuleStatus.ALLOWS:
                return Reason.CONSENT_REVOKED if word is RuleStatus.STOPS else Reason.CONSENT_MISSING
        return Reason.NONE

    def _says(self, who: bytes, group: RuleGroup, scope: bytes, now: int) -> RuleStatus | None:
        rule = self.rules.get((who, group, scope))
        return rule.status if rule and rule.holds(now) else None

    def used(self, m: Message, scope: bytes, window: int, now: int) -> int:
        """Return the reservations of the recipient of ``m`` under a cap."""
        who = m.new.recipient.key
        return sum(
            at > now - 1000 * window and (scope, window) in ((cap.scope, cap.window) for cap in caps)
            for other, (at, caps) in self.reserved.items()
            if self.recipients[other] == who
        )

    def lease(self, m: Message, owner: str, lease: int, carrier: str, word: OnUnknown, now: int) -> None:
        if m.permission.caps:
            self.reserved.setdefault(m.new.id, (now, m.permission.caps))
        m.pinned_then = m.had
        m.flying = {index for index in range(m.total or m.new.segments) if not m.taken(index)}
        self._move(m, State.SENDING, Reason.NONE, now)
        m.owner, m.lease, m.carrier, m.word = owner, lease, carrier, word
        m.handed_to = carrier
        self.takes += 1
        m.taken_as = self.takes
        m.handed.setdefault(carrier, []).append((now, False))

    def regate(self, items: Sequence[tuple[bytes, int]], now: int) -> list[Reason | None]:
        """Return None for each (id, lease) whose further parts may be sent, else why not."""
        return [self._regate(self.messages.get(id_), lease, now) for id_, lease in items]

    def _regate(self, m: Message | None, lease: int, now: int) -> Reason | None:
        if m is None or m.state is not State.SENDING or m.lease != lease:
            return Reason.NONE
        if not m.stop:
            verdict, reason = self.gate(m, now, begun=True)
            m.stop = Reason.NONE if verdict is State.SENDING else reason
        return m.stop or None

    def hand_back(self, m: Message, now: int) -> int:
        """Give a message to a decider, for whom it is reserved for 5 s. Return the token."""
        m.due = now + GIVEN_BACK
        return m.due

    def drop(self, m: Message, state: State, reason: Reason, now: int) -> None:
        """Carry out that the gate dropped a message."""
        self._end(m, state, reason, now)
