from __future__ import annotations

import msgspec
import pytest

from gateway.intake.redecide import Redecider
from gateway.model import Category, Content, Envelope, Reason, Redecide, RequestedTerms, RuleGroup, RuleStatus, State
from gateway.policy.decide import caps_for
from gateway.store.requests import OptChange
from tests.intake.fakes import NOON, SWEDE, FakeStore, hasher, policy_context

RECIPIENT = hasher().recipient(SWEDE)
HOUR = 3_600_000


def handed_back(category: int = 2, reason: Reason = Reason.NONE, **more: object) -> Redecide:
    envelope = Envelope(to=SWEDE, sender="Shop", account="shop", category=category, brand="shop")
    item = Redecide(
        id=b"i" * 16,
        token=7,
        recipient=RECIPIENT,
        state=State.DEFERRED,
        reason=reason,
        accepted_at=NOON - HOUR,
        expires=NOON + 48 * HOUR,
        route="+46",
        envelope=envelope,
        content=Content("Sale!"),
    )
    return msgspec.structs.replace(item, **more)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


async def consent(store: FakeStore) -> None:
    scope = hasher().scope("shop", "shop")
    await store.opt([OptChange(RECIPIENT, RuleGroup.CONSENT, RuleStatus.ALLOWS, scope, NOON - 2 * HOUR)])


async def test_a_message_that_is_permitted_now_is_queued(store: FakeStore) -> None:
    await consent(store)
    await Redecider(store, policy_context(), clock=lambda: NOON).redecide([handed_back()])
    (permit,) = store.permits
    assert (permit.id, permit.token, permit.state, permit.reason) == (b"i" * 16, 7, State.QUEUED, Reason.NONE)
    assert permit.route == "+46"
    assert permit.permission.opens <= NOON < permit.permission.closes
    assert permit.permission.expires == NOON + 48 * HOUR


async def test_a_message_whose_consent_was_revoked_is_refused(store: FakeStore) -> None:
    await Redecider(store, policy_context(), clock=lambda: NOON).redecide([handed_back()])
    assert (store.permits[0].state, store.permits[0].reason) == (State.REJECTED, Reason.CONSENT_MISSING)


async def test_at_night_it_is_deferred_again(store: FakeStore) -> None:
    await consent(store)
    await Redecider(store, policy_context(), clock=lambda: NOON + 11 * HOUR).redecide([handed_back()])
    (permit,) = store.permits
    assert (permit.state, permit.reason, permit.due) == (State.DEFERRED, Reason.QUIET_HOURS, NOON + 19 * HOUR)


async def test_caps_are_read_only_for_messages_that_met_one(store: FakeStore) -> None:
    shared = policy_context()
    for cap in caps_for(Category.OTP, hasher().scope("shop"), b"", shared.rules):
        store.used[RECIPIENT.key, cap] = 1
    gate_met_it = handed_back(0, Reason.FREQUENCY_CAP, state=State.QUEUED)
    somebody = handed_back(0, Reason.FREQUENCY_CAP, recipient=hasher().recipient("46701740606"))
    await Redecider(store, shared, clock=lambda: NOON).redecide([gate_met_it, somebody, handed_back(0)])
    assert [(permit.state, permit.reason) for permit in store.permits] == [
        (State.REJECTED, Reason.FREQUENCY_CAP),
        (State.QUEUED, Reason.NONE),
        (State.QUEUED, Reason.NONE),
    ]


async def test_requested_terms_count_in_a_fresh_decision(store: FakeStore) -> None:
    await consent(store)
    item = handed_back()
    item.envelope.terms = RequestedTerms(time_zone="Asia/Shanghai", on_quiet="reject")
    await Redecider(store, policy_context(), clock=lambda: NOON + 4 * HOUR).redecide([item])  # midnight in Shanghai
    assert (store.permits[0].state, store.permits[0].reason) == (State.REJECTED, Reason.QUIET_HOURS)


def test_terms_stored_by_an_earlier_version_are_read() -> None:
    """They are a positional array, which had fewer fields then."""
    stored = [
        SWEDE,
        "Shop",
        "shop",
        1,
        "shop",
        "",
        "",
        "gsm7",
        1,
        None,
        "",
        [],
        [],
        [0, 5, "Asia/Shanghai", "reject", 2],
    ]
    envelope = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Envelope)
    assert envelope.terms == RequestedTerms(expires_at=5, time_zone="Asia/Shanghai", on_quiet="reject", priority=2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stored[:13]), type=Envelope).terms is None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([*stored[:13], None]), type=Envelope).terms is None


async def test_a_route_that_is_gone_is_looked_up_again(store: FakeStore) -> None:
    await Redecider(store, policy_context(), clock=lambda: NOON).redecide(
        [handed_back(1, route="old"), handed_back(1, route="")]
    )
    assert [permit.route for permit in store.permits] == ["+46", "+46"]


async def test_large_batches_go_in_slices(store: FakeStore) -> None:
    told: list[set[int]] = []
    await Redecider(store, policy_context(), clock=lambda: NOON, work_available=told.append).redecide(
        [handed_back(1)] * 600
    )
    assert len(store.permits) == 600
    assert [count for name, count in store.calls if name == "facts"] == [256, 256, 88]
    assert told == [{RECIPIENT.partition}] * 3


async def test_an_account_that_left_the_configuration_keeps_its_scopes(store: FakeStore) -> None:
    envelope = Envelope(to=SWEDE, sender="", account="gone", category=2, brand="gone")
    scope = hasher().scope("gone", "gone")
    await store.opt([OptChange(RECIPIENT, RuleGroup.CONSENT, RuleStatus.ALLOWS, scope, NOON - 2 * HOUR)])
    await Redecider(store, policy_context(), clock=lambda: NOON).redecide([handed_back(envelope=envelope)])
    assert store.permits[0].state is State.QUEUED
