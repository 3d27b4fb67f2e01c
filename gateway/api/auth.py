"""API keys: which account a request comes from.

Keys have 256 random bits, so only their SHA-256 is kept, and a table by digest finds the account. A digest cannot be
chosen to resemble another one, so the look-up leaks nothing; the comparison that follows is constant-time and happens
for unknown keys too. Nothing is cached: hashing a key costs half a microsecond.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

SHA256 = "sha256:"
PLAIN = "plain:"
_NO_DIGEST = bytes(32)
_BEARER = b"bearer "
MAX_KEY = 512


def digest_of(configured: str) -> bytes:
    """Return the 32 octets kept for a configured key (``sha256:<64 hex>`` or ``plain:<key>``). Raises ValueError."""
    if configured.startswith(SHA256):
        digest = bytes.fromhex(configured[len(SHA256) :])
        if len(digest) != 32:
            raise ValueError("a sha256: key has 64 hexadecimal digits")
        return digest
    if configured.startswith(PLAIN) and len(configured) > len(PLAIN):
        return sha256(configured[len(PLAIN) :].encode()).digest()
    raise ValueError("an API key starts with sha256: or plain:")


class Keyring:
    """The API keys of all accounts. Raises ValueError when two accounts share a key."""

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        self._accounts: dict[bytes, tuple[bytes, str]] = {}
        for account, configured in keys:
            digest = digest_of(configured)
            if self._accounts.get(digest, (digest, account))[1] != account:
                raise ValueError("two accounts share an API key")
            self._accounts[digest] = (digest, account)

    def __repr__(self) -> str:
        return f"<Keyring {len(self._accounts)} keys>"

    def account(self, authorization: bytes) -> str | None:
        """Return the name of the account of an ``Authorization`` header's value, or None."""
        if authorization[:7].lower() != _BEARER or len(authorization) > MAX_KEY:
            return None
        digest = sha256(authorization[7:].strip()).digest()
        kept, account = self._accounts.get(digest, (_NO_DIGEST, ""))
        return account if hmac.compare_digest(kept, digest) else None
