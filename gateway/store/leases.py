"""Messages on their way to carriers: leased to an owner, given back, answered; and what becomes of a dead owner's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.model import Permit, Reason, ReceiptFact, ReceiptMatch, SubmitResult
from gateway.store.arguments import pack_answer, pack_receipt
from gateway.store.codec import pack_decision, pack_permission, read_leased, read_redecide, readable
from gateway.store.ids import partition_of
from gateway.store.layout import TURN
from gateway.store.owner import LeaseOwner
from gateway.store.partition_calls import SLICE, PartitionCalls, per_partition, slices
from gateway.store.requests import OwnerSeen, ReclaimResult, TakeRequest, TakeResult

_MATCHES = tuple(ReceiptMatch)  # by value
_LEASE_OVER = 255  # a reply of regate


class LeaseCalls(PartitionCalls):
    """The calls of ``MessageStore`` about leases and results. Every method may raise StoreError."""

    async def take(self, owner: LeaseOwner, requests: Sequence[TakeRequest]) -> list[TakeResult]:
        """Lease messages to the owner; one result per request.

        Wakes what is due, then pops messages in fair order, gates them, reserves them under their caps and leases them.
        """
        calls = []
        for request in requests:
            args: list[Any] = [
                self._settings,
                owner.name,
                request.carrier,
                int(request.on_unknown),
                request.limit,
                request.keep,
                int(request.probe),
            ]
            for lane in request.lanes:
                args += (lane.route, lane.place, int(lane.priority))
            calls.append((request.partition, "take", args))
        return [self._taken(reply) for reply in await self._link.calls(calls)]

    def _taken(self, reply: Any) -> TakeResult:
        lease, token, dropped, more, next_due, leased, redecide = reply
        vault = self._vault
        try:
            out = [read_leased(leased[i], leased[i + 1], lease, vault) for i in range(0, len(leased), 2)]
            again = [
                read_redecide(redecide[i], redecide[i + 1], redecide[i + 2], token, vault)
                for i in range(0, len(redecide), 3)
            ]
        except Exception:  # noqa: BLE001 - one record cannot be read; the others can
            return self._taken_one_by_one(reply)
        return TakeResult(out, again, dropped, more == 1, next_due)

    def _taken_one_by_one(self, reply: Any) -> TakeResult:
        """Return the same, with the records that cannot be read set apart."""
        lease, token, dropped, more, next_due, leased, redecide = reply
        out, unread = readable(
            (one, lease, partial(read_leased, one, raw, lease, self._vault))
            for one, raw in zip(leased[::2], leased[1::2], strict=True)
        )
        again, undecided = readable(
            (one, token, partial(read_redecide, one, raw, reason, token, self._vault))
            for one, raw, reason in zip(redecide[::3], redecide[1::3], redecide[2::3], strict=True)
        )
        return TakeResult(out, again, dropped, more == 1, next_due, unread, undecided)

    async def permit(self, items: Sequence[Permit]) -> list[bool]:
        """Carry out fresh decisions. False: the token is no longer the message's; nothing was done."""

        def args_of(item: Permit) -> tuple[Any, ...]:
            granted = item.permission
            return (
                item.id,
                item.token,
                int(item.state),
                int(item.reason),
                item.due,
                granted.expires,
                int(granted.checks),
                item.route,
                pack_permission(granted),
                pack_decision(item.decision) if item.decision else b"",
            )

        replies = await self._by_id("permit", [item.id for item in items], [args_of(item) for item in items])
        return [reply == 1 for reply in replies]

    async def untake(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> None:
        """Put messages that were never written, (id, lease) each, back at the head of their lane, uncounted."""
        calls = []
        for partition, indices in slices([partition_of(message_id) for message_id, _ in items]):
            pairs = [items[index][0] + items[index][1].to_bytes(8, "big") for index in indices]
            calls.append((partition, "untake", [self._settings, owner.name, *pairs]))
        await self._link.calls(calls)

    async def postpone(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int, int, bool]]) -> None:
        """Put messages that were never written, (id, lease, due, turn) each, back in their lanes until due (ms UTC).

        ``turn``: at that instant the sender may send it; else a turn must be asked for again.
        """
        calls = []
        for partition, indices in slices([partition_of(item[0]) for item in items]):
            packed = [items[i][0] + TURN.pack(*items[i][1:]) for i in indices]
            calls.append((partition, "postpone", [self._settings, owner.name, *packed]))
        await self._link.calls(calls)

    async def regate(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> list[Reason | None]:
        """Run the gate again for messages that are being written, (id, lease) each.

        None: the remaining parts may be sent. A reason: they may not; the message is marked and ends as failed with
        this reason once its written parts are answered. ``Reason.NONE``: the lease is over.
        """
        calls, orders = [], []
        for partition, indices in slices([partition_of(message_id) for message_id, _ in items]):
            pairs = [items[index][0] + items[index][1].to_bytes(8, "big") for index in indices]
            calls.append((partition, "regate", [self._settings, owner.name, *pairs]))
            orders.append(indices)
        out: list[Reason | None] = [None] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, stop in zip(order, reply, strict=True):
                out[index] = None if stop == 0 else Reason.NONE if stop == _LEASE_OVER else Reason(stop)
        return out

    async def untake_lost(self, owner: LeaseOwner, carrier: str, known: Mapping[int, Iterable[int]]) -> int:
        """Put back what is leased to the owner for this carrier under leases it does not know; return how many.

        For an owner that lost the reply of a ``take``. ``known``: the leases that it holds, by partition. No take of
        this owner for this carrier may be under way.
        """
        head = (self._settings, owner.name, carrier)
        calls = [(partition, "untake_lost", [*head, *known.get(partition, ())]) for partition in range(self.partitions)]
        return sum(await self._link.calls(calls))

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        """Store what carriers answered, then what their receipts say; return one ReceiptMatch per receipt."""
        names = {answer.carrier for answer in answers} | {receipt.carrier for receipt in receipts}
        carriers = {name: number for number, name in enumerate(names)}
        head: list[Any] = [self._settings, owner.name, len(carriers), *carriers]
        answers_of = per_partition([partition_of(answer.id) for answer in answers])
        receipts_of = per_partition([receipt.recipient.partition for receipt in receipts])
        calls, orders = [], []
        for partition in answers_of.keys() | receipts_of.keys():
            answers_left, receipts_left = answers_of.get(partition, []), receipts_of.get(partition, [])
            while answers_left or receipts_left:
                now, answers_left = answers_left[:SLICE], answers_left[SLICE:]
                then: list[int] = []
                if not answers_left:  # no receipt goes before an answer
                    then, receipts_left = receipts_left[:SLICE], receipts_left[SLICE:]
                args = [*head, len(now), *[pack_answer(answers[i], carriers) for i in now]]
                args += [pack_receipt(receipts[i], carriers) for i in then]
                calls.append((partition, "progress", args))
                orders.append(then)
        out = [ReceiptMatch.PARKED] * len(receipts)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, match in zip(order, reply, strict=True):
                out[index] = _MATCHES[match]
        return out

    async def beat(self, owner: LeaseOwner) -> None:
        """Store a heartbeat of the owner in every partition; due every 2 s."""
        await self._link.calls(self._everywhere("beat", self._settings, owner.name))

    async def owners(self) -> list[OwnerSeen]:
        """Return the owners that have a heartbeat or leases in any partition."""
        seen: dict[bytes, tuple[int, int]] = {}
        for reply in await self._link.calls(self._everywhere("owners")):
            for name, beat, leases in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
                last, held = seen.get(name, (0, 0))
                seen[name] = (max(last, beat), held + leases)
        return [OwnerSeen(LeaseOwner.parse(name.decode()), beat, leases) for name, (beat, leases) in seen.items()]

    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
        """Make unknown what a dead owner held; each message is then resent, held or left, as settings say.

        At once when ``by`` is a later incarnation of the same node, else not before ``DEAD_AFTER`` its last heartbeat.
        """
        owner = LeaseOwner.parse(dead) if isinstance(dead, str) else dead
        successor = int(owner.node == by.node and owner != by)
        calls = self._everywhere("reclaim", self._settings, owner.name, successor)
        total = ReclaimResult(0, 0, 0, False)
        while calls:
            replies = await self._link.calls(calls)
            unfinished = []
            for call, (unknown, queued, canceled, alive, more) in zip(calls, replies, strict=True):
                total += ReclaimResult(unknown, queued, canceled, alive == 1)
                if more:
                    unfinished.append(call)
            calls = unfinished
        return total
