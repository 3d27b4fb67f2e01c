"""What stands against a URL for events, before anything is resolved or dialled. Pure.

What is dialled later is looked at again: a name may lead anywhere.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from gateway.config.addresses import AddressGuard, permits_port

_FORM = "a callback is an https (or http) URL without user and fragment, like https://app.example/sms"
_PRIVATE = "its address is a private one: the operator has to name its network in webhooks.allow_networks"
_CLEAR = "plain http goes only to networks that the operator has named in webhooks.allow_networks: write https"
_PORT = "events are posted to the ports 80, 443 and those from 1024 on"
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")  # a zone id (%eth0) names a link of this machine: never


@lru_cache(maxsize=1024)
def fault(url: str, guard: AddressGuard) -> str:
    """Why events may not be posted there; "" when nothing is against it."""
    try:
        parts, host, port = parted(url)
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


def parted(url: str) -> tuple[SplitResult, str, int | None]:
    """A URL, its host in ASCII (RFC 3490) and its port. Raises ValueError when it cannot be read."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    return parts, host if host.isascii() else host.encode("idna").decode(), port


def _is_odd(url: str) -> bool:
    return not url.isprintable() or any(char.isspace() for char in url)


def literal_address(host: str) -> str:
    """The address that a host is, in whatever form it is written (127.1, 0x7f000001, 2130706433); "" for a name."""
    if ":" in host:
        return host
    host = host.removesuffix(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ""
