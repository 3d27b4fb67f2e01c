"""The store's promises as plain dictionaries: what design and state table say, with no thought of how it is done.

``message`` is one of them, ``gate`` its way out to a carrier, ``outcome`` what comes back; here is what people and time
do to it. Time is an argument, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.model import WAITING, Reason, Rule, State
from gateway.store.ids import time_of
from gateway.store.requests import CancelResult, OptChange
from tests.model.message import Message
from tests.model.outcome import Outcome


class Model(Outcome):
    """A whole store."""

    # -- words of people -----------------------------------------------------------------------------------------------

    def cancel(self, id_: bytes, now: int) -> CancelResult:
        m = self.messages.get(id_)
        if m is None:
            return CancelResult.MISSING
        if m.final:
            return CancelResult.CANCELED if m.state is State.CANCELED else CancelResult.FINAL
        if m.state in WAITING:
            self._move(m, State.CANCELED, Reason.CANCELED, now)
            return CancelResult.CANCELED
        m.cancel = True
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

    def rescue(self, m: Message, routes: Mapping[str, str], now: int) -> bool:
        """Out of a lane that nobody serves; ``routes``: one of every carrier. True: it is for a decision."""
        if m.permission.expires < now:
            self.drop(m, State.EXPIRED, Reason.EXPIRED, now)
        elif m.had and m.carrier not in routes:
            self._move(m, State.FAILED, Reason.PARTIAL, now)
        elif m.had:
            m.route = routes[m.carrier]
        else:
            m.place = m.attempts = 0
            self.hand_back(m, now)
            return True
        return False

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now: int, gone: Callable[[bytes], bool]) -> None:
        """Everything that is due at ``now``, which is a full minute; ``gone`` tells which finished records are."""
        keep = self.retention
        for m in list(self.messages.values()):
            if m.final:
                if gone(m.new.id):
                    refused = time_of(m.new.id) + 1000 * keep.refused  # at the door, which made the id
                    assert now - m.ended_at >= 1000 * keep.finished or now >= refused
                    self._forget(m)
                else:
                    assert now - m.ended_at <= 1000 * max(keep.finished, keep.refused) + 60_000
            elif m.state in WAITING and m.permission.expires < now:
                self.drop(m, State.EXPIRED, Reason.EXPIRED, now)
            elif m.state is State.UNKNOWN and now - m.since >= 1000 * keep.hold:
                self._move(m, State.UNKNOWN, Reason.NO_ANSWER, now, final=True)
            elif m.state is State.SENT and now - m.since >= 1000 * keep.receipt_timeout:
                self._move(m, State.SENT, Reason.NO_RECEIPT, now, final=True)

    def _forget(self, m: Message) -> None:
        del self.messages[m.new.id]
        self.ids = {key: found for key, found in self.ids.items() if found[0] != m.new.id}
