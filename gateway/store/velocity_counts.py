"""How many messages accounts have submitted to a range of numbers, counted in the store over all gateways and restarts.

One pipeline per slice of intake, and only for messages to limited ranges: ``v:<account>/<prefix>/<window>:<slot>`` in
the partition of the hash of its name is raised by what is wanted, and what exceeds the limit is taken off again. Two
gateways that ask at the same time may both get less than the limit allows, never more.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.policy.velocity import VelocityLimit

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection


class VelocityWant(NamedTuple):
    """A number of messages of an account under one limit."""

    account: str
    velocity: VelocityLimit
    count: int  # type: ignore[assignment]  # the usual name; tuple.count is not used


class VelocityGrant(NamedTuple):
    """How many of them are allowed; ``room_at``: if not all, when there is room again (ms UTC)."""

    count: int  # type: ignore[assignment]  # as above
    room_at: int


class VelocityCounts:
    """Counts messages against velocity limits. After a StoreError, what was wanted may have been counted."""

    def __init__(self, link: StoreConnection) -> None:
        self._link = link

    async def take(self, wants: Sequence[VelocityWant], now: int) -> list[VelocityGrant]:
        """Count what is wanted at ``now`` (ms UTC), in the order given; no two requests under the same limit."""
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
        """Return the partition of a limit and the keys of the slots that count now, the current one first."""
        name = f"v:{want.account}/{want.velocity.prefix}/{want.velocity.window}".encode()
        partition = zlib.crc32(name) % len(self._link.tags)
        return partition, [b"%b%b:%d" % (self._link.tags[partition], name, slot) for slot in want.velocity.slots(now)]
