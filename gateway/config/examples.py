"""Secrets from published examples, which must not protect a gateway that other machines can reach."""

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

_LOCAL_DOMAINS = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home.arpa", ".test")


def fingerprint(secret: str) -> str:
    """Return ``sha256:…`` of a key or token, whether it is written as ``sha256:…``, ``plain:…`` or bare."""
    if secret.startswith("sha256:"):
        return secret
    return "sha256:" + sha256(secret.removeprefix("plain:").encode()).hexdigest()


_KNOWN = frozenset(map(fingerprint, EXAMPLES))


def is_example(secret: str) -> bool:
    """Whether a secret, hashed or not, is from a published example."""
    return fingerprint(secret) in _KNOWN


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach an address (``host:port``). Raises ValueError for an invalid one."""
    host, _ = split_address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, or every interface


def open_to_others(listens: Iterable[str]) -> str:
    """Return the first address that another machine can reach, or "". Invalid ones are reported elsewhere."""
    for listen in filter(None, listens):
        try:
            if not is_loopback(listen):
                return listen
        except ValueError:
            continue
    return ""


def exposed(config: Config) -> str:
    """Return the first listener that other machines can reach; "" if there is none or examples are allowed."""
    if config.allow_examples:
        return ""
    return open_to_others((config.http.listen, config.admin.listen, config.smpp.listen, config.smpp.tls_listen))


def is_remote(host: str) -> bool:
    """Whether a host is most likely reached over the internet: a public address or a full domain name."""
    literal = literal_address(host)
    try:
        return is_public(ipaddress.ip_address(literal or host))
    except ValueError:
        return "." in host.rstrip(".") and not host.rstrip(".").lower().endswith(_LOCAL_DOMAINS)
