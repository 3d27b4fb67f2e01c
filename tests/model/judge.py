"""What must hold after every call: the store's choices were allowed, and all seven invariants.

1 every message is in exactly one place · 2 nothing revoked, canceled or expired is handed out · 3 no more copies than
one and the resend of an unknown · 4 every move raises one event, one of them final · 5 caps are never exceeded, what is
reserved went out · 6 leases belong to who took them · 7 (in the machine) a repeated call changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import currently_in_test_context, note
from hypothesis.stateful import RuleBasedStateMachine, invariant

from gateway.model import MOVES, PRIORITY, WAITING, PartState, Priority, Reason, ReceiptFact, State
from gateway.store.ids import partition_of
from gateway.store.owner import Owner
from gateway.store.requests import Taken, TakeRequest
from tests.model.reference import Message, Model
from tests.model.world import PARTITIONS, World, plain

HOUR = 3_600_000
NUMBERS = [f"4915100000{n:02}" for n in range(4)]
FINAL_PARTS = (PartState.DELIVERED, PartState.EXPIRED, PartState.UNDELIVERED)


def same(m: Message | None, store: Any, model: Any) -> None:
    """Equal, or told which message differs how."""
    assert store == model, f"the store says {store}, the model {model}, of {m}"


class Judge(RuleBasedStateMachine):
    """A model and a world side by side. Set ``world`` in a subclass."""

    world: World

    def reset(self) -> None:
        """Begin anew, with nothing stored."""
        self.world.reset()
        self.model = Model(self.world.retention)
        self.recipients = [self.world.hasher.recipient(digits) for digits in NUMBERS]
        self.owners = [Owner("w0", "0"), Owner("w1", "0")]
        self.beats: dict[str, int] = {}
        self.count = 0
        self.known: list[bytes] = []
        self.gone: set[bytes] = set()  # records that were deleted
        self.outlived: set[bytes] = set()  # ids of theirs
        self.said: list[str] = []
        self.tokens: dict[bytes, int] = {}
        self.leases: list[tuple[str, bytes, int, str]] = []  # every lease ever: owner, id, lease, carrier
        self.given: list[tuple[str, bytes, bytes]] = []  # every id a carrier ever gave: carrier, message, id
        self.promised: dict[tuple[bytes, int, str], bytes] = {}  # ids whose receipts came before them
        self.calls: list[Callable[[], None]] = []
        self.finals: Counter[bytes] = Counter()
        self.copies: Counter[bytes] = Counter()  # that may be on the wire
        self.begun = True

    @property
    def now(self) -> int:
        return self.world.now

    def say(self, text: str) -> None:
        """What a failing example tells beside its calls."""
        self.said.append(text)
        if currently_in_test_context():
            note(text)

    def picture(self) -> Any:
        ids = [id_ for id_ in self.known if id_ in self.model.messages]
        return [plain(record) for record in self.world.run(self.world.store.find(ids))]

    def some(self, index: int, *states: State) -> Message | None:
        found = [m for m in self.model.messages.values() if m.state in states and not m.final]
        return found[index % len(found)] if found else None

    def judge(self, owner: Owner, request: TakeRequest, taken: Taken) -> None:
        """Whether the store's choice was allowed; then it is the model's too."""
        model, now = self.model, self.now
        names = [lane.name for lane in request.lanes]
        names += [f"{lane.route}@{request.carrier}:{int(lane.priority)}" for lane in request.lanes]
        here = [m for m in model.messages.values() if partition_of(m.new.id) == request.partition]
        mine = [m for m in here if not m.final and m.lane in names]
        for m in mine:
            if m.state is State.QUEUED and m.due <= now:
                m.due = 0  # a retry that has come due is ready, whoever was to decide about it
        before = {m.new.id: model.gate(m, now) for m in mine}
        waking = {m.new.id for m in mine if model.asks(m, now) is not None}

        dropped = self.dropped(mine, before, waking)
        assert taken.dropped == dropped
        parts, last = 0, 0
        for item in taken.leased:
            m = model.messages[item.id]
            assert m in mine
            assert (m.state, m.due <= now) == (State.QUEUED, True)
            assert model.gate(m, now) == (State.SENDING, Reason.NONE), "the gate let out what it must not"
            assert (item.place, item.attempts, item.resent, item.pinned) == (m.place, m.attempts, m.resent, m.pinned)
            assert (item.recipient, item.route, item.category) == (m.new.recipient, m.route, m.new.category)
            assert (item.envelope, item.content) == (m.new.envelope, m.new.content)
            assert list(item.parts) == [part.state for part in m.parts]
            assert m.new.segments > 1 or item.reference_number == 0
            last = m.open_parts
            parts += last
            if PRIORITY[m.new.category] is not Priority.OTP:
                assert parts - last < request.limit - request.keep, "took what is kept for one-time passwords"
            assert parts - last < request.limit, "took more than there is room for"
            model.lease(m, owner.name, item.lease, request.carrier, request.on_unknown, now)
            self.leases.append((owner.name, item.id, item.lease, request.carrier))
        for m in mine:
            if m.state is State.QUEUED and m.due <= now:
                m.due = 0  # woken, but not handed out: it is ready, and an old token is worth nothing
        for back in taken.redecide:
            m = model.messages[back.id]
            # what a late answer pinned may still wake in the lane where it waited
            assert m in mine or m.had, f"handed back from a lane it is not in: {m} {back}"
            assert m.due <= now, f"handed back before its time: {m} {back}"
            if back.id in waking:
                assert m.permission.expires >= now
            else:
                assert m.state is State.QUEUED
                reasons = {before[back.id], model.gate(m, now)}
                assert (State.QUEUED, back.reason) in reasons, (back.reason, reasons)
            assert back.token == model.hand_back(m, now)
            assert (back.state, back.recipient, back.expires) == (m.state, m.new.recipient, m.permission.expires)
            assert (back.envelope, back.content) == (m.new.envelope, m.new.content)
            self.tokens[back.id] = back.token
        left = [m for m in mine if m.state is State.QUEUED and m.due <= now and not m.had]
        left = [m for m in left if model.gate(m, now)[0] is State.SENDING]
        if parts < request.limit - request.keep and not taken.more:
            assert not left, "something was ready and not taken"
        if taken.leased:
            worst = max(PRIORITY[model.messages[item.id].new.category] for item in taken.leased)
            assert all(PRIORITY[m.new.category] >= worst for m in left), "a lower priority went first"

    def dropped(self, mine: list[Message], before: dict[bytes, tuple[State, Reason]], waking: set[bytes]) -> int:
        """The store ended some at the gate; it tells how many, the records tell which."""
        may = [m for m in mine if m.due <= self.now and (m.state is State.QUEUED or m.new.id in waking)]
        found = self.world.run(self.world.store.find([m.new.id for m in may]))
        count = 0
        for m, record in zip(may, found, strict=True):
            if record is None or not record.final:
                continue
            state, reason = before[m.new.id]
            assert state in (State.EXPIRED, State.REJECTED), f"dropped without need: {plain(record)}"
            assert state is State.EXPIRED or m.new.id not in waking
            self.model.drop(m, state, reason, self.now)
            count += 1
        return count

    def settle_orphans(self, found: dict[bytes, Any]) -> None:
        """Parked receipts that sweep gave to messages without an id: the store chooses, the model judges."""
        still = [self.world.parked(partition) for partition in range(PARTITIONS)]
        gone: dict[int, tuple[tuple[str, bytes, bytes], ReceiptFact, int]] = {}
        for key, (fact, at) in list(self.model.parked.items()):
            if key[0].encode() + b"\0" + key[1][:8] + key[2] not in still[fact.recipient.partition]:
                gone[id(fact)] = key, fact, at
                del self.model.parked[key]
        oldest = sorted(gone.values(), key=lambda it: (it[2], it[0][0].encode() + b"\0" + it[0][1] + it[1].ids[0]))
        for key, fact, at in oldest:
            assert self.now - at >= 60_000
            if not self.given_to(key, fact, found):
                noted = fact.state is PartState.ACCEPTED and any(
                    m.new.recipient.key == key[1] and m.carrier == key[0] and m.parts
                    for m in self.model.messages.values()
                )
                twin = any(other is not fact and set(other.ids) & set(fact.ids) for _, other, _ in gone.values())
                assert noted or twin or self.now - at >= 25 * HOUR, f"an early receipt is gone: {fact}"

    def given_to(self, key: tuple[str, bytes, bytes], fact: ReceiptFact, found: dict[bytes, Any]) -> bool:
        """Whether a record shows a receipt that the model does not know of yet: then it was this one."""
        for id_, record in found.items():
            m = self.model.messages[id_]
            if record is None or m.new.recipient.key != key[1] or m.carrier != key[0] or m.final:
                continue
            for index, (part, ours) in enumerate(zip(record.parts, m.parts, strict=True)):
                if part.state is fact.state and part.state in FINAL_PARTS and part.state != ours.state:
                    assert not ours.id
                    self.model._receipt(m, index, fact, self.now)
                    return True
        return False

    @invariant()
    def check_everything(self) -> None:
        if not getattr(self, "begun", False):
            return
        self.begun = False  # after a failure there is nothing to tear down
        self.check_events()
        self.check_records()
        self.check_places()
        self.begun = True

    def check_events(self) -> None:
        """Invariant 4: every move raises exactly one event, and there is one final event."""
        expected: dict[bytes, list[Any]] = {}
        for moved in self.model.events:
            expected.setdefault(moved.id, []).append(
                (moved.sequence, moved.state, moved.previous, moved.reason, moved.final)
            )
        self.model.events.clear()
        got: dict[bytes, list[Any]] = {}
        for event in self.world.new_events():
            got.setdefault(event.id, []).append(
                (event.sequence, event.state, event.previous, event.reason, event.final)
            )
            if event.previous is not None and event.previous is not event.state:
                assert event.state in MOVES[event.previous], f"{event.previous!r} -> {event.state!r}"
            if event.final:
                self.finals[event.id] += 1
                assert self.finals[event.id] == 1, "more than one final event"
            if event.previous is State.SENDING and event.state in (State.SENT, State.UNKNOWN):
                self.copies[event.id] += 1
            if event.reason is Reason.RESEND:
                self.copies[event.id] -= 1
            assert self.copies[event.id] <= 1, "more copies than one and the resends"
        loose = {Reason.NONE}
        for id_ in got.keys() | expected.keys():
            m = self.model.messages.get(id_)
            same(m, [(*e[:3], e[4]) for e in got.get(id_, ())], [(*e[:3], e[4]) for e in expected.get(id_, ())])
        for id_, events in got.items():
            for mine, theirs in zip(expected[id_], events, strict=True):
                assert mine[3] in loose or mine[3] == theirs[3], f"reason {theirs[3]!r}, expected {mine[3]!r}"

    def check_records(self) -> None:
        numbers: set[tuple[bytes, int, int]] = set()
        ids = list(self.model.messages)
        for id_, record in zip(ids, self.world.run(self.world.store.find(ids)), strict=True):
            m = self.model.messages[id_]
            assert record is not None, f"lost: {m}"
            same(m, (record.state, record.final, record.sequence), (m.state, m.final, m.sequence))
            same(m, (record.route, record.place, record.attempts), (m.route, m.place, m.attempts))
            same(m, (record.recipient, record.envelope), (m.new.recipient, m.new.envelope))
            same(m, [part.state for part in record.parts], [part.state for part in m.parts])
            same(m, record.content, None if m.final else m.new.content)
            if not m.final:
                if m.new.segments > 1:
                    number = (m.new.recipient.key, m.accepted_at // (24 * HOUR), record.reference_number)
                    assert number not in numbers, "two long messages would be joined"
                    numbers.add(number)
                same(m, (record.resent, record.pinned, record.cancel_requested), (m.resent, m.had, m.cancel))
                if m.state in WAITING:
                    same(m, (record.due, record.expires), (m.due, m.permission.expires))

    def check_places(self) -> None:
        """Invariants 1 and 6: every message is in exactly one place, leases belong to those who took them."""
        for partition in range(PARTITIONS):
            places = self.world.places(partition)
            self.check_caps(partition, places.caps)
            self.check_parked(partition, places.parked)
            mine = [m for m in self.model.messages.values() if partition_of(m.new.id) == partition]
            waits = Counter((m.new.envelope.account, m.state) for m in mine if m.state in WAITING)
            assert {key: n for key, n in places.waiting.items() if n} == waits, "who waits is miscounted"
            ready = Counter(id_ for ids in places.ready.values() for id_ in ids)
            delayed = Counter((id_, due) for lane in places.delayed.values() for id_, due in lane.items())
            leased: Counter[tuple[str, int, bytes]] = Counter()
            for owner, leases in places.leases.items():
                for lease, packed in leases.items():
                    if not lease.startswith(b"n"):
                        ids = packed[2 + packed[1] :]
                        assert len(ids) % 16 == 0
                        leased.update((owner, int(lease), ids[n : n + 16]) for n in range(0, len(ids), 16))
            for m in self.model.messages.values():
                id_ = m.new.id
                if partition_of(id_) != partition:
                    continue
                if m.state is State.SENDING:
                    times = leased[m.owner, m.lease, id_]
                    assert times == 1, f"leased {times} times: {m}"
                elif m.final or m.state in (State.SENT, State.UNKNOWN):
                    pass
                elif m.state is State.HELD and not m.released:
                    assert id_ in places.held, f"not among the held: {m}"
                elif m.due:
                    assert delayed[id_, m.due] == 1, f"delayed {delayed[id_, m.due]} times: {m}"
                else:
                    assert ready[id_] == 1, f"ready {ready[id_]} times: {m}"
            owners = {owner for owner in places.leases if any(not k.startswith(b"n") for k in places.leases[owner])}
            holders = {
                m.owner
                for m in self.model.messages.values()
                if m.state is State.SENDING and partition_of(m.new.id) == partition
            }
            assert owners == holders, "leases of nobody's messages"

    def check_caps(self, partition: int, caps: dict[bytes, dict[bytes, int]]) -> None:
        """Invariant 5: caps are never exceeded, and what is reserved is what went out (or may have)."""
        expected: dict[bytes, dict[bytes, int]] = {}
        for id_, (at, under) in self.model.reserved.items():
            for cap in under:
                if partition_of(id_) == partition and at > self.now - 1000 * cap.window:
                    key = self.model.recipients[id_] + cap.scope + cap.window.to_bytes(4, "big")
                    expected.setdefault(key, {})[id_] = at
                    assert len(expected[key]) <= cap.limit, "more went out than the cap allows"
        kept = {}
        for key, ids in caps.items():
            start = self.now - 1000 * int.from_bytes(key[24:28], "big")
            if fresh := {id_: at for id_, at in ids.items() if at > start}:
                kept[key] = fresh
        assert kept == expected, "reservations differ"

    def check_parked(self, partition: int, parked: set[bytes]) -> None:
        """A receipt waits as long as its id is unknown, and no longer."""
        here = [key for key, (fact, _) in self.model.parked.items() if fact.recipient.partition == partition]
        assert parked == {carrier.encode() + b"\0" + who[:8] + id_ for carrier, who, id_ in here}
