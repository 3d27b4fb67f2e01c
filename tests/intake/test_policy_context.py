from __future__ import annotations

import pytest

from gateway.intake.policy_context import state_of
from gateway.model import Category, Outcome, Permission, Reason, State, Verdict
from tests.intake.fakes import SHOP, SWEDE, hasher, policy_context

PERMISSION = Permission(0, 1, 1, 0, bytes(8), bytes(8))


@pytest.mark.parametrize(
    ("outcome", "code", "state"),
    [
        (Outcome.ALLOW, Reason.NONE, State.QUEUED),
        (Outcome.DEFER, Reason.QUIET_HOURS, State.DEFERRED),
        (Outcome.DEFER, Reason.SCHEDULED, State.SCHEDULED),
        (Outcome.HOLD, Reason.BREAKER_OPEN, State.HELD),
        (Outcome.REJECT, Reason.OPTED_OUT, State.REJECTED),
    ],
)
def test_the_state_after_a_verdict(outcome: Outcome, code: Reason, state: State) -> None:
    assert state_of(Verdict(outcome, code, PERMISSION)) is state


def test_routes_by_their_lane() -> None:
    shared = policy_context()
    assert shared.route(SWEDE, "Shop", Category.OTP, "shop") == "+46"
    assert shared.route("68890123", "Shop", Category.OTP, "shop") == ""
    assert shared.has_lane("+86")
    assert not shared.has_lane("*")


def test_scopes_outlive_their_account() -> None:
    shared = policy_context()
    before = shared.scopes("shop", "outlet")
    shared.set_accounts([])
    assert shared.scopes("shop", "outlet") == before == (hasher().scope("shop"), hasher().scope("shop", "outlet"))


def test_repr() -> None:
    assert repr(policy_context(SHOP)).endswith("epoch 0, 1 accounts>")
