"""What a bind needs to know of its carrier, in the form in which it goes on the wire."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.config import Carrier

INTERFACE_VERSIONS = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
"""interface_version (5.2.4) by its name in the configuration."""


class BindSettings(NamedTuple):
    """Credentials, limits (submits, seconds) and TLS of one carrier's binds."""

    carrier: str
    system_id: bytes
    password: bytes
    system_type: bytes = b""
    address_range: bytes = b""
    ton: int = 0  # addr_ton and addr_npi of the bind
    npi: int = 0
    interface_version: int = 0x34
    window: int = 100
    enquire_interval: float = 30.0
    response_timeout: float = 30.0
    first_sequence: int = 1
    tls: ssl.SSLContext | None = None
    tls_name: str = ""  # that the certificate must carry; "" = the host

    @classmethod
    def of(cls, carrier: Carrier, first_sequence: int = 1) -> BindSettings:
        """Read a carrier's settings, and the certificates it names. Raises OSError, ssl.SSLError."""
        return cls(
            carrier=carrier.name,
            system_id=carrier.system_id.encode("latin-1", "replace"),
            password=carrier.password.encode("latin-1", "replace"),
            system_type=carrier.system_type.encode("latin-1", "replace"),
            address_range=carrier.address_range.encode("latin-1", "replace"),
            ton=carrier.bind_ton,
            npi=carrier.bind_npi,
            interface_version=INTERFACE_VERSIONS[carrier.interface_version],
            window=carrier.window,
            enquire_interval=carrier.enquire_interval,
            response_timeout=carrier.response_timeout,
            first_sequence=first_sequence,
            tls=tls_context(carrier) if carrier.tls else None,
            tls_name=carrier.tls_name,
        )


def tls_context(carrier: Carrier) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer that checks the peer against ``ca`` (default: the system's)."""
    context = ssl.create_default_context(cafile=carrier.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if carrier.cert:
        context.load_cert_chain(carrier.cert, carrier.key or None)
    return context
