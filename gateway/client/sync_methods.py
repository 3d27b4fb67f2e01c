# Generated from async_methods.py by `python -m tests.client.unasync`. Do not edit.
# ruff: noqa: C416 - the comprehension is asynchronous in the source
"""The methods of both clients, without their transport.

``async_methods.py`` is the source; ``sync_methods.py`` is generated from it by ``python -m tests.client.unasync``.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, Unpack

from gateway.client import calls
from gateway.client.batches import CHUNK, NOTHING, chunks, joined, results
from gateway.client.calls import Call, RawResponse
from gateway.client.errors import ClientError, ConflictError
from gateway.client.retry import Retry
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


class SyncMethods(ABC):
    """Every call of the HTTP interface, repeated as ``retry`` says. All methods raise ClientError."""

    retry: Retry

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: Message, *, key: str | None = None) -> Accepted:
        """Send one message and return once the gateway has stored it.

        ``key``: your own Idempotency-Key; by default a new one. Raises RefusedError when policy refuses the message.
        """
        return self.ask(calls.send(message, key))

    def batch(self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK) -> Batch:
        """Send many messages, ``size`` per request; each one is accepted or refused on its own.

        Raises when a request fails after its retries; messages of earlier requests stay accepted. Sending the same
        messages under the same ``key`` within 24 hours continues: accepted messages are reported, not sent again.
        """
        return joined([batch for batch in self.batches(messages, key=key, size=size)])

    def batches(self, messages: Iterable[Message], *, key: str | None = None, size: int = CHUNK) -> Iterator[Batch]:
        """Send messages like ``batch`` and yield results request by request, reading the iterable as needed."""
        for chunk in chunks(messages, size, key):
            rows = NOTHING if chunk.call is None else self.ask(chunk.call)
            yield results(chunk, rows)

    def message(self, message_id: str) -> Record:
        """Return a message's status, parts, carrier message ids and timeline. Raises NotFoundError."""
        return self.ask(calls.message(message_id))

    def find(self, client_ref: str, to: str | None = None) -> list[Record]:
        """Return the messages accepted under a client_ref in the last 72 hours, optionally of one recipient."""
        found = self.ask(calls.find(client_ref, to))
        return found.messages

    def decisions(self, message_id: str) -> Decisions:
        """Return the policy decisions on a message and the interval in which it may be sent."""
        return self.ask(calls.decisions(message_id))

    def wait(self, message_id: str, seconds: float = 30.0) -> Record:
        """Poll a message until it is final or ``seconds`` have passed; return its last record."""
        deadline, pause = time.monotonic() + seconds, 0.05
        while True:
            record = self.message(message_id)
            left = deadline - time.monotonic()
            if record.final or left <= 0:
                return record
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)

    def cancel(self, message_id: str) -> Canceled:
        """Cancel a message; canceling it again succeeds. Raises ConflictError when it is final in another status."""
        try:
            return self.ask(calls.cancel(message_id))
        except ConflictError:
            if (record := self.message(message_id)).status == "canceled":
                return Canceled(record.id, record.status)
            raise

    # ── recipients ─────────────────────────────────────────────────────────────────────────────────────────────────

    def grant(
        self, to: str, *, method: str, evidence: str, brand: str | None = None, **details: Unpack[ConsentDetails]
    ) -> Consent:
        """Record a consent: how it was given (``web_form``, ``keyword``, …) and the wording agreed to."""
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
        """Record that a consent was revoked. This also stops messages that are already queued."""
        return self.ask(calls.consent(to, "revoked", method=method, evidence=evidence, brand=brand, details=details))

    def consents(self, to: str) -> list[Consent]:
        """Return every recorded consent of a recipient to the account's brands."""
        recorded = self.ask(calls.consents(to))
        return recorded.consents

    def suppress(self, to: str, reason: str, *, scope: Scope = "marketing", brand: str | None = None) -> Suppression:
        """Record an opt-out, from one brand or from all. This also stops messages that are already queued."""
        return self.ask(calls.suppress(to, reason, scope, brand))

    def suppressions(self, to: str) -> list[Suppression]:
        """Return every opt-out in force against the account's messages to a recipient."""
        in_force = self.ask(calls.suppressions(to))
        return in_force.suppressions

    def unsuppress(self, to: str, *, scope: Scope | None = None, brand: str | None = None) -> None:
        """Lift the account's opt-outs of a recipient; ``scope`` and ``brand`` restrict which."""
        self.ask(calls.unsuppress(to, scope, brand))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, call: Call[T]) -> T:
        """Make any call of ``gateway.client.calls``, with retries, and return its decoded response."""
        begun, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return calls.read(call, self._exchange(call))
            except ClientError as error:
                spent = time.monotonic() - begun
                pause = self.retry.pause(error, tried, spent, random.random())  # noqa: S311 - jitter
                if pause is None:
                    raise
            time.sleep(pause)

    @abstractmethod
    def _exchange(self, call: Call[Any]) -> RawResponse:
        """Make one attempt: send a request and return its response. Raises Unreachable."""
