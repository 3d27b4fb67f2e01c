"""What the transports of both clients share: the gateway's URL, request headers, connection errors in words."""

from __future__ import annotations

import socket
from urllib.parse import SplitResult, urlsplit

from gateway.client.errors import BadAddress, Unreachable


def split_url(url: str) -> SplitResult:
    """Return the parts of a gateway's URL. Raises BadAddress."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise BadAddress(f"{url!r} has an invalid host or port") from None
    if not usable:
        raise BadAddress(f"{url!r} is not a URL like http://127.0.0.1:8080")
    return parts


def request_headers(key: str) -> dict[str, str]:
    """Return the headers of every request. Raises BadAddress for a key that no header can carry."""
    if not (key.isascii() and key.isprintable()):
        raise BadAddress("an API key consists of printable ASCII characters")
    return {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def unreachable(url: str, error: BaseException) -> Unreachable:
    """Return the exception for a request that got no response, with the reason in words."""
    if isinstance(error, TimeoutError | socket.timeout):
        return Unreachable(f"no gateway answers at {url}: timed out")
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return Unreachable(f"no gateway answers at {url}: {reason}")
