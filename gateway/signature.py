"""Signatures of webhooks, both ends: the gateway signs with it, a receiver verifies with it. Standard library only.

The form is that of Standard Webhooks (standardwebhooks.com), so any library of theirs verifies ours: HMAC-SHA256 over
``webhook-id.webhook-timestamp.body``, keyed with the octets of a secret written ``whsec_`` + base64. With two live
secrets the header holds two signatures, and a receiver that knows either accepts.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

PREFIX = "whsec_"
VERSION = "v1"
TOLERANCE = 300  # seconds a timestamp may be off, either way
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Headers(Protocol):
    """Headers of any framework: a dict, or whatever else lists its pairs."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class BadSignature(Exception):
    """Not signed by anybody who knows the secret, or too old. The text says which; never act on such a body."""


def new_secret() -> str:
    """A secret of 32 random octets, as it stands in a configuration."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def read_secret(text: str) -> bytes:
    """The octets of ``whsec_<base64>`` (the prefix may be missing). Raises ValueError."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a webhook secret is {PREFIX} and base64 of its octets") from None
    if len(key) < 16:
        raise ValueError(f"a webhook secret has 16 octets at least, this one {len(key)}")
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, ``v1,<base64>``. ``timestamp``: seconds UTC."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, sha256)
    return f"{VERSION},{base64.b64encode(digest).decode()}"


def signed_headers(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a post; one signature for each key that is live."""
    signatures = " ".join(sign(key, message_id, timestamp, body) for key in keys)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(keys: Iterable[bytes], headers: Headers, body: bytes, now: float) -> str:
    """The ``webhook-id`` of a post that is genuine and fresh. Raises BadSignature. ``now``: seconds UTC.

    The names of headers are compared without regard to case.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and stamp and signatures):
        raise BadSignature(f"the headers {ID}, {TIMESTAMP} and {SIGNATURE} must all be there")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        raise BadSignature(f"{TIMESTAMP} is not a number of seconds")
    if abs(now - int(stamp)) > TOLERANCE:
        raise BadSignature(f"{TIMESTAMP} is more than {TOLERANCE} seconds off: a replay, or a clock that is wrong")
    offered = [word.encode() for word in signatures.split() if word.startswith(VERSION + ",")]
    expected = [sign(key, message_id, int(stamp), body).encode() for key in keys]
    # Every pair is compared, so that the time taken tells nothing.
    if not sum(hmac.compare_digest(one, other) for one in offered for other in expected):
        raise BadSignature("no signature matches: another secret, or the body was changed on its way")
    return message_id
