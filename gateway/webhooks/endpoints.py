"""What all of webhooks shares: the accounts' settings, the poster and the counters. Built first and passed down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from gateway import signature
from gateway.store.former_accounts import EndpointSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gateway.config import Account
    from gateway.store.webhook_queues import QueueAddress
    from gateway.webhooks.poster import Poster

_NO_SETTINGS = EndpointSettings()
"""Of an account that is neither configured nor remembered."""


class Endpoints:
    """The webhook settings of all accounts, the poster, and what the metrics count."""

    def __init__(self, make_poster: Callable[[], Poster]) -> None:
        self.settings: Mapping[str, EndpointSettings] = {}
        self.give_up_after = 86400  # seconds that a failing endpoint is tried
        self.counts: Counter[str] = Counter()
        self._make_poster = make_poster
        self._poster: Poster | None = None

    def __repr__(self) -> str:
        return f"<Endpoints of {len(self.settings)} accounts, {self._poster!r}>"

    def configure(self, settings: Mapping[str, EndpointSettings], *, give_up_after: int) -> None:
        """Take over settings by account, and for how many seconds a failing endpoint is tried."""
        self.settings = settings
        self.give_up_after = give_up_after

    def url(self, address: QueueAddress) -> str:
        """Return the URL to post to; "": the account has no callback_url now."""
        return address.url or self.settings.get(address.account, _NO_SETTINGS).url

    def batch_size(self, account: str) -> int:
        """Return the most events of one post."""
        return self.settings.get(account, _NO_SETTINGS).batch

    @property
    def poster(self) -> Poster:
        """The poster, created on first use (see ``prepare``)."""
        if self._poster is None:
            self._poster = self._make_poster()
        return self._poster

    async def prepare(self) -> None:
        """Create the poster in a thread: reading the trusted certificates takes a while."""
        if self._poster is None:
            self._poster = await asyncio.to_thread(self._make_poster)

    async def renew_poster(self) -> None:
        """Cut its connections: posts under way fail. The next use creates another, with the settings of then."""
        former, self._poster = self._poster, None
        if former is not None:
            await former.close()

    async def close(self) -> None:
        """Cut the poster's connections, for good."""
        if self._poster is not None:
            await self._poster.close()


def endpoint_settings(account: Account) -> EndpointSettings:
    """Return the webhook settings of a configured account."""
    keys = tuple(signature.read_secret(secret) for secret in account.signing)
    everything = account.webhook_events == "all"
    return EndpointSettings(account.callback_url, keys, account.webhook_batch, everything)


def request_headers(settings: EndpointSettings, message_id: str, body: bytes) -> dict[str, str]:
    """Return the headers of one request, signed now; without a secret there is no signature."""
    timestamp = int(time.time())
    headers = {"content-type": "application/json"}
    if not settings.keys:
        return headers | {signature.ID: message_id, signature.TIMESTAMP: str(timestamp)}
    return headers | signature.signed_headers(settings.keys, message_id, timestamp, body)
