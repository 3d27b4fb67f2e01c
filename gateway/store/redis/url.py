"""``[store] url``: where the store is and how to connect to it. Errors never show a password.

unix:///path?db=1
redis://user:password@host:6379/1
rediss://user:password@host:6380/1?ssl_ca_certs=ca.pem&ssl_certfile=gateway.crt&ssl_keyfile=gateway.key
redis+cluster://host:7000, rediss+cluster://host:7000?…     (one node, which names the others)
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis.asyncio.connection as wire

from gateway.store.errors import StoreRefused
from gateway.store.redis.node import TcpConnection, TlsConnection, UnixConnection

_SCHEMES = "unix://, redis://, rediss://, redis+cluster:// or rediss+cluster://"
_KINDS = {wire.UnixDomainSocketConnection: UnixConnection, wire.SSLConnection: TlsConnection}
_OPTIONS = {"unix": {"db"}, "redis": {"db"}, "rediss": {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}}


def parse(url: str) -> tuple[dict[str, Any], bool]:
    """Return the options of connections to a node, and whether it is a cluster. Raises StoreRefused."""
    scheme, _, rest = url.partition("://")
    clustered = scheme.endswith("+cluster")
    scheme = scheme.removesuffix("+cluster")
    try:
        options: dict[str, Any] = dict(wire.parse_url(f"{scheme}://{rest}"))
    except ValueError as error:
        raise StoreRefused(f"[store] url {_shown(url)} is invalid: it starts with {_SCHEMES} ({error})") from error
    kind = options.get("connection_class")
    unix = kind is wire.UnixDomainSocketConnection
    if unix and (clustered or not options.get("path")):
        raise StoreRefused(f"[store] url {_shown(url)}: unix:// is followed by the absolute path of the socket")
    if clustered and options.get("db"):
        raise StoreRefused(
            f"[store] url {_shown(url)}: a cluster has no numbered databases; leave /{options['db']} out"
        )
    _check_options(url, scheme)
    if kind is wire.SSLConnection:
        _check_files(url, options)
    options["connection_class"] = _KINDS.get(kind, TcpConnection) if kind else TcpConnection
    options |= {"protocol": 2, "socket_timeout": None, "socket_connect_timeout": 5.0, "driver_info": None}
    return options, clustered


def _check_options(url: str, scheme: str) -> None:
    """Raise StoreRefused for an unknown query parameter."""
    known = _OPTIONS[scheme]
    for option in parse_qs(urlsplit(url).query, keep_blank_values=True):
        if option not in known:
            options = ", ".join(sorted(known))
            raise StoreRefused(f"[store] url {_shown(url)}: ?{option}= is unknown; {scheme}:// has {options}")


def _check_files(url: str, options: Mapping[str, Any]) -> None:
    """Load the TLS files as a connection will, so that a wrong one is named at once. Raises StoreRefused."""
    context = ssl.create_default_context()
    authority, own, key = (options.get(f"ssl_{word}") for word in ("ca_certs", "certfile", "keyfile"))
    if bool(own) != bool(key):
        raise StoreRefused(f"[store] url {_shown(url)}: ssl_certfile and ssl_keyfile belong together")
    files = ""
    try:
        if authority:
            files = authority
            context.load_verify_locations(authority)
        if own and key:
            files = f"{own} with {key}"
            context.load_cert_chain(own, key)
    except OSError as error:  # ssl.SSLError is one: the file has the wrong content
        raise StoreRefused(f"[store] url {_shown(url)}: {files} cannot be used: {error.strerror or error}") from error


def _shown(url: str) -> str:
    """Return the URL without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
