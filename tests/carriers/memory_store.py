"""The few promises of the store that dispatching leans on, in memory: for tests of what stands around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time

from gateway.cluster.heartbeat import Heartbeat
from gateway.model import (
    Category,
    Content,
    Envelope,
    LeasedMessage,
    PartState,
    Reason,
    ReceiptFact,
    ReceiptMatch,
    Recipient,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store.errors import StoreUnavailable
from gateway.store.ids import new_ids, partition_of
from gateway.store.keys import Hasher
from gateway.store.owner import LeaseOwner
from gateway.store.requests import OwnerSeen, ReclaimResult, TakeRequest, TakeResult

PARTITIONS = 4
HASHER = Hasher(bytes(32), PARTITIONS)
OWNER = LeaseOwner("test", "1")


@dataclass
class Row:
    message: LeasedMessage
    state: State = State.QUEUED
    due: int = 0
    carrier: str = ""
    parts: dict[int, PartState] = field(default_factory=dict)
    history: list[tuple[Resolution, str, int]] = field(default_factory=list)


class MemoryStore:
    """First in, first out per partition; one lane per (route, place), one-time passwords first."""

    partitions = PARTITIONS

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self.queues: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
        self.ids: dict[tuple[str, bytes], bytes] = {}
        self.parked: dict[tuple[str, bytes], ReceiptFact] = {}
        self.calls: Counter[str] = Counter()
        self.requests: list[TakeRequest] = []
        self.untaken: list[tuple[bytes, int]] = []
        self.away = False
        self.lose_takes = 0
        self.regated: list[bytes] = []
        self.stopped: dict[bytes, Reason] = {}
        self.lease = 0

    def put(
        self,
        to: str,
        text: str = "hello",
        *,
        category: Category = Category.TRANSACTIONAL,
        route: str = "*",
        sender: str = "shop",
        closes: int = 0,
    ) -> bytes:
        recipient: Recipient = HASHER.recipient(to)
        (message_id,) = new_ids(int(time() * 1000), [recipient.partition])
        expires = int(time() * 1000) + 3_600_000
        self.rows[message_id] = Row(
            LeasedMessage(
                id=message_id,
                lease=0,
                recipient=recipient,
                category=category,
                route=route,
                place=0,
                attempts=0,
                resent=0,
                pinned="",
                reference_number=7,
                parts=b"",
                expires=expires,
                closes=closes or expires,
                envelope=Envelope(to, sender, "acme", int(category), ""),
                content=Content(text),
            )
        )
        self.queues[recipient.partition].append(message_id)
        return message_id

    def states(self) -> Counter[State]:
        return Counter(row.state for row in self.rows.values())

    def _check(self, name: str) -> None:
        self.calls[name] += 1
        if self.away:
            raise StoreUnavailable("away")

    async def take(self, owner: LeaseOwner, requests: Sequence[TakeRequest]) -> list[TakeResult]:
        self._check("take")
        self.requests += requests
        taken = [self._take(request) for request in requests]
        if self.lose_takes and any(one.leased for one in taken):
            self.lose_takes -= 1
            raise StoreUnavailable("the answer was lost")
        return taken

    def _take(self, request: TakeRequest) -> TakeResult:
        now = int(time() * 1000)
        lanes = {(lane.route, lane.place) for lane in request.lanes}
        queue = self.queues[request.partition]
        queue.sort(key=lambda one: self.rows[one].message.category != Category.OTP)  # stable
        leased: list[LeasedMessage] = []
        budget = request.limit
        self.lease += 1
        for one in list(queue):
            row = self.rows[one]
            message = row.message
            least = 0 if message.category == Category.OTP else request.keep
            if budget <= least:
                break
            if (message.route, message.place) not in lanes or row.due > now:
                continue
            if message.pinned not in ("", request.carrier):
                continue
            if request.probe and message.category == Category.MARKETING:
                continue
            queue.remove(one)
            row.state, row.carrier = State.SENDING, request.carrier
            message.lease = self.lease
            leased.append(message)
            budget -= max(1, message.envelope.segments)
        waiting = [self.rows[one] for one in queue]
        if request.probe:
            waiting = [row for row in waiting if row.message.category != Category.MARKETING]
        more = any((row.message.route, row.message.place) in lanes and row.due <= now for row in waiting)
        next_due = min((row.due for row in waiting if row.due > now), default=0)
        return TakeResult(leased, [], 0, more, next_due)

    async def regate(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> list[Reason | None]:
        self._check("regate")
        self.regated += [one for one, _ in items]
        return [self.stopped.get(one) for one, _ in items]

    async def untake(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> None:
        self._check("untake")
        for one, lease in items:
            row = self.rows[one]
            assert row.state is State.SENDING
            assert row.message.lease == lease
            self.untaken.append((one, lease))
            self._back(one, row)

    async def postpone(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int, int, bool]]) -> None:
        self._check("postpone")
        for one, lease, due, turn in items:
            row = self.rows[one]
            assert row.state is State.SENDING
            assert row.message.lease == lease
            self._back(one, row)
            row.due, row.message.turn = due, row.carrier if turn else ""

    async def untake_lost(self, owner: LeaseOwner, carrier: str, known: Mapping[int, Iterable[int]]) -> int:
        self._check("untake_lost")
        leases = {partition: set(held) for partition, held in known.items()}
        found = [
            (one, row)
            for one, row in self.rows.items()
            if row.state is State.SENDING and row.message.lease not in leases.get(partition_of(one), ())
        ]
        for one, row in found:
            self._back(one, row)
        return len(found)

    def _back(self, one: bytes, row: Row) -> None:
        row.state = State.QUEUED
        self.queues[partition_of(one)].insert(0, one)

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        self._check("progress")
        for answer in answers:
            self._answer(answer)
        return [self._receipt(receipt) for receipt in receipts]

    def _answer(self, answer: SubmitResult) -> None:
        row = self.rows[answer.id]
        message = row.message
        row.history.append((answer.resolution, answer.carrier, answer.status))
        for part in answer.parts:
            if row.parts.get(part.index) is not PartState.ACCEPTED:
                row.parts[part.index] = part.state
            if part.state is PartState.ACCEPTED:
                message.pinned = answer.carrier
                self.ids[answer.carrier, part.carrier_id] = answer.id
                self._apply(self.parked.pop((answer.carrier, part.carrier_id), None), row)
        if row.state is not State.SENDING or message.lease != answer.lease:
            return
        message.parts = bytes(row.parts.get(index, PartState.PENDING) for index in range(answer.total))
        if answer.resolution is Resolution.SENT:
            row.state = State.SENT
        elif answer.resolution is Resolution.UNKNOWN:
            row.state = State.UNKNOWN
        elif answer.resolution in (Resolution.REJECTED, Resolution.FAILED) or (
            answer.last_place and answer.resolution is Resolution.NEXT
        ):
            row.state = State.REJECTED if answer.resolution is Resolution.REJECTED else State.FAILED
        else:
            row.due = answer.due if answer.resolution is Resolution.RETRY else 0
            message.attempts += answer.resolution is Resolution.RETRY
            if answer.resolution is Resolution.NEXT:
                message.place, message.attempts = message.place + 1, 0
            self._back(answer.id, row)

    def _receipt(self, receipt: ReceiptFact) -> ReceiptMatch:
        for form in receipt.ids:
            message_id = self.ids.get((receipt.carrier, form))
            if message_id is not None:
                self._apply(receipt, self.rows[message_id])
                return ReceiptMatch.APPLIED
        self.parked[receipt.carrier, receipt.ids[0]] = receipt
        return ReceiptMatch.PARKED

    @staticmethod
    def _apply(receipt: ReceiptFact | None, row: Row) -> None:
        if receipt is not None and receipt.state is PartState.DELIVERED:
            row.state = State.DELIVERED

    async def beat(self, owner: LeaseOwner) -> None:
        self._check("beat")

    async def owners(self) -> list[OwnerSeen]:
        return []

    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
        return ReclaimResult(0, 0, 0, False)


async def beating(store: MemoryStore) -> Heartbeat:
    heartbeat = Heartbeat(store, OWNER)
    await heartbeat.start()
    return heartbeat
