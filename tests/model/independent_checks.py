"""What must hold whatever the model says: of the events, of each record by itself, of what the carriers did.

The machine tells what it did in the carriers' place; the records and events tell what the store made of it.
"""

from __future__ import annotations

from collections import Counter

from gateway.model import MOVES, PartState, Reason, State, StreamEvent
from gateway.store.records import MessageRecord
from gateway.store.requests import Retention
from tests.model.message import ENDED, FAILURES, Message

_TAKEN = (PartState.ACCEPTED, *ENDED)
_OPEN = (PartState.UNKNOWN, PartState.PENDING)


class IndependentChecks:
    """Records everything that the machine reported to the store in the carriers' place."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.finals: Counter[bytes] = Counter()
        self.resends: Counter[bytes] = Counter()
        self.last_event_at: dict[bytes, int] = {}  # the last event before
        self.delivered: set[tuple[str, bytes, bytes]] = set()  # carrier, recipient's key, id of every DELIVERED receipt

    def raised(self, event: StreamEvent) -> None:
        """A move of the table; resends are bounded; nothing ends in place before receipts have had their time."""
        if event.previous is not None and event.previous is not event.state:
            assert event.state in MOVES[event.previous], f"{event.previous!r} -> {event.state!r}"
        if event.final:
            self.finals[event.id] += 1
            assert self.finals[event.id] == 1, "more than one final event"
            waited = event.at - self.last_event_at.get(event.id, event.at)
            in_place = event.state in (State.SENT, State.UNKNOWN)
            assert not in_place or waited >= 1000 * self.retention.receipt_timeout, f"final before its time: {event}"
        self.resends[event.id] += event.reason is Reason.RESEND
        assert self.resends[event.id] <= self.retention.resends, "more copies than one and the resends"
        self.last_event_at[event.id] = event.at

    def check(self, record: MessageRecord) -> None:
        """So many copies as there were resends; no end while one is doubtful; delivered by a receipt of its own."""
        copies = Counter(copy.part for copy in record.copies)
        flying = record.state is State.SENDING
        assert all(n <= 1 + record.resent + flying for n in copies.values()), f"too many copies: {record}"
        if record.state in (State.FAILED, State.REJECTED, State.EXPIRED) and record.reason is not Reason.RECEIPT:
            assert not doubtful(record), f"final while a copy may be on its way: {record}"
        if record.state is State.DELIVERED:
            named = {(copy.carrier, record.recipient.key, copy.carrier_id) for copy in record.copies}
            carriers = {record.carrier, *(copy.carrier for copy in record.copies)}
            named |= {(c, record.recipient.key, part.carrier_id) for part in record.parts for c in carriers}
            assert not named.isdisjoint(self.delivered), f"delivered without a receipt of its own: {record}"


def doubtful(record: MessageRecord) -> bool:
    """Whether a copy of what no carrier is known to have may be on its way."""
    taken = {part.index for part in record.parts if part.state in _TAKEN}
    unknown = {part.index for part in record.parts if part.state is PartState.UNKNOWN}
    unknown |= {copy.part for copy in record.copies if copy.state is PartState.UNKNOWN}
    return not unknown <= taken


Written = tuple[int, PartState, str, bytes]


def check_copies(m: Message, record: MessageRecord) -> None:
    """Parts and copies of a record are those of the model.

    What was written once only has no list of copies; what is in flight may have a place in it already.
    """
    listed: dict[int, list[Written]] = {}
    for copy in record.copies:
        listed.setdefault(copy.part, []).append((copy.part, copy.state, copy.carrier, copy.carrier_id))
    mine = Counter((c.part, c.state, c.carrier, c.id) for c in m.copies)
    flying = Counter((part, PartState.UNKNOWN, m.handed_to, b"") for part in m.flying if part in listed)
    theirs = Counter(one for written in listed.values() for one in written)
    for part in record.parts:
        if part.index not in listed and part.state is not PartState.PENDING:
            carriers = {c.carrier for c in m.copies if c.part == part.index} or {record.carrier}
            theirs[part.index, part.state, min(carriers), part.carrier_id] += 1
    assert theirs - flying <= mine <= theirs, f"copies {dict(theirs)}, expected {dict(mine)}: {m}"
    assert len(record.parts) == m.total, f"{len(record.parts)} parts: {m}"
    for part in record.parts:
        _check_part(m, part.index, part.state, part.index in listed)
        assert part.done_at == m.dates.get(part.index, 0), f"dated {part.done_at}: {m}"
        ids = {c.id for c in m.copies if c.part == part.index and c.state in _TAKEN}
        assert part.carrier_id in ids or (not part.carrier_id and not ids), f"called {part.carrier_id!r}: {m}"


def _check_part(m: Message, index: int, theirs: PartState, copied: bool) -> None:
    mine = m.part(index)
    if mine is theirs:
        return
    may = copied and mine in _OPEN and theirs in _OPEN  # sent again or not: its copies tell
    # a failed copy of what is in flight, or whose other copies have had their time
    may = may or (copied and m.state is State.SENDING and mine in FAILURES and theirs is PartState.ACCEPTED)
    assert may, f"part {index} is {theirs!r}, expected {mine!r}: {m}"
