"""What carriers say about messages, at random: answers, late ones too, and receipts in any order."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.model import (
    OnUnknown,
    PartAnswer,
    PartState,
    Reason,
    ReceiptDetail,
    ReceiptFact,
    ReceiptMatch,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store.owner import LeaseOwner
from tests.model.invariants import Given, Unanswered
from tests.model.message import Message
from tests.model.values import (
    AHEAD,
    CARRIERS,
    FINAL_PARTS,
    FORMS,
    HOSTS,
    HOUR,
    MARKS,
    NUMBERS,
    SAYING_NOTHING,
    Pick,
    indices,
    seeds,
)
from tests.model.worker_rules import WorkerRules

REASONS = {
    Resolution.BACK: Reason.THROTTLED,
    Resolution.RETRY: Reason.CARRIER_RETRY,
    Resolution.NEXT: Reason.NEXT_CARRIER,
    Resolution.REJECTED: Reason.CARRIER_REFUSED,
    Resolution.FAILED: Reason.RETRIES_EXHAUSTED,
}
REFUSALS = (
    Resolution.BACK,
    Resolution.BACK,
    Resolution.RETRY,
    Resolution.NEXT,
    Resolution.NEXT,
    Resolution.REJECTED,
    Resolution.FAILED,
)


class CarrierRules(WorkerRules):
    """Rules for everything that comes from a carrier."""

    # -- answers -------------------------------------------------------------------------------------------------------

    def carrier_id(self, pick: Pick, m: Message, index: int, carrier: str, before: bytes) -> bytes:
        """A new id, none, one whose receipt is here already, or one that is not new: ``before`` is the last part's."""
        self.count += 1
        id_ = self.promised.pop((m.new.id, index, carrier), b"")
        if not id_:
            mine = [one for one in self.given if one.carrier == carrier and self.recipient(one) == m.new.recipient]
            old = [one.id for one in mine if one.at > self.now - 3 * HOUR][-3:]
            new = b"id-%d" % self.count
            kind = pick(["new"] * 12 + ["none"] * 3 + ["before"] * 2 + ["old"])
            id_ = {"new": new, "none": b"", "before": before or new, "old": pick(old or [new])}[kind]
        if id_:
            self.given.append(Given(carrier, m.new.id, id_, self.now))
        return id_

    def recipient(self, given: Given) -> object:
        m = self.model.messages.get(given.message)
        return m.new.recipient if m else None

    def says(self, pick: Pick, m: Message, index: int, states: list[PartState], before: list[PartAnswer]) -> PartAnswer:
        """What a carrier says about one part; ``before``: what it said about those before."""
        state = pick(states)
        last = before[-1].carrier_id if before else b""
        named = self.carrier_id(pick, m, index, m.handed_to, last) if state is PartState.ACCEPTED else b""
        return PartAnswer(index, state, named, 0 if state is not PartState.PENDING else 88)

    def outcome(self, pick: Pick, m: Message) -> SubmitResult:
        """What a carrier might say about a leased message, in an order that makes sense."""
        total = m.total if m.pinned_then else pick([m.new.segments, m.new.segments, 1])
        stops = len(m.flying) > 1 and m.stop  # the rest was not written
        states = [PartState.ACCEPTED] * 3 + [PartState.UNKNOWN] * (5 if self.calm else 2) + [PartState.PENDING]
        parts: list[PartAnswer] = []
        for index in range(total):
            if index in m.flying or not m.pinned_then:
                parts.append(self.says(pick, m, index, [PartState.PENDING] if parts and stops else states, parts))
        said = {part.state for part in parts}
        resolution = Resolution.SENT
        if PartState.UNKNOWN in said:
            resolution = Resolution.UNKNOWN
        elif PartState.PENDING in said:
            resolution = pick(REFUSALS)
        lost = [part.index for part in parts if part.state is PartState.UNKNOWN]
        if lost:
            self.unanswered.append(Unanswered(m.owner, m.new.id, m.lease, m.carrier, total, lost))
        nameless = any(part.state is PartState.ACCEPTED and not part.carrier_id for part in parts)
        return SubmitResult(
            id=m.new.id,
            lease=m.lease,
            carrier=m.carrier,
            resolution=resolution,
            reason=REASONS.get(resolution, Reason.NONE),
            status=88 if resolution not in (Resolution.SENT, Resolution.UNKNOWN) else 0,
            due=self.now + pick(AHEAD) if resolution is Resolution.RETRY else 0,
            total=total,
            parts=parts,
            on_unknown=pick([*OnUnknown, OnUnknown.RESEND] if not self.calm else [OnUnknown.RESEND] * 5 + [*OnUnknown]),
            last_place=pick((False, True)) if resolution is Resolution.NEXT else False,
            excerpt=pick(MARKS) if lost or nameless else b"",
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

    @precondition(lambda self: self.unanswered)
    @rule(seed=seeds, index=indices, again=st.booleans())
    def late_answer(self, seed: int, index: int, again: bool) -> None:
        """An answer after its message was given up as unknown, about some of the parts or all."""
        waiting = self.unanswered[index % len(self.unanswered)]
        m = self.model.messages.get(waiting.id)
        if m is None or (m.state is State.SENDING and m.lease == waiting.lease):
            return
        pick = Random(seed).choice
        told = [part for part in waiting.parts if pick([True, True, False])] or waiting.parts[:1]
        states = pick([[PartState.ACCEPTED], [PartState.ACCEPTED], [PartState.PENDING], [*PartState][:2]])
        parts: list[PartAnswer] = []
        for part in told:
            answer = self.says(pick, m, part, states, parts)
            named = answer.state is not PartState.ACCEPTED
            parts.append(answer if named else answer._replace(carrier_id=self.late_id(waiting, answer)))
            waiting.parts.remove(part)
        refused = any(part.state is PartState.PENDING for part in parts)
        resolution = pick(REFUSALS) if refused else Resolution.SENT
        status, reason = 88 if refused else 0, REASONS.get(resolution, Reason.NONE)
        late = SubmitResult(
            waiting.id, waiting.lease, waiting.carrier, resolution, reason, status, 0, waiting.total, parts
        )
        if not waiting.parts:
            self.unanswered.remove(waiting)
        self.progress(waiting.owner, [late], [], again)

    def late_id(self, waiting: Unanswered, answer: PartAnswer) -> bytes:
        """The id is of the carrier that answers late."""
        if answer.carrier_id:
            self.given[-1] = self.given[-1]._replace(carrier=waiting.carrier)
        return answer.carrier_id

    def progress(self, owner: str, answers: list[SubmitResult], facts: list[ReceiptFact], again: bool) -> None:
        self.say(f"{answers} {facts}")
        for fact in facts:
            if fact.state is PartState.DELIVERED:
                self.independent.delivered |= {
                    (fact.carrier, fact.recipient.key, one) for one in (*fact.ids, *guesses(fact))
                }

        def call() -> None:
            # the map may know an id for some hours longer than there is a record
            now = [fact for fact in facts if self.outlived.isdisjoint(names(fact))]
            got = self.driver.run(self.driver.store.progress(LeaseOwner.parse(owner), answers, now))
            self.ambiguous = self.ambiguous or ReceiptMatch.AMBIGUOUS in got
            expected = self.model.progress(owner, answers, now, self.now)
            for mine, theirs, fact in zip(expected, got, now, strict=True):
                assert mine == theirs, f"{fact} made {theirs!r}, expected {mine!r}"

        self.do(call, again)

    # -- receipts ------------------------------------------------------------------------------------------------------

    def fact(self, pick: Pick) -> ReceiptFact:
        """A receipt: for an id that was given, or for an unknown one, which may be that of a lost message."""
        kind = pick(["known"] * 4 + ["forms", "guess", "lost", "lost", "orphan"])
        state = pick([*FINAL_PARTS, PartState.DELIVERED, pick(SAYING_NOTHING)])
        error, date, whole = (
            pick(["", "000", "3E8"]),
            pick([0, self.now, self.now - HOUR, -1, 10**17]),
            pick([0] * 5 + [1]),
        )
        given = [one for one in self.given if one.message in self.model.messages]
        lost = [(c.carrier, m) for m in self.model.messages.values() for c in m.copies if c.lost and not m.final]
        self.count += 1
        ids: tuple[bytes, ...]
        carrier, who, ids = pick(CARRIERS), self.recipients[pick(range(len(NUMBERS)))], (b"nobody-%d" % self.count,)
        detail = self.detail(pick, ()) if pick([True, False]) else None
        if kind == "orphan":
            ids += pick([(), (b"form-nobody-%d" % self.count,)])
        if kind == "lost" and lost:
            carrier, m = pick(lost)
            who, detail = m.new.recipient, self.detail(pick, (), m.mark)
        elif kind != "orphan" and given:
            one = pick(given)
            carrier, who = one.carrier, self.model.messages[one.message].new.recipient
            if kind == "guess":
                form = pick(FORMS)
                ids, detail = (b"%d-of-" % form + one.id,), self.detail(pick, ((form, one.id),))
            else:
                ids = (one.id,) if kind == "known" else (b"form-" + one.id, one.id)
                detail = pick([detail, self.early(pick, one)])
        return ReceiptFact(carrier, ids, who, state, error, date, bool(whole), detail)

    def detail(self, pick: Pick, forms: tuple[tuple[int, bytes], ...], mark: bytes = b"") -> ReceiptDetail:
        """Details of a receipt of an unknown id; ``mark``: that of the message, when it agrees."""
        others = ((3, b"nobody-else"),)
        return ReceiptDetail(forms + others, pick(HOSTS), pick([mark, mark, *MARKS]), pick([True, True, False]))

    def early(self, pick: Pick, one: Given) -> ReceiptDetail:
        """Details sent before the look-up: in another form its id may be that of another message."""
        others = [other for other in self.given if other.carrier == one.carrier]
        return self.detail(pick, ((pick(FORMS), pick(others).id),))._replace(early=True)

    @precondition(lambda self: self.given or self.count % 5 == 0)
    @rule(seed=seeds, count=st.integers(1, 3), again=st.booleans())
    def receipts(self, seed: int, count: int, again: bool) -> None:
        pick = Random(seed).choice
        self.progress(self.owners[0].name, [], [self.fact(pick) for _ in range(count)], again)

    @precondition(lambda self: self.some(0, State.SENDING))
    @rule(index=indices, state=st.sampled_from([*FINAL_PARTS, *SAYING_NOTHING]), again=st.booleans())
    def early_receipt(self, index: int, state: PartState, again: bool) -> None:
        """The receipt overtakes its submit_sm_resp."""
        m = self.some(index, State.SENDING)
        assert m is not None
        self.count += 1
        detail = None if self.count % 2 else ReceiptDetail((), HOSTS[0], b"", self.count % 4 == 0)
        for part in sorted(m.flying):
            key = (m.new.id, part, m.carrier)
            if key not in self.promised:
                id_ = self.promised[key] = b"early-%d" % self.count
                fact = ReceiptFact(m.carrier, (id_,), m.new.recipient, state, "", self.now, detail=detail)
                self.progress(m.owner, [], [fact], again)
                return


def names(fact: ReceiptFact) -> list[tuple[str, bytes, bytes]]:
    return [(fact.carrier, fact.recipient.key, one) for one in fact.ids]


def guesses(fact: ReceiptFact) -> list[bytes]:
    return [form for _, form in fact.detail.guesses] if fact.detail else []
