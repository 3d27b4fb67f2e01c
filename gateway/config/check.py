"""Checks across keys: addresses, files, keys that require each other.

Accounts, carriers and routes have modules of their own: ``check_accounts``, ``check_carriers``, ``check_routes``.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import urlsplit

from gateway.config.check_accounts import check_accounts
from gateway.config.check_carriers import check_carriers
from gateway.config.check_routes import check_routes
from gateway.config.examples import exposed, fingerprint, is_example, is_loopback
from gateway.config.problems import Diagnostics
from gateway.config.rulebook import check_policy
from gateway.config.schema import Config, PrivacyConfig, SmppConfig, split_address
from gateway.config.shared_checks import check_file, check_network
from gateway.config.unavailable import check_available
from gateway.policy.quiet_hours import known_zone

_SCHEMES = ("unix", "redis", "rediss", "redis+cluster", "rediss+cluster")
_MIN_TOKEN = 16  # characters
_NODE = re.compile(r"^[A-Za-z0-9._-]{0,64}$")


def check(config: Config, diagnostics: Diagnostics) -> None:
    """Report every problem and warning that concerns more than one key."""
    _node(config, diagnostics)
    _listeners(config, diagnostics)
    _tls(config.smpp, diagnostics)
    _store(config, diagnostics)
    _privacy(config.privacy, diagnostics)
    _tokens(config, diagnostics)
    for index, network in enumerate(config.webhooks.allow_networks):
        check_network(network, f"webhooks.allow_networks[{index}]", diagnostics)
    if config.policy.default_zone and not known_zone(config.policy.default_zone):
        fault = f'unknown time zone "{config.policy.default_zone}"'
        diagnostics.problem("policy.default_zone", fault, "Write an IANA zone, like Asia/Shanghai")
    check_policy(config.policy, diagnostics)
    check_accounts(config, diagnostics)
    check_carriers(config, diagnostics)
    check_routes(config, diagnostics)
    check_available(config, diagnostics)


def _node(config: Config, diagnostics: Diagnostics) -> None:
    if not _NODE.match(config.node):
        remedy = "Use letters, digits, dots, dashes and underscores, at most 64"
        diagnostics.problem("node", f'invalid name "{config.node}"', remedy)


def _listeners(config: Config, diagnostics: Diagnostics) -> None:
    """Check that every listener has a valid address of its own."""
    listeners = {
        "http.listen": config.http.listen,
        "admin.listen": config.admin.listen,
        "smpp.listen": config.smpp.listen,
        "smpp.tls_listen": config.smpp.tls_listen,
    }
    seen: dict[tuple[str, int], str] = {}
    for path, text in listeners.items():
        if not text and path.startswith("smpp."):
            continue  # disabled
        try:
            address = split_address(text)
        except ValueError:
            remedy = 'Write host:port, like "127.0.0.1:8080" or "[::1]:8080"'
            diagnostics.problem(path, f'invalid address "{text}"', remedy)
            continue
        if address[1] and address in seen:
            diagnostics.problem(path, f"{text} is also the address of {seen[address]}", "Choose another port")
        seen.setdefault(address, path)
    if config.smpp.listen and not diagnostics.has_problem("smpp.listen") and not is_loopback(config.smpp.listen):
        fault = f"{config.smpp.listen} accepts passwords in clear text from other machines"
        diagnostics.warn("smpp.listen", fault, "Use tls_listen, or make sure that the network is private")
    if not diagnostics.has_problem("admin.listen") and not is_loopback(config.admin.listen):
        fault = f"{config.admin.listen} accepts tokens in clear text from other machines"
        diagnostics.warn("admin.listen", fault, "Listen on loopback, or make sure that only operators can reach it")


def _tokens(config: Config, diagnostics: Diagnostics) -> None:
    """Check that admin tokens are hard to guess and differ from each other."""
    admin = config.admin
    given = {"admin.token": admin.token, "admin.read_token": admin.read_token}
    given |= {f"admin.operators.{name}": token for name, token in admin.operators.items()}
    make = "Create one with: openssl rand -base64 32"
    seen: dict[str, str] = {}
    for path, token in given.items():
        hashed = token.startswith("sha256:")
        if not token and "operators" not in path:
            continue
        if hashed and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", token):
            diagnostics.problem(path, "not sha256: and 64 hexadecimal digits (value not shown)", make)
        elif not hashed and len(token.removeprefix("plain:")) < _MIN_TOKEN:
            diagnostics.problem(path, f"shorter than {_MIN_TOKEN} characters (value not shown)", make)
        elif is_example(token) and (by := exposed(config)):
            fault = f"a token from a published example, while {by} is open to other machines"
            diagnostics.problem(path, fault, make)
        elif fingerprint(token) in seen:
            diagnostics.problem(path, f"the same as {seen[fingerprint(token)]}", "Use different tokens")
        seen.setdefault(fingerprint(token), path)


def _tls(smpp: SmppConfig, diagnostics: Diagnostics) -> None:
    if smpp.tls_listen:
        for key in ("cert", "key"):
            if not getattr(smpp, key):
                diagnostics.problem(
                    f"smpp.{key}", "missing; tls_listen requires it", f'Write {key} = "path of a PEM file"'
                )
    for key in ("cert", "key", "client_ca"):
        check_file(getattr(smpp, key), f"smpp.{key}", diagnostics)


def _store(config: Config, diagnostics: Diagnostics) -> None:
    store = config.store
    if not store.embedded:
        try:
            parts = urlsplit(store.url)
            good = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        except ValueError:
            good = False
        if not good:
            remedy = 'Write "embedded", or a URL that starts with ' + ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            diagnostics.problem("store.url", "invalid URL (value not shown)", remedy)
        if not config.privacy.hashing_secret:
            fault = "not set: this node creates a secret of its own"
            remedy = "If several nodes share the store, give all of them the same hashing_secret and encryption_keys"
            diagnostics.warn("privacy.hashing_secret", fault, remedy)
    elif store.durability == "replicated":
        remedy = 'Write "always", or set store.url to a server with a replica'
        diagnostics.problem("store.durability", "the embedded store has no replica", remedy)
    if (
        not store.data_dir
        or "\0" in store.data_dir
        or (os.path.exists(store.data_dir) and not os.path.isdir(store.data_dir))
    ):
        fault = f'"{store.data_dir}" is not a folder'
        diagnostics.problem("store.data_dir", fault, "Name a folder; it is created if missing")


def _privacy(privacy: PrivacyConfig, diagnostics: Diagnostics) -> None:
    """Check that both a secret and at least one key are given, or neither, to be created at first start."""
    make = "Create one with: openssl rand -base64 32"
    if bool(privacy.hashing_secret) != bool(privacy.encryption_keys):
        missing = "encryption_keys" if privacy.hashing_secret else "hashing_secret"
        given = "hashing_secret" if privacy.hashing_secret else "encryption_keys"
        diagnostics.problem(f"privacy.{missing}", f"missing; {given} requires it", f"Set both or neither. {make}")
    if privacy.hashing_secret and _octets(privacy.hashing_secret) not in range(16, 65):
        fault = "not base64 of 16 to 64 octets (value not shown)"
        diagnostics.problem("privacy.hashing_secret", fault, make)
    for key, secret in privacy.encryption_keys.items():
        path = f"privacy.encryption_keys.{key}"
        if not (key.isascii() and key.isdigit() and int(key) <= 255):
            diagnostics.problem(path, f'invalid key id "{key}"', "Number the keys from 0 to 255")
        elif _octets(secret) != 32:
            diagnostics.problem(path, "not base64 of 32 octets (value not shown)", make)
    if privacy.current_key and privacy.current_key not in privacy.encryption_keys:
        known = ", ".join(privacy.encryption_keys) or "none"
        fault = f'no encryption key "{privacy.current_key}"'
        diagnostics.problem("privacy.current_key", fault, f"Known keys: {known}")


def _octets(text: str) -> int:
    """Return how many octets base64 text (or hexadecimal text of 32 octets) holds; -1 when it is neither."""
    if len(text) == 64 and all(char in "0123456789abcdefABCDEF" for char in text):
        return 32
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return -1
