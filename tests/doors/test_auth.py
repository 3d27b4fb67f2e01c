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


@pytest.mark.parametrize(("rate", "size"), [(50, 1), (1000, 1), (1000, 500), (20, 100)])
def test_who_offers_three_times_the_rate_gets_the_rate(rate: float, size: int) -> None:
    """Within 5 % over half a minute, whether single or in batches."""
    allowance, taken, now = Allowance(rate, 0.0), 0, 0.0
    while now < 30.0:
        wait = allowance.take(size, now)
        taken += 0 if wait else size
        now += size / rate / 3
    assert taken == pytest.approx(30 * rate, rel=0.05, abs=size)


@pytest.mark.parametrize("size", [1, 10, 100, 500])
def test_who_waits_as_told_gets_the_rate_too(size: int) -> None:
    """Retry-After counts whole seconds: a client that waits by it loses nothing."""
    allowance, taken, now = Allowance(100, 0.0), 0, 0.0
    while now < 60.0:
        wait = allowance.take(size, now)
        taken += 0 if wait else size
        now += max(1.0, -(-wait // 1)) if wait else 0.001
    assert taken == pytest.approx(6000, rel=0.05, abs=size)
