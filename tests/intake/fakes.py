"""Test doubles of the store, in memory, and accounts and rules to test with."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Account, Config, Route
from gateway.config.rulebook import route_table, rulebook
from gateway.intake.policy_context import PolicyContext
from gateway.model import PRIORITY, AcceptResult, Cap, Facts, NewMessage, Permit, Recipient, Rule, RuleStatus, State
from gateway.store.errors import StoreError
from gateway.store.idempotency import Claim, Claimed, ClaimStore, Settled, StoredResponse
from gateway.store.keys import Hasher
from gateway.store.messages import MessageStore
from gateway.store.records import MessageRecord, TimelineStep
from gateway.store.requests import CancelResult, ClaimResult, LaneDepth, OptChange, OptRecord, QueueDepths

NOON = 1_795_262_400_000  # 2026-11-21 12:00 UTC: day in Stockholm, evening in Shanghai
PARTITIONS = 8
SWEDE = "46701740605"


class FakeStore(MessageStore):
    """A MessageStore in memory, without gate and lanes. ``error`` is raised by every call to ``accept``."""

    def __init__(self) -> None:
        self.messages: dict[bytes, NewMessage] = {}
        self.states: dict[bytes, State] = {}
        self.references: dict[bytes, bytes] = {}
        self.looked_up: list[int] = []  # how many references each call asked for
        self.rules: dict[bytes, dict[tuple[int, bytes], OptRecord]] = {}
        self.used: dict[tuple[bytes, Cap], int] = {}
        self.permits: list[Permit] = []
        self.calls: list[tuple[str, int]] = []
        self.ready: list[LaneDepth] = []
        self.waiting: dict[str, dict[State, int]] = {}
        self.delayed: dict[str, int] = {}
        self.held = 0
        self.error: StoreError | None = None
        self.fail_after = 0

    async def accept(self, items: Sequence[NewMessage]) -> list[AcceptResult]:
        self.calls.append(("accept", len(items)))
        if self.error is not None:
            if not self.fail_after:
                raise self.error
            self.fail_after -= 1
        return [self._accept(item) for item in items]

    def _accept(self, item: NewMessage) -> AcceptResult:
        if item.id in self.messages:
            return AcceptResult(item.id, False)
        first = self.references.get(item.reference)
        if first is not None:
            return AcceptResult(first, False)
        if item.reference and item.state is not State.REJECTED:
            self.references[item.reference] = item.id
        self.messages[item.id] = item
        self.states[item.id] = item.state
        return AcceptResult(item.id, True)

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        self.calls.append(("facts", len(recipients)))
        rules = [tuple(Rule(*rule[:5]) for rule in self.rules.get(one.key, {}).values()) for one in recipients]
        used = [[self.used.get((one.key, cap), 0) for cap in some] for one, some in zip(recipients, caps, strict=False)]
        return [Facts(*said) for said in zip(rules, map(tuple, used or [()] * len(rules)), strict=True)]

    async def permit(self, items: Sequence[Permit]) -> list[bool]:
        self.permits += items
        return [True] * len(items)

    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]:
        return [self._record(self.messages[i]) if i in self.messages else None for i in ids]

    def _record(self, item: NewMessage) -> MessageRecord:
        accepted_at = int.from_bytes(item.id[:6], "big")
        return MessageRecord(
            id=item.id,
            state=self.states[item.id],
            reason=item.reason,
            final=item.state is State.REJECTED,
            accepted_at=accepted_at,
            moved_at=accepted_at,
            sequence=1,
            category=item.category,
            priority=PRIORITY[item.category],
            recipient=item.recipient,
            account=item.envelope.account,
            route=item.route,
            place=0,
            attempts=0,
            segments=item.segments,
            reference_number=0,
            resent=0,
            cancel_requested=False,
            due=item.due,
            expires=item.permission.expires,
            opens=item.permission.opens,
            closes=item.permission.closes,
            lease=0,
            carrier="",
            pinned=False,
            parts=(),
            copies=(),
            timeline=(TimelineStep(item.state, item.reason, accepted_at),),
            envelope=item.envelope,
            content=item.content,
        )

    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None:
        return self.references.get(reference)

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]:
        self.looked_up.append(len(wanted))
        return [self.references.get(reference) for _, reference in wanted]

    async def mentions(self, account: str, client_ref: str) -> list[bytes]:
        return [
            message.id
            for message in self.messages.values()
            if (message.envelope.account, message.envelope.client_ref) == (account, client_ref)
            and message.state is not State.REJECTED
        ]

    async def cancel(self, ids: Sequence[bytes]) -> list[CancelResult]:
        results = []
        for message_id in ids:
            state = self.states.get(message_id)
            if state in {State.QUEUED, State.SCHEDULED, State.DEFERRED, State.HELD, State.CANCELED}:
                self.states[message_id] = State.CANCELED
                results.append(CancelResult.CANCELED)
            elif state is State.SENDING:
                results.append(CancelResult.REQUESTED)
            else:
                results.append(CancelResult.MISSING if state is None else CancelResult.FINAL)
        return results

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        return [self._opt(item) for item in items]

    def _opt(self, item: OptChange) -> bool:
        rules = self.rules.setdefault(item.recipient.key, {})
        known = rules.get((item.group, item.scope))
        if known is not None and (known.at, known.status) > (item.at, item.status):
            return False
        rules[item.group, item.scope] = OptRecord(*item[1:])
        return True

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        return list(self.rules.get(recipient.key, {}).values())

    async def depths(self) -> QueueDepths:
        self.calls.append(("depths", 0))
        return QueueDepths(self.ready, self.delayed, self.held, 0, 0, self.waiting)

    def stops(self, recipient: Recipient, group: int, scope: bytes, at: int) -> None:
        """Record an opt-out."""
        self._opt(OptChange(recipient, group, RuleStatus.STOPS, scope, at))  # type: ignore[arg-type]


class FakeClaims(ClaimStore):
    """A ClaimStore in memory, of one gateway. ``error`` is raised by the next ``settle``."""

    def __init__(self) -> None:
        self.claims: dict[bytes, tuple[bytes, bytes, StoredResponse | None]] = {}
        self.error: StoreError | None = None

    async def claim(self, items: Sequence[Claim]) -> list[Claimed]:
        return [self._claim(item) for item in items]

    def _claim(self, item: Claim) -> Claimed:
        body, base, answer = self.claims.setdefault(item.name, (item.body, item.base, None))
        if body != item.body:
            return Claimed(ClaimResult.MISMATCH)
        return Claimed(ClaimResult.CLAIMED, base) if answer is None else Claimed(ClaimResult.DONE, answer=answer)

    async def settle(self, items: Sequence[Settled]) -> list[None]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        for item in items:
            body, base, _ = self.claims[item.name]
            self.claims[item.name] = (body, base, item.answer)
        return [None] * len(items)


SHOP = Account(
    name="shop",
    api_keys=("plain:shop-key",),
    brands=("shop", "outlet"),
    default_category="transactional",
    senders=("Shop", "+46701740606"),
    rate=0,
    webhook_secret="whsec_c2VjcmV0IG9mIHRoZSBmaXJzdCBmaXZlIG1pbnV0ZXM=",
    templates={"shipped": "Your parcel {number} {{of {number}}} is on its way."},
)
OTHER = Account(
    name="other",
    api_keys=("plain:other-key",),
    categories=("otp", "transactional", "marketing", "emergency"),
    rate=0,
)


def hasher() -> Hasher:
    return Hasher(b"s" * 32, PARTITIONS)


def policy_context(*accounts: Account) -> PolicyContext:
    """The rules of the shop and another account, with routes to +46, +86 and +1."""
    routes = tuple(Route(to=to, carriers=("north",)) for to in ("+46", "+86", "+1"))
    config = Config(accounts=accounts or (SHOP, OTHER), routes=routes)
    return PolicyContext(config.accounts, rulebook(config), route_table(config), hasher())
