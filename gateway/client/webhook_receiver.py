"""Receiving webhooks: verify the signature of a request and decode its events.

::

    webhooks = Webhooks("whsec_…")

    def endpoint(request):
        for event in webhooks.read(request.headers, request.body):   # the raw body, not parsed
            ...                                                       # deduplicate by event.id
        return 204
"""

from __future__ import annotations

import time

import msgspec

from gateway import signature
from gateway.client.types import Event

_events = msgspec.json.Decoder(list[Event])


class Webhooks:
    """Verifies webhook requests with the account's secrets; give both while one replaces the other.

    Raises ValueError for a malformed secret.
    """

    def __init__(self, *secrets: str) -> None:
        if not secrets:
            raise ValueError("give at least one secret: the account's webhook_secret")
        self._keys = [signature.read_secret(secret) for secret in secrets]

    def __repr__(self) -> str:
        return f"<Webhooks {len(self._keys)} secrets>"

    def read(self, headers: signature.Headers, body: bytes, *, now: float | None = None) -> list[Event]:
        """Return the events of a request. Raises ``BadSignature``; respond with 401 then.

        ``body``: the raw request body. ``now``: Unix time in seconds; by default the system clock's.
        """
        signature.verify(self._keys, headers, body, time.time() if now is None else now)
        return _events.decode(body)
