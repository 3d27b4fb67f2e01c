"""Secrets that stand in examples: whoever has read the documentation knows them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from hashlib import sha256

from gateway.config.addresses import is_public
from gateway.config.callbacks import literal_address
from gateway.config.schema import Config, split_address

EXAMPLES = frozenset(
    {
        *("…", "demo", "demo-airline", "change-me", "changeme", "password", "secret", "test", "key", "example"),
        "whsec_c2VjcmV0IG9mIHRoZSBmaXJzdCBmaXZlIG1pbnV0ZXM=",  # README
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # Standard Webhooks, and the benchmark
        "for-prometheus-on-this-machine-only",  # the compose file
    }
)

_NOT_FAR = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home.arpa", ".test")


def fingerprint(secret: str) -> str:
    """What is the same for a key or token however it is written: ``sha256:…``, ``plain:…`` or as it is."""
    if secret.startswith("sha256:"):
        return secret
    return "sha256:" + sha256(secret.removeprefix("plain:").encode()).hexdigest()


_KNOWN = frozenset(map(fingerprint, EXAMPLES))


def is_example(secret: str) -> bool:
    """Whether everybody knows this secret, hashed or not."""
    return fingerprint(secret) in _KNOWN


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches an address (``host:port``). Raises ValueError when it is none."""
    host, _ = split_address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, or every interface


def open_to_others(listens: Iterable[str]) -> str:
    """The first of these addresses that another machine can reach, or "". What is no address is reported elsewhere."""
    for listen in filter(None, listens):
        try:
            if not is_loopback(listen):
                return listen
        except ValueError:
            continue
    return ""


def exposed(config: Config) -> str:
    """The address by which strangers reach this gateway, "" when there is none or examples are allowed."""
    if config.allow_examples:
        return ""
    return open_to_others((config.http.listen, config.admin.listen, config.smpp.listen, config.smpp.tls_listen))


def is_far(host: str) -> bool:
    """Whether the way to a host most likely leads over the internet: a public address, or a whole domain name."""
    literal = literal_address(host)
    try:
        return is_public(ipaddress.ip_address(literal or host))
    except ValueError:
        return "." in host.rstrip(".") and not host.rstrip(".").lower().endswith(_NOT_FAR)
