"""Random calls against the reference model and the real store at once, all invariants checked after each.

The machine speaks as two workers with their restarts, two carriers and a crowd of four recipients would, in any order:
answers come late, receipts early, calls twice. What the store may choose (which messages a take gets) it is asked for,
and the choice is judged; everything else must be as the model says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from gateway.model import (
    WAITING,
    Answer,
    Cap,
    Category,
    Check,
    Content,
    Envelope,
    Fate,
    Match,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Permission,
    Permit,
    Priority,
    Reason,
    ReceiptFact,
    RuleGroup,
    RuleStatus,
    State,
)
from gateway.store import keys
from gateway.store.ids import derived_id, partition_of
from gateway.store.owner import Owner
from gateway.store.requests import Lane, OptChange, TakeRequest
from tests.model.judge import FINAL_PARTS, HOUR, NUMBERS, Judge, same
from tests.model.reference import Message
from tests.model.world import PARTITIONS

MINUTE = 60_000
ACCOUNTS = ("shop", "bank")
CARRIERS = ("north", "south")
ROUTES = ("world", "home")

AHEAD = (1, 2_000, 5 * MINUTE + 1, HOUR + 1)
indices = st.integers(0, 2**16)
seeds = st.integers(0, 2**32)

Pick = Callable[[Sequence[Any]], Any]
"""Details are picked by a seeded random generator: hypothesis draws what to do, and shrinks that; evenly spread details
reach far more of the table of states than its own draws of them."""


class Machine(Judge):
    """The rules: everything that workers, carriers and people may do."""

    @initialize(seed=seeds)
    def begin(self, seed: int) -> None:
        self.reset()
        self.accept(seed, 4, False)

    def do(self, call: Callable[[], None], again: bool) -> None:
        """Make a call; ``again`` makes it twice and wants nothing to change. It may be repeated at any later time."""
        self.begun = False  # after a failure there is nothing to tear down
        call()
        self.begun = True
        self.calls.append(call)
        if again:
            self.check_everything()
            before = self.picture()
            self.begun = False
            call()
            assert self.picture() == before, "a repeated call changed something"
            self.begun = True

    # -- intake --------------------------------------------------------------------------------------------------------

    def permission(self, pick: Pick, account: str) -> Permission:
        now = self.now
        caps = pick([(), (), (1,), (1, 2), (3,)])
        scope = self.world.hasher.scope
        return Permission(
            opens=now + pick([-HOUR] * 7 + [2_000]),
            closes=now + pick([200 * HOUR] * 6 + [HOUR, 2_001, 5_000]),
            expires=now + pick([300 * HOUR] * 6 + [30 * MINUTE, 40 * HOUR, 3_000, 5_000]),
            checks=pick([0, 0, 0, 8, 12, Check.ALL_OPT_OUT, Check.MARKETING_OPT_OUT | Check.ALL_OPT_OUT, 7, 15]),
            account_scope=scope(account),
            brand_scope=scope(account, "brand"),
            template_scope=pick([bytes(8), scope(account, "template", "t")]),
            caps=tuple(Cap(scope(account, f"cap{n}"), n, 3600) for n in caps),
            epoch=self.model.flags.get(keys.EPOCH, 0) - pick([0, 0, 0, 1])
            if self.model.flags.get(keys.EPOCH, 0)
            else 0,
        )

    def message(self, pick: Pick) -> NewMessage:
        who = self.recipients[pick(range(len(NUMBERS)))]
        account = pick(ACCOUNTS)
        self.count += 1
        category = pick(list(Category))
        state = pick([State.QUEUED] * 7 + [State.SCHEDULED, State.DEFERRED, State.HELD, State.REJECTED])
        reason = {State.SCHEDULED: Reason.SCHEDULED, State.DEFERRED: Reason.QUIET_HOURS}.get(state, Reason.NONE)
        segments = pick([1, 1, 2])
        reference = pick([b"", b"", "order"])
        return NewMessage(
            id=derived_id(self.now, who.partition, self.count.to_bytes(8, "big")),
            recipient=who,
            state=state,
            reason=reason,
            due=self.now + pick(AHEAD) if state in (State.SCHEDULED, State.DEFERRED) else 0,
            category=category,
            on_unknown=pick(list(OnUnknown)),
            route="" if state is State.REJECTED else pick(ROUTES),
            weight=pick((1, 2, 3)),
            segments=segments,
            permission=self.permission(pick, account),
            envelope=Envelope(who.digits, "Sender", account, int(category), "brand", segments=segments),
            content=Content(f"text {self.count}"),
            reference=self.world.hasher.reference(account, who, reference) if reference else b"",
        )

    @rule(seed=seeds, count=st.integers(1, 4), again=st.booleans())
    def accept(self, seed: int, count: int, again: bool) -> None:
        pick = Random(seed).choice
        items = [self.message(pick) for _ in range(count)]
        self.known += [item.id for item in items]

        def call() -> None:
            there = [item for item in items if item.id in self.model.messages or item.id not in self.gone]
            got = self.world.run(self.world.store.accept(there))
            same(None, got, self.model.accept(there, self.now))

        self.do(call, again)

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
        error = pick(["", "000", "3E8"])
        given = [(c, i, x) for c, i, x in self.given if i in self.model.messages]
        if kind == "orphan" or not given:
            self.count += 1
            who = self.recipients[pick(range(len(NUMBERS)))]
            return ReceiptFact(pick(CARRIERS), (b"nobody-%d" % self.count,), who, state, error, self.now)
        carrier, id_, theirs = pick(given)
        ids = (theirs,) if kind == "known" else (b"form-" + theirs, theirs)
        return ReceiptFact(carrier, ids, self.model.messages[id_].new.recipient, state, error, self.now)

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

    # -- people --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(index=indices, again=st.booleans())
    def cancel(self, index: int, again: bool) -> None:
        id_ = self.known[index % len(self.known)]

        def call() -> None:
            assert self.world.run(self.world.store.cancel([id_])) == [self.model.cancel(id_, self.now)]

        self.do(call, again)

    @rule(
        who=st.integers(0, len(NUMBERS) - 1),
        group=st.sampled_from(list(RuleGroup)),
        status=st.sampled_from(list(RuleStatus)),
        account=st.sampled_from(ACCOUNTS),
        kind=st.sampled_from(["brand", "account", "all"]),
        said=st.sampled_from([0, 0, 1_000, HOUR]),
        lasts=st.sampled_from([0, 0, HOUR + 1]),
        again=st.booleans(),
    )
    def opt(
        self,
        who: int,
        group: RuleGroup,
        status: RuleStatus,
        account: str,
        kind: str,
        said: int,
        lasts: int,
        again: bool,
    ) -> None:
        scope = self.world.hasher.scope
        scopes = {"brand": scope(account, "brand"), "account": scope(account), "all": keys.GLOBAL_SCOPE}
        if group is RuleGroup.CONSENT:
            kind = "brand"
        at = self.now - said
        until = self.now + lasts if lasts else 0
        change = OptChange(self.recipients[who], group, status, scopes[kind], at, until, b"evidence")

        def call() -> None:
            assert self.world.run(self.world.store.opt([change])) == [self.model.opt(change)]
            told = {(r.group, r.scope): r[:5] for r in self.world.run(self.world.store.opts(change.recipient))}
            kept = {k[1:]: r for k, r in self.model.rules.items() if k[0] == change.recipient.key}
            assert told == {k: (r.group, r.status, r.scope, r.at, r.until) for k, r in kept.items()}

        self.do(call, again)

    @rule(
        kind=st.sampled_from(["epoch", "breaker", "pulled"]),
        account=st.sampled_from(ACCOUNTS),
        on=st.booleans(),
        again=st.booleans(),
    )
    def flag(self, kind: str, account: str, on: bool, again: bool) -> None:
        scope = self.world.hasher.scope
        if kind == "epoch":
            name, value = keys.EPOCH, self.model.flags.get(keys.EPOCH, 0) + 1
        elif kind == "breaker":
            name, value = keys.breaker(scope(account)), int(on)
        else:
            name, value = keys.pulled(scope(account, "template", "t")), int(on)

        def call() -> None:
            self.world.run(self.world.store.flag(name, value))
            self.model.flags[name] = value
            assert self.world.run(self.world.store.flags()) == {k: v for k, v in self.model.flags.items() if v}

        self.do(call, again)

    @rule(index=indices, account=st.sampled_from([None, *ACCOUNTS]))
    def release(self, index: int, account: str | None) -> None:
        held = [m.new.id for m in self.model.messages.values() if m.state is State.HELD]
        if account is None:
            ids = [held[index % len(held)]] if held else []
            scope = b""
        else:
            ids, scope = [], self.world.hasher.scope(account)
        if ids or scope:
            self.world.run(self.world.store.release(ids, scope))
            self.model.release(ids, scope, self.now)

    # -- workers and time ----------------------------------------------------------------------------------------------

    @rule(owner=st.integers(0, 1))
    def beat(self, owner: int) -> None:
        self.world.run(self.world.store.beat(self.owners[owner]))
        self.beats[self.owners[owner].name] = self.now

    @rule(owner=st.integers(0, 1))
    def crash(self, owner: int) -> None:
        """It is gone without a word, and starts again; what it held waits for somebody to reclaim it."""
        old = self.owners[owner]
        self.owners[owner] = Owner(old.node, str(int(old.start) + 1))

    @rule(index=indices, by=st.integers(0, 1), again=st.booleans())
    def reclaim(self, index: int, by: int, again: bool) -> None:
        names = [name for name in self.beats if name != self.owners[by].name]
        if not names:
            return
        dead = Owner.parse(names[index % len(names)])
        me = self.owners[by]

        def call() -> None:
            if me.node == dead.node and int(me.start) <= int(dead.start):
                return
            held = sum(1 for m in self.model.messages.values() if m.state is State.SENDING and m.owner == dead.name)
            got = self.world.run(self.world.store.reclaim(dead, me))
            quiet = self.now - self.beats[dead.name] >= 10_000
            assert me.node == dead.node or quiet or got.alive or not held
            if got.alive:
                assert me.node != dead.node
                assert not quiet
            else:
                assert self.model.reclaim(dead.name, self.now) == sum(got[:3])
                assert dead not in [seen.owner for seen in self.world.run(self.world.store.owners())]

        self.do(call, again)

    @rule(ms=st.sampled_from([1, 500, 1_999, 5_000, 11_000, 2 * MINUTE, 11 * MINUTE]))
    def advance(self, ms: int) -> None:
        self.world.set_clock(self.now + ms)

    @rule(ms=st.sampled_from([31 * MINUTE, HOUR, 7 * HOUR, 26 * HOUR, 73 * HOUR]))
    def leap(self, ms: int) -> None:
        self.advance(ms)
        self.sweep()

    @precondition(lambda self: self.count % 3 == 0)
    @rule()
    def sweep(self) -> None:
        """At a full minute, so that all that is due by then has been looked at."""
        self.world.set_clock((self.now // MINUTE + 2) * MINUTE)
        self.begun = False
        for partition in range(PARTITIONS):
            for _ in range(100):
                if not self.world.run(self.world.store.sweep(partition)).more:
                    break
        ids = list(self.model.messages)
        found = dict(zip(ids, self.world.run(self.world.store.find(ids)), strict=True))
        self.settle_orphans(found)
        self.model.sweep(self.now, lambda id_: found[id_] is None)
        self.gone |= {id_ for id_ in ids if id_ not in self.model.messages}
        self.outlived |= {theirs for _, id_, theirs in self.given if id_ in self.gone}
        self.world.set_clock(self.now + 7)
        self.begun = True

    @precondition(lambda self: self.calls)
    @rule(index=indices)
    def repeat(self, index: int) -> None:
        """Any earlier call once more: it does what it would do to the model."""
        self.calls[index % len(self.calls)]()

    # -- the end -------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Nothing is stuck: once all is permitted and time has passed, takes empty every lane."""
        if not getattr(self, "begun", False):
            return
        for name in [name for name, value in self.model.flags.items() if value and name != keys.EPOCH]:
            self.world.run(self.world.store.flag(name, 0))
            self.model.flags[name] = 0
        self.release(0, ACCOUNTS[0])
        self.release(0, ACCOUNTS[1])
        for _ in range(3):
            self.world.set_clock(self.now + HOUR + 10_000)
            for carrier in CARRIERS:
                for route in ROUTES:
                    self.take(0, carrier, route, (0, 1, 2, 3, 4), 100, 0, OnUnknown.RESEND)
            self.check_everything()
        waiting = [m for m in self.model.messages.values() if m.state in WAITING and not m.released]
        for m in waiting:
            blocked = m.due > self.now or m.permission.caps or m.place > 4 or m.state is State.HELD
            assert blocked, f"stuck: {m}"
