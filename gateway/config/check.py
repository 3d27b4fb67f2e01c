"""What only makes sense together: addresses, files, keys that need each other. Accounts, carriers and routes are in
``gateway.config.tables``."""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import urlsplit

from gateway.config.examples import exposed, fingerprint, is_example, is_loopback
from gateway.config.problems import Findings
from gateway.config.rulebook import check_policy
from gateway.config.schema import Config, PrivacyConfig, SmppConfig, split_address
from gateway.config.tables import check_accounts, check_carriers, check_routes, is_network, need_file
from gateway.config.unavailable import check_available
from gateway.policy.quiet_hours import known_zone

_SCHEMES = ("unix", "redis", "rediss", "redis+cluster", "rediss+cluster")
_LEAST_TOKEN = 16
_NODE = re.compile(r"^[A-Za-z0-9._-]{0,64}$")


def check(config: Config, findings: Findings) -> None:
    """Adds every problem and warning that concerns more than one key."""
    _node(config, findings)
    _listeners(config, findings)
    _tls(config.smpp, findings)
    _store(config, findings)
    _privacy(config.privacy, findings)
    _tokens(config, findings)
    for index, network in enumerate(config.webhooks.allow_networks):
        is_network(network, f"webhooks.allow_networks[{index}]", findings)
    if config.policy.default_zone and not known_zone(config.policy.default_zone):
        fault = f'"{config.policy.default_zone}" is no time zone'
        findings.problem("policy.default_zone", fault, "Write an IANA name, like Asia/Shanghai")
    check_policy(config.policy, findings)
    check_accounts(config, findings)
    check_carriers(config, findings)
    check_routes(config, findings)
    check_available(config, findings)


def _node(config: Config, findings: Findings) -> None:
    if not _NODE.match(config.node):
        remedy = "Write letters, digits, dots and dashes, 64 at most"
        findings.problem("node", f'"{config.node}" is no name for a node', remedy)


def _listeners(config: Config, findings: Findings) -> None:
    """Every listener has a good address, and no two the same."""
    listeners = {
        "http.listen": config.http.listen,
        "admin.listen": config.admin.listen,
        "smpp.listen": config.smpp.listen,
        "smpp.tls_listen": config.smpp.tls_listen,
    }
    seen: dict[tuple[str, int], str] = {}
    for path, text in listeners.items():
        if not text and path.startswith("smpp."):
            continue  # closed
        try:
            address = split_address(text)
        except ValueError:
            findings.problem(path, f'"{text}" is no address', 'Write host:port, like "127.0.0.1:8080" or "[::1]:8080"')
            continue
        if address[1] and address in seen:
            findings.problem(path, f"{text} is the address of {seen[address]} as well", "Give each its own port")
        seen.setdefault(address, path)
    if config.smpp.listen and not findings.bad("smpp.listen") and not is_loopback(config.smpp.listen):
        fault = f"{config.smpp.listen} takes passwords in clear text from other machines"
        findings.warn("smpp.listen", fault, "Use tls_listen, or make sure that the network between is private")
    if not findings.bad("admin.listen") and not is_loopback(config.admin.listen):
        fault = f"{config.admin.listen} takes operators' tokens in clear text from other machines"
        findings.warn("admin.listen", fault, "Listen on loopback, or make sure that only operators reach it")


def _tokens(config: Config, findings: Findings) -> None:
    """Operators' tokens can be told from guesses, and from each other."""
    admin = config.admin
    given = {"admin.token": admin.token, "admin.read_token": admin.read_token}
    given |= {f"admin.operators.{name}": token for name, token in admin.operators.items()}
    make = "Make one with: openssl rand -base64 32"
    seen: dict[str, str] = {}
    for path, token in given.items():
        hashed = token.startswith("sha256:")
        if not token and "operators" not in path:
            continue
        if hashed and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", token):
            findings.problem(path, "is not sha256: and 64 hexadecimal digits (its value is not shown)", make)
        elif not hashed and len(token.removeprefix("plain:")) < _LEAST_TOKEN:
            findings.problem(path, f"is shorter than {_LEAST_TOKEN} characters (its value is not shown)", make)
        elif is_example(token) and (by := exposed(config)):
            fault = f"is a token that everybody knows from an example, while {by} is open to other machines"
            findings.problem(path, fault, make)
        elif fingerprint(token) in seen:
            findings.problem(path, f"is the same as {seen[fingerprint(token)]}", "Give each a token of its own")
        seen.setdefault(fingerprint(token), path)


def _tls(smpp: SmppConfig, findings: Findings) -> None:
    if smpp.tls_listen:
        for key in ("cert", "key"):
            if not getattr(smpp, key):
                findings.problem(f"smpp.{key}", "is missing for tls_listen", f'Write {key} = "path of a PEM file"')
    for key in ("cert", "key", "client_ca"):
        need_file(getattr(smpp, key), f"smpp.{key}", findings)


def _store(config: Config, findings: Findings) -> None:
    store = config.store
    if not store.embedded:
        try:
            parts = urlsplit(store.url)
            good = parts.scheme in _SCHEMES and bool(parts.path if parts.scheme == "unix" else parts.hostname)
        except ValueError:
            good = False
        if not good:
            remedy = 'Write "embedded", or a URL that begins with ' + ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            findings.problem("store.url", "is no store (its value is not shown)", remedy)
        if not config.privacy.hashing_secret:
            fault = "numbers are hidden by a secret that this node will make for itself"
            remedy = "When several nodes share the store, give all of them the same hashing_secret and encryption_keys"
            findings.warn("privacy.hashing_secret", fault, remedy)
    elif store.durability == "replicated":
        remedy = 'Write "always", or give store.url a server with a replica'
        findings.problem("store.durability", "the embedded store has no replica", remedy)
    if (
        not store.data_dir
        or "\0" in store.data_dir
        or (os.path.exists(store.data_dir) and not os.path.isdir(store.data_dir))
    ):
        findings.problem("store.data_dir", f'"{store.data_dir}" is no folder', "Name a folder; it is made when missing")


def _privacy(privacy: PrivacyConfig, findings: Findings) -> None:
    """Either nothing is given, and made at first start, or a secret and at least one key."""
    make = "Make one with: openssl rand -base64 32"
    if bool(privacy.hashing_secret) != bool(privacy.encryption_keys):
        missing = "encryption_keys" if privacy.hashing_secret else "hashing_secret"
        findings.problem(f"privacy.{missing}", "is missing while the other one is given", f"Give both or none. {make}")
    if privacy.hashing_secret and _octets(privacy.hashing_secret) not in range(16, 65):
        fault = "is not base64 of 16 to 64 octets (its value is not shown)"
        findings.problem("privacy.hashing_secret", fault, make)
    for key, secret in privacy.encryption_keys.items():
        path = f"privacy.encryption_keys.{key}"
        if not (key.isascii() and key.isdigit() and int(key) <= 255):
            findings.problem(path, f'"{key}" is no key id', "Number the keys from 0 to 255")
        elif _octets(secret) != 32:
            findings.problem(path, "is not base64 of 32 octets (its value is not shown)", make)
    if privacy.current_key and privacy.current_key not in privacy.encryption_keys:
        known = ", ".join(privacy.encryption_keys) or "none"
        findings.problem("privacy.current_key", f'"{privacy.current_key}" is not among the keys', f"Known are: {known}")


def _octets(text: str) -> int:
    """How many octets base64 (or, for 32, hex) text holds; -1 when it is neither."""
    if len(text) == 64 and all(char in "0123456789abcdefABCDEF" for char in text):
        return 32
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return -1
