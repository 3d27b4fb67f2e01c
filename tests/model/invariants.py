"""What must hold after every call: all seven invariants, asked of the raw structures.

1 every message is in exactly one place
2 nothing revoked, canceled or expired is handed out (``choice_checks``)
3 no more copies than one and the resends of an unknown (``independent_checks``)
4 every move raises one event, one of them final
5 caps are never exceeded; what is reserved was sent
6 leases belong to the owner that took them
7 a repeated call changes nothing (``do``)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import currently_in_test_context, note
from hypothesis.stateful import RuleBasedStateMachine, invariant

from gateway.model import WAITING, Reason, State, StreamEvent
from gateway.store.ids import partition_of
from gateway.store.owner import LeaseOwner
from tests.model.independent_checks import IndependentChecks, check_copies
from tests.model.message import ENDED, Message, Moved
from tests.model.receipts import raw
from tests.model.reference import Model
from tests.model.store_driver import PARTITIONS, Places, StoreDriver, plain
from tests.model.values import HOUR, NUMBERS


def same(m: Message | None, store: Any, model: Any) -> None:
    """Assert that both are equal; else say how the message differs."""
    assert store == model, f"the store says {store}, the model {model}, of {m}"


class Unanswered(NamedTuple):
    """Parts that were written under a lease and had no answer in time."""

    owner: str
    id: bytes
    lease: int
    carrier: str
    total: int
    parts: list[int]


class Given(NamedTuple):
    """An id that a carrier gave."""

    carrier: str
    message: bytes
    id: bytes
    at: int


def _told(event: StreamEvent | Moved) -> tuple[int, State, State | None, bool]:
    return event.sequence, event.state, event.previous, event.final


def _under(caps: dict[bytes, dict[bytes, int]], id_: bytes) -> dict[bytes, int]:
    """The caps that a message is counted under, and since when."""
    return {cap: ids[id_] for cap, ids in caps.items() if id_ in ids}


class Invariants(RuleBasedStateMachine):
    """A model and a driver side by side. Set ``driver`` in a subclass."""

    driver: StoreDriver
    calm = False  # policy has little to say, and much is lost: what copies are made of

    def reset(self) -> None:
        """Begin anew, with nothing stored."""
        self.driver.reset()
        self.model = Model(self.driver.retention)
        self.independent = IndependentChecks(self.driver.retention)
        self.recipients = [self.driver.hasher.recipient(digits) for digits in NUMBERS]
        self.owners = [LeaseOwner("w0", "0"), LeaseOwner("w1", "0")]
        self.beats: dict[str, int] = {}
        self.count = 0
        self.known: list[bytes] = []
        self.gone: set[bytes] = set()  # records that were deleted
        self.outlived: set[tuple[str, bytes, bytes]] = set()  # carriers, recipients and ids of theirs
        self.said: list[str] = []
        self.tokens: dict[bytes, int] = {}
        self.leases: list[tuple[str, bytes, int, str]] = []  # every lease ever: owner, id, lease, carrier
        self.unanswered: list[Unanswered] = []
        self.given: list[Given] = []  # every id a carrier ever gave
        self.promised: dict[tuple[bytes, int, str], bytes] = {}  # ids whose receipts came before them
        self.calls: list[Callable[[], None]] = []
        self.ambiguous = False  # a receipt of this call was
        self.begun = True

    @property
    def now(self) -> int:
        return self.driver.now

    def say(self, text: str) -> None:
        """What a failing example tells beside its calls."""
        self.said.append(text)
        if currently_in_test_context():
            note(text)

    def do(self, call: Callable[[], None], again: bool) -> None:
        """Make a call; ``again`` makes it twice and wants nothing to change. It may be repeated at any later time."""
        self.begun, self.ambiguous = False, False  # after a failure there is nothing to tear down
        call()
        self.begun = True
        self.calls.append(call)
        if again:
            self.check_everything()
            before = self.picture()
            self.begun = False
            call()
            for one, other in zip(before, self.picture(), strict=True):
                # what an id stood for twice may be clear by now
                assert one == other or self.ambiguous, f"a repeated call changed {one} into {other}"
            self.begun = True

    def picture(self) -> Any:
        ids = [id_ for id_ in self.known if id_ in self.model.messages]
        return [plain(record) for record in self.driver.run(self.driver.store.find(ids))]

    def some(self, index: int, *states: State) -> Message | None:
        found = [m for m in self.model.messages.values() if m.state in states and not m.final]
        return found[index % len(found)] if found else None

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
        expected: dict[bytes, list[Moved]] = {}
        for moved in self.model.events:
            expected.setdefault(moved.id, []).append(moved)
        self.model.events.clear()
        got: dict[bytes, list[StreamEvent]] = {}
        for event in self.driver.new_events():
            got.setdefault(event.id, []).append(event)
            self.independent.raised(event)
        for id_ in got.keys() | expected.keys():
            m = self.model.messages.get(id_)
            same(m, [_told(e) for e in got.get(id_, ())], [_told(e) for e in expected.get(id_, ())])
            for mine, theirs in zip(expected[id_], got[id_], strict=True):
                assert mine.reason in (Reason.NONE, theirs.reason), f"{theirs.reason!r}, expected {mine.reason!r}: {m}"
                assert mine.error == theirs.error, f"error {theirs.error!r}, expected {mine.error!r}: {m}"
                assert mine.accepted == theirs.parts_accepted, f"{theirs.parts_accepted} accepted, not {mine}: {m}"

    def check_records(self) -> None:
        numbers: set[tuple[bytes, int, int]] = set()
        ids = list(self.model.messages)
        for id_, record in zip(ids, self.driver.run(self.driver.store.find(ids)), strict=True):
            m = self.model.messages[id_]
            assert record is not None, f"lost: {m}"
            same(m, (record.state, record.final, record.sequence), (m.state, m.final, m.sequence))
            same(m, (record.route, record.place, record.attempts), (m.route, m.place, m.attempts))
            same(m, (record.recipient, record.envelope), (m.new.recipient, m.new.envelope))
            same(m, record.content, None if m.bare else m.new.content)
            assert m.reason in (Reason.NONE, record.reason), f"because of {record.reason!r}: {m}"
            check_copies(m, record)
            self.independent.check(record)
            if m.final:
                continue
            if m.new.segments > 1:
                number = (m.new.recipient.key, m.accepted_at // (24 * HOUR), record.reference_number)
                assert number not in numbers, "two long messages would be joined"
                numbers.add(number)
            same(m, (record.resent, record.cancel_requested), (m.resent, m.stop is Reason.CANCELED))
            if m.state is not State.SENDING:
                same(m, record.pinned, m.had)
            if m.state in WAITING:
                same(m, (record.due, record.expires), (m.due, m.permission.expires))
            elif m.state is not State.SENDING:
                same(m, record.due, m.due)
            if m.state is State.SENDING:
                same(m, (record.carrier, record.lease), (m.carrier, m.lease))
            elif m.had:  # which of the carriers that have a part is the store's choice
                assert record.carrier in m.holders, f"at {record.carrier}: {m}"
                m.carrier = record.carrier

    def check_places(self) -> None:
        """Invariants 1 and 6: every message is in exactly one place, leases belong to those who took them."""
        for partition in range(PARTITIONS):
            places = self.driver.places(partition)
            self.check_caps(partition, places.caps)
            self.check_parked(partition, places)
            self.check_lost(partition, places.lost)
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
            assert owners == holders, "leases of messages that are not in flight"

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
        differ = {id_: m for id_, m in self.model.messages.items() if _under(kept, id_) != _under(expected, id_)}
        assert kept == expected, f"reservations differ: {differ}"

    def check_lost(self, partition: int, lists: dict[str, dict[bytes, list[bytes]]]) -> None:
        """What may get a receipt of an unknown id is listed at that carrier, and nothing that is gone."""
        listed = {(carrier, id_) for carrier, by in lists.items() for ids in by.values() for id_ in ids}
        for m in self.model.messages.values():
            for copy in m.copies:
                if partition_of(m.new.id) == partition and not m.final and copy.lost and m.part(copy.part) not in ENDED:
                    assert (copy.carrier, m.new.id) in listed, f"not listed as lost: {m}"
        gone = {one for one in listed if one[1] not in self.model.messages}
        assert not gone, f"listed as lost, but gone: {gone}"

    def check_parked(self, partition: int, places: Places) -> None:
        """A receipt waits as long as its id is unknown, and no longer; and is listed as long as it waits."""
        here = [name for name, kept in self.model.parked.items() if kept.fact.recipient.partition == partition]
        assert places.parked == {raw(name) for name in here}
        first = {
            raw(kept.names[0]) for kept in self.model.parked.values() if kept.fact.recipient.partition == partition
        }
        assert first <= places.parked_list <= places.parked, "parked receipts and their lists differ"
