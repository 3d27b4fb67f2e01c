"""Webhook settings of accounts, kept in the store so that events of an account that leaves the configuration go out.

One sealed entry an account, beside what the store was made with. A configured account overwrites its entry. One that is
no longer configured is dated, and deleted a month later, once none of its messages waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway.store.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.store.crypto import Vault
    from gateway.store.redis.connection import StoreConnection

log = structlog.get_logger(__name__)

_FIELD = b"events:"
KEEP = 31 * 86_400_000  # ms that an account without waiting messages is kept: receipts come in days


class EndpointSettings(msgspec.Struct, array_like=True, frozen=True):
    """Where an account's events go and how. Stored as it stands: fields are only ever appended."""

    url: str = ""  # "": only messages that name a URL have events
    keys: tuple[bytes, ...] = ()  # one signature for each
    batch: int = 100  # most events in a POST
    everything: bool = False  # every move of a message, not only the last
    left: int = 0  # when the account left the configuration, ms UTC; 0: it is configured


class FormerAccounts:
    """Keeps webhook settings of accounts; ``recall`` them at every start and reload. Raises StoreError."""

    def __init__(self, link: StoreConnection, vault: Vault) -> None:
        self._link = link
        self._vault = vault

    async def recall(
        self, configured: Mapping[str, EndpointSettings], waiting: Mapping[str, int], now: int
    ) -> dict[str, EndpointSettings]:
        """Store the settings of the ``configured`` accounts, and return those of accounts that have left.

        ``waiting``: account -> its waiting messages; ``now``: ms UTC.
        """
        meta = await self._link.meta()
        stored = {field[len(_FIELD) :].decode(): value for field, value in meta.items() if field.startswith(_FIELD)}
        former: dict[str, EndpointSettings] = {}
        for name in stored.keys() | configured.keys():
            sealed = stored.get(name, b"")
            before = self._open(name, sealed) if sealed else None
            if sealed and before is None and name not in configured:
                continue
            after = configured.get(name) or (before and _dated(before, now))
            if after is None or (name not in configured and after.left < now - KEEP and not waiting.get(name)):
                await self._link.drop_meta(_FIELD + name.encode())
                continue
            if after != before or not self._vault.is_current(sealed):
                await self._link.set_meta(_FIELD + name.encode(), self._vault.seal(msgspec.msgpack.encode(after)))
            if name not in configured:
                former[name] = after
        return former

    def _open(self, name: str, sealed: bytes) -> EndpointSettings | None:
        """Return the settings, None when their key is gone: the gateway must start all the same."""
        try:
            return msgspec.msgpack.decode(self._vault.open(sealed), type=EndpointSettings)
        except StoreRefused as error:
            log.warning("webhook settings of an account cannot be decrypted", account=name, error=str(error))
            return None


def _dated(settings: EndpointSettings, now: int) -> EndpointSettings:
    return settings if settings.left else msgspec.structs.replace(settings, left=now)
