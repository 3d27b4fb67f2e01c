"""The store's promises as plain dictionaries: what design and state table say, with no thought of how it is done.

Written from the table of states, not from the functions. Where the store is free to choose (which of several ready
messages, how many at once) the model does not choose: it is told, and ``legal`` says whether that was allowed.
Time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.model import (
    FINAL,
    PRIORITY,
    WAITING,
    Accepted,
    Answer,
    Cap,
    Check,
    Fate,
    Match,
    NewMessage,
    OnUnknown,
    PartState,
    Permit,
    Reason,
    ReceiptFact,
    Rule,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store import keys
from gateway.store.ids import time_of
from gateway.store.requests import CancelResult, OptChange, Retention

GIVEN_BACK = 5_000  # ms that a message handed back for a decision is nobody else's
DAYS_OF_REFERENCES = 72 * 3_600_000
_WORST = (PartState.UNDELIVERED, PartState.EXPIRED, PartState.DELIVERED)
_ENDS = {
    PartState.DELIVERED: State.DELIVERED,
    PartState.EXPIRED: State.EXPIRED,
    PartState.UNDELIVERED: State.UNDELIVERED,
}
_OUT = (PartState.ACCEPTED, PartState.UNKNOWN, *_WORST)  # on the wire, for all we know
_HAD = (PartState.ACCEPTED, *_WORST)  # a carrier has certainly taken it


@dataclass
class Part:
    state: PartState = PartState.PENDING
    id: bytes = b""


@dataclass
class Moved:
    """One event."""

    id: bytes
    sequence: int
    state: State
    previous: State | None
    reason: Reason
    final: bool


@dataclass(repr=False)
class Message:
    new: NewMessage
    accepted_at: int
    state: State
    reason: Reason
    due: int = 0
    route: str = ""
    place: int = 0
    attempts: int = 0
    sequence: int = 0
    final: bool = False
    ended_at: int = 0
    owner: str = ""
    lease: int = 0
    carrier: str = ""
    word: OnUnknown = OnUnknown.RESEND  # the carrier's, given with the take
    resent: bool = False
    cancel: bool = False
    released: bool = False
    since: int = 0  # of SENT and UNKNOWN
    parts: list[Part] = field(default_factory=list)

    def __repr__(self) -> str:
        parts = ",".join(part.state.name for part in self.parts)
        return (
            f"<{self.new.id.hex()[-6:]} {self.state.name}/{self.reason.name} {self.lane} parts={parts} due={self.due} "
            f"lease={self.owner}:{self.lease} resent={self.resent} cancel={self.cancel} final={self.final}>"
        )

    def __post_init__(self) -> None:
        self.permission, self.route = self.new.permission, self.new.route

    @property
    def lane(self) -> str:
        """Where it waits; what a carrier has begun waits for that carrier alone."""
        where = f"@{self.carrier}" if self.had else f"#{self.place}"
        return f"{self.route}{where}:{int(PRIORITY[self.new.category])}"

    @property
    def had(self) -> bool:
        return any(part.state in _HAD for part in self.parts)

    @property
    def whole(self) -> bool:
        return bool(self.parts) and all(part.state in _HAD for part in self.parts)

    @property
    def out(self) -> bool:
        return self.resent or any(part.state in _OUT for part in self.parts)

    @property
    def open_parts(self) -> int:
        """What a take still has to send."""
        if not self.had:
            return max(self.new.segments, 1)
        return max(sum(part.state not in _HAD for part in self.parts), 1)

    @property
    def pinned(self) -> str:
        return self.carrier if self.had else ""


class Model:
    """All messages, rules, flags, reservations, ids and parked receipts of a store."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.messages: dict[bytes, Message] = {}
        self.recipients: dict[bytes, bytes] = {}  # of all messages ever
        self.references: dict[bytes, tuple[bytes, int]] = {}
        self.rules: dict[tuple[bytes, RuleGroup, bytes], Rule] = {}
        self.flags: dict[bytes, int] = {}
        self.reserved: dict[bytes, tuple[int, tuple[Cap, ...]]] = {}  # message -> when, under which caps
        self.ids: dict[tuple[str, bytes, bytes], tuple[bytes, int]] = {}
        self.parked: dict[tuple[str, bytes, bytes], tuple[ReceiptFact, int]] = {}
        self.events: list[Moved] = []

    # -- moving --------------------------------------------------------------------------------------------------------

    def _move(self, m: Message, state: State, reason: Reason, now: int, *, final: bool = False, due: int = 0) -> None:
        previous = m.state if m.sequence else None
        final = final or state in FINAL
        m.state, m.reason, m.due, m.final, m.released = state, reason, due, final, False
        m.sequence += 1
        if state is not State.SENDING:
            m.owner = ""
        m.since = now
        if final:
            m.ended_at = now
            if not m.out:
                self.reserved.pop(m.new.id, None)
        self.events.append(Moved(m.new.id, m.sequence, state, previous, reason, final))

    def accept(self, items: Iterable[NewMessage], now: int) -> list[Accepted]:
        fresh: dict[bytes, bytes] = {}  # references of this very call
        return [self._accept(item, now, fresh) for item in items]

    def _accept(self, item: NewMessage, now: int, fresh: dict[bytes, bytes]) -> Accepted:
        if item.id in self.messages:
            return Accepted(item.id, False)
        first, at = self.references.get(item.reference, (b"", 0)) if item.reference else (b"", 0)
        if first and (now - at < DAYS_OF_REFERENCES or fresh.get(item.reference) == first):
            return Accepted(first, False)
        m = self.messages[item.id] = Message(item, now, item.state, item.reason)
        self.recipients[item.id] = item.recipient.key
        self._move(m, item.state, item.reason, now, due=item.due)
        if item.reference and item.state is not State.REJECTED:
            self.references[item.reference] = (item.id, time_of(item.id))  # a repeat comes with the id of the first
            fresh[item.reference] = item.id
        return Accepted(item.id, True)

    # -- taking --------------------------------------------------------------------------------------------------------

    def asks(self, m: Message, now: int) -> Reason | None:
        """Why a waking message would be handed back for a decision, None when it would not."""
        if m.final or m.due > now:
            return None
        if m.state is State.HELD and m.released:
            return m.reason
        return m.reason if m.state in (State.SCHEDULED, State.DEFERRED) else None

    def gate(self, m: Message, now: int) -> tuple[State, Reason]:
        """SENDING: may go out. REJECTED, EXPIRED: dropped. QUEUED with a reason: to be decided afresh."""
        p = m.permission
        if p.expires < now:
            return State.EXPIRED, Reason.EXPIRED
        if p.epoch < self.flags.get(keys.EPOCH, 0):
            return State.QUEUED, Reason.NONE
        stopped = self._stopped(m, now)
        if stopped:
            return State.REJECTED, stopped
        scopes = (p.account_scope, p.brand_scope, p.template_scope, keys.GLOBAL_SCOPE)
        if self.flags.get(keys.pulled(p.template_scope)):
            return State.REJECTED, Reason.CONTENT_REFUSED
        if p.checks & Check.BREAKER and any(self.flags.get(keys.breaker(scope)) for scope in scopes):
            return State.QUEUED, Reason.BREAKER_OPEN
        if not p.opens <= now < p.closes:
            return State.QUEUED, Reason.QUIET_HOURS
        free = all(self.used(m, cap.scope, cap.window, now) < cap.limit for cap in p.caps)
        if not free and m.new.id not in self.reserved:
            return State.QUEUED, Reason.FREQUENCY_CAP
        return State.SENDING, Reason.NONE

    def _stopped(self, m: Message, now: int) -> Reason:
        p, who = m.permission, m.new.recipient.key
        everybody = (p.account_scope, p.brand_scope, keys.GLOBAL_SCOPE)
        for check, group in ((Check.ALL_OPT_OUT, RuleGroup.ALL), (Check.MARKETING_OPT_OUT, RuleGroup.MARKETING)):
            if p.checks & check and any(self._says(who, group, scope, now) is RuleStatus.STOPS for scope in everybody):
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
        """Messages out to the recipient of ``m`` under a cap."""
        who = m.new.recipient.key
        return sum(
            at > now - 1000 * window and (scope, window) in ((cap.scope, cap.window) for cap in caps)
            for other, (at, caps) in self.reserved.items()
            if self.recipients[other] == who
        )

    def lease(self, m: Message, owner: str, lease: int, carrier: str, word: OnUnknown, now: int) -> None:
        if m.permission.caps:
            self.reserved.setdefault(m.new.id, (now, m.permission.caps))
        self._move(m, State.SENDING, Reason.NONE, now)
        m.owner, m.lease, m.carrier, m.word = owner, lease, carrier, word

    def hand_back(self, m: Message, now: int) -> int:
        """Give a message to a decider; nobody else gets it for 5 s. Answers the token."""
        m.due = now + GIVEN_BACK
        return m.due

    def drop(self, m: Message, state: State, reason: Reason, now: int) -> None:
        """The gate said so."""
        self._move(m, state, reason, now)

    def permit(self, item: Permit, now: int) -> bool:
        m = self.messages.get(item.id)
        if m is None or m.final or m.state not in WAITING or not item.token or m.due != item.token:
            return False
        if item.state is State.QUEUED and item.permission.epoch < self.flags.get(keys.EPOCH, 0):
            return False  # the gate would only hand it back again
        if item.permission.caps != m.permission.caps and not m.out:
            self.reserved.pop(m.new.id, None)
        m.permission = item.permission
        if item.route and item.route != m.route:
            m.route, m.place, m.attempts = item.route, 0, 0
        early = item.state is State.QUEUED and item.permission.opens > now
        self._move(m, item.state, item.reason, now, due=item.permission.opens if early else item.due)
        if m.state is State.QUEUED:
            self._all_taken(m, now)  # late answers may have completed it while it was decided about
        return True

    # -- sending -------------------------------------------------------------------------------------------------------

    def untake(self, owner: str, items: Sequence[tuple[bytes, int]], now: int) -> None:
        for id_, lease in items:
            m = self.messages.get(id_)
            if m and m.state is State.SENDING and (m.owner, m.lease) == (owner, lease):
                self._return(m, Reason.UNTAKEN, now)

    def strays(self, owner: str, carrier: str, known: set[tuple[int, int]], now: int) -> int:
        """What an owner holds without knowing it: the answer of a take was lost. ``known``: partition, lease."""
        mine = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == owner]
        lost = [m for m in mine if m.carrier == carrier and (m.new.recipient.partition, m.lease) not in known]
        for m in lost:
            self._return(m, Reason.UNTAKEN, now)
        return len(lost)

    def _return(self, m: Message, reason: Reason, now: int, due: int = 0) -> None:
        if m.whole:
            self._all_taken(m, now)  # a late answer to an earlier lease completed it
        elif m.cancel:
            self._stop(m, now)
        else:
            self._move(m, State.QUEUED, reason, now, due=due)

    def _stop(self, m: Message, now: int) -> None:
        """A cancel was marked meanwhile: nothing more of it is sent."""
        if m.had:
            self._move(m, State.FAILED, Reason.PARTIAL, now)
        else:
            self._move(m, State.CANCELED, Reason.CANCELED, now)

    def answer(self, owner: str, a: Answer, now: int) -> None:
        m = self.messages.get(a.id)
        if m is None:
            return
        mine = m.state is State.SENDING and (m.owner, m.lease) == (owner, a.lease)
        doubted = not m.final and (m.state in (State.UNKNOWN, State.SENDING) or (m.resent and m.state in WAITING))
        if (mine or (doubted and m.state is not State.SENDING)) and not m.had and len(m.parts) != a.total:
            m.parts = [Part() for _ in range(a.total)]
        if doubted and not m.had and m.state is not State.SENDING:
            m.carrier = a.carrier
        arrived = self._parts(m, a, mine, doubted)
        if mine:
            self._fate(m, a, now)
        elif doubted and m.state in (State.UNKNOWN, *WAITING):
            self._all_taken(m, now)
        for key in arrived:
            if key in self.parked:
                self._receipt(m, self.ids[key][1], self.unpark(key), now)

    def _parts(self, m: Message, a: Answer, mine: bool, doubted: bool) -> list[tuple[str, bytes, bytes]]:
        """Take over what is said about parts, which only ever rise; a late word counts when it is good."""
        arrived = []
        for part in a.parts:
            ours = m.parts[part.index] if part.index < len(m.parts) else None
            if ours and (mine or (doubted and part.state is PartState.ACCEPTED)):
                rises = ours.state in (PartState.PENDING, PartState.UNKNOWN) and part.state is not PartState.PENDING
                if rises:
                    ours.state = part.state
                    ours.id = part.carrier_id
            if part.state is PartState.ACCEPTED and part.carrier_id:
                key = (a.carrier, m.new.recipient.key, part.carrier_id)
                if key not in self.ids:
                    self.ids[key] = (a.id, part.index)
                    arrived.append(key)
        return arrived

    def _fate(self, m: Message, a: Answer, now: int) -> None:
        match a.fate:
            case _ if m.whole:
                self._all_taken(m, now)
            case Fate.BACK | Fate.SENT:
                self._return(m, a.reason, now)
            case Fate.RETRY:
                m.attempts += not m.cancel
                self._return(m, a.reason, now, a.due)
            case Fate.NEXT if m.had:
                self._move(m, State.FAILED, Reason.PARTIAL, now)
            case Fate.NEXT if m.cancel:
                self._stop(m, now)
            case Fate.NEXT if a.last_place:
                self._move(m, State.FAILED, Reason.ROUTES_EXHAUSTED, now)
            case Fate.NEXT:
                m.place, m.attempts = m.place + 1, 0
                self._move(m, State.QUEUED, a.reason, now)
            case Fate.UNKNOWN:
                self._unknown(m, a.on_unknown, now)
            case _ if m.had:
                self._move(m, State.FAILED, Reason.PARTIAL, now)
            case Fate.REJECTED:
                self._move(m, State.REJECTED, a.reason, now)
            case Fate.FAILED:
                self._move(m, State.FAILED, a.reason, now)

    def _all_taken(self, m: Message, now: int) -> None:
        """Every part is with a carrier: sent; and finished at once when every receipt was there before."""
        if m.whole:
            self._move(m, State.SENT, Reason.NONE, now)
            self._finished(m, now)

    def _unknown(self, m: Message, word: OnUnknown, now: int) -> None:
        stricter = max(m.new.on_unknown, word)
        if stricter is OnUnknown.RESEND and not m.resent:
            self._move(m, State.UNKNOWN, Reason.NONE, now)
            if m.cancel:
                self._stop(m, now)
            else:
                m.resent = True
                self._move(m, State.QUEUED, Reason.RESEND, now)
        elif stricter is OnUnknown.HOLD:
            self._move(m, State.UNKNOWN, Reason.NONE, now)
        else:
            self._move(m, State.UNKNOWN, Reason.NO_ANSWER, now, final=True)

    def reclaim(self, dead: str, now: int) -> int:
        count = 0
        lost = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == dead]
        for m in lost:
            m.parts = m.parts or [Part() for _ in range(max(m.new.segments, 1))]
            if not any(part.state is PartState.UNKNOWN for part in m.parts):
                for part in m.parts:
                    part.state = PartState.UNKNOWN if part.state is PartState.PENDING else part.state
            if m.whole:
                self._all_taken(m, now)
                continue
            self._unknown(m, m.word, now)
            count += 1
        return count

    # -- receipts ------------------------------------------------------------------------------------------------------

    def receipt(self, fact: ReceiptFact, now: int) -> Match:
        who = fact.recipient.key
        for id_ in fact.ids:
            found = self.ids.get((fact.carrier, who, id_))
            if found and found[0] in self.messages:
                return self._receipt(self.messages[found[0]], found[1], fact, now)
        for id_ in fact.ids:
            kept = self.parked.get((fact.carrier, who, id_))
            if kept is None or kept[0].state is PartState.ACCEPTED:
                self.parked[fact.carrier, who, id_] = (fact, kept[1] if kept else now)
        return Match.PARKED

    def unpark(self, key: tuple[str, bytes, bytes]) -> ReceiptFact:
        """Take a parked receipt, and with it every form of its id."""
        fact, _ = self.parked[key]
        for id_ in fact.ids:
            self.parked.pop((*key[:2], id_), None)
        return fact

    def _receipt(self, m: Message, index: int, fact: ReceiptFact, now: int) -> Match:
        if m.final or index >= len(m.parts) or m.parts[index].state in _WORST:
            return Match.REPEATED
        part = m.parts[index]
        if fact.state is PartState.ACCEPTED:
            return Match.APPLIED
        part.state = fact.state
        if m.state in (State.SENT, State.UNKNOWN):
            self._finished(m, now)
        if m.state in (State.UNKNOWN, *WAITING):
            self._all_taken(m, now)  # the receipt tells what no answer told
        return Match.APPLIED

    def _finished(self, m: Message, now: int) -> None:
        worst = next((state for state in _WORST if any(part.state is state for part in m.parts)), None)
        if worst is not None and all(part.state in _WORST for part in m.parts):
            self._move(m, _ENDS[worst], Reason.RECEIPT, now)

    # -- words of people -----------------------------------------------------------------------------------------------

    def cancel(self, id_: bytes, now: int) -> CancelResult:
        m = self.messages.get(id_)
        if m is None:
            return CancelResult.MISSING
        if m.final:
            return CancelResult.CANCELED if m.state is State.CANCELED else CancelResult.FINAL
        if m.state in WAITING:
            self._move(m, State.CANCELED, Reason.CANCELED, now)
            return CancelResult.CANCELED
        m.cancel = True
        return CancelResult.REQUESTED

    def opt(self, change: OptChange) -> bool:
        key = (change.recipient.key, change.group, change.scope)
        known = self.rules.get(key)
        if known and (known.at, known.status) >= (change.at, change.status):
            return False
        self.rules[key] = Rule(change.group, change.status, change.scope, change.at, change.until)
        return True

    def release(self, ids: Sequence[bytes], scope: bytes, now: int) -> int:
        count = 0
        for m in self.messages.values():
            p = m.permission
            named = m.new.id in ids or scope in (p.account_scope, p.brand_scope, p.template_scope)
            if m.state is State.HELD and named and not m.released:
                m.released, m.due = True, now
                count += 1
        return count

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: int, gone: Callable[[bytes], bool]) -> None:
        """Everything that is due at ``now``, which is a full minute; ``gone`` tells which finished records are."""
        keep = self.retention
        for m in list(self.messages.values()):
            if m.final:
                if gone(m.new.id):
                    refused = time_of(m.new.id) + 1000 * keep.refused  # at the door, which made the id
                    assert now - m.ended_at >= 1000 * keep.finished or now >= refused
                    self._forget(m)
                else:
                    assert now - m.ended_at <= 1000 * max(keep.finished, keep.refused) + 60_000
            elif m.state in WAITING and m.permission.expires < now:
                self.drop(m, State.EXPIRED, Reason.EXPIRED, now)
            elif m.state is State.UNKNOWN and now - m.since >= 1000 * keep.hold:
                self._move(m, State.UNKNOWN, Reason.NO_ANSWER, now, final=True)
            elif m.state is State.SENT and now - m.since >= 1000 * keep.receipt_timeout:
                self._move(m, State.SENT, Reason.NO_RECEIPT, now, final=True)

    def _forget(self, m: Message) -> None:
        del self.messages[m.new.id]
        self.ids = {key: found for key, found in self.ids.items() if found[0] != m.new.id}
