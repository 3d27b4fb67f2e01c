"""Checks of accounts, carriers and routes: unique names, references, lengths, secrets."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.config.addresses import AddressGuard
from gateway.config.callbacks import url_problem
from gateway.config.examples import exposed, fingerprint, is_example, is_remote, open_to_others
from gateway.config.problems import Diagnostics
from gateway.config.read import cap
from gateway.config.schema import Account, Carrier, Config, Route, split_address
from gateway.policy.dialling import is_country
from gateway.policy.quiet_hours import known_zone
from gateway.policy.templates import MessageTemplate
from gateway.smpp.tlv import MESSAGE_PAYLOAD, SAR_MSG_REF_NUM, SAR_SEGMENT_SEQNUM, SAR_TOTAL_SEGMENTS, tlv_value

CAP_REMEDY = 'Write messages per time, like "5/1h" or "10/1d"'

_PREFIX = re.compile(r"\*|\+[1-9][0-9]{0,14}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN = re.compile(r"plain:[!-~]{1,500}")  # what an Authorization header can hold
_LANE_OCTETS = 200  # the store keeps the length of a lane's name, with its place, in one octet
_PASSWORD_OCTETS = 8  # SMPP 3.4, 4.1.1: nine with the closing zero


def check_network(text: str, path: str, diagnostics: Diagnostics, name: str = "") -> None:
    """Report a text that is neither an address nor a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        diagnostics.problem(path, f"{error}", 'Write a network, like "10.0.0.0/8" or "192.0.2.7"', name)


def check_file(file: str, path: str, diagnostics: Diagnostics, name: str = "") -> None:
    """Report a file that is missing or empty."""
    if file and not os.path.isfile(file):  # unlike Path.is_file, returns False for impossible names
        diagnostics.problem(path, f'"{file}" is not a file', "Name a readable PEM file", name)
    elif file and not os.path.getsize(file):
        diagnostics.problem(path, f'"{file}" is empty', "Name a readable PEM file", name)


def check_accounts(config: Config, diagnostics: Diagnostics) -> None:
    """Check accounts: unique names, system ids and keys; secrets fit for where they are accepted."""
    _unique("account", [account.name for account in config.accounts], "name", diagnostics)
    ids = [account.system_id for account in config.accounts]
    _unique("account", ids, "system_id", diagnostics)
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


def velocities(
    limits: Mapping[str, str], path: str, diagnostics: Diagnostics, name: str = ""
) -> dict[str, tuple[int, int]]:
    """Return limits by prefix as (messages, seconds). Reports invalid ones."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, text in limits.items():
        if not _PREFIX.fullmatch(prefix):
            remedy = 'Write + and digits, like "+225", or "*" for all numbers'
            diagnostics.problem(f"{path}.{prefix}", "invalid prefix", remedy, name)
        try:
            found[prefix] = cap(text)
        except ValueError:
            diagnostics.problem(f"{path}.{prefix}", f'invalid limit "{text}"', CAP_REMEDY, name)
    return found


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
            at, "missing; system_id requires it", f'Write password = "…", 1 to {_PASSWORD_OCTETS} octets', account.name
        )
    elif octets > _PASSWORD_OCTETS:
        diagnostics.warn(
            at,
            f"{octets} octets; SMPP 3.4 allows {_PASSWORD_OCTETS}",
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


def check_carriers(config: Config, diagnostics: Diagnostics) -> None:
    """Check carriers: addresses, time zones, TLVs, TLS files, passwords, status codes."""
    _unique("carrier", [carrier.name for carrier in config.carriers], "name", diagnostics)
    for index, carrier in enumerate(config.carriers):
        path = f"carrier[{index}]"
        _hosts(carrier, path, diagnostics)
        _clocks(carrier, path, diagnostics)
        _tlvs(config, carrier, path, diagnostics)
        _carrier_tls(carrier, path, diagnostics)
        _carrier_password(config, carrier, path, diagnostics)
        for key in ("system_id", "password", "system_type", "address_range", "service_type"):
            if "\0" in getattr(carrier, key):
                diagnostics.problem(
                    f"{path}.{key}", "contains a NUL, which ends a text in SMPP", "Remove it", carrier.name
                )
        octets = len(carrier.password.encode())
        if octets > _PASSWORD_OCTETS:
            fault = f"{octets} octets; SMPP 3.4 allows {_PASSWORD_OCTETS}"
            diagnostics.warn(f"{path}.password", fault, "Ask the carrier; it is sent unchanged", carrier.name)
        for sender in carrier.sender_rates:
            if not sender or "*" in sender[:-1]:
                remedy = 'Write a sender, or a prefix and *, like "1069*"'
                diagnostics.problem(f"{path}.sender_rates", f'invalid sender "{sender}"', remedy, carrier.name)
        for code in carrier.status_table:
            if not _is_status(code):
                at = f"{path}.status_table.{code}"
                diagnostics.problem(at, f'invalid status "{code}"', 'Write it like "0x0411" or "1041"', carrier.name)


def _carrier_password(config: Config, carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    """Report a password from a published example that would cross the internet in clear text."""
    far = [text for text in carrier.hosts if ":" in text and is_remote(text.rpartition(":")[0].strip("[]"))]
    if not far or carrier.tls or not is_example(carrier.password):
        return
    fault = f"a password from a published example, sent to {far[0]} in clear text"
    remedy = "Ask the carrier for another, and for TLS"
    if exposed(config):
        diagnostics.problem(f"{path}.password", fault, remedy, carrier.name)
    else:
        diagnostics.warn(f"{path}.password", fault, remedy, carrier.name)


def _hosts(carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    for at, text in enumerate(carrier.hosts):
        try:
            host, port = split_address(text)
        except ValueError:
            host, port = "", 0
        if not host or not port:
            diagnostics.problem(f"{path}.hosts[{at}]", f'invalid address "{text}"', "Write host:port", carrier.name)


def _clocks(carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    """Check time zones, and warn when marketing may be delivered after the permitted hours."""
    offset = 'Write minutes from -1080 to 1080, text like "+03:00", or an IANA zone'
    for key, remedy in (("time_zone", "Write an IANA zone, like Asia/Shanghai"), ("utc_offset", offset)):
        zone = getattr(carrier, key)
        if isinstance(zone, str) and zone and not known_zone(zone):
            diagnostics.problem(f"{path}.{key}", f'unknown time zone "{zone}"', remedy, carrier.name)
    if carrier.validity == "none":
        fault = "the carrier may deliver marketing after the permitted hours"
        remedy = 'Try "relative", or "absolute" with time_zone, or route marketing to other carriers'
        diagnostics.warn(f"{path}.validity", fault, remedy, carrier.name)


RESERVED_TLVS = frozenset({SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM, MESSAGE_PAYLOAD})
"""Tags that the gateway writes itself."""


def _tlvs(config: Config, carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    """Check TLVs: values that fit their type, unique tags."""
    if carrier.interface_version == "3.3" and (carrier.tlvs or carrier.long_messages in {"sar", "payload"}):
        fault = '"3.3" has no TLVs, which tlvs and long_messages "sar" and "payload" require'
        diagnostics.warn(f"{path}.interface_version", fault, 'Ask the carrier, or write "3.4"', carrier.name)
    templates = {name for account in config.accounts for name in account.templates}
    seen: set[int] = set()
    for index, tlv in enumerate(carrier.tlvs):
        at = f"{path}.tlvs[{index}]"
        if not diagnostics.has_problem(f"{at}.tag"):  # else it is no number
            if tlv.tag in seen or tlv.tag in RESERVED_TLVS:
                fault = f"0x{tlv.tag:04X} " + ("is repeated" if tlv.tag in seen else "is written by the gateway")
                diagnostics.problem(f"{at}.tag", fault, "Remove one of the two", carrier.name)
            seen.add(tlv.tag)
        if not (tlv.metadata or tlv.templates or tlv.value):
            remedy = "Write value, metadata (a key of a message's metadata), or templates (name -> value)"
            diagnostics.problem(at, "no source of a value", remedy, carrier.name)
        given = {"value": tlv.value} if tlv.value else {}
        given |= {f"templates.{name}": text for name, text in tlv.templates.items()}
        for key, text in given.items():
            try:
                tlv_value(tlv.type, text)
            except ValueError as error:
                remedy = f"Write a value that fits {tlv.type}, or another type"
                diagnostics.problem(f"{at}.{key}", f'"{text}" {error}', remedy, carrier.name)
        for name in sorted(tlv.templates.keys() - templates):
            remedy = f"Templates: {', '.join(sorted(templates)) or 'none'}"
            diagnostics.warn(f"{at}.templates.{name}", "no account has this template", remedy, carrier.name)


def _carrier_tls(carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    for key in ("ca", "cert", "key"):
        file = getattr(carrier, key)
        check_file(file, f"{path}.{key}", diagnostics, carrier.name)
        if file and not carrier.tls:
            diagnostics.problem(f"{path}.tls", f"off, but {key} is given", "Write tls = true", carrier.name)
    if carrier.tls and not any(diagnostics.has_problem(f"{path}.{key}") for key in ("ca", "cert", "key")):
        _check_certificates(carrier, path, diagnostics)
    if bool(carrier.cert) != bool(carrier.key):
        missing = "key" if carrier.cert else "cert"
        diagnostics.problem(
            f"{path}.{missing}",
            f"missing; {'cert' if carrier.cert else 'key'} requires it",
            "Set both or neither",
            carrier.name,
        )


def _check_certificates(carrier: Carrier, path: str, diagnostics: Diagnostics) -> None:
    """Report files without certificates, and a key that does not belong to its certificate."""
    try:
        ssl.create_default_context(cafile=carrier.ca or None)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        fault = f'"{carrier.ca}" contains no certificate: {error}'
        diagnostics.problem(f"{path}.ca", fault, "Name a PEM file", carrier.name)
    if carrier.cert and carrier.key:
        try:
            ssl.create_default_context().load_cert_chain(carrier.cert, carrier.key, password="")
        except (OSError, ValueError) as error:
            fault = f'"{carrier.cert}" and its key cannot be used: {error}'
            diagnostics.problem(
                f"{path}.cert", fault, "Name PEM files that belong together, with a key without a password"
            )


def _is_status(code: str) -> bool:
    try:
        return 0 < int(code, 0) <= 0xFFFFFFFF
    except ValueError:
        return False


def check_routes(config: Config, diagnostics: Diagnostics) -> None:
    """Check routes: existing carriers and accounts, unique names, weights."""
    lanes: dict[str, int] = {}
    for index, route in enumerate(config.routes):
        path = f"route[{index}]"
        _targets(config, route, path, diagnostics)
        if route.account and route.account not in {account.name for account in config.accounts}:
            known = ", ".join(account.name for account in config.accounts) or "none"
            fault = f'no account "{route.account}"'
            diagnostics.problem(f"{path}.account", fault, f"Known accounts: {known}", route.lane)
        if len(route.lane.encode()) > _LANE_OCTETS:
            fault = f"a name of {len(route.lane.encode())} octets"
            diagnostics.problem(f"{path}.name", fault, f"Use at most {_LANE_OCTETS}", route.lane[:32] + "…")
        if any(char in route.lane for char in "#:"):
            diagnostics.problem(
                f"{path}.name", f'"{route.lane}" contains # or :', "Choose a name without them", route.lane
            )
        if lanes.setdefault(route.lane, index) != index:
            fault = f"the same as route[{lanes[route.lane]}]"
            diagnostics.problem(path, fault, "Merge the two, or give them different conditions or names", route.lane)
    if config.carriers and not config.routes:
        diagnostics.warn("route", "no routes: every message is refused (no_route)", 'Add a [[route]] with to = "*"')
    used = {carrier for route in config.routes for carrier in route.carriers}
    for index, carrier in enumerate(config.carriers):
        if config.routes and carrier.name not in used:
            diagnostics.warn(
                f"carrier[{index}]", "not used by any route", "Add it to the carriers of a route", carrier.name
            )


def _targets(config: Config, route: Route, path: str, diagnostics: Diagnostics) -> None:
    known = [carrier.name for carrier in config.carriers]
    for at, name in enumerate(route.carriers):
        if name not in known:
            remedy = f"Known carriers: {', '.join(known) or 'none'}"
            diagnostics.problem(f"{path}.carriers[{at}]", f'no carrier "{name}"', remedy, route.lane)
        if name in route.carriers[:at]:
            diagnostics.problem(f"{path}.carriers[{at}]", f'"{name}" is repeated', "Remove one of the two", route.lane)
    if not route.weights:
        return
    if len(route.weights) != len(route.carriers):
        fault = f"{len(route.weights)} weights for {len(route.carriers)} carriers"
        diagnostics.problem(f"{path}.weights", fault, "Write one weight per carrier", route.lane)
    elif not any(route.weights):
        diagnostics.problem(f"{path}.weights", "all weights are 0", "Write at least one weight above 0", route.lane)
    if route.overflow:
        fault = "has no effect with weights"
        diagnostics.problem(f"{path}.overflow", fault, "Remove one of the two", route.lane)


def _unique(table: str, names: list[str], key: str, diagnostics: Diagnostics) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name and first.setdefault(name, index) != index:
            fault = f'"{name}" is also the {key} of {table}[{first[name]}]'
            diagnostics.problem(f"{table}[{index}].{key}", fault, "Choose another", "" if key == "name" else name)
