"""The store as the rest of the gateway sees it: typed lists in, typed lists out, one pipeline of functions per call.

Every promise is one function in ``scripts/`` that runs atomically on one partition. ``MessageStore`` sorts a batch by
partition, cuts it into slices, packs, seals and calls, then opens and unpacks the replies. Every call may be repeated
after an error: nothing happens twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from gateway.model import PRIORITY, AcceptResult, NewMessage, Reason, Recipient, State
from gateway.store.codec import pack_new, refused_until
from gateway.store.errors import StoreError, StorePartly
from gateway.store.ids import partition_of
from gateway.store.leases import LeaseCalls
from gateway.store.partition_calls import slices
from gateway.store.recipients import RecipientCalls
from gateway.store.records import MessageRecord, read_record
from gateway.store.requests import CancelResult
from gateway.store.upkeep import UpkeepCalls

_AT_ONCE = 16  # calls of cancel_account in one pipeline


class MessageStore(RecipientCalls, LeaseCalls, UpkeepCalls):
    """All promises of the store. Every method may raise StoreError."""

    async def accept(self, items: Sequence[NewMessage]) -> list[AcceptResult]:
        """Store messages, each in its lane with its first event raised: once, or not at all. In the order given.

        An id that is stored already, or a reference seen within 72 h, changes nothing; the result names the id that
        counts. A REJECTED message leaves a record for 24 h and does not use up its reference. Raises ValueError when
        an id does not carry its recipient's partition, StorePartly when some are stored and others are not, or may be.
        """
        calls, orders = [], []
        for partition, indices in slices([item.recipient.partition for item in items]):
            args, order = self._accept_args(partition, items, indices)
            calls.append((partition, "accept", args))
            orders.append(order)
        out: list[Any] = [AcceptResult(item.id, True) for item in items]
        failures: list[StoreError] = []
        for order, reply in zip(orders, await self._link.calls(calls, partial=True), strict=True):
            if isinstance(reply, StoreError):
                failures.append(reply)
                for index in order:
                    out[index] = reply
                continue
            for number, known_id in zip(reply[::2], reply[1::2], strict=True):
                out[order[number - 1]] = AcceptResult(known_id, False)
        if failures:
            alike = len(failures) == len(calls) and len(set(map(type, failures))) == 1
            raise failures[0] if alike else StorePartly(out)
        return out

    def _accept_args(
        self, partition: int, items: Sequence[NewMessage], indices: Sequence[int]
    ) -> tuple[list[Any], list[int]]:
        """Return the arguments of one ``accept``, items that share all but id and record together; and their order."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        vault, refused = self._vault, self.retention.refused
        for index in indices:
            item = items[index]
            if partition_of(item.id) != partition:
                raise ValueError("the id does not carry the partition of its recipient")
            if len(item.reference) not in (0, 16):
                raise ValueError("a reference has 16 octets")
            due = refused_until(item, refused) if item.state is State.REJECTED else item.due
            key = (
                item.state,
                item.reason,
                item.route,
                item.category,
                item.envelope.account,
                due,
                item.permission.expires,
                item.segments > 1,
            )
            group = groups.get(key)
            if group is None:
                groups[key] = [index]
            else:
                group.append(index)
        args: list[Any] = [self._settings]
        order: list[int] = []
        for (state, reason, route, category, account, due, expires, numbered), members in groups.items():
            lane = f"{route}#0:{PRIORITY[category].value}"
            args += (state.value, reason.value, lane, account, due, expires, int(numbered), len(members))
            order += members
            for index in members:
                item = items[index]
                args += (item.id, item.reference, pack_new(item, vault, due))
        return args, order

    async def cancel(self, ids: Sequence[bytes]) -> list[CancelResult]:
        """Cancel messages. One that waits ends; one that is at a carrier is marked and not sent again."""
        return [CancelResult(reply) for reply in await self._by_id("cancel", ids, [(one,) for one in ids])]

    async def cancel_account(self, account: str, *, within: float = math.inf) -> tuple[int, bool]:
        """Cancel all that waits of an account; what is at a carrier is not touched.

        ``within``: seconds after which no new call begins. Returns how many were canceled, and whether that was all.
        """
        deadline = asyncio.get_running_loop().time() + within
        depths = await self.depths()
        lanes = dict.fromkeys(depth.lane for depth in depths.ready if depth.account == account)
        places = ["h", *(f"r{lane}" for lane in lanes), *(f"d{lane}" for lane in depths.delayed)]
        todo = [(partition, place, 0) for partition in range(self.partitions) for place in places]
        canceled = 0
        while todo and asyncio.get_running_loop().time() < deadline:
            batch, todo = todo[:_AT_ONCE], todo[_AT_ONCE:]
            calls = [(p, "cancel_account", [self._settings, account, place, start]) for p, place, start in batch]
            for (p, place, _), (count, start) in zip(batch, await self._link.calls(calls), strict=True):
                canceled += count
                if start >= 0:
                    todo.append((p, place, start))
        return canceled, not todo

    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"", reason: Reason = Reason.NONE) -> int:
        """Have held messages decided again: these ids, or all of a scope (8 octets: account, brand or template).

        With a ``reason`` in place of a scope: all that are held for it. They stay HELD until ``take`` hands them back
        as Redecide. Returns how many.
        """
        scope = scope or (bytes((reason,)) if reason else b"")
        calls: list[tuple[int, str, list[Any]]] = [
            (partition, "release", [self._settings, b"", *[ids[index] for index in indices]])
            for partition, indices in slices([partition_of(message_id) for message_id in ids])
        ]
        if scope:
            calls += [(partition, "release", [self._settings, scope, 0]) for partition in range(self.partitions)]
        released = 0
        while calls:
            unfinished: list[tuple[int, str, list[Any]]] = []
            for (partition, _, _), (count, start) in zip(calls, await self._link.calls(calls), strict=True):
                released += count
                if start >= 0:
                    unfinished.append((partition, "release", [self._settings, scope, start]))
            calls = unfinished
        return released

    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]:
        """Return the records; None where there is none, or none any more."""
        raws = await self._by_id("find", ids, [(one,) for one in ids], settings=False)
        return [read_record(one, raw, self._vault) if raw else None for one, raw in zip(ids, raws, strict=True)]

    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None:
        """Return the id that a reference (``Hasher.reference``) was accepted under within 72 h."""
        return (await self.by_references([(recipient, reference)]))[0]

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]:
        """Return ``by_reference`` of each."""
        partitions = [recipient.partition for recipient, _ in wanted]
        items = [(reference,) for _, reference in wanted]
        return [found or None for found in await self._each("reference", partitions, items, settings=False)]

    async def mentions(self, account: str, client_ref: str) -> list[bytes]:
        """Return the ids accepted under an account's ``client_ref`` within 72 h for any recipient, oldest first.

        The first 64 of each partition and day. Asks every partition, so it is for people, not for traffic.
        """
        mention = self.hasher.mention(account, client_ref)
        return sorted(chain.from_iterable(await self._link.calls(self._everywhere("mentions", mention))))
