"""Lanes that no carrier serves any more: what waits there is decided again, moved to its carrier, or ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.model import Category, NewMessage, PartAnswer, PartState, Permit, Priority, Reason, Resolution, State
from gateway.store.crypto import Vault
from gateway.store.lane_rescue import LaneRescue, RescueResult
from gateway.store.requests import Lane
from tests.servers import Server
from tests.store.message_driver import MessageDriver


class RescueDriver(MessageDriver):
    """Rescues lanes too."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lane_rescue = LaneRescue(self.store, self.link, Vault({1: bytes(32)}, 1))

    def stranded(self, *served: str) -> list[str]:
        """Without those that are empty: the next rescue forgets their names."""
        depths = self.run(self.store.depths())
        full = {depth.lane for depth in depths.ready} | {lane for lane, count in depths.delayed.items() if count}
        return [lane for lane in self.run(self.lane_rescue.stranded(served)) if lane in full]

    def rescue(self, *lanes: str, **routes: str) -> RescueResult:
        return self.run(self.lane_rescue.rescue(lanes, routes))


@pytest.fixture(scope="module")
def shared_driver(single_server: Server) -> Iterator[RescueDriver]:
    single_server.flush()
    driver = RescueDriver(single_server.url)
    yield driver
    driver.close()


@pytest.fixture
def driver(shared_driver: RescueDriver) -> RescueDriver:
    shared_driver.reset()
    return shared_driver


def permit(driver: RescueDriver, message: NewMessage, token: int, route: str) -> list[bool]:
    return driver.run(
        driver.store.permit([Permit(message.id, token, State.QUEUED, Reason.NONE, 0, route, driver.permission())])
    )


def test_what_is_ready_is_decided_again_and_goes_by_another_route(driver: RescueDriver) -> None:
    message = driver.message()
    driver.accept(message)
    assert driver.stranded("west#0:1") == ["north#0:1"]
    rescued = driver.rescue("north#0:1")
    (again,) = rescued.redecide
    assert (again.id, again.state, again.reason) == (message.id, State.QUEUED, Reason.NONE)
    assert driver.rescue("north#0:1").redecide == []  # it is being decided
    assert permit(driver, message, again.token, "west") == [True]
    assert driver.stranded("west#0:1") == []
    (leased,) = driver.take(lanes=(Lane("west", 0, Priority.TRANSACTIONAL),)).leased
    assert leased.id == message.id


def test_a_decider_that_died_loses_nothing(driver: RescueDriver) -> None:
    message = driver.message()
    driver.accept(message)
    driver.rescue("north#0:1")
    driver.later(5001)
    (again,) = driver.rescue("north#0:1").redecide
    assert again.id == message.id


def test_what_is_scheduled_moves_long_before_it_is_due(driver: RescueDriver) -> None:
    due = driver.now + 3_600_000
    message = driver.message(state=State.SCHEDULED, reason=Reason.SCHEDULED, due=due)
    driver.accept(message)
    (again,) = driver.rescue("north#0:1").redecide
    assert (again.state, again.reason) == (State.SCHEDULED, Reason.SCHEDULED)
    decided = Permit(message.id, again.token, State.DEFERRED, Reason.SCHEDULED, due, "west", driver.permission())
    assert driver.run(driver.store.permit([decided])) == [True]
    assert driver.stranded() == ["west#0:1"]
    assert driver.record(message).due == due


def test_a_place_that_the_route_no_longer_has_begins_anew(driver: RescueDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.NEXT))
    assert driver.stranded("north#0:1") == ["north#1:1"]
    (again,) = driver.rescue("north#1:1").redecide
    assert permit(driver, message, again.token, "north") == [True]
    assert driver.stranded("north#0:1") == []
    (leased,) = driver.take().leased
    assert (leased.place, leased.attempts) == (0, 0)


def half_sent(driver: RescueDriver) -> NewMessage:
    """A message of two parts of which north has accepted one."""
    message = driver.message(segments=2)
    driver.accept(message)
    (leased,) = driver.take().leased
    parts = [PartAnswer(0, PartState.ACCEPTED, b"one"), PartAnswer(1, PartState.PENDING, b"", 88)]
    driver.report(driver.answer(leased, Resolution.BACK, parts=parts))
    assert driver.stranded("north#0:1") == ["north@north:1"]
    return message


def test_the_rest_of_a_message_follows_its_carrier_to_another_route(driver: RescueDriver) -> None:
    message = half_sent(driver)
    rescued = driver.rescue("north@north:1", north="west", south="west")
    assert (rescued.redecide, rescued.moved, rescued.failed) == ([], 1, 0)
    assert driver.stranded() == ["west@north:1"]
    (leased,) = driver.take(lanes=(Lane("west", 0, Priority.TRANSACTIONAL),)).leased
    assert (leased.id, leased.pinned, leased.parts) == (message.id, "north", bytes([1, 0]))


def test_the_rest_of_a_message_fails_when_its_carrier_is_gone(driver: RescueDriver) -> None:
    message = half_sent(driver)
    rescued = driver.rescue("north@north:1", south="west")
    assert (rescued.moved, rescued.failed) == (0, 1)
    record = driver.record(message)
    assert (record.state, record.reason, record.final) == (State.FAILED, Reason.PARTIAL, True)
    assert driver.stranded() == []


def test_what_has_expired_or_moved_on_is_left_out(driver: RescueDriver) -> None:
    canceled, expired, last = (driver.message(f"4670000000{n}") for n in (1, 2, 3))
    driver.accept(canceled, expired)
    driver.run(driver.store.cancel([canceled.id]))
    driver.later(2 * 3_600_000 + 1)
    last = driver.message("46700000003")
    driver.accept(last)
    rescued = driver.rescue("north#0:1")
    assert [again.id for again in rescued.redecide] == [last.id]
    assert driver.record(expired).state is State.EXPIRED
    assert driver.record(canceled).state is State.CANCELED


def test_many_accounts_and_priorities_are_emptied_in_steps(driver: RescueDriver) -> None:
    recipient = driver.hasher.recipient("46700000001")
    messages = [
        driver.message(account=account, category=category)
        for account in ("a", "b", "c")
        for category in (Category.OTP, Category.MARKETING)
        for _ in range(60)
    ]
    driver.accept(*messages)
    lanes = driver.stranded()
    assert lanes == ["north#0:0", "north#0:2"]
    first, second = driver.rescue(*lanes), driver.rescue(*lanes)
    assert (len(first.redecide), first.more) == (200, True)
    assert (len(second.redecide), second.more) == (160, False)
    assert {again.id for again in (*first.redecide, *second.redecide)} == {message.id for message in messages}
    assert recipient.partition == first.redecide[0].recipient.partition
    driver.run(
        driver.store.permit(
            [
                Permit(one.id, one.token, State.QUEUED, Reason.NONE, 0, "west", driver.permission())
                for one in (*first.redecide, *second.redecide)
            ]
        )
    )
    assert driver.rescue(*lanes).redecide == []
    assert driver.run(driver.lane_rescue.stranded(["west#0:0", "west#0:2"])) == []  # even their names are forgotten
    assert driver.stranded("west#0:0", "west#0:2") == []
    assert sorted({depth.lane for depth in driver.run(driver.store.depths()).ready}) == ["west#0:0", "west#0:2"]
