"""Messages in lanes that no carrier serves since the configuration changed: they are moved, decided again or ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway.model import Redecide
from gateway.store.codec import read_redecide, readable
from gateway.store.crypto import Vault
from gateway.store.layout import SETTINGS
from gateway.store.messages import MessageStore

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

MOST = 200
"""Most messages of a partition that one call looks at."""

log = structlog.get_logger(__name__)


class RescueResult(NamedTuple):
    """What was done. ``more``: call again."""

    redecide: list[Redecide]
    moved: int  # to another lane of the carrier that has accepted a part of it
    failed: int  # that carrier is gone
    more: bool


class LaneRescue:
    """Finds such lanes and empties them. Every method may raise StoreError."""

    def __init__(self, store: MessageStore, link: StoreConnection, vault: Vault) -> None:
        self._store = store
        self._link = link
        self._vault = vault

    async def stranded(self, served: Collection[str]) -> list[str]:
        """Return the lanes that exist and are not ``served``; some may be empty."""
        depths = await self._store.depths()
        waiting = {depth.lane for depth in depths.ready} | set(depths.delayed)
        return sorted(waiting.difference(served))

    async def rescue(self, lanes: Sequence[str], routes: Mapping[str, str]) -> RescueResult:
        """Empty these lanes. ``routes``: carrier -> one of its routes, for every configured carrier."""
        args: list[object] = [SETTINGS.pack(*self._store.retention), MOST, len(routes)]
        args += [name for pair in routes.items() for name in pair]
        args += lanes
        calls = [(partition, "rescue", args) for partition in range(self._store.partitions)]
        redecide: list[Redecide] = []
        moved = failed = again = 0
        for token, some, bad, more, found in await self._link.calls(calls):
            moved, failed, again = moved + some, failed + bad, again + more
            some_read, unread = readable(
                (one, token, partial(read_redecide, one, raw, reason, token, self._vault))
                for one, raw, reason in zip(found[::3], found[1::3], found[2::3], strict=True)
            )
            redecide += some_read
            for one in unread:
                log.warning("message in an unserved lane cannot be read", id=one.id.hex(), error=one.error)
        return RescueResult(redecide, moved, failed, again > 0)
