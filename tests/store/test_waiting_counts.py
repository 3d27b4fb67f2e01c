"""How many messages of an account wait, by state: exact whatever happens to them, and right again for old records."""

from __future__ import annotations

from typing import Any

from gateway.model import PartAnswer, PartState, Permit, Reason, Resolution, State
from gateway.store.ids import partition_of
from gateway.store.layout import HEAD, HEAD_FIELDS
from tests.store.message_driver import HOUR, MessageDriver

LISTED_AT = sum({"B": 1, "H": 2}[code] for name, code in HEAD_FIELDS[: [n for n, _ in HEAD_FIELDS].index("listed")])


def waiting(driver: MessageDriver, account: str = "shop") -> dict[str, int]:
    states = driver.run(driver.store.depths()).waiting.get(account, {})
    return {state.name: count for state, count in states.items() if count}


def test_everything_that_waits_counts_for_its_account(driver: MessageDriver) -> None:
    later: dict[str, Any] = {"reason": Reason.SCHEDULED, "due": driver.now + HOUR}
    scheduled, held = driver.message(state=State.SCHEDULED, **later), driver.message(state=State.HELD)
    refused = driver.message(state=State.REJECTED, reason=Reason.NO_ROUTE)
    queued, theirs = driver.message("46700000002"), driver.message("46700000003", account="bank")
    everything = [scheduled, held, refused, queued, theirs]
    driver.accept(*everything)
    driver.accept(*everything)  # a repeat
    assert waiting(driver) == {"SCHEDULED": 1, "HELD": 1, "QUEUED": 1}
    assert waiting(driver, "bank") == {"QUEUED": 1}
    driver.run(driver.store.cancel([held.id, queued.id, queued.id]))
    assert waiting(driver) == {"SCHEDULED": 1}


def test_what_a_carrier_has_does_not_wait_and_what_comes_back_does(driver: MessageDriver) -> None:
    driver.accept(driver.message(), driver.message())
    first, second = driver.take().leased
    assert waiting(driver) == {}
    retry = driver.answer(first, Resolution.RETRY, due=driver.now + 5000)
    done = driver.answer(second, Resolution.SENT, parts=[PartAnswer(0, PartState.ACCEPTED, b"1")])
    driver.report(retry, done)
    assert waiting(driver) == {"QUEUED": 1}
    driver.later(3 * HOUR)
    driver.sweep()
    assert waiting(driver) == {}


def test_a_fresh_decision_moves_it_from_one_count_to_another(driver: MessageDriver) -> None:
    message = driver.message(permission=driver.permission(opens=driver.now + HOUR, closes=driver.now + 2 * HOUR))
    driver.accept(message)
    (back,) = driver.take().redecide
    permit = Permit(back.id, back.token, State.DEFERRED, Reason.QUIET_HOURS, driver.now + HOUR, "", driver.permission())
    assert driver.run(driver.store.permit([permit])) == [True]
    assert waiting(driver) == {"DEFERRED": 1}


def test_records_of_a_version_that_did_not_count_are_counted_from_their_next_move_on(driver: MessageDriver) -> None:
    """A data folder of an older gateway: nothing becomes negative, and what comes back to wait counts."""
    ends, comes_back = driver.message("46700000001"), driver.message("46700000001")
    driver.accept(ends, comes_back)
    partition = partition_of(ends.id)
    tag = driver.link.tags[partition]
    for message in (ends, comes_back):
        bucket = tag + b"m:" + message.id[:4].hex().encode()
        raw = driver.run(driver.link.command(partition, "HGET", bucket, message.id))
        assert HEAD.unpack_from(raw)[[name for name, _ in HEAD_FIELDS].index("listed")] == 2 * State.QUEUED
        old = raw[:LISTED_AT] + b"\0" + raw[LISTED_AT + 1 :]
        driver.run(driver.link.command(partition, "HSET", bucket, message.id, old))
    driver.run(driver.link.command(partition, "DEL", tag + b"a"))
    driver.run(driver.store.cancel([ends.id]))
    assert waiting(driver) == {}
    (leased,) = driver.take().leased
    driver.report(driver.answer(leased, Resolution.RETRY, due=driver.now + 5000))
    assert waiting(driver) == {"QUEUED": 1}
