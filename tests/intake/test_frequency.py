"""Several messages to one recipient in a batch are counted in order, and nothing is counted twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.intake import service as intakes
from gateway.intake.frequency import BatchFrequency
from gateway.intake.service import Intake, SubmissionResult
from gateway.model import Cap, Category, Facts, Reason, State
from gateway.policy.decide import caps_for
from gateway.policy.rulebook import by_category
from tests.intake.fakes import NOON, SHOP, SWEDE, FakeStore, hasher, policy_context
from tests.intake.test_service import submission

WHO, SOMEBODY = hasher().recipient(SWEDE), hasher().recipient("46701740606")
CAPS = (Cap(b"a" * 8, 2, 60), Cap(b"a" * 8, 5, 3600))


def test_a_batch_counts_its_own_messages_under_caps() -> None:
    batch, stands = BatchFrequency(), Facts(used=(0, 3))
    assert batch.apply(WHO, CAPS, stands) is stands
    batch.count(WHO, CAPS, stands, "")
    assert batch.apply(WHO, CAPS, stands).used == (1, 4)
    assert batch.apply(SOMEBODY, CAPS, stands) is stands
    assert batch.apply(WHO, CAPS, Facts(used=(1, 4))).used == (1, 4), "the gate has counted it meanwhile"
    assert batch.apply(WHO, CAPS, Facts(used=(2, 4))).used == (2, 4), "and somebody else's"


def test_repeats_count_once() -> None:
    batch, stands = BatchFrequency(), Facts(used=(0, 0))
    assert batch.count(WHO, CAPS, stands, "shop/a")
    assert not batch.count(WHO, CAPS, batch.apply(WHO, CAPS, stands), "shop/a")
    assert batch.apply(WHO, CAPS, stands).used == (1, 1)
    assert batch.count(SOMEBODY, CAPS, stands, "shop/a"), "a reference is one of a recipient"
    batch.uncount(WHO, CAPS)
    assert batch.apply(WHO, CAPS, stands) is stands


def limited(store: FakeStore, limit: int) -> Intake:
    shared = policy_context()
    caps = by_category(otp=(), transactional=((limit, 3600),), marketing=(), emergency=())
    shared.rules = replace(shared.rules, caps=caps)
    return Intake(store, shared, clock=lambda: NOON)


@pytest.mark.parametrize("cut", [512, 2])
async def test_a_batch_accepts_no_more_than_a_cap_permits(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Whether or not they come in one slice; those of others are not concerned."""
    monkeypatch.setattr(intakes, "SLICE_ALONE", cut)
    store = FakeStore()
    intake = limited(store, 4)
    (cap,) = caps_for(Category.TRANSACTIONAL, b"", hasher().scope("shop", "shop"), intake._policy_context.rules)
    store.used[WHO.key, cap] = 1
    results = await intake.many(SHOP, [submission()] * 5 + [submission(to="+46701740606")])
    states = [result.state for result in results if isinstance(result, SubmissionResult)]
    assert states == [State.QUEUED] * 3 + [State.DEFERRED] * 2 + [State.QUEUED]
    assert store.messages[results[4].id].reason is Reason.FREQUENCY_CAP  # type: ignore[union-attr]


async def test_without_caps_the_store_is_not_asked_about_any() -> None:
    class Watched(FakeStore):
        async def facts(self, recipients, caps=()):  # type: ignore[no-untyped-def]
            assert not caps
            return await super().facts(recipients, caps)

    results = await Intake(Watched(), policy_context(), clock=lambda: NOON).many(SHOP, [submission()] * 3)
    assert all(isinstance(result, SubmissionResult) for result in results)
