"""Checks of what the store may choose itself: which messages a take gets, which are rescued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.model import PRIORITY, WAITING, OnUnknown, PartState, Priority, Reason, State
from gateway.store.ids import partition_of
from gateway.store.lane_rescue import RescueResult
from gateway.store.owner import LeaseOwner
from gateway.store.requests import TakeRequest, TakeResult
from tests.model.gate import GIVEN_BACK
from tests.model.invariants import Invariants
from tests.model.message import Message
from tests.model.store_driver import plain


class ChoiceChecks(Invariants):
    """Checks each choice of the store, then applies it to the model."""

    def check_take(self, owner: LeaseOwner, request: TakeRequest, taken: TakeResult) -> None:
        """Check what a take got, then lease it in the model too."""
        model, now = self.model, self.now
        names = [lane.name for lane in request.lanes]
        names += [f"{lane.route}@{request.carrier}:{int(lane.priority)}" for lane in request.lanes]
        here = [m for m in model.messages.values() if partition_of(m.new.id) == request.partition]
        mine = [m for m in here if not m.final and m.lane in names]
        for m in mine:
            if m.state is State.QUEUED and m.due <= now:
                m.due = 0  # a retry that has come due is ready, even while it is being decided
        before = {m.new.id: model.gate(m, now) for m in mine}
        waking = {m.new.id for m in mine if model.asks(m, now) is not None}

        dropped = self.dropped(mine, before, waking)
        assert taken.dropped == dropped
        parts, last = 0, 0
        for item in taken.leased:
            m = model.messages[item.id]
            assert m in mine
            assert (m.state, m.due <= now) == (State.QUEUED, True)
            assert model.gate(m, now) == (State.SENDING, Reason.NONE), "the gate let out what it must not"
            assert (item.place, item.attempts, item.resent, item.pinned) == (m.place, m.attempts, m.resent, m.pinned)
            assert (item.recipient, item.route, item.category) == (m.new.recipient, m.route, m.new.category)
            assert (item.envelope, item.content) == (m.new.envelope, m.new.content)
            assert [_told(state) for state in item.parts] == [_told(m.part(index)) for index in range(m.total)]
            assert m.new.segments > 1 or item.reference_number == 0
            last = m.open_parts
            parts += last
            if PRIORITY[m.new.category] is not Priority.OTP and not request.probe:
                assert parts - last < request.limit - request.keep, "took what is kept for one-time passwords"
            assert parts - last < request.limit, "took more than there is room for"
            model.lease(m, owner.name, item.lease, request.carrier, request.on_unknown, now)
            self.leases.append((owner.name, item.id, item.lease, request.carrier))
        for m in mine:
            if m.state is State.QUEUED and m.due <= now:
                m.due = 0  # woken, but not handed out: it is ready, and an old token is worth nothing
        for back in taken.redecide:
            m = model.messages[back.id]
            # what a late answer pinned may still wake in the lane where it waited
            assert m in mine or m.had, f"handed back from a lane it is not in: {m} {back}"
            assert m.due <= now, f"handed back before its time: {m} {back}"
            if back.id in waking:
                assert m.permission.expires >= now
            else:
                assert m.state is State.QUEUED
                reasons = {before[back.id], model.gate(m, now)}
                assert (State.QUEUED, back.reason) in reasons, (back.reason, reasons)
            assert back.token == model.hand_back(m, now)
            assert (back.state, back.recipient, back.expires) == (m.state, m.new.recipient, m.permission.expires)
            assert (back.envelope, back.content) == (m.new.envelope, m.new.content)
            self.tokens[back.id] = back.token
        if request.probe:
            self.check_probe(request, taken, mine)
            return
        left = [m for m in mine if m.state is State.QUEUED and m.due <= now and not m.had]
        left = [m for m in left if model.gate(m, now)[0] is State.SENDING]
        if parts < request.limit - request.keep and not taken.more:
            assert not left, "something was ready and not taken"
        if taken.leased:
            worst = max(PRIORITY[model.messages[item.id].new.category] for item in taken.leased)
            assert all(PRIORITY[m.new.category] >= worst for m in left), "a lower priority went first"

    def check_probe(self, request: TakeRequest, taken: TakeResult, mine: list[Message]) -> None:
        """A carrier that may be sick is tried with one message at most, which may be sent once more."""
        assert len(taken.leased) <= 1, "a probe risks more than one message"
        resends = self.model.retention.resends
        for item in taken.leased:
            assert _risky(self.model.messages[item.id], request.on_unknown, resends), "a probe risks what is not resent"
        if taken.leased or taken.dropped or taken.redecide or taken.more:
            return
        left = [m for m in mine if m.state is State.QUEUED and m.due <= self.now and not m.had]
        left = [m for m in left if _risky(m, request.on_unknown, resends)]
        assert not any(self.model.gate(m, self.now)[0] is State.SENDING for m in left), (
            "something could have been risked"
        )

    def dropped(self, mine: list[Message], before: dict[bytes, tuple[State, Reason]], waking: set[bytes]) -> int:
        """The store ended some at the gate; it tells how many, the records tell which."""
        may = [m for m in mine if m.due <= self.now and (m.state is State.QUEUED or m.new.id in waking)]
        found = self.driver.run(self.driver.store.find([m.new.id for m in may]))
        count = 0
        for m, record in zip(may, found, strict=True):
            if record is None or record.sequence == m.sequence or record.state is State.SENDING:
                continue
            state, reason = before[m.new.id]
            assert state in (State.EXPIRED, State.REJECTED), f"dropped without need: {plain(record)}"
            assert state is State.EXPIRED or m.new.id not in waking
            self.model.drop(m, state, reason, self.now)
            count += 1
        return count

    def check_rescue(self, lanes: Sequence[str], routes: Mapping[str, str], rescued: RescueResult) -> None:
        """Check that all that waits in these lanes was looked at, except what is being decided."""
        mine = [m for m in self.model.messages.values() if not m.final and m.state in WAITING]
        mine = [m for m in mine if m.released or m.state is not State.HELD]
        mine = [m for m in mine if not self.now < m.due <= self.now + GIVEN_BACK]
        records = self.driver.run(self.driver.store.find([m.new.id for m in mine]))
        asked = {}
        for m, record in zip(mine, records, strict=True):
            assert record is not None
            reason = Reason.NONE if m.state is State.QUEUED else m.reason
            # what is pinned may still lie where it waited before that
            here = m.lane in lanes if m.due or not m.had else False
            here = here or (m.had and (record.sequence != m.sequence or record.route != m.route))
            if here and self.model.rescue(m, routes, self.now):
                asked[m.new.id] = reason
        assert {back.id: back.reason for back in rescued.redecide} == asked
        for back in rescued.redecide:
            assert back.token == self.model.messages[back.id].due
            self.tokens[back.id] = back.token


def _told(state: int) -> int:
    """What was lost is to be sent again, as what never left is."""
    return PartState.PENDING if state == PartState.UNKNOWN else state


def _risky(m: Message, word: OnUnknown, resends: int) -> bool:
    return max(m.new.on_unknown, word) is not OnUnknown.NEVER and m.resent < resends
