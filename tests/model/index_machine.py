"""The index by (carrier, id) against its model: ids and receipts in any order, takers that die half-way."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.model import PartState, ReceiptFact, Recipient
from gateway.store.ids import derived_id
from gateway.store.receipt_index import IndexedId, ReceiptIndex
from tests.model.message import kept_date
from tests.model.store_driver import PARTITIONS, StoreDriver
from tests.model.values import CARRIERS, FINAL_PARTS, HOUR, MINUTE

NOBODY = Recipient("", bytes(16), 0)
PARKED, ORPHAN = 25 * HOUR, MINUTE
DATES = (0, 1_800_000_000_999, -5, 10**17)  # of carriers

carriers = st.sampled_from(CARRIERS)
names = st.sampled_from([b"%d" % number for number in range(6)])
Key = tuple[str, bytes]


@dataclass
class Parked:
    """A receipt whose id was unknown when it came."""

    state: PartState
    error: str
    date: int
    since: int
    end: int = 0  # of an orphan


class IndexMachine(RuleBasedStateMachine):
    """Set ``driver`` in a subclass."""

    driver: StoreDriver

    @initialize()
    def begin(self) -> None:
        self.driver.reset()
        self.index = ReceiptIndex(self.driver.store, self.driver.link)
        self.ids: dict[Key, tuple[bytes, bytes]] = {}
        self.parked: dict[Key, Parked] = {}
        self.count = 0

    @rule(carrier=carriers, ids=st.lists(names, min_size=1, max_size=3, unique=True))
    def bring(self, carrier: str, ids: list[bytes]) -> None:
        """A carrier names parts of messages; what was parked under them is given out, and stays until it is stored."""
        items = []
        for one in ids:
            self.count += 1
            message = derived_id(self.driver.now, self.count % PARTITIONS, self.count.to_bytes(8, "big"))
            items.append(IndexedId(one, message, 1, self.count.to_bytes(8, "big")))
        for _ in range(2):
            early = self.driver.run(self.index.index(carrier, items))
            assert {(fact.ids[0], fact.state, fact.error, fact.at, fact.recipient.key) for fact in early} == {
                (one.carrier_id, parked.state, parked.error, parked.date, one.recipient)
                for one in items
                if (parked := self.parked.get((carrier, one.carrier_id)))
            }
        for one in items:
            self.ids[carrier, one.carrier_id] = one.message_id, one.recipient
            if parked := self.parked.get((carrier, one.carrier_id)):
                parked.since, parked.end = self.driver.now, 0

    @rule(
        carrier=carriers,
        ids=st.lists(names, min_size=1, max_size=2, unique=True),
        state=st.sampled_from([*FINAL_PARTS, PartState.ACCEPTED]),
        said=st.sampled_from(DATES),
    )
    def locate(self, carrier: str, ids: list[bytes], state: PartState, said: int) -> None:
        fact = ReceiptFact(carrier, tuple(ids), NOBODY, state, f"e{self.count}", said)
        date = 0 if state is PartState.ACCEPTED else kept_date(said)
        for _ in range(2):
            (found,) = self.driver.run(self.index.locate(carrier, [fact]))
        known = next((one for one in ids if (carrier, one) in self.ids), None)
        if known is None:
            assert found is None
        else:
            assert found is not None
            assert (found.ids, found.recipient.key) == ((known,), self.ids[carrier, known][1])
            assert (found.state, found.error, found.at) == (state, fact.error, date)
        for one in ids:
            key = carrier, one
            if key in self.ids:
                continue
            kept = self.parked.setdefault(key, Parked(state, fact.error, date, self.driver.now))
            if kept.state is PartState.ACCEPTED:
                kept.state, kept.error, kept.date = state, fact.error, date

    @rule(carrier=carriers, one=names)
    def stored(self, carrier: str, one: bytes) -> None:
        """Unpark a receipt that is stored with its message."""
        self.driver.run(self.index.unpark([(carrier, one)] * 2))
        self.parked.pop((carrier, one), None)

    @rule()
    def relocate(self) -> None:
        now = self.driver.now
        found, orphans, _ = self.driver.run(self.index.relocate())
        aged = {key: one for key, one in self.parked.items() if not one.end and one.since <= now - ORPHAN}
        assert {(fact.carrier, fact.ids[0]) for fact in found} == {key for key in aged if key in self.ids}
        assert orphans == sum(key not in self.ids for key in aged)
        for key, one in aged.items():
            if key in self.ids:
                one.since = now
            else:
                one.end = now + PARKED - ORPHAN
        self.parked = {key: one for key, one in self.parked.items() if not one.end or one.end > now}

    @rule(ms=st.sampled_from([1, MINUTE, HOUR, 26 * HOUR]))
    def advance(self, ms: int) -> None:
        self.driver.set_clock(self.driver.now + ms)

    @invariant()
    def what_is_parked_waits_in_one_place(self) -> None:
        if not hasattr(self, "index"):
            return
        kept: set[bytes] = set()
        waiting: set[bytes] = set()
        orphans: set[bytes] = set()
        for partition in range(PARTITIONS):
            tag, link = self.driver.link.tags[partition], self.driver.link
            asked = [("HKEYS", tag + b"jk"), ("ZRANGE", tag + b"ja", 0, -1), ("ZRANGE", tag + b"jo", 0, -1)]
            replies = self.driver.run(link.commands([(partition, words) for words in asked]))
            for into, reply in zip((kept, waiting, orphans), replies, strict=True):
                into.update(reply)
        named = {key[0].encode() + b"\0" + key[1]: one for key, one in self.parked.items()}
        assert kept == set(named)
        assert waiting == {name for name, one in named.items() if not one.end}
        assert orphans == {name for name, one in named.items() if one.end}
