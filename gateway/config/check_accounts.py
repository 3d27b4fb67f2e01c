"""Checks of accounts: unique names and keys, callbacks, secrets that fit for where they are accepted."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from urllib.parse import urlsplit

from gateway.config.addresses import AddressGuard
from gateway.config.callbacks import url_problem
from gateway.config.examples import exposed, fingerprint, is_example, is_remote, open_to_others
from gateway.config.problems import Diagnostics
from gateway.config.schema import Account, Config
from gateway.config.shared_checks import PASSWORD_OCTETS, check_network, check_unique, velocities
from gateway.policy.dialling import is_country
from gateway.policy.templates import MessageTemplate

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN = re.compile(r"plain:[!-~]{1,500}")  # what an Authorization header can hold


def check_accounts(config: Config, diagnostics: Diagnostics) -> None:
    """Check accounts: unique names, system ids and keys; secrets fit for where they are accepted."""
    check_unique("account", [account.name for account in config.accounts], "name", diagnostics)
    ids = [account.system_id for account in config.accounts]
    check_unique("account", ids, "system_id", diagnostics)
    keys: dict[str, str] = {}
    for index, account in enumerate(config.accounts):
        path = f"account[{index}]"
        _api_keys(config, account, path, keys, diagnostics)
        _smpp_login(config, account, path, diagnostics)
        _categories(account, path, diagnostics)
        _callback(config, account, path, diagnostics)
        if account.default_country and not is_country(account.default_country):
            fault = f'unknown country "{account.default_country}"'
            diagnostics.problem(f"{path}.default_country", fault, 'Write an ISO code, like "SE"', account.name)
        velocities(account.velocity, f"{path}.velocity", diagnostics, account.name)
        for at, text in enumerate(account.allow_ips):
            check_network(text, f"{path}.allow_ips[{at}]", diagnostics, account.name)
        for name, text in account.templates.items():
            _template(text, f"{path}.templates.{name}", diagnostics, account.name)
        if not account.api_keys and not account.system_id:
            remedy = "Add api_keys (smpp-gateway key new prints one) or a system_id with a password"
            diagnostics.warn(path, "no way to log in", remedy, account.name)
        if not account.senders:
            diagnostics.problem(
                f"{path}.senders", "is empty", 'Write ["*"] for any, or the senders allowed', account.name
            )


def _template(text: str, path: str, diagnostics: Diagnostics, account: str) -> None:
    try:
        MessageTemplate(text)
    except ValueError as error:
        diagnostics.problem(
            path,
            str(error),
            'Write placeholders as {name}, in lower case, and a literal brace as "{{" or "}}"',
            account,
        )


def _api_keys(config: Config, account: Account, path: str, keys: dict[str, str], diagnostics: Diagnostics) -> None:
    public = open_to_others((config.http.listen,))
    for index, key in enumerate(account.api_keys):
        at = f"{path}.api_keys[{index}]"
        remedy = 'Write "sha256:" and the 64 hex digits that smpp-gateway key new prints'
        plain = bool(_PLAIN.fullmatch(key))
        if not plain and not _SHA256.fullmatch(key):
            diagnostics.problem(at, "invalid key (value not shown)", remedy, account.name)
        elif is_example(key) and (by := exposed(config)):
            fault = f"a key from a published example, while {by} is open to other machines"
            diagnostics.problem(at, fault, "Create one with: smpp-gateway key new", account.name)
        elif plain and public:
            fault = f"a key in plain text, while {config.http.listen} is open to other machines"
            diagnostics.problem(at, fault, remedy, account.name)
        elif plain:
            diagnostics.warn(at, "a key in plain text", remedy, account.name)
        owner = keys.setdefault(fingerprint(key), account.name)
        if owner != account.name:
            diagnostics.problem(at, f'also a key of "{owner}"', "Use different keys", account.name)


def _smpp_login(config: Config, account: Account, path: str, diagnostics: Diagnostics) -> None:
    if not account.system_id:
        return
    at = f"{path}.password"
    octets = len(account.password.encode())
    if not account.password:
        diagnostics.problem(
            at, "missing; system_id requires it", f'Write password = "…", 1 to {PASSWORD_OCTETS} octets', account.name
        )
    elif octets > PASSWORD_OCTETS:
        diagnostics.warn(
            at,
            f"{octets} octets; SMPP 3.4 allows {PASSWORD_OCTETS}",
            "Shorten it, or test with the client",
            account.name,
        )
    if is_example(account.password) and (by := exposed(config)):
        fault = f"a password from a published example, while {by} is open to other machines"
        diagnostics.problem(at, fault, "Choose another", account.name)


def _categories(account: Account, path: str, diagnostics: Diagnostics) -> None:
    granted = ", ".join(account.categories) or "none"
    if account.default_category and account.default_category not in account.categories:
        fault = f'"{account.default_category}" is not in categories'
        diagnostics.problem(f"{path}.default_category", fault, f"Choose one of: {granted}", account.name)
    elif account.category not in account.categories:
        fault = "messages without a category count as marketing, which is not in categories"
        diagnostics.warn(f"{path}.default_category", fault, f"Set it to one of: {granted}", account.name)


def _callback(config: Config, account: Account, path: str, diagnostics: Diagnostics) -> None:
    at = f"{path}.callback_url"
    if account.callback_url:
        guard = AddressGuard(network for network in config.webhooks.allow_networks if _is_network(network))
        if against := url_problem(account.callback_url, guard):
            diagnostics.problem(at, "invalid URL", _sentence(against), account.name)
        elif account.callback_url.startswith("http:") and is_remote(urlsplit(account.callback_url).hostname or ""):
            diagnostics.warn(at, "plain http to a host name", _CLEAR_NAME, account.name)
    for index, secret in enumerate(account.signing):
        key = "webhook_secret" if not index and account.webhook_secret else "webhook_secrets"
        try:
            octets = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            octets = 0
        if not secret.startswith("whsec_") or not 24 <= octets <= 64:
            remedy = 'Write "whsec_" and base64 of 24 to 64 octets'
            diagnostics.problem(f"{path}.{key}", "invalid secret (value not shown)", remedy, account.name)
        elif is_example(secret) and (by := exposed(config)):
            found = f"a secret from a published example, while {by} is open to other machines"
            remedy = 'Create one with: echo "whsec_$(openssl rand -base64 32)"'
            diagnostics.problem(f"{path}.{key}", found, remedy, account.name)
    if account.callback_url and not account.signing:
        remedy = "Set webhook_secret, so that the receiver can verify events"
        diagnostics.warn(f"{path}.callback_url", "events are posted without a signature", remedy, account.name)


_CLEAR_NAME = "Events are posted only if it resolves to a network in webhooks.allow_networks; else use https"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _is_network(text: str) -> bool:
    """Whether a network is valid; invalid ones are reported elsewhere."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
