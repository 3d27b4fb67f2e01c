from __future__ import annotations

import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.api.problems import HttpProblem
from gateway.store.limits import ShareGrant
from tests.intake.fakes import OTHER, SHOP

SLOW = msgspec.structs.replace(SHOP, rate=10)


def test_a_key_identifies_its_account() -> None:
    accounts = Accounts([SHOP, OTHER], 0.0)
    assert accounts.caller(b"Bearer shop-key") is SHOP
    assert repr(accounts) == "<Accounts shop, other>"
    with pytest.raises(HttpProblem) as refusal:
        accounts.caller(b"Bearer key")
    assert refusal.value.body.status == 401


def test_a_reload_keeps_the_used_rate_unless_the_rate_changed() -> None:
    accounts = Accounts([SLOW, OTHER], 0.0)
    accounts.admit(SLOW, 100, 0.0)
    with pytest.raises(HttpProblem) as refusal:
        Accounts([SLOW, OTHER], 1.0, former=accounts).admit(SLOW, 1, 1.0)
    assert (refusal.value.body.status, refusal.value.headers) == (429, ((b"retry-after", b"9"),))
    faster = msgspec.structs.replace(SLOW, rate=20)
    Accounts([faster], 1.0, former=accounts).admit(faster, 1, 1.0)
    Accounts([OTHER], 1.0, former=accounts).admit(OTHER, 1000, 1.0)


def test_the_rates_are_shared_by_name_and_no_limit_is_not() -> None:
    accounts = Accounts([SLOW, msgspec.structs.replace(OTHER, rate=0)], 0.0)
    (rate,) = accounts.shared()
    assert (rate.name, rate.limit, rate.held, rate.share_known) == ("account/shop", 10, 10, False)
    rate.close(0.0)
    with pytest.raises(HttpProblem) as refusal:
        accounts.admit(SLOW, 1, 0.0)
    assert refusal.value.body.status == 429
    rate.grant(ShareGrant(4.0, 5.0, 2), rate.ask(0.0), 0.0)
    accounts.admit(SLOW, 1, 0.0)
    with pytest.raises(HttpProblem) as refusal:
        accounts.admit(SLOW, 1, 0.0)
    assert refusal.value.body.detail == "this account may send 10 messages a second through 2 gateways together"


def test_a_gateway_without_a_fresh_heartbeat_admits_nothing() -> None:
    heard = [True]
    accounts = Accounts([SLOW], 0.0, fresh=lambda now: heard[0])
    accounts.admit(SLOW, 1, 0.0)
    heard[0] = False
    for one in (accounts, Accounts([SLOW], 0.0, former=accounts)):
        with pytest.raises(HttpProblem) as refusal:
            one.admit(SLOW, 1, 0.0)
        assert (refusal.value.body.status, refusal.value.body.code) == (503, "store_unavailable")
