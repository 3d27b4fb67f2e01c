"""``Client``: the blocking client, on the standard library's HTTP."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.client.calls import Call, RawResponse
from gateway.client.retry import Retry
from gateway.client.sync_methods import SyncMethods
from gateway.client.transport import request_headers, split_url, unreachable

_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Answer(NamedTuple):
    """A response to a raw request. ``body``: decoded JSON, or {"text": …} when it is not JSON."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def ended(self) -> str:
        """The message's status when the body is the record of a final message, else ""."""
        if not isinstance(self.body, dict) or not self.body.get("final"):
            return ""
        return str(self.body.get("status", ""))


class Client(SyncMethods):
    """Blocking client of one gateway; threads may share it.

    Connections are reused. Calls are repeated as ``retry`` says when there is no response, on 429 and on 503; a call
    that changes something carries an Idempotency-Key, so a repeat changes nothing twice. ``timeout``: seconds per
    attempt. All methods raise ClientError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        key: str = "",
        timeout: float = 10.0,
        *,
        retry: Retry = Retry(),  # noqa: B008 - frozen
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._parts = split_url(url)
        self.url = url.rstrip("/")
        self.retry = retry
        self._tls = tls
        self._headers = request_headers(key)
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections. The client remains usable."""
        while self._idle:
            self._idle.pop().close()

    # ── raw requests: on a connection of their own, never repeated ─────────────────────────────────────────────────

    def get(self, path: str) -> Answer:
        """Make a raw GET request. Raises Unreachable."""
        return self.request("GET", path)

    def post(self, path: str, body: object) -> Answer:
        """Make a raw POST request with a JSON body. Raises Unreachable."""
        return self.request("POST", path, body)

    def put(self, path: str, body: object) -> Answer:
        """Make a raw PUT request with a JSON body. Raises Unreachable."""
        return self.request("PUT", path, body)

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Make one raw request and return its response, whatever the status. Raises Unreachable."""
        data = None if body is None else json.dumps(body).encode()
        connection = self._connect()
        try:
            raw = self._exchange_on(connection, Call(method, path, None, data, headers or {}))
            return Answer(raw.status, _decoded(raw.body))
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.url, error) from error
        finally:
            connection.close()

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────────

    def _exchange(self, call: Call[Any]) -> RawResponse:
        while True:
            connection = self._idle_connection()
            fresh = connection is None
            if connection is None:
                connection = self._connect()
            try:
                raw = self._exchange_on(connection, call)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not fresh and isinstance(error, _STALE):  # the server closed it while it was idle
                    continue
                raise unreachable(self.url, error) from error
            if connection.sock is not None:  # else the response said Connection: close
                self._idle.append(connection)
            return raw

    def _idle_connection(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _exchange_on(self, connection: http.client.HTTPConnection, call: Call[Any]) -> RawResponse:
        headers = {**self._headers, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(call.method, self._parts.path.rstrip("/") + call.path, call.body, headers)
        response = connection.getresponse()
        return RawResponse(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data) if data else {}
    except ValueError:
        return {"text": data.decode(errors="replace")[:500]}
