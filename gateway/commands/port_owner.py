"""Finds out which gateway listens on an address that is in use. Imports nothing slow."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from gateway import discovery

_TIMEOUT = 1.0  # seconds for a response from what listens there


def port_owner(address: str, file: Path | None = None) -> str:
    """Return which gateway listens at ``host:port`` and what to do about it.

    "" when that is unknown, or when it is the gateway that runs with ``file``.
    """
    host, _, port = address.rpartition(":")
    for found in discovery.running():
        if port not in (_port(found.url), _port(found.http)):
            continue
        if not found.config:
            return f"the demo (pid {found.pid}) listens there: stop it with Ctrl-C, then try again"
        if file is not None and Path(found.config) == file.resolve():
            return ""
        return f"the gateway of {found.config} (pid {found.pid}) listens there: stop it, or choose another port"
    nearby = "127.0.0.1" if host in ("", "0.0.0.0", "*") else host.strip("[]")  # noqa: S104 - every interface includes loopback
    return (
        "another SMPP gateway listens there: stop it, or choose another port" if _is_gateway(nearby, int(port)) else ""
    )


def _port(url: str) -> str:
    return url.rstrip("/").rpartition(":")[2]


def _is_gateway(host: str, port: int) -> bool:
    """Whether a gateway listens there, by its response to /healthz."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read(200)) == {"status": "ok"}
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
