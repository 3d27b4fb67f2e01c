"""Which addresses a webhook may be posted to: public ones, and private networks that the operator allows.

The denied ranges are those of the IANA special-purpose registries (RFC 6890 and its updates). Of IPv6 only global
unicast (2000::/3) is allowed, so loopback, link-local, unique local, multicast, v4-mapped and NAT64
addresses are denied without being listed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DENIED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_DENIED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4: carries any IPv4 address
        "3fff::/20",
    )
)


class AddressGuard:
    """Decides which addresses may be connected to. ``named``: networks of private receivers."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        """Allow these networks. Raises ValueError for an invalid one."""
        self.named: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in named)

    def __repr__(self) -> str:
        return f"<AddressGuard public{''.join(f', {network}' for network in self.named)}>"

    def permits(self, address: str, *, clear: bool = False) -> bool:
        """Whether this address may be connected to; ``clear``: by plain http, allowed only to ``named`` networks."""
        try:
            one = ipaddress.ip_address(address)
        except ValueError:
            return False
        return self._is_named(one) or (not clear and is_public(one))

    def _is_named(self, one: Address) -> bool:
        return any(one.version == network.version and one in network for network in self.named)


def is_public(one: Address) -> bool:
    """Whether an address is public on the internet."""
    if isinstance(one, ipaddress.IPv4Address):
        return not any(one in network for network in _DENIED_V4)
    return one.scope_id is None and one in _GLOBAL_V6 and not any(one in network for network in _DENIED_V6)


def permits_port(port: int) -> bool:
    """Whether a port is 80, 443 or unprivileged, which excludes mail, SSH and the like."""
    return port in {80, 443} or 1024 <= port <= 65535
