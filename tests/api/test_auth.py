from __future__ import annotations

from hashlib import sha256

import pytest

from gateway.api.auth import Keyring, digest_of

HASHED = "sha256:" + sha256(b"secret").hexdigest()


def test_both_forms_of_a_configured_key_accept_the_same_key() -> None:
    keys = Keyring([("shop", HASHED), ("other", "plain:open")])
    assert keys.account(b"Bearer secret") == "shop"
    assert keys.account(b"bearer open") == "other"
    assert repr(keys) == "<Keyring 2 keys>"


@pytest.mark.parametrize(
    "header",
    [b"", b"secret", b"Basic secret", b"Bearer ", b"Bearer Secret", b"Bearer \xff", b"Bearer " + b"x" * 10_000],
)
def test_a_header_without_a_known_key_has_no_account(header: bytes) -> None:
    assert Keyring([("shop", HASHED)]).account(header) is None


def test_a_key_belongs_to_one_account() -> None:
    with pytest.raises(ValueError, match="share"):
        Keyring([("shop", HASHED), ("other", "plain:secret")])


@pytest.mark.parametrize("key", ["", "secret", "plain:", "sha256:", "sha256:abcd", "sha256:zz"])
def test_an_invalid_configured_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError):  # fromhex has words of its own
        digest_of(key)
