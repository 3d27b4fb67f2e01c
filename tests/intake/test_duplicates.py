"""A repeat is known by its reference, however late it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.intake.service import Intake
from gateway.intake.submission import Submission, SubmissionProblem, SubmissionResult
from gateway.store.ids import new_ids
from tests.intake.fakes import NOON, SHOP, FakeStore, policy_context

HOUR = 3_600_000
SOON = datetime.fromtimestamp(NOON / 1000 + 60, UTC)
FIRST = Submission(to="+46701740605", text="hello", client_ref="a", send_at=SOON)


class Times:
    """An intake whose clock is ours."""

    def __init__(self) -> None:
        self.now = NOON
        self.store = FakeStore()
        self.intake = Intake(self.store, policy_context(), clock=lambda: self.now)

    async def __call__(self, asked: Submission, base: bytes | None = None) -> SubmissionResult | SubmissionProblem:
        return (await self.intake.many(SHOP, [asked], base))[0]


@pytest.mark.parametrize("instants", [{"send_at": SOON}, {"send_at": None, "expires_at": SOON}])
@pytest.mark.parametrize("by_key", [False, True])
async def test_a_repeat_after_its_instants_have_passed_gets_the_first_id(
    instants: dict[str, Any], by_key: bool
) -> None:
    send = Times()
    base = new_ids(NOON, [0])[0] if by_key else None
    asked = msgspec.structs.replace(FIRST, client_ref=None if by_key else "a", **instants)
    first = await send(asked, base)
    send.now += HOUR
    again = await send(asked, base)
    assert isinstance(first, SubmissionResult)
    assert isinstance(again, SubmissionResult)
    assert again.id == first.id
    assert len(send.store.messages) == 1


async def test_a_late_batch_is_looked_up_in_one_call() -> None:
    send = Times()
    batch = [msgspec.structs.replace(FIRST, client_ref=str(number)) for number in range(20)]
    first = await send.intake.many(SHOP, batch)
    send.now += HOUR
    assert [r.id for r in await send.intake.many(SHOP, batch)] == [r.id for r in first]  # type: ignore[union-attr]
    assert send.store.looked_up == [20]


async def test_a_late_message_that_was_never_accepted_is_refused() -> None:
    send = Times()
    send.now += HOUR
    for to in ("+46701740605", "nobody"):
        late = await send(msgspec.structs.replace(FIRST, to=to))
        assert isinstance(late, SubmissionProblem)
        assert late.field == ("to" if to == "nobody" else "send_at")
    assert not send.store.messages
