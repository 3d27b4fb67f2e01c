"""The receiving end of webhooks: who sent it, and what it says.

::

    webhooks = Webhooks("whsec_…")

    def endpoint(request):
        for event in webhooks.read(request.headers, request.body):   # the octets as they came, before any JSON
            ...                                                       # de-duplicate by event.id
        return 204
"""

from __future__ import annotations

import time

import msgspec

from gateway import signature
from gateway.client.types import Event

_events = msgspec.json.Decoder(list[Event])


class Webhooks:
    """Verifies posts of a gateway. Give both secrets while one replaces the other. Raises ValueError for a bad one."""

    def __init__(self, *secrets: str) -> None:
        if not secrets:
            raise ValueError("a secret is needed: the account's webhook_secret")
        self._keys = [signature.read_secret(secret) for secret in secrets]

    def __repr__(self) -> str:
        return f"<Webhooks {len(self._keys)} secrets>"

    def read(self, headers: signature.Headers, body: bytes, *, now: float | None = None) -> list[Event]:
        """The events of a post. Raises ``gateway.signature.BadSignature``; answer 401 then.

        ``body``: the octets as they came. ``now``: seconds UTC, the clock when left out.
        """
        signature.verify(self._keys, headers, body, time.time() if now is None else now)
        return _events.decode(body)
