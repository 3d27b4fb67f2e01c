from __future__ import annotations

import msgspec
import pytest

from gateway.doors.accounts import Accounts
from gateway.doors.problems import HttpProblem
from tests.pipeline.fakes import OTHER, SHOP

SLOW = msgspec.structs.replace(SHOP, rate=10)


def test_whose_key_it_is() -> None:
    accounts = Accounts([SHOP, OTHER], 0.0)
    assert accounts.caller(b"Bearer shop-key") is SHOP
    assert repr(accounts) == "<Accounts shop, other>"
    with pytest.raises(HttpProblem) as refusal:
        accounts.caller(b"Bearer key")
    assert refusal.value.body.status == 401


def test_a_reload_keeps_what_was_used_up_unless_the_rate_changed() -> None:
    accounts = Accounts([SLOW, OTHER], 0.0)
    accounts.admit(SLOW, 100, 0.0)
    with pytest.raises(HttpProblem) as refusal:
        Accounts([SLOW, OTHER], 1.0, former=accounts).admit(SLOW, 1, 1.0)
    assert (refusal.value.body.status, refusal.value.headers) == (429, ((b"retry-after", b"9"),))
    faster = msgspec.structs.replace(SLOW, rate=20)
    Accounts([faster], 1.0, former=accounts).admit(faster, 1, 1.0)
    Accounts([OTHER], 1.0, former=accounts).admit(OTHER, 1000, 1.0)
