"""What workers and carriers do to messages, at random: taking, deciding, sending, answers and receipts in any order."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.model import (
    Answer,
    Fate,
    Match,
    OnUnknown,
    PartAnswer,
    PartState,
    Permit,
    Priority,
    Reason,
    ReceiptFact,
    State,
)
from gateway.store.ids import partition_of
from gateway.store.owner import Owner
from gateway.store.requests import Lane, TakeRequest
from tests.model.cast import ACCOUNTS, AHEAD, CARRIERS, FINAL_PARTS, HOUR, NUMBERS, ROUTES, Pick, indices, seeds
from tests.model.intake_rules import IntakeRules
from tests.model.reference import Message
from tests.model.world import PARTITIONS


class CarrierRules(IntakeRules):
    """Rules for everything between a take and a receipt."""

    # -- handing out ---------------------------------------------------------------------------------------------------

    @rule(
        owner=st.integers(0, 1),
        carrier=st.sampled_from(CARRIERS),
        route=st.sampled_from(ROUTES),
        places=st.sampled_from([(0,), (0,), (0, 1), (1,), (1, 2)]),
        limit=st.sampled_from([1, 2, 3, 10, 10]),
        keep=st.sampled_from([0, 0, 1, 2]),
        word=st.sampled_from(list(OnUnknown)),
    )
    def take(
        self, owner: int, carrier: str, route: str, places: tuple[int, ...], limit: int, keep: int, word: OnUnknown
    ) -> None:
        lanes = tuple(Lane(route, place, priority) for priority in Priority for place in places)
        requests = [TakeRequest(p, lanes, carrier, limit, keep, word) for p in range(PARTITIONS)]
        who = self.owners[owner]
        self.begun = False
        for request, taken in zip(requests, self.world.run(self.world.store.take(who, requests)), strict=True):
            self.judge(who, request, taken)
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
        reasons = {State.QUEUED: Reason.NONE, State.DEFERRED: Reason.QUIET_HOURS, State.HELD: Reason.BREAKER_OPEN}
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
            assert self.world.run(self.world.store.permit([item])) == [self.model.permit(item, self.now)]

        self.do(call, again)

    # -- sending -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(owner=st.integers(0, 1), carrier=st.sampled_from(CARRIERS), forgets=indices, again=st.booleans())
    def strays(self, owner: int, carrier: str, forgets: int, again: bool) -> None:
        """A worker gives back what it was leased without hearing of it: here, every lease it chooses to forget."""
        who = self.owners[owner]
        known = {
            (partition_of(id_), lease)
            for n, (name, id_, lease, _) in enumerate(self.leases)
            if name == who.name and forgets >> n % 16 & 1
        }
        by_partition = {p: [lease for where, lease in known if where == p] for p in range(PARTITIONS)}

        def call() -> None:
            got = self.world.run(self.world.store.strays(who, carrier, by_partition))
            assert got == self.model.strays(who.name, carrier, known, self.now)

        self.do(call, again)

    @precondition(lambda self: self.leases)
    @rule(index=indices, again=st.booleans())
    def untake(self, index: int, again: bool) -> None:
        owner, id_, lease, _ = self.leases[index % len(self.leases)]

        def call() -> None:
            self.world.run(self.world.store.untake(Owner.parse(owner), [(id_, lease)]))
            self.model.untake(owner, [(id_, lease)], self.now)

        self.do(call, again)

    @precondition(lambda self: self.leases)
    @rule(index=indices, ahead=st.sampled_from(AHEAD), turn=st.booleans(), again=st.booleans())
    def postpone(self, index: int, ahead: int, turn: bool, again: bool) -> None:
        owner, id_, lease, _ = self.leases[index % len(self.leases)]
        item = (id_, lease, self.now + ahead, turn)

        def call() -> None:
            self.world.run(self.world.store.postpone(Owner.parse(owner), [item]))
            self.model.postpone(owner, [item], self.now)

        self.do(call, again)

    def carrier_id(self, m: Message, index: int, carrier: str) -> bytes:
        """A new id, or the one whose receipt is here already."""
        self.count += 1
        id_ = self.promised.pop((m.new.id, index, carrier), b"id-%d" % self.count)
        self.given.append((carrier, m.new.id, id_))
        return id_

    def outcome(self, pick: Pick, m: Message) -> Answer:
        """What a carrier might say about a leased message, in an order that makes sense."""
        total = len(m.parts) if m.had else pick([m.new.segments, m.new.segments, 1])
        parts = []
        for index in range(total):
            if m.had and m.parts[index].state not in (PartState.PENDING, PartState.UNKNOWN):
                continue
            state = pick([PartState.ACCEPTED] * 3 + [PartState.UNKNOWN, PartState.PENDING])
            named = state is PartState.ACCEPTED and pick([True, True, True, False])
            parts.append(PartAnswer(index, state, self.carrier_id(m, index, m.carrier) if named else b""))
        said = {part.state for part in parts}
        if said <= {PartState.ACCEPTED}:
            fate = Fate.SENT
        elif PartState.UNKNOWN in said:
            fate = Fate.UNKNOWN
        else:
            fate = pick([Fate.BACK, Fate.BACK, Fate.RETRY, Fate.NEXT, Fate.NEXT, Fate.REJECTED, Fate.FAILED])
        reasons = {
            Fate.BACK: Reason.THROTTLED,
            Fate.RETRY: Reason.CARRIER_RETRY,
            Fate.NEXT: Reason.NEXT_CARRIER,
            Fate.REJECTED: Reason.CARRIER_REFUSED,
            Fate.FAILED: Reason.RETRIES_EXHAUSTED,
        }
        return Answer(
            id=m.new.id,
            lease=m.lease,
            carrier=m.carrier,
            fate=fate,
            reason=reasons.get(fate, Reason.NONE),
            status=88 if fate not in (Fate.SENT, Fate.UNKNOWN) else 0,
            due=self.now + pick(AHEAD) if fate is Fate.RETRY else 0,
            total=total,
            parts=parts,
            on_unknown=pick(list(OnUnknown)),
            last_place=pick((False, True)) if fate is Fate.NEXT else False,
        )

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(seed=seeds, index=indices, receipts=st.integers(0, 2), again=st.booleans())
    def answer(self, seed: int, index: int, receipts: int, again: bool) -> None:
        m = self.some(index, State.SENDING)
        assert m is not None
        pick = Random(seed).choice
        self.progress(m.owner, [self.outcome(pick, m)], [self.fact(pick) for _ in range(receipts)], again)

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(seed=seeds, owner=st.integers(0, 1), receipts=st.integers(0, 2))
    def answers(self, seed: int, owner: int, receipts: int) -> None:
        name = self.owners[owner].name
        mine = [m for m in self.model.messages.values() if m.state is State.SENDING and m.owner == name]
        pick = Random(seed).choice
        facts = [self.fact(pick) for _ in range(receipts)]
        self.progress(name, [self.outcome(pick, m) for m in mine[:4]], facts, False)

    @precondition(lambda self: self.leases)
    @rule(index=indices, again=st.booleans())
    def late_answer(self, index: int, again: bool) -> None:
        """An answer after its message was given up as unknown: all parts were taken after all."""
        owner, id_, lease, carrier = self.leases[index % len(self.leases)]
        m = self.model.messages.get(id_)
        if m is None or (m.had and m.carrier != carrier) or (m.lease == lease and m.state is State.SENDING):
            return
        total = len(m.parts) or m.new.segments
        parts = [PartAnswer(n, PartState.ACCEPTED, self.carrier_id(m, n, carrier)) for n in range(total)]
        late = Answer(id_, lease, carrier, Fate.SENT, Reason.NONE, 0, 0, total, parts)
        self.progress(owner, [late], [], again)

    def progress(self, owner: str, answers: list[Answer], facts: list[ReceiptFact], again: bool) -> None:
        self.say(f"{answers} {facts}")

        def call() -> None:
            got = self.world.run(self.world.store.progress(Owner.parse(owner), answers, facts))
            for answer in answers:
                self.model.answer(owner, answer, self.now)
            expected = [self.model.receipt(fact, self.now) for fact in facts]
            for mine, theirs, fact in zip(expected, got, facts, strict=True):
                noted = fact.state is PartState.ACCEPTED and Match.PARKED not in (mine, theirs)
                # the map may know an id for some hours longer than there is a record
                old = (mine, theirs) == (Match.PARKED, Match.REPEATED) and not self.outlived.isdisjoint(fact.ids)
                if old and (fact.carrier, fact.recipient.key, fact.ids[0]) in self.model.parked:
                    self.model.unpark((fact.carrier, fact.recipient.key, fact.ids[0]))
                assert mine == theirs or noted or old, f"{fact} made {theirs!r}, expected {mine!r}"

        self.do(call, again)

    def fact(self, pick: Pick) -> ReceiptFact:
        """A receipt: for an id that was given, or of nobody's."""
        kind = pick(["known", "known", "known", "form", "orphan"])
        state = pick([*FINAL_PARTS, PartState.DELIVERED, PartState.ACCEPTED])
        error, date = pick(["", "000", "3E8"]), pick([0, self.now, self.now - HOUR, -1, 10**17])
        given = [(c, i, x) for c, i, x in self.given if i in self.model.messages]
        if kind == "orphan" or not given:
            self.count += 1
            who = self.recipients[pick(range(len(NUMBERS)))]
            return ReceiptFact(pick(CARRIERS), (b"nobody-%d" % self.count,), who, state, error, date)
        carrier, id_, theirs = pick(given)
        ids = (theirs,) if kind == "known" else (b"form-" + theirs, theirs)
        return ReceiptFact(carrier, ids, self.model.messages[id_].new.recipient, state, error, date)

    @precondition(lambda self: self.given or self.count % 5 == 0)
    @rule(seed=seeds, count=st.integers(1, 3), again=st.booleans())
    def receipts(self, seed: int, count: int, again: bool) -> None:
        pick = Random(seed).choice
        self.progress(self.owners[0].name, [], [self.fact(pick) for _ in range(count)], again)

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(index=indices, state=st.sampled_from([*FINAL_PARTS, PartState.ACCEPTED]), again=st.booleans())
    def early_receipt(self, index: int, state: PartState, again: bool) -> None:
        """The receipt overtakes its submit_sm_resp."""
        m = self.some(index, State.SENDING)
        assert m is not None
        self.count += 1
        for part in range(max(len(m.parts), m.new.segments)):
            key = (m.new.id, part, m.carrier)
            if key not in self.promised and (part >= len(m.parts) or not m.parts[part].id):
                id_ = self.promised[key] = b"early-%d" % self.count
                self.progress(
                    m.owner, [], [ReceiptFact(m.carrier, (id_,), m.new.recipient, state, "", self.now)], again
                )
                return
