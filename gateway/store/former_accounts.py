"""How accounts want their events, kept in the store, so that those of an account that leaves the configuration go out.

One sealed entry an account, beside what the store was made with. An account that is configured overwrites its own; one
that is not any more is dated, and forgotten a month later, once nothing of it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog

from gateway.store.crypto import Vault
from gateway.store.errors import StoreRefused

log = structlog.get_logger(__name__)

_FIELD = b"events:"
KEEP = 31 * 86_400_000  # ms that an account without waiting messages is remembered: receipts come in days


class ReceiverSettings(msgspec.Struct, array_like=True, frozen=True):
    """Where an account's events go and how: ``keys`` sign, ``left`` is when it left (ms UTC), 0 while it is here."""

    url: str
    keys: tuple[bytes, ...]
    batch: int
    everything: bool
    left: int = 0


class SettingsStore(Protocol):
    """What this needs of the store's link."""

    async def meta(self) -> Mapping[bytes, bytes]: ...
    async def set_meta(self, field: bytes, value: bytes) -> None: ...
    async def drop_meta(self, field: bytes) -> None: ...


class FormerAccounts:
    """``recall`` at every start and reload. Raises StoreError."""

    def __init__(self, link: SettingsStore, vault: Vault) -> None:
        self._link = link
        self._vault = vault

    async def recall(
        self, here: Mapping[str, ReceiverSettings], waiting: Mapping[str, int], now: int
    ) -> dict[str, ReceiverSettings]:
        """Note how those that are ``here`` want their events; answer with those that have left.

        ``waiting``: account -> its messages that wait; ``now``: ms UTC.
        """
        found = await self._link.meta()
        kept = {field[len(_FIELD) :].decode(): value for field, value in found.items() if field.startswith(_FIELD)}
        left: dict[str, ReceiverSettings] = {}
        for name in kept.keys() | here.keys():
            sealed = kept.get(name, b"")
            before = self._read(name, sealed) if sealed else None
            if sealed and before is None and name not in here:
                continue
            after = here.get(name) or (before and self._dated(before, now))
            if after is None or (name not in here and after.left < now - KEEP and not waiting.get(name)):
                await self._link.drop_meta(_FIELD + name.encode())
                continue
            if after != before or not self._vault.is_current(sealed):
                await self._link.set_meta(_FIELD + name.encode(), self._vault.seal(msgspec.msgpack.encode(after)))
            if name not in here:
                left[name] = after
        return left

    def _read(self, name: str, sealed: bytes) -> ReceiverSettings | None:
        """None when the key that sealed it is not there: no reason for a gateway not to start."""
        try:
            return msgspec.msgpack.decode(self._vault.open(sealed), type=ReceiverSettings)
        except StoreRefused as error:
            log.warning("how an account wanted its events cannot be read", account=name, error=str(error))
            return None

    @staticmethod
    def _dated(one: ReceiverSettings, now: int) -> ReceiverSettings:
        return one if one.left else msgspec.structs.replace(one, left=now)
