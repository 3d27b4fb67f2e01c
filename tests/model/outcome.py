"""Messages that have left their lane, as the model has it: fresh decisions, responses, missing responses."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import (
    WAITING,
    OnUnknown,
    PartState,
    Permit,
    Reason,
    ReceiptFact,
    ReceiptMatch,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store import keys
from tests.model.message import Copy, Message
from tests.model.receipts import Receipts


class Outcome(Receipts):
    """Decides about messages that a decider or a carrier has, or had."""

    def permit(self, item: Permit, now: int) -> bool:
        m = self.messages.get(item.id)
        if m is None or m.final or m.state not in WAITING or not item.token or m.due != item.token:
            return False
        if item.state is State.QUEUED and item.permission.epoch < self.flags.get(keys.EPOCH, 0):
            return False  # the gate would only hand it back again
        if item.state is State.HELD and item.reason is Reason.RESTORED and not self.flags.get(keys.RESTORED):
            return False  # it was released meanwhile
        if item.permission.caps != m.permission.caps:
            self._give_back(m)
        m.permission = item.permission
        if item.route and item.route != m.route:
            m.route, m.place, m.attempts = item.route, 0, 0
        if item.state is State.REJECTED:
            self._end(m, item.state, item.reason, now)
        else:
            early = item.state is State.QUEUED and item.permission.opens > now
            self._move(m, item.state, item.reason, now, due=item.permission.opens if early else item.due)
        return True

    # -- a lease is over -----------------------------------------------------------------------------------------------

    def untake(self, owner: str, items: Sequence[tuple[bytes, int]], now: int) -> None:
        for id_, lease in items:
            m = self.messages.get(id_)
            if m and m.state is State.SENDING and (m.owner, m.lease) == (owner, lease):
                self._return(m, Reason.UNTAKEN, now)

    def postpone(self, owner: str, items: Sequence[tuple[bytes, int, int, bool]], now: int) -> None:
        """(id, lease, due, turn): the sender's turn comes later, or is to be asked for again."""
        for id_, lease, due, turn in items:
            m = self.messages.get(id_)
            if m and m.state is State.SENDING and (m.owner, m.lease) == (owner, lease):
                self._return(m, Reason.TURN if turn else Reason.PACED, now, due)

    def untake_lost(self, owner: str, carrier: str, known: set[tuple[int, int]], now: int) -> int:
        """What an owner holds without knowing it: the answer of a take was lost. ``known``: partition, lease."""
        mine = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == owner]
        lost = [m for m in mine if m.carrier == carrier and (m.new.recipient.partition, m.lease) not in known]
        for m in lost:
            self._return(m, Reason.UNTAKEN, now)
        return len(lost)

    def _return(self, m: Message, reason: Reason, now: int, due: int = 0) -> None:
        """Nothing of it is in flight: back to its lane, unless news of another copy ends it or stops it."""
        if not self._landed(m, now) and not self._stopped_now(m, now):
            self._move(m, State.QUEUED, reason, now, due=due)

    def _landed(self, m: Message, now: int) -> bool:
        """Whether there is nothing left to send: every part is taken, or one has failed."""
        m.flying = set()
        if m.whole:
            self._sent(m, now)
        elif m.verdict:
            self._settle(m, now)
        return m.state is not State.SENDING

    def _stopped_now(self, m: Message, now: int) -> bool:
        """Whether it was marked that nothing more of it is to be sent; then it ends."""
        if m.stop is Reason.CANCELED and not m.had:
            self._move(m, State.CANCELED, Reason.CANCELED, now)
        elif m.stop:
            self._end(m, State.FAILED, Reason.PARTIAL if m.stop is Reason.CANCELED else m.stop, now)
        return bool(m.stop)

    # -- answers -------------------------------------------------------------------------------------------------------

    def progress(
        self, owner: str, answers: Sequence[SubmitResult], facts: Sequence[ReceiptFact], now: int
    ) -> list[ReceiptMatch]:
        """All answers, then the receipts that had come before them, then the receipts of this call."""
        for answer in answers:
            self._answer(owner, answer, now)
        self.apply_arrived(now)
        return self.receipts(facts, now)

    def _answer(self, owner: str, a: SubmitResult, now: int) -> None:
        m = self.messages.get(a.id)
        if m is None:
            return
        if m.state is not State.SENDING or m.lease != a.lease:
            self._late(m, a, now)
            return
        assert m.owner == owner
        m.mark = a.excerpt or m.mark
        if not m.pinned_then:
            m.total = a.total
        for part in a.parts:
            if part.state is not PartState.PENDING:
                m.copies.append(Copy(part.index, a.lease, a.carrier, now, part.state, part.carrier_id))
                self._named(m, a.carrier, part.carrier_id, now)
        if not self._landed(m, now):
            self._fate(m, a, now)

    def _named(self, m: Message, carrier: str, id_: bytes, now: int) -> None:
        if id_:
            self.named.add((m.new.recipient.partition, carrier))
            self.name(m, carrier, id_, now)

    def _fate(self, m: Message, a: SubmitResult, now: int) -> None:
        match a.resolution:
            case Resolution.UNKNOWN:
                self._unknown(m, a.on_unknown, now)
            case Resolution.REJECTED | Resolution.FAILED:
                self._refused(m, a, now)
            case _ if self._stopped_now(m, now):
                pass
            case Resolution.RETRY:
                m.attempts += 1
                self._move(m, State.QUEUED, a.reason, now, due=a.due)
            case Resolution.NEXT if m.had or a.last_place:
                self._end(m, State.FAILED, Reason.PARTIAL if m.had else Reason.ROUTES_EXHAUSTED, now)
            case Resolution.NEXT:
                m.place, m.attempts = m.place + 1, 0
                self._move(m, State.QUEUED, a.reason, now)
            case _:
                self._move(m, State.QUEUED, a.reason, now)

    def _refused(self, m: Message, a: SubmitResult, now: int) -> None:
        state = State.REJECTED if a.resolution is Resolution.REJECTED else State.FAILED
        if m.had:
            self._end(m, State.FAILED, Reason.PARTIAL, now)
        else:
            self._end(m, state, a.reason, now)

    def _late(self, m: Message, a: SubmitResult, now: int) -> None:
        """An answer to a lease that is over: of copies whose outcome was unknown. Ids count in any case."""
        heard = []
        for part in a.parts:
            mine = [c for c in m.copies if (c.part, c.lease) == (part.index, a.lease)]
            if part.state is PartState.ACCEPTED and not any(c.id == part.carrier_id for c in mine):
                self._named(m, a.carrier, part.carrier_id, now)
            heard += [(c, part) for c in mine if c.state is PartState.UNKNOWN and part.state is not PartState.UNKNOWN]
            for copy in mine:  # a receipt had brought another id, which was perhaps not its own
                if copy.state is PartState.ACCEPTED and part.carrier_id and not m.final:
                    copy.id = part.carrier_id
        if m.final or not heard:
            return
        if m.state is not State.SENDING and m.state is not State.SENT and not m.had:
            m.total = a.total  # as that carrier splits it
        for copy, part in heard:
            if part.state is PartState.ACCEPTED:
                copy.state, copy.id = PartState.ACCEPTED, part.carrier_id
            else:
                m.copies.remove(copy)
        self._news(m, now)
        if (
            m.state is State.UNKNOWN
            and not m.doubtful
            and a.resolution is not Resolution.SENT
            and not self._stopped_now(m, now)
        ):
            self._refused(m, a, now)

    # -- silence -------------------------------------------------------------------------------------------------------

    def _unknown(self, m: Message, word: OnUnknown, now: int) -> None:
        strict, keep = max(m.new.on_unknown, word), self.retention
        again = strict is not OnUnknown.NEVER and m.resent < keep.resends and now <= m.permission.expires
        holds = again and strict is OnUnknown.HOLD
        if again or m.stop:
            self._move(m, State.UNKNOWN, Reason.NONE, now, due=now + 1000 * keep.hold if holds else 0)
        else:
            self._left_unknown(m, Reason.NO_ANSWER, now)
        self.prove(m.handed_to, m.new.recipient.key, now)
        if m.state is State.UNKNOWN and (again or m.stop) and not holds and not self._stopped_now(m, now):
            self._resend(m, now)

    def _resend(self, m: Message, now: int) -> None:
        m.resent += 1
        for copy in m.copies:
            copy.again = True
        self._move(m, State.QUEUED, Reason.RESEND, now)

    def held_enough(self, m: Message, now: int) -> None:
        """The time to wait for a receipt before a resend is over."""
        if self._stopped_now(m, now):
            return
        if now > m.permission.expires or m.resent >= self.retention.resends:
            self._left_unknown(m, Reason.NO_ANSWER, now)
        else:
            self._resend(m, now)

    def give_up(self, m: Message, now: int) -> None:
        """The time to wait for receipts is over: a copy that has failed counts, whatever else is open."""
        m.waited = True
        if m.verdict:
            self._settle(m, now)
        elif m.state is State.UNKNOWN:
            self._move(m, State.UNKNOWN, Reason.NO_ANSWER, now, final=True)
        else:
            self._move(m, State.SENT, m.reason or Reason.NO_RECEIPT, now, final=True)

    def reclaim(self, dead: str, now: int) -> int:
        """What a dead owner had in flight is unknown. Answers how many messages that was."""
        count = 0
        lost = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == dead]
        for m in sorted(lost, key=lambda m: m.taken_as):
            m.total = m.total or m.new.segments
            m.copies += [Copy(part, m.lease, m.carrier, now, PartState.UNKNOWN) for part in sorted(m.flying)]
            if not self._landed(m, now):
                self._unknown(m, m.word, now)
                count += 1
        return count
