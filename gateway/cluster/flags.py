"""What all workers have agreed on: the policy epoch, open breakers, pulled templates, carriers that stand still.

The store keeps these flags; the gate obeys them at once, but decisions are made here, so every worker reads them again
every two seconds. What somebody learns late is mended then: whoever hears that a breaker has closed releases what it
held, since a worker that still thought it open may have held more.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.intake.policy_context import PolicyContext
from gateway.store.errors import StoreError
from gateway.store.keys import EPOCH, breaker, pulled

LOOK_EVERY = 2.0
RULES = b"rules"
"""Flag: fingerprint of the rules that were in force last."""

CARRIER = b"c:"
"""Flag: this carrier stands still; the value is a ``carriers.control.Mode``."""

_BREAKER, _PULLED = breaker(b""), pulled(b"")
_SCOPE = 8

log = structlog.get_logger(__name__)


class FlagStore(Protocol):
    """What flags need of the store."""

    async def flag(self, name: bytes, value: int) -> None: ...
    async def flags(self) -> dict[bytes, int]: ...
    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"") -> int: ...


class SharedFlags:
    """Keeps the desk's rulebook in step with the store. ``on_carriers`` hears which carriers stand still, and how."""

    def __init__(
        self,
        store: FlagStore,
        policy_context: PolicyContext,
        on_carriers: Callable[[Mapping[str, int]], None],
        on_flags: Callable[[Mapping[bytes, int]], None] = lambda flags: None,
    ) -> None:
        """``on_flags`` hears of all flags whenever they are read."""
        self._on_flags = on_flags
        self._store = store
        self._policy_context = policy_context
        self._on_carriers = on_carriers
        self.open: dict[bytes, int] = {}
        """Scope -> when its breaker was opened (ms UTC)."""

    def __repr__(self) -> str:
        return f"<SharedFlags epoch {self._policy_context.rules.epoch}, {len(self.open)} breakers open>"

    async def start(self) -> None:
        """Take over the flags; rules that differ from those of the last start begin a new epoch. Raises StoreError.

        Messages decided under an older epoch are then decided again before they are sent. To be called once more when
        the desk has got other rules.
        """
        flags = await self._store.flags()
        fingerprint = _fingerprint(self._policy_context.rules.version)
        known = flags.get(RULES, 0)
        if known != fingerprint:
            await self._store.flag(RULES, fingerprint)
            if known:
                epoch = flags.get(EPOCH, 0) + 1
                await self._store.flag(EPOCH, epoch)
                flags[EPOCH] = epoch
                log.info("policy has changed: what waits is decided again", epoch=epoch)
        self._apply(flags)

    async def refresh(self) -> None:
        """Read the flags again. Raises StoreError."""
        before = set(self.open)
        self._apply(await self._store.flags())
        for scope in before - set(self.open):
            released = await self._store.release(scope=scope)
            log.info("breaker has closed: what it held is decided again", scope=scope.hex(), released=released)

    async def run(self) -> None:
        """Refresh every two seconds, until cancelled."""
        away = False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.refresh()
                away = False
            except StoreError as error:
                if not away:
                    log.warning("cannot read the flags", error=str(error))
                away = True

    async def open_breaker(self, scope: bytes, now: int) -> None:
        """Hold what belongs to a scope (8 octets), from now (ms UTC) on, at all workers. Raises StoreError."""
        await self._store.flag(breaker(scope), now)
        await self.refresh()

    async def close_breaker(self, scope: bytes) -> int:
        """Let it go on, and release what was held; answers how many. Raises StoreError."""
        await self._store.flag(breaker(scope), 0)
        self.open.pop(scope, None)
        await self.refresh()
        return await self._store.release(scope=scope)

    async def set_carrier(self, name: str, mode: int) -> None:
        """Tell all workers, and our later self, how a carrier stands; 0 = it works. Raises StoreError."""
        await self._store.flag(CARRIER + name.encode(), int(mode))
        await self.refresh()

    def _apply(self, flags: Mapping[bytes, int]) -> None:
        self.open = _scopes(flags, _BREAKER)
        held, gone = frozenset(self.open), frozenset(_scopes(flags, _PULLED))
        rules, epoch = self._policy_context.rules, flags.get(EPOCH, 0)
        if (rules.epoch, rules.held, rules.pulled) != (epoch, held, gone):
            self._policy_context.rules = rules.with_flags(epoch, held, gone)
        still = {name[len(CARRIER) :].decode(): mode for name, mode in flags.items() if name.startswith(CARRIER)}
        self._on_carriers(still)
        self._on_flags(flags)


def _scopes(flags: Mapping[bytes, int], kind: bytes) -> dict[bytes, int]:
    return {
        name[len(kind) :]: value
        for name, value in flags.items()
        if name.startswith(kind) and len(name) == len(kind) + _SCOPE
    }


def _fingerprint(rules_version: str) -> int:
    """A number that fits a flag, never 0 (0 takes a flag away)."""
    return zlib.crc32(rules_version.encode()) + 1
