"""What delivery receipts make of messages, as the model has it: by their id, or as proof of what was lost.

See docs/architecture.md: states, and "Receipts and ids".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gateway.model import PartState, Reason, ReceiptFact, ReceiptMatch, State
from tests.model.gate import Gate
from tests.model.message import ENDED, Copy, Message, kept_date

HOUR = 3_600_000
HOLDERS = 4  # messages that one id leads to, the latest
REMARKS = {
    PartState.ACCEPTED: Reason.RECEIPT,  # intermediate
    PartState.RECEIPT_UNKNOWN: Reason.RECEIPT_UNKNOWN,
    PartState.RECEIPT_UNREADABLE: Reason.RECEIPT_UNREADABLE,
}
"""What leaves a message where it is, and the reason it gives one that is SENT."""

Name = tuple[str, bytes, bytes]  # carrier, recipient's key, carrier's id


@dataclass
class Parked:
    """A receipt of an id that is not known, or not yet."""

    fact: ReceiptFact
    at: int  # when the first of that id came, whole seconds
    tries: int = 0

    @property
    def names(self) -> list[Name]:
        return [(self.fact.carrier, self.fact.recipient.key, one) for one in self.fact.ids]

    @property
    def sure(self) -> bool:
        return self.fact.detail is not None and self.fact.detail.sure

    @property
    def mark(self) -> bytes:
        return self.fact.detail.excerpt if self.fact.detail else b""


@dataclass
class Guessed:
    """A receipt whose id is one message's in another form: what a sweep tells of it."""

    carrier: str
    host: str
    receipted: bytes
    answered: bytes


class Receipts(Gate):
    """All messages, with the ids that carriers gave them and the receipts that wait for one."""

    def begin_receipts(self) -> None:
        """Nothing is known."""
        self.ids: dict[Name, dict[int, list[bytes]]] = {}  # messages by the hour in which they were given it
        self.named: set[tuple[int, str]] = set()  # partitions and carriers whose answers gave an id there
        self.parked: dict[Name, Parked] = {}
        self.listed: dict[tuple[str, bytes], list[bytes]] = {}  # ids of parked receipts as they came
        self.aged: dict[Name, int] = {}  # when it began to wait
        self.orphans: dict[Name, int] = {}  # when its wait is over
        self.arrived: dict[Name, list[bytes]] = {}  # in this call, of what is parked

    # -- moves that receipts bring -------------------------------------------------------------------------------------

    def _settle(self, m: Message, now: int, error: str = "") -> None:
        if m.verdict is not None:
            self._move(m, m.verdict, Reason.RECEIPT, now, error=error)

    def _sent(self, m: Message, now: int, error: str = "") -> None:
        """Every part is with a carrier; and it is finished at once when the receipts were there before."""
        self._move(m, State.SENT, Reason.NONE, now, due=now + 1000 * self.retention.receipt_timeout)
        self._settle(m, now, error)

    def _news(self, m: Message, now: int, error: str = "") -> None:
        """Apply news of a copy, whatever the state of the message.

        While it is SENDING nothing does, before its answer.
        """
        if m.final or m.state is State.SENDING:
            return
        if m.verdict and (m.state in (State.SENT, State.UNKNOWN) or not m.whole):
            self._settle(m, now, error)
        elif m.whole and m.state is not State.SENT:
            self._sent(m, now, error)

    # -- ids -----------------------------------------------------------------------------------------------------------

    def name(self, m: Message, carrier: str, id_: bytes, now: int) -> None:
        """A carrier gave this id to a part."""
        name = (carrier, m.new.recipient.key, id_)
        holders = self.ids.setdefault(name, {}).setdefault(now // HOUR, [])
        if m.new.id in holders:
            holders.remove(m.new.id)
        holders.append(m.new.id)
        del holders[:-HOLDERS]
        if name in self.parked:
            arrived = self.arrived.setdefault(name, [])
            if m.new.id not in arrived:
                arrived.append(m.new.id)

    def holders(self, name: Name) -> list[bytes]:
        """Messages that an id stands for: as of the latest hour in which it was given."""
        hours = self.ids.get(name)
        return hours[max(hours)] if hours else []

    def apply_arrived(self, now: int) -> None:
        """Receipts that came before their ids: answers that have brought these are all dealt with."""
        arrived, self.arrived = self.arrived, {}
        for name, holders in arrived.items():
            self._apply(holders, name, self.parked[name].fact, now)
        for name in arrived:
            if name in self.parked:
                self.unpark(self.parked[name])

    def _apply(self, holders: Sequence[bytes], name: Name, fact: ReceiptFact, now: int) -> ReceiptMatch:
        """A receipt of an id that these messages have: it is for the only one that is open, else ambiguous."""
        there = [self.messages[id_] for id_ in holders if id_ in self.messages]
        open_ = [m for m in there if not m.final]
        if len(open_) > 1:
            for m in open_:
                self._remark(m, Reason.AMBIGUOUS_RECEIPT, name[0])
            return ReceiptMatch.AMBIGUOUS
        return self._receive(open_[0], name[2], fact, now) if open_ else ReceiptMatch.REPEATED

    # -- what one says -------------------------------------------------------------------------------------------------

    def receipts(self, facts: Sequence[ReceiptFact], now: int) -> list[ReceiptMatch]:
        """First the receipts of known ids, in order; then the others, which are parked."""
        out: dict[int, ReceiptMatch] = {}
        strangers = []
        known = [self._known(fact) for fact in facts]  # before any of them is applied
        for number, (fact, name) in enumerate(zip(facts, known, strict=True)):
            early = fact.detail if fact.detail and fact.detail.early else None
            if name:
                others = self._others_meant(fact, name) if early else []
                for m in others:
                    self._remark(m, Reason.AMBIGUOUS_RECEIPT, name[0])
                out[number] = ReceiptMatch.AMBIGUOUS if others else self._apply(self.holders(name), name, fact, now)
            else:
                strangers.append(number)
                self._park(msgspec.structs.replace(fact, detail=None) if early else fact, now)
                out[number] = ReceiptMatch.PARKED
        used: set[Name] = set()
        told = [facts[n] for n in strangers if (detail := facts[n].detail) and not detail.early]
        asked = dict.fromkeys((fact.carrier, fact.recipient.key) for fact in told)
        before = -1
        while before != len(used):  # what is proven at one carrier may leave fewer candidates at another
            before = len(used)
            for carrier, who in asked:
                used |= self.prove(carrier, who, now)
        for number in strangers:
            fact = facts[number]
            if fact in told and (fact.carrier, fact.recipient.key, fact.ids[0]) in used:
                out[number] = ReceiptMatch.APPLIED
        return [out[number] for number in range(len(facts))]

    def _known(self, fact: ReceiptFact) -> Name | None:
        names = [(fact.carrier, fact.recipient.key, one) for one in fact.ids]
        return next((name for name in names if self.holders(name)), None)

    def _others_meant(self, fact: ReceiptFact, name: Name) -> list[Message]:
        """The open message that has the id, last, and before it others that have it in another form: none, or all."""
        mine = [self.messages[id_] for id_ in self.holders(name) if id_ in self.messages]
        mine = [m for m in mine if not m.final]
        if len(mine) != 1 or fact.detail is None:
            return []
        others = [id_ for _, form in fact.detail.guesses for id_ in self.holders((*name[:2], form))]
        open_ = [m for id_ in others if (m := self.messages.get(id_)) and not m.final and m is not mine[0]]
        return [*open_, *mine] if open_ else []

    def _remark(self, m: Message, reason: Reason, carrier: str, error: str = "") -> ReceiptMatch:
        """Noted once per text. The reason of what is SENT is the last one noted."""
        said, sent = (reason, carrier, error), m.state is State.SENT and reason is not Reason.RECEIPT
        if said in m.noted and not (sent and m.reason is Reason.NONE):
            return ReceiptMatch.REPEATED
        m.noted.add(said)
        if sent:
            m.reason = reason
        return ReceiptMatch.APPLIED

    def _receive(self, m: Message, id_: bytes, fact: ReceiptFact, now: int) -> ReceiptMatch:
        if m.final:
            return ReceiptMatch.REPEATED
        named = [copy for copy in m.copies if (copy.carrier, copy.id) == (fact.carrier, id_) and copy.part < m.total]
        if fact.state in REMARKS:
            open_ = any(copy.state not in ENDED for copy in named)
            return self._remark(m, REMARKS[fact.state], fact.carrier, fact.error) if open_ else ReceiptMatch.REPEATED
        parts = {copy.part for copy in named}
        changed = [self._conclude(m, part, id_, fact) for part in parts]
        if not any(changed):
            return ReceiptMatch.REPEATED
        if fact.whole and m.total - 1 in parts:
            for part in set(range(m.total)) - parts:
                self._conclude(m, part, None, fact)
        self._news(m, now, fact.error)
        return ReceiptMatch.APPLIED

    def _conclude(self, m: Message, part: int, id_: bytes | None, fact: ReceiptFact) -> bool:
        """The copies of a part with this id have their receipt; None: the first that is open at that carrier."""
        if part >= m.total or m.part(part) in ENDED:
            return False
        mine = [c for c in m.copies if (c.part, c.carrier) == (part, fact.carrier) and c.state not in ENDED]
        mine = mine[:1] if id_ is None else [copy for copy in mine if copy.id == id_]
        for copy in mine:
            copy.state = fact.state
        if mine and kept_date(fact.at):
            m.dates[part] = kept_date(fact.at)
        return bool(mine)

    # -- receipts of unknown ids ---------------------------------------------------------------------------------------

    def _park(self, fact: ReceiptFact, now: int) -> None:
        kept = Parked(fact, now // 1000 * 1000)
        for name in kept.names:
            old = self.parked.get(name)
            final = old is not None and old.fact.state in ENDED
            if old is None or not final or (fact.detail and not old.fact.detail):
                kept.at = min(kept.at, old.at) if old else kept.at
                self.parked[name] = kept
        first = kept.names[0]
        if first not in self.orphans:
            self.aged.setdefault(first, now)
        listed = self.listed.setdefault(first[:2], [])
        if first[2] not in listed:
            listed.append(first[2])

    def unpark(self, kept: Parked) -> None:
        """Under none of its ids does it wait any longer."""
        for name in kept.names:
            self._drop(name)

    def _drop(self, name: Name) -> None:
        self.parked.pop(name, None)
        self.aged.pop(name, None)
        self.orphans.pop(name, None)
        listed = self.listed.get(name[:2], [])
        if name[2] in listed:
            listed.remove(name[2])

    # -- proof ---------------------------------------------------------------------------------------------------------

    def prove(self, carrier: str, who: bytes, now: int, *, sure: bool = False) -> set[Name]:
        """Receipts of unknown ids that can only be about something lost are that one's. Answers which were used.

        Only while nothing is in flight there; only receipts that came after the write, with a mark that agrees; only
        where one message fits, and for all of its lost parts. The id must be no other form of a known one: so the
        receipt says (or ``sure``), or that carrier has never given any.
        """
        self.apply_arrived(now)
        mine = [m for m in self.messages.values() if m.new.recipient.key == who and not m.final]
        lost = [m for m in mine if _lost(m, carrier)]
        if not lost or any(m.state is State.SENDING and m.carrier == carrier for m in mine):
            return set()
        sure = sure or (lost[0].new.recipient.partition, carrier) not in self.named
        waiting = [self.parked[carrier, who, id_] for id_ in self.listed.get((carrier, who), [])]
        waiting = sorted((kept for kept in waiting if sure or kept.sure), key=lambda kept: kept.at)
        whose = [[m for m in lost if _agrees(kept, m, carrier)] for kept in waiting]
        used: set[Name] = set()
        for m in lost:
            proofs = [kept for kept, fitting in zip(waiting, whose, strict=True) if fitting == [m]]
            copies = _lost(m, carrier)
            if proofs and proofs[0].fact.whole:  # of the last part, and it speaks for all
                copies = copies[-1:] if copies[-1].part == m.total - 1 else []
            if proofs and len(proofs) >= len(copies):
                self._proven(m, list(zip(copies, proofs, strict=False)), now)
                for kept, _ in zip(proofs, copies, strict=False):
                    used |= set(kept.names)
                    self.unpark(kept)
        if used:  # which leaves fewer that the others may be about
            return used | self.prove(carrier, who, now, sure=sure)
        for m in {m.new.id: m for several in whose if len(several) > 1 for m in several}.values():
            self._remark(m, Reason.AMBIGUOUS_RECEIPT, carrier)
        return used

    def _proven(self, m: Message, proofs: Sequence[tuple[Copy, Parked]], now: int) -> None:
        for copy, kept in proofs:
            id_ = kept.fact.ids[0]
            copy.state, copy.id = PartState.ACCEPTED, id_
            self.name(m, copy.carrier, id_, now)
            self.arrived.clear()  # it is the one that waited for it
            if kept.fact.state not in REMARKS:
                self._receive(m, id_, kept.fact, now)
        if m.state is not State.SENT:
            self._news(m, now)
        for _, kept in proofs:
            if kept.fact.state in REMARKS:
                self._receive(m, kept.fact.ids[0], kept.fact, now)

    def sweep_parked(self, partition: int, now: int, forms: Mapping[tuple[str, str], int]) -> tuple[list[Guessed], int]:
        """Those that have waited for a minute are tried by other means, in the order they came; what is in vain is an
        orphan, what waited for long enough goes. Answers guesses to tell of, and how many receipts found a message."""
        here = [name for name, kept in self.parked.items() if kept.fact.recipient.partition == partition]
        ended = [name for name in here if self.orphans.get(name, now + 1) <= now]
        aged = [name for name in here if self.aged.get(name, now) <= now - 1000 * self.retention.orphan]
        guesses: list[Guessed] = []
        matched = 0
        used: set[Name] = set()
        for name in sorted(aged, key=lambda name: (self.aged[name], raw(name))):
            if name in used:
                continue
            kept = self.parked[name]
            done = self._tried(name, kept, now, forms, guesses)
            used |= done
            if name in done:
                matched += 1
            elif name in self.aged and self.aged[name] != now:
                del self.aged[name]
                self.orphans[name] = now + 1000 * (self.retention.parked - self.retention.orphan)
        for name in ended:
            if name in self.parked:
                self.unpark(self.parked[name])
        return guesses, matched

    def _tried(
        self, name: Name, kept: Parked, now: int, forms: Mapping[tuple[str, str], int], told: list[Guessed]
    ) -> set[Name]:
        """Names of what was used: this receipt, or others that proved what it might have been about."""
        detail = kept.fact.detail
        if not detail:
            return set()
        carrier = name[0]
        allowed = forms.get((carrier, detail.host))
        used = self.prove(carrier, name[1], now, sure=allowed is not None)
        found = set() if name in used else self._guessed(kept)
        if len(found) != 1:
            return used
        ((id_, kind, form),) = found
        if not kept.tries:
            told.append(Guessed(carrier, detail.host, name[2], form))
        if kind != allowed:
            kept.tries += 1
            self.aged[name] = now
            return used
        self._apply([id_], (carrier, name[1], form), kept.fact, now)
        self.unpark(kept)
        return used | set(kept.names)

    def _guessed(self, kept: Parked) -> set[tuple[bytes, int, bytes]]:
        """(message, kind, id) that other forms of its id lead to, where that is one open message alone."""
        detail = kept.fact.detail
        assert detail is not None
        carrier, found = kept.fact.carrier, set()
        for kind, form in detail.guesses:
            holders = self.holders((carrier, kept.fact.recipient.key, form))
            if len(holders) > 1:
                return set()
            for m in [self.messages[id_] for id_ in holders if id_ in self.messages]:
                named = {copy.part for copy in m.copies if (copy.carrier, copy.id) == (carrier, form)}
                if not m.final and any(part < m.total and m.part(part) not in ENDED for part in named):
                    found.add((m.new.id, kind, form))
        return found


def raw(name: Name) -> bytes:
    """As the store calls it, which orders what came at the same instant."""
    carrier, who, id_ = name
    return carrier.encode() + b"\0" + who[:8] + id_


def _lost(m: Message, carrier: str) -> list[Copy]:
    """Of each part the latest copy at this carrier whose receipt would come under an unknown id."""
    latest = {}
    for copy in m.copies:
        if copy.carrier == carrier and copy.lost and copy.part < m.total and m.part(copy.part) not in ENDED:
            latest[copy.part] = copy
    return [latest[part] for part in sorted(latest)]


def _agrees(kept: Parked, m: Message, carrier: str) -> bool:
    return kept.at + 1000 > m.written(carrier) and (not kept.mark or not m.mark or kept.mark == m.mark)
