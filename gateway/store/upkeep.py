"""Upkeep of the store: flags, what comes due, what waits where, and the event streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from gateway.model import State, StreamEvent
from gateway.store.arguments import read_events
from gateway.store.partition_calls import PartitionCalls
from gateway.store.requests import FormGuess, LaneDepth, QueueDepths, SweepResult

_NO_FORMS: Mapping[tuple[str, str], int] = {}


class UpkeepCalls(PartitionCalls):
    """The calls of ``MessageStore`` about upkeep. Every method may raise StoreError."""

    async def flag(self, name: bytes, value: int) -> None:
        """Set a flag (``keys.EPOCH``, ``keys.breaker(scope)``, ``keys.pulled(scope)``) everywhere; 0 removes it."""
        args = [self._settings, name, value]
        await self._link.calls([(partition, "flag", args) for partition in range(1, self.partitions)])
        await self._link.call(0, "flag", *args)

    async def flags(self) -> dict[bytes, int]:
        """Return the flags that are set: those of partition 0, which ``flag`` writes last."""
        reply = await self._link.call(0, "flags")
        return {name: int(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}

    async def sweep(self, partition: int, forms: Mapping[tuple[str, str], int] = _NO_FORMS) -> SweepResult:
        """Do what has come due: expiry, timeouts of holds and receipts, deletion, parked receipts. Bounded per call.

        ``forms``: (carrier, host) -> the kind of form (``smpp.message_id``) in which its ids may be read.
        """
        allowed = chain.from_iterable((f"{carrier}\0{host}", kind) for (carrier, host), kind in forms.items())
        reply = await self._link.call(partition, "sweep", self._settings, *allowed)
        looked_at, expired, ended, deleted, matched, orphans, more, guesses, unmatched, overflowed = reply
        return SweepResult(
            looked_at=looked_at,
            expired=expired,
            ended=ended,
            deleted=deleted,
            matched=matched,
            orphans=orphans,
            more=more == 1,
            guesses=[_guess(*one) for one in _groups_of_three(guesses)],
            unmatched=[(carrier.decode(), one) for carrier, one in zip(unmatched[::2], unmatched[1::2], strict=True)],
            overflowed=overflowed,
        )

    async def depths(self) -> QueueDepths:
        """Return what waits where, over all partitions."""
        ready: dict[tuple[str, str], int] = {}
        out = QueueDepths([], {}, 0, 0, 0, {})
        held = leases = parked = 0
        for held_here, leases_here, parked_here, waiting, *lanes in await self._link.calls(self._everywhere("depths")):
            held, leases, parked = held + held_here, leases + leases_here, parked + parked_here
            for field, count in zip(waiting[::2], waiting[1::2], strict=True):
                states = out.waiting.setdefault(field[1:].decode(), {})
                states[State(field[0])] = states.get(State(field[0]), 0) + int(count)
            for name, delayed, accounts in lanes:
                lane = name.decode()
                out.delayed[lane] = out.delayed.get(lane, 0) + delayed
                for account, count in zip(accounts[::2], accounts[1::2], strict=True):
                    key = lane, account.decode()
                    ready[key] = ready.get(key, 0) + count
        out.ready.extend(LaneDepth(lane, account, count) for (lane, account), count in ready.items())
        return out._replace(held=held, leases=leases, parked=parked)

    async def events(self, partition: int, after: str = "0", count: int = 100) -> list[tuple[str, list[StreamEvent]]]:
        """Return up to ``count`` entries of a partition's stream behind the entry ``after``: (entry id, its events)."""
        reply = await self._link.call(partition, "events", after, count)
        entries = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        return [(entry.decode(), read_events(packed, int(instant))) for entry, packed, instant in entries]


def _groups_of_three(flat: Sequence[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


def _guess(host_name: bytes, receipted: bytes, answered: bytes) -> FormGuess:
    carrier, _, host = host_name.decode().partition("\0")
    return FormGuess(carrier, host, receipted, answered)
