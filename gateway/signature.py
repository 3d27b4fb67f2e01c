"""Webhook signatures: the gateway signs, a receiver verifies. Standard library only.

The format is that of Standard Webhooks (standardwebhooks.com), so any of its libraries verifies ours: HMAC-SHA256 over
``webhook-id.webhook-timestamp.body``, keyed with the octets of a secret written ``whsec_`` + base64. With two live
secrets the header has two signatures, and a receiver with either secret accepts.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

PREFIX = "whsec_"
VERSION = "v1"
TOLERANCE = 300  # seconds that a timestamp may differ, either way
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Headers(Protocol):
    """Headers of any framework: a dict, or any object with ``items``."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class BadSignature(Exception):
    """The signature is invalid or too old; the message says which. Never act on such a body."""


def read_secret(text: str) -> bytes:
    """Return the octets of ``whsec_<base64>`` (the prefix is optional). Raise ValueError."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a webhook secret must be {PREFIX} followed by base64") from None
    if len(key) < 16:
        raise ValueError(f"a webhook secret must have at least 16 octets, not {len(key)}")
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature, ``v1,<base64>``. ``timestamp``: seconds UTC."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, sha256)
    return f"{VERSION},{base64.b64encode(digest).decode()}"


def signed_headers(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a request, with one signature per live key."""
    signatures = " ".join(sign(key, message_id, timestamp, body) for key in keys)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(keys: Iterable[bytes], headers: Headers, body: bytes, now: float) -> str:
    """Return the ``webhook-id`` of a genuine and recent request. Raise BadSignature. ``now``: seconds UTC.

    Header names are case-insensitive.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and stamp and signatures):
        raise BadSignature(f"the headers {ID}, {TIMESTAMP} and {SIGNATURE} are required")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12):
        raise BadSignature(f"{TIMESTAMP} is not a number of seconds")
    if abs(now - int(stamp)) > TOLERANCE:
        raise BadSignature(f"{TIMESTAMP} differs by more than {TOLERANCE} seconds: a replay, or a wrong clock")
    offered = [word.encode() for word in signatures.split() if word.startswith(VERSION + ",")]
    expected = [sign(key, message_id, int(stamp), body).encode() for key in keys]
    # Every pair is compared, so that the time taken reveals nothing.
    if not sum(hmac.compare_digest(one, other) for one in offered for other in expected):
        raise BadSignature("no signature matches: wrong secret, or the body was changed in transit")
    return message_id
