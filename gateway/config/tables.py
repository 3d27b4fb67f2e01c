"""Accounts, carriers and routes: names that must exist once, lists that must match, secrets that must not be public."""

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
from gateway.config.callbacks import fault
from gateway.config.examples import exposed, fingerprint, is_example, is_far, open_to_others
from gateway.config.problems import Findings
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
_LANE_OCTETS = 200  # the store keeps the length of a lane's name, with the place behind it, in one octet
_PASSWORD_OCTETS = 8  # SMPP 3.4, 4.1.1: nine with the closing zero


def is_network(text: str, path: str, findings: Findings, name: str = "") -> None:
    """Reports what is neither an address nor a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        findings.problem(path, f"{error}", 'Write a network, like "10.0.0.0/8" or "192.0.2.7"', name)


def need_file(file: str, path: str, findings: Findings, name: str = "") -> None:
    """Reports a file that is named and not there, or has nothing in it."""
    if file and not os.path.isfile(file):  # unlike Path.is_file, it says no to names that cannot be
        findings.problem(path, f'"{file}" is no file', "Name a readable PEM file", name)
    elif file and not os.path.getsize(file):
        findings.problem(path, f'"{file}" is empty', "Name a readable PEM file", name)


def check_accounts(config: Config, findings: Findings) -> None:
    """Names, system ids and keys are one account's own; secrets fit where they are heard."""
    _unique("account", [account.name for account in config.accounts], "name", findings)
    ids = [account.system_id for account in config.accounts]
    _unique("account", ids, "system_id", findings)
    keys: dict[str, str] = {}
    for index, account in enumerate(config.accounts):
        path = f"account[{index}]"
        _api_keys(config, account, path, keys, findings)
        _smpp_login(config, account, path, findings)
        _categories(account, path, findings)
        _callback(config, account, path, findings)
        if account.default_country and not is_country(account.default_country):
            fault = f'"{account.default_country}" is no country with telephone numbers'
            findings.problem(f"{path}.default_country", fault, 'Write its ISO code, like "SE"', account.name)
        velocities(account.velocity, f"{path}.velocity", findings, account.name)
        for at, text in enumerate(account.allow_ips):
            is_network(text, f"{path}.allow_ips[{at}]", findings, account.name)
        for name, text in account.templates.items():
            _template(text, f"{path}.templates.{name}", findings, account.name)
        if not account.api_keys and not account.system_id:
            remedy = "Give it api_keys (smpp-gateway key new prints one) or a system_id with password"
            findings.warn(path, "has no way in", remedy, account.name)
        if not account.senders:
            findings.problem(f"{path}.senders", "is empty", 'Write ["*"] for any, or the senders allowed', account.name)


def velocities(limits: Mapping[str, str], path: str, findings: Findings, name: str = "") -> dict[str, tuple[int, int]]:
    """Limits by prefix as messages and seconds; reports what is none."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, text in limits.items():
        if not _PREFIX.fullmatch(prefix):
            remedy = 'Write digits with a + before them, like "+225", or "*" for all numbers'
            findings.problem(f"{path}.{prefix}", "is no prefix of numbers", remedy, name)
        try:
            found[prefix] = cap(text)
        except ValueError:
            findings.problem(f"{path}.{prefix}", f'"{text}" is no limit', CAP_REMEDY, name)
    return found


def _template(text: str, path: str, findings: Findings, account: str) -> None:
    try:
        MessageTemplate(text)
    except ValueError as error:
        findings.problem(
            path, f"has {error}", 'Write places as {name}, in small letters, and a brace as "{{" or "}}"', account
        )


def _api_keys(config: Config, account: Account, path: str, keys: dict[str, str], findings: Findings) -> None:
    public = open_to_others((config.http.listen,))
    for index, key in enumerate(account.api_keys):
        at = f"{path}.api_keys[{index}]"
        remedy = 'Write "sha256:" and the 64 hex digits that smpp-gateway key new prints'
        plain = bool(_PLAIN.fullmatch(key))
        if not plain and not _SHA256.fullmatch(key):
            findings.problem(at, "is no key (its value is not shown)", remedy, account.name)
        elif is_example(key) and (by := exposed(config)):
            fault = f"is a key that everybody knows from an example, while {by} is open to other machines"
            findings.problem(at, fault, "Make one of your own: smpp-gateway key new", account.name)
        elif plain and public:
            fault = f"a key in plain text, while {config.http.listen} is open to other machines"
            findings.problem(at, fault, remedy, account.name)
        elif plain:
            findings.warn(at, "a key in plain text", remedy, account.name)
        owner = keys.setdefault(fingerprint(key), account.name)
        if owner != account.name:
            findings.problem(at, f'is a key of "{owner}" as well', "Give each account its own", account.name)


def _smpp_login(config: Config, account: Account, path: str, findings: Findings) -> None:
    if not account.system_id:
        return
    at = f"{path}.password"
    octets = len(account.password.encode())
    if not account.password:
        findings.problem(
            at, "is missing for system_id", f'Write password = "…", 1 to {_PASSWORD_OCTETS} octets', account.name
        )
    elif octets > _PASSWORD_OCTETS:
        findings.warn(
            at,
            f"has {octets} octets; SMPP 3.4 carries {_PASSWORD_OCTETS}",
            "Shorten it, or try the client",
            account.name,
        )
    if is_example(account.password) and (by := exposed(config)):
        fault = f"is an example's, while {by} is open to other machines"
        findings.problem(at, fault, "Choose one of your own", account.name)


def _categories(account: Account, path: str, findings: Findings) -> None:
    granted = ", ".join(account.categories) or "none"
    if account.default_category and account.default_category not in account.categories:
        fault = f'"{account.default_category}" is not granted'
        findings.problem(f"{path}.default_category", fault, f"Granted are: {granted}", account.name)
    elif account.category not in account.categories:
        fault = "a message that names no category counts as marketing, which is not granted"
        findings.warn(f"{path}.default_category", fault, f"Set it to one of: {granted}", account.name)


def _callback(config: Config, account: Account, path: str, findings: Findings) -> None:
    at = f"{path}.callback_url"
    if account.callback_url:
        guard = AddressGuard(network for network in config.webhooks.allow_networks if _is_good_network(network))
        if against := fault(account.callback_url, guard):
            findings.problem(at, "is no place to post events to", _sentence(against), account.name)
        elif account.callback_url.startswith("http:") and is_far(urlsplit(account.callback_url).hostname or ""):
            findings.warn(at, "goes by plain http to a name", _CLEAR_NAME, account.name)
    for index, secret in enumerate(account.signing):
        key = "webhook_secret" if not index and account.webhook_secret else "webhook_secrets"
        try:
            octets = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            octets = 0
        if not secret.startswith("whsec_") or not 24 <= octets <= 64:
            remedy = 'Write "whsec_" and base64 of 24 to 64 octets'
            findings.problem(f"{path}.{key}", "is no secret (its value is not shown)", remedy, account.name)
        elif is_example(secret) and (by := exposed(config)):
            found = f"is a secret that everybody knows from an example, while {by} is open to other machines"
            remedy = 'Make one of your own: echo "whsec_$(openssl rand -base64 32)"'
            findings.problem(f"{path}.{key}", found, remedy, account.name)
    if account.callback_url and not account.signing:
        remedy = "Set webhook_secret, so that the receiver knows who posts"
        findings.warn(f"{path}.callback_url", "is posted to without a signature", remedy, account.name)


_CLEAR_NAME = "It is posted to only where the name leads into webhooks.allow_networks; write https for any other place"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _is_good_network(text: str) -> bool:
    """What is none is reported by itself."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def check_carriers(config: Config, findings: Findings) -> None:
    """Hosts can be dialled, certificates exist, codes are numbers."""
    _unique("carrier", [carrier.name for carrier in config.carriers], "name", findings)
    for index, carrier in enumerate(config.carriers):
        path = f"carrier[{index}]"
        _hosts(carrier, path, findings)
        _clocks(carrier, path, findings)
        _parameters(config, carrier, path, findings)
        _carrier_tls(carrier, path, findings)
        _carrier_password(config, carrier, path, findings)
        for key in ("system_id", "password", "system_type", "address_range", "service_type"):
            if "\0" in getattr(carrier, key):
                findings.problem(f"{path}.{key}", "holds a NUL, where SMPP ends a text", "Take it out", carrier.name)
        octets = len(carrier.password.encode())
        if octets > _PASSWORD_OCTETS:
            fault = f"has {octets} octets; SMPP 3.4 carries {_PASSWORD_OCTETS}"
            findings.warn(f"{path}.password", fault, "Ask the carrier; it is sent as it is", carrier.name)
        for sender in carrier.sender_rates:
            if not sender or "*" in sender[:-1]:
                remedy = 'Write a sender, or the beginning of one and a *, like "1069*"'
                findings.problem(f"{path}.sender_rates", f'"{sender}" is no sender', remedy, carrier.name)
        for code in carrier.status_table:
            if not _is_status(code):
                at = f"{path}.status_table.{code}"
                findings.problem(at, f'"{code}" is no status', 'Write it like "0x0411" or "1041"', carrier.name)


def _carrier_password(config: Config, carrier: Carrier, path: str, findings: Findings) -> None:
    """A password that everybody knows does not cross the internet for all to read."""
    far = [text for text in carrier.hosts if ":" in text and is_far(text.rpartition(":")[0].strip("[]"))]
    if not far or carrier.tls or not is_example(carrier.password):
        return
    fault, remedy = f"is an example's, and goes to {far[0]} in clear text", "Ask the carrier for another, and for TLS"
    if exposed(config):
        findings.problem(f"{path}.password", fault, remedy, carrier.name)
    else:
        findings.warn(f"{path}.password", fault, remedy, carrier.name)


def _hosts(carrier: Carrier, path: str, findings: Findings) -> None:
    for at, text in enumerate(carrier.hosts):
        try:
            host, port = split_address(text)
        except ValueError:
            host, port = "", 0
        if not host or not port:
            findings.problem(f"{path}.hosts[{at}]", f'"{text}" is no address', "Write host:port", carrier.name)


def _clocks(carrier: Carrier, path: str, findings: Findings) -> None:
    """Zones exist; advertising is known to end with the permitted hours."""
    offset = 'Write minutes from -1080 to 1080, text like "+03:00", or an IANA zone'
    for key, remedy in (("time_zone", "Write an IANA name, like Asia/Shanghai"), ("utc_offset", offset)):
        zone = getattr(carrier, key)
        if isinstance(zone, str) and zone and not known_zone(zone):
            findings.problem(f"{path}.{key}", f'"{zone}" is no time zone', remedy, carrier.name)
    if carrier.validity == "none":
        fault = "its carrier may deliver marketing after the permitted hours"
        remedy = 'Try "relative" and "absolute" with time_zone first, or let marketing go by other carriers'
        findings.warn(f"{path}.validity", fault, remedy, carrier.name)


RESERVED_TLVS = frozenset({SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM, MESSAGE_PAYLOAD})
"""Those that the gateway writes itself."""


def _parameters(config: Config, carrier: Carrier, path: str, findings: Findings) -> None:
    """TLVs have values that fit their type, and tags of their own."""
    if carrier.interface_version == "3.3" and (carrier.tlvs or carrier.long_messages in {"sar", "payload"}):
        fault = '"3.3" knows no TLVs, which tlvs and long_messages "sar" and "payload" are made of'
        findings.warn(f"{path}.interface_version", fault, 'Ask the carrier, or write "3.4"', carrier.name)
    templates = {name for account in config.accounts for name in account.templates}
    seen: set[int] = set()
    for index, tlv in enumerate(carrier.tlvs):
        at = f"{path}.tlvs[{index}]"
        if tlv.tag in seen or tlv.tag in RESERVED_TLVS:
            fault = f"0x{tlv.tag:04X} " + ("stands there twice" if tlv.tag in seen else "is written by the gateway")
            findings.problem(f"{at}.tag", fault, "Keep one of the two", carrier.name)
        seen.add(tlv.tag)
        if not (tlv.metadata or tlv.templates or tlv.value):
            remedy = "Write value, or metadata (a key of messages), or templates (name -> value)"
            findings.problem(at, "has nothing to take a value from", remedy, carrier.name)
        given = {"value": tlv.value} if tlv.value else {}
        given |= {f"templates.{name}": text for name, text in tlv.templates.items()}
        for key, text in given.items():
            try:
                tlv_value(tlv.type, text)
            except ValueError as error:
                remedy = f"Write what fits {tlv.type}, or another type"
                findings.problem(f"{at}.{key}", f'"{text}" {error}', remedy, carrier.name)
        for name in sorted(tlv.templates.keys() - templates):
            remedy = f"Templates are: {', '.join(sorted(templates)) or 'none'}"
            findings.warn(f"{at}.templates.{name}", "no account has such a template", remedy, carrier.name)


def _carrier_tls(carrier: Carrier, path: str, findings: Findings) -> None:
    for key in ("ca", "cert", "key"):
        file = getattr(carrier, key)
        need_file(file, f"{path}.{key}", findings, carrier.name)
        if file and not carrier.tls:
            findings.problem(f"{path}.tls", f"is off while {key} is given", "Write tls = true", carrier.name)
    if carrier.tls and not any(findings.bad(f"{path}.{key}") for key in ("ca", "cert", "key")):
        _loads(carrier, path, findings)
    if bool(carrier.cert) != bool(carrier.key):
        missing = "key" if carrier.cert else "cert"
        findings.problem(f"{path}.{missing}", "is missing beside the other one", "Give both or none", carrier.name)


def _loads(carrier: Carrier, path: str, findings: Findings) -> None:
    """Reports files that hold no certificates, or a key that is not the certificate's."""
    try:
        ssl.create_default_context(cafile=carrier.ca or None)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        findings.problem(f"{path}.ca", f'"{carrier.ca}" holds no certificate: {error}', "Name a PEM file", carrier.name)
    if carrier.cert and carrier.key:
        try:
            ssl.create_default_context().load_cert_chain(carrier.cert, carrier.key, password="")
        except (OSError, ValueError) as error:
            fault = f'"{carrier.cert}" and its key cannot be used: {error}'
            findings.problem(f"{path}.cert", fault, "Name PEM files that belong together, the key without a password")


def _is_status(code: str) -> bool:
    try:
        return 0 < int(code, 0) <= 0xFFFFFFFF
    except ValueError:
        return False


def check_routes(config: Config, findings: Findings) -> None:
    """Routes lead to carriers that exist, under names of their own."""
    lanes: dict[str, int] = {}
    for index, route in enumerate(config.routes):
        path = f"route[{index}]"
        _targets(config, route, path, findings)
        if route.account and route.account not in {account.name for account in config.accounts}:
            known = ", ".join(account.name for account in config.accounts) or "none"
            findings.problem(f"{path}.account", f'"{route.account}" is no account', f"Known are: {known}", route.lane)
        if len(route.lane.encode()) > _LANE_OCTETS:
            fault = f"makes a name of {len(route.lane.encode())} octets"
            findings.problem(f"{path}.name", fault, f"Give it a name of at most {_LANE_OCTETS}", route.lane[:32] + "…")
        if any(char in route.lane for char in "#:"):
            findings.problem(f"{path}.name", f'"{route.lane}" holds # or :', "Give it a plain name", route.lane)
        if lanes.setdefault(route.lane, index) != index:
            fault = f"is the same as route[{lanes[route.lane]}]"
            findings.problem(path, fault, "Join the two, or give them other conditions and names", route.lane)
    if config.carriers and not config.routes:
        findings.warn("route", "there is none: every message is refused (no_route)", 'Write [[route]] with to = "*"')
    used = {carrier for route in config.routes for carrier in route.carriers}
    for index, carrier in enumerate(config.carriers):
        if config.routes and carrier.name not in used:
            findings.warn(f"carrier[{index}]", "no route leads to it", "Name it in a route's carriers", carrier.name)


def _targets(config: Config, route: Route, path: str, findings: Findings) -> None:
    known = [carrier.name for carrier in config.carriers]
    for at, name in enumerate(route.carriers):
        if name not in known:
            remedy = f"Known are: {', '.join(known) or 'none'}"
            findings.problem(f"{path}.carriers[{at}]", f'"{name}" is no carrier', remedy, route.lane)
        if name in route.carriers[:at]:
            findings.problem(f"{path}.carriers[{at}]", f'"{name}" stands there twice', "Name it once", route.lane)
    if not route.weights:
        return
    if len(route.weights) != len(route.carriers):
        fault = f"has {len(route.weights)} numbers for {len(route.carriers)} carriers"
        findings.problem(f"{path}.weights", fault, "Write one for each carrier", route.lane)
    elif not any(route.weights):
        findings.problem(
            f"{path}.weights", "gives nobody a share", "Write a number over 0 for one at least", route.lane
        )
    if route.overflow:
        fault = "has no meaning beside weights"
        findings.problem(f"{path}.overflow", fault, "Keep one of the two", route.lane)


def _unique(table: str, names: list[str], key: str, findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name and first.setdefault(name, index) != index:
            fault = f'"{name}" is the {key} of {table}[{first[name]}] as well'
            findings.problem(f"{table}[{index}].{key}", fault, "Choose another", "" if key == "name" else name)
