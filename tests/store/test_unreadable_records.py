"""Records that cannot be read, damaged or sealed by a key that is gone: the others of a take are handed out."""

from __future__ import annotations

import pytest

from gateway.model import Reason, Resolution, State, SubmitResult
from gateway.store.crypto import Vault
from gateway.store.requests import UnreadableMessage
from tests.store.message_driver import OWNER, MessageDriver


class Rubbish(Vault):
    """Seals something else than it is given."""

    def seal(self, plain: bytes) -> bytes:
        return super().seal(b"\xc1rubbish")


def with_vault(driver: MessageDriver, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver.store, "_vault", vault)


def test_a_damaged_record_is_told_apart_from_the_others_of_its_take_and_can_be_ended(
    driver: MessageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *good = [driver.message() for _ in range(5)]
    with monkeypatch.context() as patch:
        with_vault(driver, Rubbish({1: bytes(32)}, 1), patch)
        driver.accept(bad)
    with_vault(driver, Vault({1: bytes(32)}, 1), monkeypatch)
    driver.accept(*good)
    taken = driver.take()
    assert {one.id for one in taken.leased} == {one.id for one in good}
    (unread,) = taken.unread
    assert (unread.id, unread.sealed, unread.error.split(":")[0]) == (bad.id, False, "DecodeError")
    end = SubmitResult(unread.id, unread.lease, "north", Resolution.FAILED, Reason.GATEWAY_FAULT, 0, 0, 0, [])
    driver.report(end, *[driver.sent(one, b"x%d" % number) for number, one in enumerate(taken.leased)])
    assert driver.take().leased == []
    events = [
        event
        for partition in range(driver.store.partitions)
        for _, some in driver.run(driver.store.events(partition))
        for event in some
    ]
    ends = [(event.state, event.reason) for event in events if event.id == bad.id and event.final]
    assert ends == [(State.FAILED, Reason.GATEWAY_FAULT)]


def test_what_is_sealed_with_another_key_waits_until_that_key_is_back(
    driver: MessageDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = bytes(32), bytes(range(32))
    with monkeypatch.context() as patch:
        with_vault(driver, Vault({1: old}, 1), patch)
        message = driver.message()
        driver.accept(message)
    with monkeypatch.context() as patch:
        with_vault(driver, Vault({2: new}, 2), patch)
        other = driver.message()
        driver.accept(other)
        taken = driver.take()
        assert [one.id for one in taken.leased] == [other.id]
        (unread,) = taken.unread
        assert unread == UnreadableMessage(message.id, unread.lease, unread.error, True)
        assert "encryption key 1" in unread.error
        driver.run(driver.store.postpone(OWNER, [(unread.id, unread.lease, driver.now + 1000, False)]))
    with_vault(driver, Vault({1: old, 2: new}, 2), monkeypatch)
    driver.later(2000)
    assert [one.id for one in driver.take().leased] == [message.id]
