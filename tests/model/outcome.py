"""What becomes of a message that has left its lane, as the model has it: decided anew, answers, silence, receipts."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import WAITING, Answer, Fate, Match, OnUnknown, PartState, Permit, Reason, ReceiptFact, State
from gateway.store import keys
from tests.model.gate import Gate
from tests.model.message import WORST, Message, Part, kept_date

_ENDS = {
    PartState.DELIVERED: State.DELIVERED,
    PartState.EXPIRED: State.EXPIRED,
    PartState.UNDELIVERED: State.UNDELIVERED,
}


class Outcome(Gate):
    """Messages that are with a decider or a carrier, or were."""

    def permit(self, item: Permit, now: int) -> bool:
        m = self.messages.get(item.id)
        if m is None or m.final or m.state not in WAITING or not item.token or m.due != item.token:
            return False
        if item.state is State.QUEUED and item.permission.epoch < self.flags.get(keys.EPOCH, 0):
            return False  # the gate would only hand it back again
        if item.permission.caps != m.permission.caps and not m.out:
            self.reserved.pop(m.new.id, None)
        m.permission = item.permission
        if item.route and item.route != m.route:
            m.route, m.place, m.attempts = item.route, 0, 0
        early = item.state is State.QUEUED and item.permission.opens > now
        self._move(m, item.state, item.reason, now, due=item.permission.opens if early else item.due)
        if m.state is State.QUEUED:
            self._all_taken(m, now)  # late answers may have completed it while it was decided about
        return True

    # -- sending -------------------------------------------------------------------------------------------------------

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

    def strays(self, owner: str, carrier: str, known: set[tuple[int, int]], now: int) -> int:
        """What an owner holds without knowing it: the answer of a take was lost. ``known``: partition, lease."""
        mine = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == owner]
        lost = [m for m in mine if m.carrier == carrier and (m.new.recipient.partition, m.lease) not in known]
        for m in lost:
            self._return(m, Reason.UNTAKEN, now)
        return len(lost)

    def _return(self, m: Message, reason: Reason, now: int, due: int = 0) -> None:
        if m.whole:
            self._all_taken(m, now)  # a late answer to an earlier lease completed it
        elif m.cancel:
            self._stop(m, now)
        else:
            self._move(m, State.QUEUED, reason, now, due=due)

    def _stop(self, m: Message, now: int) -> None:
        """A cancel was marked meanwhile: nothing more of it is sent."""
        if m.had:
            self._move(m, State.FAILED, Reason.PARTIAL, now)
        else:
            self._move(m, State.CANCELED, Reason.CANCELED, now)

    def answer(self, owner: str, a: Answer, now: int) -> None:
        m = self.messages.get(a.id)
        if m is None:
            return
        mine = m.state is State.SENDING and (m.owner, m.lease) == (owner, a.lease)
        doubted = not m.final and (m.state in (State.UNKNOWN, State.SENDING) or (m.resent and m.state in WAITING))
        news = any(part.state is PartState.ACCEPTED for part in a.parts)  # a late answer without any says nothing
        late = doubted and news and m.state is not State.SENDING
        if (mine or late) and not m.had and len(m.parts) != a.total:
            m.parts = [Part() for _ in range(a.total)]
        if late and not m.had:
            m.carrier = a.carrier
        arrived = self._parts(m, a, mine, doubted)
        if mine:
            self._fate(m, a, now)
        elif doubted and m.state in (State.UNKNOWN, *WAITING):
            self._all_taken(m, now)
        for key in arrived:
            if key in self.parked:
                self._receipt(m, self.ids[key][1], self.unpark(key), now)

    def _parts(self, m: Message, a: Answer, mine: bool, doubted: bool) -> list[tuple[str, bytes, bytes]]:
        """Take over what is said about parts, which only ever rise; a late word counts when it is good."""
        arrived = []
        for part in a.parts:
            ours = m.parts[part.index] if part.index < len(m.parts) else None
            if ours and (mine or (doubted and part.state is PartState.ACCEPTED)):
                rises = ours.state in (PartState.PENDING, PartState.UNKNOWN) and part.state is not PartState.PENDING
                if rises:
                    ours.state = part.state
                    ours.id = part.carrier_id
            if part.state is PartState.ACCEPTED and part.carrier_id:
                key = (a.carrier, m.new.recipient.key, part.carrier_id)
                if key not in self.ids:
                    self.ids[key] = (a.id, part.index)
                    arrived.append(key)
        return arrived

    def _fate(self, m: Message, a: Answer, now: int) -> None:
        match a.fate:
            case _ if m.whole:
                self._all_taken(m, now)
            case Fate.BACK | Fate.SENT:
                self._return(m, a.reason, now)
            case Fate.RETRY:
                m.attempts += not m.cancel
                self._return(m, a.reason, now, a.due)
            case Fate.NEXT if m.had:
                self._move(m, State.FAILED, Reason.PARTIAL, now)
            case Fate.NEXT if m.cancel:
                self._stop(m, now)
            case Fate.NEXT if a.last_place:
                self._move(m, State.FAILED, Reason.ROUTES_EXHAUSTED, now)
            case Fate.NEXT:
                m.place, m.attempts = m.place + 1, 0
                self._move(m, State.QUEUED, a.reason, now)
            case Fate.UNKNOWN:
                self._unknown(m, a.on_unknown, now)
            case _ if m.had:
                self._move(m, State.FAILED, Reason.PARTIAL, now)
            case Fate.REJECTED:
                self._move(m, State.REJECTED, a.reason, now)
            case Fate.FAILED:
                self._move(m, State.FAILED, a.reason, now)

    def _all_taken(self, m: Message, now: int) -> None:
        """Every part is with a carrier: sent; and finished at once when every receipt was there before."""
        if m.whole:
            self._move(m, State.SENT, Reason.NONE, now)
            self._finished(m, now)

    def _unknown(self, m: Message, word: OnUnknown, now: int) -> None:
        stricter = max(m.new.on_unknown, word)
        if stricter is OnUnknown.RESEND and not m.resent:
            self._move(m, State.UNKNOWN, Reason.NONE, now)
            if m.cancel:
                self._stop(m, now)
            else:
                m.resent = True
                self._move(m, State.QUEUED, Reason.RESEND, now)
        elif stricter is OnUnknown.HOLD:
            self._move(m, State.UNKNOWN, Reason.NONE, now)
        else:
            self._move(m, State.UNKNOWN, Reason.NO_ANSWER, now, final=True)

    def reclaim(self, dead: str, now: int) -> int:
        count = 0
        lost = [m for m in self.messages.values() if m.state is State.SENDING and m.owner == dead]
        for m in lost:
            m.parts = m.parts or [Part() for _ in range(max(m.new.segments, 1))]
            if not any(part.state is PartState.UNKNOWN for part in m.parts):
                for part in m.parts:
                    part.state = PartState.UNKNOWN if part.state is PartState.PENDING else part.state
            if m.whole:
                self._all_taken(m, now)
                continue
            self._unknown(m, m.word, now)
            count += 1
        return count

    # -- receipts ------------------------------------------------------------------------------------------------------

    def receipt(self, fact: ReceiptFact, now: int) -> Match:
        who = fact.recipient.key
        for id_ in fact.ids:
            found = self.ids.get((fact.carrier, who, id_))
            if found and found[0] in self.messages:
                return self._receipt(self.messages[found[0]], found[1], fact, now)
        for id_ in fact.ids:
            kept = self.parked.get((fact.carrier, who, id_))
            if kept is None or kept[0].state is PartState.ACCEPTED:
                self.parked[fact.carrier, who, id_] = (fact, kept[1] if kept else now)
        return Match.PARKED

    def unpark(self, key: tuple[str, bytes, bytes]) -> ReceiptFact:
        """Take a parked receipt, and with it every form of its id."""
        fact, _ = self.parked[key]
        for id_ in fact.ids:
            self.parked.pop((*key[:2], id_), None)
        return fact

    def _receipt(self, m: Message, index: int, fact: ReceiptFact, now: int) -> Match:
        if m.final or index >= len(m.parts) or m.parts[index].state in WORST:
            return Match.REPEATED
        part = m.parts[index]
        if fact.state is PartState.ACCEPTED:
            return Match.APPLIED
        part.state, part.done_at = fact.state, kept_date(fact.at)
        if m.state in (State.SENT, State.UNKNOWN):
            self._finished(m, now)
        if m.state in (State.UNKNOWN, *WAITING):
            self._all_taken(m, now)  # the receipt tells what no answer told
        return Match.APPLIED

    def _finished(self, m: Message, now: int) -> None:
        worst = next((state for state in WORST if any(part.state is state for part in m.parts)), None)
        if worst is not None and all(part.state in WORST for part in m.parts):
            self._move(m, _ENDS[worst], Reason.RECEIPT, now)
