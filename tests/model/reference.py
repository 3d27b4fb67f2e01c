"""The store's promises as plain dictionaries, written from the state table and docs/architecture.md, not from the code.

``message`` is one message, ``gate`` its way out to a carrier, ``outcome`` and ``receipts`` what comes back; here is
what people and time do to it. Time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.model import WAITING, Reason, Rule, State
from gateway.store.ids import time_of
from gateway.store.requests import CancelResult, OptChange, Retention
from tests.model.message import Message
from tests.model.outcome import Outcome


class Model(Outcome):
    """A whole store."""

    def __init__(self, retention: Retention) -> None:
        super().__init__(retention)
        self.begin_receipts()
        self.forgotten: dict[bytes, Message] = {}

    # -- words of people -----------------------------------------------------------------------------------------------

    def cancel_account(self, account: str, now: int) -> int:
        """What waits of an account ends; answers how many."""
        mine = [m for m in self.messages.values() if m.state in WAITING and m.new.envelope.account == account]
        for m in mine:
            self._move(m, State.CANCELED, Reason.CANCELED, now)
        return len(mine)

    def cancel(self, id_: bytes, now: int) -> CancelResult:
        m = self.messages.get(id_)
        if m is None:
            return CancelResult.MISSING
        if m.final:
            return CancelResult.CANCELED if m.state is State.CANCELED else CancelResult.FINAL
        if m.state in WAITING:
            self._move(m, State.CANCELED, Reason.CANCELED, now)
            return CancelResult.CANCELED
        m.stop = m.stop or Reason.CANCELED
        return CancelResult.REQUESTED

    def opt(self, change: OptChange) -> bool:
        key = (change.recipient.key, change.group, change.scope)
        known = self.rules.get(key)
        if known and (known.at, known.status) >= (change.at, change.status):
            return False
        self.rules[key] = Rule(change.group, change.status, change.scope, change.at, change.until)
        return True

    def release(self, ids: Sequence[bytes], scope: bytes, now: int) -> int:
        count = 0
        for m in self.messages.values():
            p = m.permission
            named = m.new.id in ids or scope in (p.account_scope, p.brand_scope, p.template_scope)
            if m.state is State.HELD and named and not m.released:
                m.released, m.due = True, now
                count += 1
        return count

    def release_for(self, reason: Reason, now: int) -> int:
        """Release all that is held for this reason."""
        return self.release([m.new.id for m in self.messages.values() if m.reason is reason], b"none", now)

    def rescue(self, m: Message, routes: Mapping[str, str], now: int) -> bool:
        """Out of a lane that no carrier serves; ``routes``: one of every carrier. True: it is to be decided again."""
        if m.permission.expires < now:
            self._end(m, State.EXPIRED, Reason.EXPIRED, now)
        elif m.had and m.carrier not in routes:
            self._end(m, State.FAILED, Reason.PARTIAL, now)
        elif m.had:
            m.route = routes[m.carrier]
        else:
            m.place = m.attempts = 0
            self.hand_back(m, now)
            return True
        return False

    # -- time ----------------------------------------------------------------------------------------------------------

    def look(self, m: Message, now: int, gone: Callable[[bytes], bool]) -> None:
        """Do to a message what is due; ``gone`` tells whether the record of a finished one is."""
        keep = self.retention
        if m.final:
            if gone(m.new.id):
                refused = time_of(m.new.id) + 1000 * keep.refused  # at the door, which made the id
                assert now - m.ended_at >= 1000 * keep.finished or now >= refused
                self._forget(m)
        elif m.state in WAITING and m.permission.expires < now:
            self._end(m, State.EXPIRED, Reason.EXPIRED, now)
        elif m.state is State.UNKNOWN and not m.bare and m.due <= now:
            self.held_enough(m, now)
        elif m.state in (State.UNKNOWN, State.SENT) and m.due <= now:
            self.give_up(m, now)

    def check_swept(self, now: int) -> None:
        """All that was due has been done; no finished record outlives its time."""
        longest = 1000 * max(self.retention.finished, self.retention.refused)
        for m in self.messages.values():
            if m.final:
                assert now - m.ended_at <= longest + 60_000, f"still kept: {m}"
            elif m.state in WAITING:
                assert m.permission.expires >= now, f"expired, but waits: {m}"
            elif m.state is not State.SENDING:
                assert m.due > now, f"its time is over: {m}"

    def _forget(self, m: Message) -> None:
        """Its record is gone; its ids go when this sweep is done with what else it does."""
        del self.messages[m.new.id]
        self.forgotten[m.new.id] = m

    def forget_ids(self) -> None:
        """Ids of the records that are gone lead nowhere."""
        for name, hours in list(self.ids.items()):
            for hour, holders in list(hours.items()):
                hours[hour] = [id_ for id_ in holders if id_ not in self.forgotten]
                if not hours[hour]:
                    del hours[hour]
            if not hours:
                del self.ids[name]
        self.forgotten.clear()
