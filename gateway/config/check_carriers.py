"""Checks of carriers: addresses, time zones, TLVs, TLS files, passwords, status codes."""

from __future__ import annotations

import ssl

from gateway.config.examples import exposed, is_example, is_remote
from gateway.config.problems import Diagnostics
from gateway.config.schema import Carrier, Config, split_address
from gateway.config.shared_checks import PASSWORD_OCTETS, check_file, check_unique
from gateway.policy.quiet_hours import known_zone
from gateway.smpp.tlv import MESSAGE_PAYLOAD, SAR_MSG_REF_NUM, SAR_SEGMENT_SEQNUM, SAR_TOTAL_SEGMENTS, tlv_value


def check_carriers(config: Config, diagnostics: Diagnostics) -> None:
    """Check carriers: addresses, time zones, TLVs, TLS files, passwords, status codes."""
    check_unique("carrier", [carrier.name for carrier in config.carriers], "name", diagnostics)
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
        if octets > PASSWORD_OCTETS:
            fault = f"{octets} octets; SMPP 3.4 allows {PASSWORD_OCTETS}"
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
