"""Flags that all gateways share: epoch of policy, open breakers, pulled templates, restored backup, carriers' modes.

The store keeps them. The gate obeys them at once, but decisions are made here, so every gateway reads them again every
two seconds. A gateway that learns that a breaker has closed releases what the breaker held, since a gateway that still
believed it open may have held more; and likewise what was held because the store was restored.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from gateway.cluster.periodic import PeriodicTask
from gateway.model import Reason
from gateway.store.keys import EPOCH, RESTORED, breaker, pulled

if TYPE_CHECKING:
    from gateway.intake.policy_context import PolicyContext
    from gateway.store.messages import MessageStore

REFRESH_EVERY = 2.0
RULES = b"rules"
"""Flag: fingerprint of the rules in force."""

CARRIER = b"c:"
"""Flag, followed by a carrier's name; the value is a ``carriers.mode.CarrierMode``."""

_BREAKER, _PULLED = breaker(b""), pulled(b"")
_SCOPE = 8

log = structlog.get_logger(__name__)


class SharedFlags:
    """Keeps the policy's rulebook in step with the store. ``on_carriers`` gets the carriers that have a mode."""

    def __init__(
        self,
        store: MessageStore,
        policy_context: PolicyContext,
        on_carriers: Callable[[Mapping[str, int]], None],
        on_flags: Callable[[Mapping[bytes, int]], None] = lambda flags: None,
    ) -> None:
        """``on_carriers``: name -> mode. ``on_flags`` gets all flags whenever they are read."""
        self._on_flags = on_flags
        self._store = store
        self._policy_context = policy_context
        self._on_carriers = on_carriers
        self._periodic = PeriodicTask(self.refresh, REFRESH_EVERY, "cannot read the flags")
        self.open: dict[bytes, int] = {}
        """Scope -> when its breaker was opened (ms UTC)."""
        self.restored = 0
        """What was accepted before this instant (ms UTC) is held: the store was restored from a backup. 0 = not."""

    def __repr__(self) -> str:
        return f"<SharedFlags epoch {self._policy_context.rules.epoch}, {len(self.open)} breakers open>"

    async def start(self) -> None:
        """Apply the flags; rules that differ from those of the last start begin a new epoch. Raises StoreError.

        Messages decided under an older epoch are then decided again before they are sent. Call it again when the rules
        change.
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
                log.info("policy has changed: waiting messages are decided again", epoch=epoch)
        self._apply(flags)

    async def refresh(self) -> None:
        """Read the flags and apply them. Raises StoreError."""
        before, restored = set(self.open), self.restored
        self._apply(await self._store.flags())
        for scope in before - set(self.open):
            released = await self._store.release(scope=scope)
            log.info("breaker has closed: messages it held are decided again", scope=scope.hex(), released=released)
        if restored and not self.restored:
            released = await self._store.release(reason=Reason.RESTORED)
            log.info("restored messages were released: they are decided again", released=released)

    async def run(self) -> None:
        """Refresh every two seconds, until cancelled."""
        await self._periodic.run()

    async def open_breaker(self, scope: bytes, now: int) -> None:
        """Hold the messages of a scope (8 octets) at all gateways, from ``now`` (ms UTC) on. Raises StoreError."""
        await self._store.flag(breaker(scope), now)
        await self.refresh()

    async def close_breaker(self, scope: bytes) -> int:
        """Close the breaker of a scope; return how many held messages were released. Raises StoreError."""
        await self._store.flag(breaker(scope), 0)
        self.open.pop(scope, None)
        await self.refresh()
        return await self._store.release(scope=scope)

    async def release_restored(self) -> int:
        """Let messages from before the restored backup be sent; return how many held ones were released.

        Raises StoreError. Repeat it then: what was not released stays held.
        """
        await self._store.flag(RESTORED, 0)
        self.restored = 0
        await self.refresh()
        return await self._store.release(reason=Reason.RESTORED)

    async def set_carrier(self, name: str, mode: int) -> None:
        """Set the mode of a carrier at all gateways, also after a restart; 0 = running. Raises StoreError."""
        await self._store.flag(CARRIER + name.encode(), int(mode))
        await self.refresh()

    def _apply(self, flags: Mapping[bytes, int]) -> None:
        self.open, self.restored = _scopes(flags, _BREAKER), flags.get(RESTORED, 0)
        held, gone = frozenset(self.open), frozenset(_scopes(flags, _PULLED))
        rules, epoch = self._policy_context.rules, flags.get(EPOCH, 0)
        if (rules.epoch, rules.held, rules.pulled, rules.restored) != (epoch, held, gone, self.restored):
            self._policy_context.rules = rules.with_flags(epoch, held, gone, self.restored)
        modes = {name[len(CARRIER) :].decode(): mode for name, mode in flags.items() if name.startswith(CARRIER)}
        self._on_carriers(modes)
        self._on_flags(flags)


def _scopes(flags: Mapping[bytes, int], kind: bytes) -> dict[bytes, int]:
    return {
        name[len(kind) :]: value
        for name, value in flags.items()
        if name.startswith(kind) and len(name) == len(kind) + _SCOPE
    }


def _fingerprint(rules_version: str) -> int:
    """Return a number that fits a flag, never 0 (0 removes a flag)."""
    return zlib.crc32(rules_version.encode()) + 1
