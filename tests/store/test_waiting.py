"""How many messages of an account wait, by state: exact whatever happens to them, and right again for old records."""

from __future__ import annotations

from typing import Any

from gateway.model import PartAnswer, PartState, Permit, Reason, Resolution, State
from gateway.store.ids import partition_of
from gateway.store.layout import HEAD, HEAD_FIELDS
from tests.store.test_scripts import HOUR, Desk

LISTED_AT = sum({"B": 1, "H": 2}[code] for name, code in HEAD_FIELDS[: [n for n, _ in HEAD_FIELDS].index("listed")])


def waiting(desk: Desk, account: str = "shop") -> dict[str, int]:
    states = desk.run(desk.store.depths()).waiting.get(account, {})
    return {state.name: count for state, count in states.items() if count}


def test_everything_that_waits_counts_for_its_account(desk: Desk) -> None:
    later: dict[str, Any] = {"reason": Reason.SCHEDULED, "due": desk.now + HOUR}
    scheduled, held = desk.message(state=State.SCHEDULED, **later), desk.message(state=State.HELD)
    refused = desk.message(state=State.REJECTED, reason=Reason.NO_ROUTE)
    queued, theirs = desk.message("46700000002"), desk.message("46700000003", account="bank")
    everything = [scheduled, held, refused, queued, theirs]
    desk.accept(*everything)
    desk.accept(*everything)  # a repeat
    assert waiting(desk) == {"SCHEDULED": 1, "HELD": 1, "QUEUED": 1}
    assert waiting(desk, "bank") == {"QUEUED": 1}
    desk.run(desk.store.cancel([held.id, queued.id, queued.id]))
    assert waiting(desk) == {"SCHEDULED": 1}


def test_what_a_carrier_has_does_not_wait_and_what_comes_back_does(desk: Desk) -> None:
    desk.accept(desk.message(), desk.message())
    first, second = desk.take().leased
    assert waiting(desk) == {}
    retry = desk.answer(first, Resolution.RETRY, due=desk.now + 5000)
    done = desk.answer(second, Resolution.SENT, parts=[PartAnswer(0, PartState.ACCEPTED, b"1")])
    desk.report(retry, done)
    assert waiting(desk) == {"QUEUED": 1}
    desk.later(3 * HOUR)
    desk.sweep()
    assert waiting(desk) == {}


def test_a_fresh_decision_moves_it_from_one_count_to_another(desk: Desk) -> None:
    message = desk.message(permission=desk.permission(opens=desk.now + HOUR, closes=desk.now + 2 * HOUR))
    desk.accept(message)
    (back,) = desk.take().redecide
    permit = Permit(back.id, back.token, State.DEFERRED, Reason.QUIET_HOURS, desk.now + HOUR, "", desk.permission())
    assert desk.run(desk.store.permit([permit])) == [True]
    assert waiting(desk) == {"DEFERRED": 1}


def test_records_of_a_version_that_did_not_count_are_counted_from_their_next_move_on(desk: Desk) -> None:
    """A data folder of an older gateway: nothing becomes negative, and what comes back to wait counts."""
    ends, comes_back = desk.message("46700000001"), desk.message("46700000001")
    desk.accept(ends, comes_back)
    partition = partition_of(ends.id)
    tag = desk.link.tags[partition]
    for message in (ends, comes_back):
        bucket = tag + b"m:" + message.id[:4].hex().encode()
        raw = desk.run(desk.link.command(partition, "HGET", bucket, message.id))
        assert HEAD.unpack_from(raw)[[name for name, _ in HEAD_FIELDS].index("listed")] == 2 * State.QUEUED
        old = raw[:LISTED_AT] + b"\0" + raw[LISTED_AT + 1 :]
        desk.run(desk.link.command(partition, "HSET", bucket, message.id, old))
    desk.run(desk.link.command(partition, "DEL", tag + b"a"))
    desk.run(desk.store.cancel([ends.id]))
    assert waiting(desk) == {}
    (leased,) = desk.take().leased
    desk.report(desk.answer(leased, Resolution.RETRY, due=desk.now + 5000))
    assert waiting(desk) == {"QUEUED": 1}
