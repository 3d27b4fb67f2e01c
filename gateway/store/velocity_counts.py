"""What accounts have handed in for a range of numbers, counted in the store: over all gateways, and over restarts.

One pipeline a slice of intake, and only for messages to ranges that are limited: ``v:<account>/<prefix>:<slot>`` in the
partition of the hash of its name is raised by what is wanted, and what was too much is given back. Of two gateways that
ask at the same time both may be told too little, never too much.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.policy.velocity import VelocityLimit

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection


class VelocityWant(NamedTuple):
    """So many messages of an account under one limit."""

    account: str
    velocity: VelocityLimit
    count: int  # type: ignore[assignment]  # the word everybody uses; nobody counts one in a wish


class VelocityGrant(NamedTuple):
    """How many of them may come in; ``room_at``: when there is room again (ms UTC) if it is not all of them."""

    count: int  # type: ignore[assignment]  # as above
    room_at: int


class VelocityCounts:
    """Raises StoreError; then what was wanted may be counted."""

    def __init__(self, link: StoreConnection) -> None:
        self._link = link

    async def take(self, wants: Sequence[VelocityWant], now: int) -> list[VelocityGrant]:
        """Count what is wanted at ``now`` (ms UTC), in the order given; no two wants under the same name."""
        commands: list[tuple[int, tuple[Any, ...]]] = []
        for want in wants:
            partition, slots = self._keys(want, now)
            lives = 2 * want.velocity.window + 1000
            commands.append((partition, (b"INCRBY", slots[0], want.count)))
            commands.append((partition, (b"PEXPIRE", slots[0], lives)))
            commands.append((partition, (b"MGET", *slots[1:])))
        replies = await self._link.commands(commands)
        out: list[VelocityGrant] = []
        back: list[tuple[int, tuple[Any, ...]]] = []
        for number, want in enumerate(wants):
            counts = [int(replies[3 * number]), *(int(reply or 0) for reply in replies[3 * number + 2])]
            over = min(want.count, max(0, sum(counts) - want.velocity.limit))
            counts[0] -= over
            out.append(VelocityGrant(want.count - over, want.velocity.room_at(now, counts) if over else 0))
            if over:
                partition, slots = self._keys(want, now)
                back.append((partition, (b"DECRBY", slots[0], over)))
        if back:
            await self._link.commands(back)
        return out

    def _keys(self, want: VelocityWant, now: int) -> tuple[int, list[bytes]]:
        """The partition of a limit, and the keys of the slots that count now, the current one first."""
        name = f"v:{want.account}/{want.velocity.prefix}/{want.velocity.window}".encode()
        partition = zlib.crc32(name) % len(self._link.tags)
        return partition, [b"%b%b:%d" % (self._link.tags[partition], name, slot) for slot in want.velocity.slots(now)]
