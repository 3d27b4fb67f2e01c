"""Where webhooks may go: the table of addresses that must never be dialled."""

from __future__ import annotations

import pytest

from gateway.config.addresses import AddressGuard, permits_port

FORBIDDEN_V4 = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.0.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
    *("198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    "255.255.255.255",
)
FORBIDDEN_V6 = (
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1"),
    *("2002:7f00:1::", "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    "2606:4700::1111%eth0",
)
NO_ADDRESSES = ("localhost", "127.1", "2130706433", "0x7f000001", "example.org", "")
PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.1.0.1"),
    *("2606:4700::1111", "2a00:1450::1"),
)


@pytest.mark.parametrize("address", (*FORBIDDEN_V4, *FORBIDDEN_V6, *NO_ADDRESSES))
def test_special_purpose_addresses_are_denied(address: str) -> None:
    assert not AddressGuard().permits(address)
    assert not AddressGuard().permits(address, clear=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_require_https(address: str) -> None:
    assert AddressGuard().permits(address)
    assert not AddressGuard().permits(address, clear=True)


def test_named_networks_permit_http_and_https() -> None:
    guard = AddressGuard(["127.0.0.0/8", "fd00::/8", "10.1.2.3"])
    for address in ("127.0.0.1", "fd00::7", "10.1.2.3"):
        assert guard.permits(address)
        assert guard.permits(address, clear=True)
    for address in ("10.1.2.4", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "192.168.0.1"):
        assert not guard.permits(address)


def test_an_invalid_network_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        AddressGuard(["nowhere"])


@pytest.mark.parametrize(
    ("port", "good"), [(80, True), (443, True), (1024, True), (65535, True), (22, False), (25, False), (0, False)]
)
def test_ports(port: int, good: bool) -> None:
    assert permits_port(port) is good


def test_repr_lists_the_named_networks() -> None:
    assert repr(AddressGuard(["10.0.0.0/8"])) == "<AddressGuard public, 10.0.0.0/8>"
