"""A small blocking HTTP client for the command line and the demo: one JSON request, one answer.

Standard library only, so that ``smpp-gateway send`` starts at once.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Unreachable(Exception):
    """Nobody answered at that address, or not in time. The text says where and why."""


class BadAddress(ValueError):
    """The URL cannot be used."""


class Answer(NamedTuple):
    """What came back; ``body`` is decoded JSON, or {"text": …} when it was something else."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def ended(self) -> str:
        """The message's status when the answer is a record that has reached its end, else ""."""
        if not isinstance(self.body, dict) or not self.body.get("final"):
            return ""
        return str(self.body.get("status", ""))


class Client:
    """Talks to one gateway. Each request has a connection of its own: the command line sends one or two."""

    def __init__(self, url: str, key: str = "", timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadAddress(f"{url!r} is not an address like http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            raise BadAddress(f"{url!r} names an impossible port") from None
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> Answer:
        return self.request("POST", path, body)

    def put(self, path: str, body: object) -> Answer:
        return self.request("PUT", path, body)

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """Raises Unreachable."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        headers = dict(self._headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._prefix + path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, _decoded(response.read()))
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no gateway answers at {self.url}: {_reason(error)}") from error
        finally:
            connection.close()


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data) if data else {}
    except ValueError:
        return {"text": data.decode(errors="replace")[:500]}


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
