"""What workers do to messages, at random: taking, deciding, giving back."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.model import OnUnknown, Permit, Priority, Reason, State
from gateway.store.ids import partition_of
from gateway.store.owner import LeaseOwner
from gateway.store.requests import Lane, TakeRequest
from tests.model.intake_rules import IntakeRules
from tests.model.store_driver import PARTITIONS
from tests.model.values import ACCOUNTS, AHEAD, CARRIERS, ROUTES, indices, seeds


class WorkerRules(IntakeRules):
    """Rules for everything between a take and an answer."""

    # -- handing out ---------------------------------------------------------------------------------------------------

    @rule(
        owner=st.integers(0, 1),
        carrier=st.sampled_from(CARRIERS),
        route=st.sampled_from(ROUTES),
        places=st.sampled_from([(0,), (0,), (0, 1), (1,), (1, 2)]),
        limit=st.sampled_from([1, 2, 3, 10, 10]),
        keep=st.sampled_from([0, 0, 1, 2]),
        word=st.sampled_from(list(OnUnknown)),
        probe=st.sampled_from([False] * 5 + [True]),
    )
    def take(
        self,
        owner: int,
        carrier: str,
        route: str,
        places: tuple[int, ...],
        limit: int,
        keep: int,
        word: OnUnknown,
        probe: bool = False,
    ) -> None:
        lanes = tuple(Lane(route, place, priority) for priority in Priority for place in places)
        requests = [TakeRequest(p, lanes, carrier, limit, keep, word, probe) for p in range(PARTITIONS)]
        who = self.owners[owner]
        self.begun = False
        for request, taken in zip(requests, self.driver.run(self.driver.store.take(who, requests)), strict=True):
            self.check_take(who, request, taken)
        self.begun = True
        self.beats[who.name] = self.now

    @rule(owner=st.integers(0, 1), carrier=st.sampled_from(CARRIERS), word=st.sampled_from(list(OnUnknown)))
    def take_all(self, owner: int, carrier: str, word: OnUnknown) -> None:
        for route in ROUTES:
            self.take(owner, carrier, route, (0, 1), 10, 0, word)

    @precondition(lambda self: self.some(0, State.QUEUED))
    @rule(owner=st.integers(0, 1), carrier=st.sampled_from(CARRIERS))
    def take_more(self, owner: int, carrier: str) -> None:
        self.take_all(owner, carrier, OnUnknown.RESEND)

    @precondition(lambda self: self.tokens)
    @rule(seed=seeds, index=indices, stale=st.sampled_from([0, 0, 0, 1]), again=st.booleans())
    def permit(self, seed: int, index: int, stale: int, again: bool) -> None:
        due = {id_: m.due for id_, m in self.model.messages.items() if not m.final}
        good = [id_ for id_, token in self.tokens.items() if due.get(id_) == token] or list(self.tokens)
        id_ = good[index % len(good)]
        m = self.model.messages.get(id_)
        account = m.new.envelope.account if m else ACCOUNTS[0]
        pick = Random(seed).choice
        state = pick([State.QUEUED, State.QUEUED, State.DEFERRED, State.HELD, State.REJECTED])
        reasons = {
            State.QUEUED: Reason.NONE,
            State.DEFERRED: Reason.QUIET_HOURS,
            State.HELD: pick([Reason.BREAKER_OPEN, Reason.RESTORED]),
        }
        item = Permit(
            id=id_,
            token=self.tokens[id_] - stale,
            state=state,
            reason=reasons.get(state, Reason.CONTENT_REFUSED),
            due=self.now + pick(AHEAD) if state is State.DEFERRED else 0,
            route=pick(ROUTES),
            permission=self.permission(pick, account),
        )

        def call() -> None:
            assert self.driver.run(self.driver.store.permit([item])) == [self.model.permit(item, self.now)]

        self.do(call, again)

    # -- sending -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(owner=st.integers(0, 1), carrier=st.sampled_from(CARRIERS), forgets=indices, again=st.booleans())
    def untake_lost(self, owner: int, carrier: str, forgets: int, again: bool) -> None:
        """A worker gives back what it was leased without hearing of it: here, every lease it chooses to forget."""
        who = self.owners[owner]
        known = {
            (partition_of(id_), lease)
            for n, (name, id_, lease, _) in enumerate(self.leases)
            if name == who.name and forgets >> n % 16 & 1
        }
        by_partition = {p: [lease for where, lease in known if where == p] for p in range(PARTITIONS)}

        def call() -> None:
            got = self.driver.run(self.driver.store.untake_lost(who, carrier, by_partition))
            assert got == self.model.untake_lost(who.name, carrier, known, self.now)

        self.do(call, again)

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(index=indices, count=st.integers(1, 3), again=st.booleans())
    def regate(self, index: int, count: int, again: bool) -> None:
        """Before a further window of parts: of what is being written, and of a lease that is over."""
        first = self.some(index, State.SENDING)
        assert first is not None
        mine = [m for m in self.model.messages.values() if m.state is State.SENDING and m.owner == first.owner]
        items = [(m.new.id, m.lease) for m in mine[:count]] + [(id_, lease) for _, id_, lease, _ in self.leases[:1]]

        def call() -> None:
            got = self.driver.run(self.driver.store.regate(LeaseOwner.parse(first.owner), items))
            assert got == self.model.regate(items, self.now)

        self.do(call, again)

    @precondition(lambda self: self.leases)
    @rule(index=indices, again=st.booleans())
    def untake(self, index: int, again: bool) -> None:
        owner, id_, lease, _ = self.leases[index % len(self.leases)]

        def call() -> None:
            self.driver.run(self.driver.store.untake(LeaseOwner.parse(owner), [(id_, lease)]))
            self.model.untake(owner, [(id_, lease)], self.now)

        self.do(call, again)

    @precondition(lambda self: self.leases)
    @rule(index=indices, ahead=st.sampled_from(AHEAD), turn=st.booleans(), again=st.booleans())
    def postpone(self, index: int, ahead: int, turn: bool, again: bool) -> None:
        owner, id_, lease, _ = self.leases[index % len(self.leases)]
        item = (id_, lease, self.now + ahead, turn)

        def call() -> None:
            self.driver.run(self.driver.store.postpone(LeaseOwner.parse(owner), [item]))
            self.model.postpone(owner, [item], self.now)

        self.do(call, again)
