"""Checks of a webhook URL before its host is resolved. Pure.

The resolved address is checked again before connecting, since a name may resolve to anything.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from gateway.config.addresses import AddressGuard, permits_port

_FORM = "write an https (or http) URL without user and fragment, like https://app.example/sms"
_PRIVATE = "its address is private: the operator must add its network to webhooks.allow_networks"
_CLEAR = "plain http is allowed only to networks in webhooks.allow_networks: use https"
_PORT = "the port must be 80, 443, or 1024 and above"
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")  # no zone id (%eth0): it names a link of this machine


@lru_cache(maxsize=1024)
def url_problem(url: str, guard: AddressGuard) -> str:
    """Return why events must not be posted to a URL; "" when they may."""
    try:
        parts, host, port = split_callback_url(url)
    except ValueError:
        return _FORM
    clear = parts.scheme == "http"
    if parts.scheme not in {"https", "http"} or "@" in parts.netloc or parts.fragment or _is_odd(url):
        return _FORM
    if not _HOST.fullmatch(host):
        return _FORM
    if not permits_port((80 if clear else 443) if port is None else port):
        return _PORT
    literal = literal_address(host)
    if clear and not (guard.permits(literal, clear=True) if literal else guard.named):
        return _CLEAR
    return _PRIVATE if literal and not guard.permits(literal) else ""


def split_callback_url(url: str) -> tuple[SplitResult, str, int | None]:
    """Return a URL's parts, its host in ASCII (RFC 3490) and its port. Raises ValueError when it is malformed."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    return parts, host if host.isascii() else host.encode("idna").decode(), port


def _is_odd(url: str) -> bool:
    return not url.isprintable() or any(char.isspace() for char in url)


def literal_address(host: str) -> str:
    """Return the address that a host is, in any notation (127.1, 0x7f000001, 2130706433); "" for a name."""
    if ":" in host:
        return host
    host = host.removesuffix(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ""
