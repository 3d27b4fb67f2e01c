"""Who is calling: API keys, and how much each account may hand in.

Keys carry 256 random bits, so their SHA-256 is all that is kept and a table by digest finds the account; a digest
cannot be steered towards a neighbour, so the look-up leaks nothing, and the comparison that follows is constant-time
and happens for an unknown key too. Nothing is cached: hashing a key costs half a microsecond.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

SHA256 = "sha256:"
PLAIN = "plain:"
_NOBODY = bytes(32)
_BEARER = b"bearer "
MAX_KEY = 512
BURST = 1.0  # seconds: Retry-After counts whole ones, and who waits as told must find what it waited for
START = 0.25  # seconds' worth that a new allowance holds


def digest_of(configured: str) -> bytes:
    """The 32 octets kept for a configured key (``sha256:<64 hex>`` or ``plain:<key>``). Raises ValueError."""
    if configured.startswith(SHA256):
        digest = bytes.fromhex(configured[len(SHA256) :])
        if len(digest) != 32:
            raise ValueError("a sha256: key has 64 hexadecimal digits")
        return digest
    if configured.startswith(PLAIN) and len(configured) > len(PLAIN):
        return sha256(configured[len(PLAIN) :].encode()).digest()
    raise ValueError("an API key starts with sha256: or plain:")


class Keyring:
    """API keys to account names. Raises ValueError when two accounts share a key."""

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
        """The account of an ``Authorization`` header's value, or None."""
        if authorization[:7].lower() != _BEARER or len(authorization) > MAX_KEY:
            return None
        digest = sha256(authorization[7:].strip()).digest()
        kept, account = self._accounts.get(digest, (_NOBODY, ""))
        return account if hmac.compare_digest(kept, digest) else None


class Allowance:
    """Messages an account may hand in: ``rate`` a second, with a second's worth of burst after a pause.

    A request is let in whole while any allowance is left and may run into debt; the next one waits until the debt is
    paid. So a batch larger than the rate is possible, and the long-run average is the rate exactly.
    """

    __slots__ = ("_full_at", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._full_at = now + BURST - START  # the instant at which the allowance is full again

    def __repr__(self) -> str:
        return f"<Allowance {self.rate:g}/s>"

    def take(self, count: int, now: float) -> float:
        """0.0 when ``count`` messages may come in now, else the seconds to wait. No rate (0) means no limit."""
        if self.rate <= 0:
            return 0.0
        start = max(self._full_at, now)
        wait = start - now - BURST
        if wait >= 0.0:
            return wait or 1e-3
        self._full_at = start + count / self.rate
        return 0.0
