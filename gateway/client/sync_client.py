"""The blocking client, on the standard library's HTTP."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, Unpack
from urllib.parse import SplitResult, urlsplit

from gateway.client import calls
from gateway.client.calls import CHUNK, Call, RawResponse, Retry
from gateway.client.errors import BadAddress, ClientError, ConflictError, Unreachable
from gateway.client.types import (
    Accepted,
    Batch,
    Canceled,
    Consent,
    ConsentDetails,
    Decisions,
    Message,
    Record,
    Scope,
    Suppression,
)

T = TypeVar("T")
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


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
    """Talks to one gateway; may be shared by threads.

    Connections are kept and used again. Calls are repeated as ``retry`` says when nobody answers, on 429 and on 503;
    what changes something carries an Idempotency-Key, so a repeat does nothing twice. All raise ClientError.
    ``timeout``: seconds for one try.
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
        parts = address(url)
        self.url = url.rstrip("/")
        self.retry = retry
        self._parts = parts
        self._tls = tls
        self._headers = headers_of(key)
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections. The client can still be used."""
        while self._idle:
            self._idle.pop().close()

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: Message, *, key: str | None = None) -> Accepted:
        """Hand in one message; it is stored when this returns. ``key``: Idempotency-Key of your own.

        Raises RefusedError when policy says no.
        """
        return self.ask(calls.send(message, key))

    def batch(self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK) -> Batch:
        """Hand in many messages, ``size`` a request; each is accepted or refused on its own.

        When a request fails for good this raises, and what went before stays accepted. The same messages under the
        same ``key`` may then be handed in again, within 24 hours: what was accepted is answered, not sent twice.
        """
        return calls.joined(self.batches(messages, key=key, size=size))

    def batches(self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK) -> Iterator[Batch]:
        """Like ``batch``, for any length: taken from the iterable as needed, results request by request."""
        for chunk in calls.chunks(messages, size, key):
            yield calls.results(chunk, calls.NOTHING if chunk.call is None else self.ask(chunk.call))

    def message(self, message_id: str) -> Record:
        """State, parts, carrier's ids, timeline. Raises NotFoundError."""
        return self.ask(calls.message(message_id))

    def find(self, client_ref: str, to: str | None = None) -> list[Record]:
        """What was accepted under your reference within 72 hours: for one recipient, or for all."""
        return self.ask(calls.find(client_ref, to)).messages

    def decisions(self, message_id: str) -> Decisions:
        """What policy said of a message, and until when it may go."""
        return self.ask(calls.decisions(message_id))

    def wait(self, message_id: str, seconds: float = 30.0) -> Record:
        """Follow a message until it is final or the time is over; its last record."""
        deadline, pause = time.monotonic() + seconds, 0.05
        while True:
            record = self.message(message_id)
            left = deadline - time.monotonic()
            if record.final or left <= 0:
                return record
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)

    def cancel(self, message_id: str) -> Canceled:
        """Stop a message; once more does no harm. Raises ConflictError when it has come to another end."""
        try:
            return self.ask(calls.cancel(message_id))
        except ConflictError:
            if (ended := self.message(message_id)).status == "canceled":
                return Canceled(ended.id, ended.status)
            raise

    # ── recipients ─────────────────────────────────────────────────────────────────────────────────────────────────

    def grant(
        self, to: str, *, method: str, evidence: str, brand: str | None = None, **details: Unpack[ConsentDetails]
    ) -> Consent:
        """Record a consent: how it was given (``web_form``, ``keyword``, …) and the words agreed to."""
        return self.ask(calls.consent(to, "granted", method=method, evidence=evidence, brand=brand, details=details))

    def revoke(
        self,
        to: str,
        *,
        method: str = "",
        evidence: str = "",
        brand: str | None = None,
        **details: Unpack[ConsentDetails],
    ) -> Consent:
        """Record that a consent was taken back; it stops what is already queued."""
        return self.ask(calls.consent(to, "revoked", method=method, evidence=evidence, brand=brand, details=details))

    def consents(self, to: str) -> list[Consent]:
        """Every consent on record for the account's brands."""
        return self.ask(calls.consents(to)).consents

    def suppress(self, to: str, reason: str, *, scope: Scope = "marketing", brand: str | None = None) -> Suppression:
        """Record an opt-out, for one brand or all; it stops what is already queued."""
        return self.ask(calls.suppress(to, reason, scope, brand))

    def suppressions(self, to: str) -> list[Suppression]:
        """Every opt-out that stands against the account's messages."""
        return self.ask(calls.suppressions(to)).suppressions

    def unsuppress(self, to: str, *, scope: Scope | None = None, brand: str | None = None) -> None:
        """Lift the account's opt-outs; ``scope`` and ``brand`` narrow it."""
        self.ask(calls.unsuppress(to, scope, brand))

    # ── anything else: one request on a connection of its own, never repeated ──────────────────────────────────────

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> Answer:
        return self.request("POST", path, body)

    def put(self, path: str, body: object) -> Answer:
        return self.request("PUT", path, body)

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request as it is. Raises Unreachable."""
        data = None if body is None else json.dumps(body).encode()
        connection = self._connect()
        try:
            raw = self._exchange(connection, Call(method, path, None, data, headers or {}))
            return Answer(raw.status, _decoded(raw.body))
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.url, error) from error
        finally:
            connection.close()

    # ── doing it ───────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, call: Call[T]) -> T:
        """Any call of ``gateway.client.calls``, with its repeats."""
        begun, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return calls.read(call, self._once(call))
            except ClientError as error:
                pause = self.retry.pause(error, tried, time.monotonic() - begun, random.random())  # noqa: S311 - jitter
                if pause is None:
                    raise
            time.sleep(pause)

    def _once(self, call: Call[Any]) -> RawResponse:
        """One try. A kept connection that the other end has closed meanwhile is no failure. Raises Unreachable."""
        while True:
            connection = self._kept()
            fresh = connection is None
            if connection is None:
                connection = self._connect()
            try:
                raw = self._exchange(connection, call)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not fresh and isinstance(error, _STALE):
                    continue
                raise unreachable(self.url, error) from error
            if connection.sock is not None:  # else the answer said Connection: close
                self._idle.append(connection)
            return raw

    def _kept(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _exchange(self, connection: http.client.HTTPConnection, call: Call[Any]) -> RawResponse:
        headers = {**self._headers, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(call.method, self._parts.path.rstrip("/") + call.path, call.body, headers)
        response = connection.getresponse()
        return RawResponse(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )


def address(url: str) -> SplitResult:
    """The parts of a gateway's URL. Raises BadAddress."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise BadAddress(f"{url!r} names an impossible host or port") from None
    if not usable:
        raise BadAddress(f"{url!r} is not an address like http://127.0.0.1:8080")
    return parts


def headers_of(key: str) -> dict[str, str]:
    """What every request carries."""
    if not (key.isascii() and key.isprintable()):
        raise BadAddress("an API key has printable ASCII characters only")
    return {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def unreachable(url: str, error: BaseException) -> Unreachable:
    """Why nobody answered, in words."""
    if isinstance(error, TimeoutError | socket.timeout):
        return Unreachable(f"no gateway answers at {url}: no answer in time")
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return Unreachable(f"no gateway answers at {url}: {reason}")


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data) if data else {}
    except ValueError:
        return {"text": data.decode(errors="replace")[:500]}
