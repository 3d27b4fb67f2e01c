"""Random calls against the reference model and the real store at once, all invariants checked after each.

The machine speaks as two workers with their restarts, two carriers and four recipients would, in any order:
answers come late, receipts early, calls twice. What the store may choose (which messages a take gets) it is asked for,
and the choice is checked; everything else must be as the model says.
"""

from __future__ import annotations

from itertools import chain

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from gateway.model import WAITING, OnUnknown, Priority, State
from gateway.store import keys
from gateway.store.lane_rescue import LaneRescue
from gateway.store.layout import HEAD, VERSION
from gateway.store.owner import LeaseOwner
from tests.model.carrier_rules import CarrierRules
from tests.model.invariants import Unanswered
from tests.model.receipts import Guessed
from tests.model.store_driver import PARTITIONS
from tests.model.values import ACCOUNTS, CARRIERS, HOSTS, HOUR, MINUTE, ROUTES, indices, seeds

KNOWN_FORMS: list[dict[tuple[str, str], int]] = [
    {},
    {},
    {(CARRIERS[0], HOSTS[0]): 1},
    dict.fromkeys(((carrier, host) for carrier in CARRIERS for host in HOSTS), 2),
]


def former_format(record: bytes) -> bytes | None:
    """A record as the first format has it: without version and length of copies. None: it cannot have been one."""
    cut = HEAD.size - 4  # before the length of copies
    if record[2] != VERSION or record[cut : cut + 2] != b"\0\0":
        return None
    return record[:2] + record[3:cut] + record[cut + 2 :]


class Machine(CarrierRules):
    """The rules: everything that workers, carriers and people may do."""

    @initialize(seed=seeds)
    def begin(self, seed: int) -> None:
        self.reset()
        self.calm = seed % 2 == 1
        self.accept(seed, 4, False)

    # -- workers and time ----------------------------------------------------------------------------------------------

    @rule(owner=st.integers(0, 1))
    def beat(self, owner: int) -> None:
        self.driver.run(self.driver.store.beat(self.owners[owner]))
        self.beats[self.owners[owner].name] = self.now

    @rule(owner=st.integers(0, 1))
    def crash(self, owner: int) -> None:
        """It crashes and starts again; what it held waits to be reclaimed."""
        old = self.owners[owner]
        self.owners[owner] = LeaseOwner(old.node, str(int(old.start) + 1))

    @rule(index=indices, by=st.integers(0, 1), again=st.booleans())
    def reclaim(self, index: int, by: int, again: bool) -> None:
        names = [name for name in self.beats if name != self.owners[by].name]
        if not names:
            return
        dead = LeaseOwner.parse(names[index % len(names)])
        me = self.owners[by]

        def call() -> None:
            if me.node == dead.node and int(me.start) <= int(dead.start):
                return
            held = sum(1 for m in self.model.messages.values() if m.state is State.SENDING and m.owner == dead.name)
            got = self.driver.run(self.driver.store.reclaim(dead, me))
            quiet = self.now - self.beats[dead.name] >= 10_000
            assert me.node == dead.node or quiet or got.alive or not held
            if got.alive:
                assert me.node != dead.node
                assert not quiet
            else:
                lost = [m for m in self.model.messages.values() if m.state is State.SENDING and m.owner == dead.name]
                for m in lost:
                    told = Unanswered(
                        dead.name, m.new.id, m.lease, m.carrier, m.total or m.new.segments, sorted(m.flying)
                    )
                    self.unanswered.append(told)
                assert self.model.reclaim(dead.name, self.now) == sum(got[:3])
                assert dead not in [seen.owner for seen in self.driver.run(self.driver.store.owners())]

        self.do(call, again)

    @rule(ms=st.sampled_from([1, 500, 1_999, 5_000, 11_000, 2 * MINUTE, 11 * MINUTE]))
    def advance(self, ms: int) -> None:
        self.driver.set_clock(self.now + ms)

    @rule(ms=st.sampled_from([31 * MINUTE, HOUR, 7 * HOUR, 26 * HOUR, 73 * HOUR]))
    def leap(self, ms: int) -> None:
        self.advance(ms)
        self.sweep()

    @precondition(lambda self: self.count % 3 == 0)
    @rule(forms=st.sampled_from(KNOWN_FORMS))
    def sweep(self, forms: dict[tuple[str, str], int] | None = None) -> None:
        """At a full minute, so that all that is due by then has been looked at."""
        self.driver.set_clock((self.now // MINUTE + 2) * MINUTE)
        self.begun = False
        for partition in range(PARTITIONS):
            for _ in range(100):
                if not self.sweep_once(partition, forms or {}):
                    break
        self.model.check_swept(self.now)
        self.driver.set_clock(self.now + 7)
        self.begun = True

    def sweep_once(self, partition: int, forms: dict[tuple[str, str], int]) -> bool:
        """One call: it looks at the messages that its list names first, then at parked receipts. Answers if more."""
        due = [id_ for id_ in dict.fromkeys(self.driver.first_due(partition)) if id_ in self.model.messages]
        swept = self.driver.run(self.driver.store.sweep(partition, forms))
        found = dict(zip(due, self.driver.run(self.driver.store.find(due)), strict=True))
        for id_ in due:
            self.model.look(self.model.messages[id_], self.now, lambda one: found[one] is None)
        guesses, matched = self.model.sweep_parked(partition, self.now, forms)
        self.check_forgotten(partition)
        told = [Guessed(*guess) for guess in swept.guesses]
        assert (told, swept.matched) == (guesses, matched), f"{told} {swept}, expected {guesses} {matched}"
        self.gone |= {id_ for id_ in due if id_ not in self.model.messages}
        return swept.more

    def check_forgotten(self, partition: int) -> None:
        """Ids of deleted records lead nowhere; those that came after the end, or in error, may do so for some hours."""
        forgotten = self.model.forgotten
        if forgotten:
            mapped = self.driver.id_map(partition)
            for m in forgotten.values():
                ids = {(c.carrier, m.new.recipient.key[:8] + c.id, m.new.id) for c in m.copies if c.id}
                assert not ids & mapped, f"the map still leads to what is gone: {m}"
            for name, hours in self.model.ids.items():
                if not forgotten.keys().isdisjoint(chain.from_iterable(hours.values())):
                    self.outlived.add(name)
        self.model.forget_ids()

    @rule(index=indices)
    def age(self, index: int) -> None:
        """A record was written by an older version: it lies there in the former format."""
        messages = list(self.model.messages.values())
        if not messages:
            return
        m = messages[index % len(messages)]
        partition = m.new.recipient.partition
        record = self.driver.raw_record(partition, m.new.id)
        former = record and former_format(record)
        if former and not m.resent:
            self.driver.put_record(partition, m.new.id, former)

    @precondition(lambda self: self.calls)
    @rule(index=indices)
    def repeat(self, index: int) -> None:
        """Any earlier call once more: it does what it would do to the model."""
        self.calls[index % len(self.calls)]()

    # -- configuration -------------------------------------------------------------------------------------------------

    @rule(
        route=st.sampled_from(ROUTES),
        places=st.sampled_from([(0,), (1, 2), (0, 1, 2)]),
        at_work=st.sampled_from([CARRIERS, CARRIERS[:1]]),
    )
    def rescue(self, route: str, places: tuple[int, ...], at_work: tuple[str, ...]) -> None:
        """A route is gone, or shorter: its lanes are emptied. ``at_work``: carriers that have another one."""
        routes = dict.fromkeys(at_work, next(other for other in ROUTES if other != route))
        lanes = [f"{route}#{place}:{int(priority)}" for place in places for priority in Priority]
        lanes += [f"{route}@{carrier}:{int(priority)}" for carrier in CARRIERS for priority in Priority]
        self.begun = False
        rescued = self.driver.run(
            LaneRescue(self.driver.store, self.driver.link, self.driver.vault).rescue(lanes, routes)
        )
        self.check_rescue(lanes, routes, rescued)
        self.begun = True

    # -- the end -------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Nothing is stuck: once all is permitted and time has passed, takes empty every lane."""
        if not getattr(self, "begun", False):
            return
        for name in [name for name, value in self.model.flags.items() if value and name != keys.EPOCH]:
            self.driver.run(self.driver.store.flag(name, 0))
            self.model.flags[name] = 0
        self.release(0, ACCOUNTS[0])
        self.release(0, ACCOUNTS[1])
        for _ in range(3):
            self.driver.set_clock(self.now + HOUR + 10_000)
            for carrier in CARRIERS:
                for route in ROUTES:
                    self.take(0, carrier, route, (0, 1, 2, 3, 4), 100, 0, OnUnknown.RESEND)
            self.check_everything()
        waiting = [m for m in self.model.messages.values() if m.state in WAITING and not m.released]
        for m in waiting:
            blocked = m.due > self.now or m.permission.caps or m.place > 4 or m.state is State.HELD
            assert blocked, f"stuck: {m}"
