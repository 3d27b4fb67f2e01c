from __future__ import annotations

from hashlib import sha256

import pytest

from gateway.doors.auth import Allowance, Keyring, digest_of

HASHED = "sha256:" + sha256(b"secret").hexdigest()


def test_both_forms_of_a_key_open_the_same_door() -> None:
    keys = Keyring([("shop", HASHED), ("other", "plain:open")])
    assert keys.account(b"Bearer secret") == "shop"
    assert keys.account(b"bearer open") == "other"
    assert repr(keys) == "<Keyring 2 keys>"


@pytest.mark.parametrize(
    "header",
    [b"", b"secret", b"Basic secret", b"Bearer ", b"Bearer Secret", b"Bearer \xff", b"Bearer " + b"x" * 10_000],
)
def test_anything_else_does_not(header: bytes) -> None:
    assert Keyring([("shop", HASHED)]).account(header) is None


def test_a_key_belongs_to_one_account() -> None:
    with pytest.raises(ValueError, match="share"):
        Keyring([("shop", HASHED), ("other", "plain:secret")])


@pytest.mark.parametrize("key", ["", "secret", "plain:", "sha256:", "sha256:abcd", "sha256:zz"])
def test_a_configured_key_has_a_form(key: str) -> None:
    with pytest.raises(ValueError):  # fromhex has words of its own
        digest_of(key)


def test_an_allowance_is_the_rate_with_a_short_burst() -> None:
    allowance = Allowance(100, now=0.0)
    assert sum(allowance.take(1, 0.0) == 0.0 for _ in range(100)) == 25
    assert 0 < allowance.take(1, 0.0) <= 0.01
    assert allowance.take(1, 0.02) == 0.0


def test_a_large_batch_is_let_in_and_paid_for() -> None:
    allowance = Allowance(100, now=0.0)
    assert allowance.take(500, 0.0) == 0.0
    assert allowance.take(1, 1.0) == pytest.approx(3.75)
    assert allowance.take(1, 4.76) == 0.0


def test_over_time_the_rate_is_exact() -> None:
    allowance = Allowance(100, now=0.0)
    let_in = sum(allowance.take(1, tick / 1000) == 0.0 for tick in range(20_000))
    assert let_in == pytest.approx(2025, abs=2)  # twenty seconds and the burst


def test_no_rate_means_no_limit() -> None:
    allowance = Allowance(0, now=0.0)
    assert all(allowance.take(1000, 0.0) == 0.0 for _ in range(100))
