"""Whose a port is that is taken already: the demo's, another gateway's of this user, or somebody's. Light to import."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from gateway import discovery

_PATIENCE = 1.0  # seconds for an answer of who listens there


def whose(address: str, file: Path | None = None) -> str:
    """Who listens at ``host:port``, and how to end it; "" when it cannot be known, or it is the gateway of ``file``."""
    host, _, port = address.rpartition(":")
    for found in discovery.running():
        if port not in (_port(found.url), _port(found.http)):
            continue
        if not found.config:
            return f"the demo listens there (pid {found.pid}): end it with Ctrl-C where it runs, then try again"
        if file is not None and Path(found.config) == file.resolve():
            return ""
        return f"the gateway of {found.config} listens there (pid {found.pid}): end it, or choose another port"
    nearby = "127.0.0.1" if host in ("", "0.0.0.0", "*") else host.strip("[]")  # noqa: S104 - everywhere is here, too
    return "another SMPP gateway listens there: end it, or choose another port" if _answers(nearby, int(port)) else ""


def _port(url: str) -> str:
    return url.rstrip("/").rpartition(":")[2]


def _answers(host: str, port: int) -> bool:
    """Whether what listens there is a gateway, by what it says of its health."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read(200)) == {"status": "ok"}
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
