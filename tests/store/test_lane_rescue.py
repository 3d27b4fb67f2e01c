"""Lanes that nobody serves any more: what waits there is decided again, moved to its carrier, or ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.model import Category, NewMessage, PartAnswer, PartState, Permit, Priority, Reason, Resolution, State
from gateway.store.crypto import Vault
from gateway.store.lane_rescue import LaneRescue, RescueResult
from gateway.store.requests import Lane
from tests.servers import Server
from tests.store.test_scripts import Desk


class Yard(Desk):
    """A desk with a salvage."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.salvage = LaneRescue(self.store, self.link, Vault({1: bytes(32)}, 1))

    def stranded(self, *served: str) -> list[str]:
        """Without those that are empty: the next rescue forgets their names."""
        depths = self.run(self.store.depths())
        full = {depth.lane for depth in depths.ready} | {lane for lane, count in depths.delayed.items() if count}
        return [lane for lane in self.run(self.salvage.stranded(served)) if lane in full]

    def rescue(self, *lanes: str, **routes: str) -> RescueResult:
        return self.run(self.salvage.rescue(lanes, routes))


@pytest.fixture(scope="module")
def shared(single_server: Server) -> Iterator[Yard]:
    single_server.flush()
    yard = Yard(single_server.url)
    yield yard
    yard.close()


@pytest.fixture
def yard(shared: Yard) -> Yard:
    shared.reset()
    return shared


def permit(yard: Yard, message: NewMessage, token: int, route: str) -> list[bool]:
    return yard.run(
        yard.store.permit([Permit(message.id, token, State.QUEUED, Reason.NONE, 0, route, yard.permission())])
    )


def test_what_is_ready_is_decided_again_and_goes_by_another_route(yard: Yard) -> None:
    message = yard.message()
    yard.accept(message)
    assert yard.stranded("west#0:1") == ["north#0:1"]
    rescued = yard.rescue("north#0:1")
    (again,) = rescued.redecide
    assert (again.id, again.state, again.reason) == (message.id, State.QUEUED, Reason.NONE)
    assert yard.rescue("north#0:1").redecide == []  # somebody is deciding about it
    assert permit(yard, message, again.token, "west") == [True]
    assert yard.stranded("west#0:1") == []
    (leased,) = yard.take(lanes=(Lane("west", 0, Priority.TRANSACTIONAL),)).leased
    assert leased.id == message.id


def test_a_decider_that_died_loses_nothing(yard: Yard) -> None:
    message = yard.message()
    yard.accept(message)
    yard.rescue("north#0:1")
    yard.later(5001)
    (again,) = yard.rescue("north#0:1").redecide
    assert again.id == message.id


def test_what_is_scheduled_moves_long_before_it_is_due(yard: Yard) -> None:
    due = yard.now + 3_600_000
    message = yard.message(state=State.SCHEDULED, reason=Reason.SCHEDULED, due=due)
    yard.accept(message)
    (again,) = yard.rescue("north#0:1").redecide
    assert (again.state, again.reason) == (State.SCHEDULED, Reason.SCHEDULED)
    decided = Permit(message.id, again.token, State.DEFERRED, Reason.SCHEDULED, due, "west", yard.permission())
    assert yard.run(yard.store.permit([decided])) == [True]
    assert yard.stranded() == ["west#0:1"]
    assert yard.record(message).due == due


def test_a_place_that_the_route_no_longer_has_begins_anew(yard: Yard) -> None:
    message = yard.message()
    yard.accept(message)
    (leased,) = yard.take().leased
    yard.report(yard.answer(leased, Resolution.NEXT))
    assert yard.stranded("north#0:1") == ["north#1:1"]
    (again,) = yard.rescue("north#1:1").redecide
    assert permit(yard, message, again.token, "north") == [True]
    assert yard.stranded("north#0:1") == []
    (leased,) = yard.take().leased
    assert (leased.place, leased.attempts) == (0, 0)


def half_sent(yard: Yard) -> NewMessage:
    """A message of two parts of which north has accepted one."""
    message = yard.message(segments=2)
    yard.accept(message)
    (leased,) = yard.take().leased
    parts = [PartAnswer(0, PartState.ACCEPTED, b"one"), PartAnswer(1, PartState.PENDING, b"", 88)]
    yard.report(yard.answer(leased, Resolution.BACK, parts=parts))
    assert yard.stranded("north#0:1") == ["north@north:1"]
    return message


def test_the_rest_of_a_message_follows_its_carrier_to_another_route(yard: Yard) -> None:
    message = half_sent(yard)
    rescued = yard.rescue("north@north:1", north="west", south="west")
    assert (rescued.redecide, rescued.moved, rescued.failed) == ([], 1, 0)
    assert yard.stranded() == ["west@north:1"]
    (leased,) = yard.take(lanes=(Lane("west", 0, Priority.TRANSACTIONAL),)).leased
    assert (leased.id, leased.pinned, leased.parts) == (message.id, "north", bytes([1, 0]))


def test_the_rest_of_a_message_fails_when_its_carrier_is_gone(yard: Yard) -> None:
    message = half_sent(yard)
    rescued = yard.rescue("north@north:1", south="west")
    assert (rescued.moved, rescued.failed) == (0, 1)
    record = yard.record(message)
    assert (record.state, record.reason, record.final) == (State.FAILED, Reason.PARTIAL, True)
    assert yard.stranded() == []


def test_what_has_expired_or_moved_on_is_left_out(yard: Yard) -> None:
    canceled, expired, last = (yard.message(f"4670000000{n}") for n in (1, 2, 3))
    yard.accept(canceled, expired)
    yard.run(yard.store.cancel([canceled.id]))
    yard.later(2 * 3_600_000 + 1)
    last = yard.message("46700000003")
    yard.accept(last)
    rescued = yard.rescue("north#0:1")
    assert [again.id for again in rescued.redecide] == [last.id]
    assert yard.record(expired).state is State.EXPIRED
    assert yard.record(canceled).state is State.CANCELED


def test_many_accounts_and_priorities_are_emptied_in_steps(yard: Yard) -> None:
    recipient = yard.hasher.recipient("46700000001")
    messages = [
        yard.message(account=account, category=category)
        for account in ("a", "b", "c")
        for category in (Category.OTP, Category.MARKETING)
        for _ in range(60)
    ]
    yard.accept(*messages)
    lanes = yard.stranded()
    assert lanes == ["north#0:0", "north#0:2"]
    first, second = yard.rescue(*lanes), yard.rescue(*lanes)
    assert (len(first.redecide), first.more) == (200, True)
    assert (len(second.redecide), second.more) == (160, False)
    assert {again.id for again in (*first.redecide, *second.redecide)} == {message.id for message in messages}
    assert recipient.partition == first.redecide[0].recipient.partition
    yard.run(
        yard.store.permit(
            [
                Permit(one.id, one.token, State.QUEUED, Reason.NONE, 0, "west", yard.permission())
                for one in (*first.redecide, *second.redecide)
            ]
        )
    )
    assert yard.rescue(*lanes).redecide == []
    assert yard.run(yard.salvage.stranded(["west#0:0", "west#0:2"])) == []  # even their names are forgotten
    assert yard.stranded("west#0:0", "west#0:2") == []
    assert sorted({depth.lane for depth in yard.run(yard.store.depths()).ready}) == ["west#0:0", "west#0:2"]
