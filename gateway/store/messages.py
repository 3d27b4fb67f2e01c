"""The store as the rest of the gateway sees it: typed lists in, typed lists out, one pipeline of functions per call.

Every promise is one function in ``scripts/`` that runs atomically on one partition. This module sorts a batch by
partition, cuts it into slices, packs, seals, calls, and opens and unpacks what comes back. Every call may be repeated
after an error: nothing happens twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeVar

from gateway.model import (
    PRIORITY,
    AcceptResult,
    Cap,
    Facts,
    NewMessage,
    Permit,
    Reason,
    ReceiptFact,
    ReceiptMatch,
    Recipient,
    Rule,
    State,
    StreamEvent,
    SubmitResult,
)
from gateway.store.arguments import pack_answer, pack_receipt, read_events, read_rules
from gateway.store.codec import (
    MessageRecord,
    SealingVault,
    pack_caps,
    pack_decision,
    pack_new,
    pack_permission,
    read_leased,
    read_record,
    read_redecide,
    readable,
    refused_until,
)
from gateway.store.errors import StoreError, StorePartly
from gateway.store.ids import partition_of
from gateway.store.keys import Hasher, tags
from gateway.store.layout import RULE, SETTINGS, TURN
from gateway.store.owner import LeaseOwner
from gateway.store.requests import (
    CancelResult,
    FormGuess,
    LaneDepth,
    OptChange,
    OptRecord,
    OwnerSeen,
    QueueDepths,
    ReclaimResult,
    Retention,
    SweepResult,
    TakeRequest,
    TakeResult,
)

SLICE = 500
"""Most items in one call: 500 block a partition's server for some 10 ms, and more are not cheaper."""

_MATCHES = tuple(ReceiptMatch)
_DEFAULT_RETENTION = Retention()
_NO_FORMS: Mapping[tuple[str, str], int] = {}
_T = TypeVar("_T")


class FunctionCaller(Protocol):
    """What the store needs of a connection (see ``gateway.store.redis.connection``)."""

    async def call(self, partition: int, function: str, *args: Any) -> Any: ...
    async def calls(
        self, requests: Sequence[tuple[int, str, Sequence[Any]]], *, partial: bool = False
    ) -> list[Any]: ...
    async def commands(self, requests: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]: ...


class MessageStore:
    """All promises of the store. Every method may raise StoreError."""

    def __init__(
        self,
        link: FunctionCaller,
        hasher: Hasher,
        vault: SealingVault,
        *,
        partitions: int,
        retention: Retention = _DEFAULT_RETENTION,
    ) -> None:
        self.partitions = partitions
        self.hasher = hasher
        self.retention = retention
        self._link = link
        self._vault = vault
        self._settings = SETTINGS.pack(*retention)
        self._rules_at = [tag + b"r" for tag in tags(partitions)]

    def set_retention(self, retention: Retention) -> None:
        """Keep and wait for so long from now on. What has its time already keeps it."""
        self.retention = retention
        self._settings = SETTINGS.pack(*retention)

    # -- messages ------------------------------------------------------------------------------------------------------

    async def accept(self, items: Sequence[NewMessage]) -> list[AcceptResult]:
        """Store messages, each in its lane, its first event raised: once, or not at all. In the order given.

        An id that is there already, or a reference seen within 72 h, changes nothing and answers the id that counts.
        A REJECTED message leaves a record for 24 h and does not use up its reference. Raises ValueError when an id
        does not carry its recipient's partition, StorePartly when some are stored and others are not, or may be.
        """
        calls, orders = [], []
        for partition, indices in _slices([item.recipient.partition for item in items]):
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
            for number, counts in zip(reply[::2], reply[1::2], strict=True):
                out[order[number - 1]] = AcceptResult(counts, False)
        if failures:
            alike = len(failures) == len(calls) and len(set(map(type, failures))) == 1
            raise failures[0] if alike else StorePartly(out)
        return out

    def _accept_args(
        self, partition: int, items: Sequence[NewMessage], indices: Sequence[int]
    ) -> tuple[list[Any], list[int]]:
        """Arguments of one ``accept``: items that share all but id and record stand together; and their order."""
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

    async def take(self, owner: LeaseOwner, requests: Sequence[TakeRequest]) -> list[TakeResult]:
        """Wake what is due, pop the fairest, gate, reserve, lease to the owner; one Taken per request."""
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
        except Exception:  # noqa: BLE001 - one of them cannot be read: the others can
            return self._sifted(reply)
        return TakeResult(out, again, dropped, more == 1, next_due)

    def _sifted(self, reply: Any) -> TakeResult:
        """The same, with those that cannot be read set apart."""
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
        """Carry out fresh decisions. False: the token is no longer the message's, nothing was done."""

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
        """(id, lease) pairs that were never written go back to the head of their lane; no attempt is counted."""
        calls = []
        for partition, indices in _slices([partition_of(message_id) for message_id, _ in items]):
            pairs = [items[index][0] + items[index][1].to_bytes(8, "big") for index in indices]
            calls.append((partition, "untake", [self._settings, owner.name, *pairs]))
        await self._link.calls(calls)

    async def postpone(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int, int, bool]]) -> None:
        """(id, lease, due, turn): back to their lanes until ``due`` (ms UTC), when their senders' turns have come, or
        (without ``turn``) are to be asked for again."""
        calls = []
        for partition, indices in _slices([partition_of(item[0]) for item in items]):
            packed = [items[i][0] + TURN.pack(*items[i][1:]) for i in indices]
            calls.append((partition, "postpone", [self._settings, owner.name, *packed]))
        await self._link.calls(calls)

    async def regate(self, owner: LeaseOwner, items: Sequence[tuple[bytes, int]]) -> list[Reason | None]:
        """Whether the rest of messages that are being written, (id, lease) each, may still follow: None, or why not.

        What may not is marked, and ends as failed with that reason when its written parts are answered. NONE: the
        lease is over.
        """
        calls, orders = [], []
        for partition, indices in _slices([partition_of(message_id) for message_id, _ in items]):
            pairs = [items[index][0] + items[index][1].to_bytes(8, "big") for index in indices]
            calls.append((partition, "regate", [self._settings, owner.name, *pairs]))
            orders.append(indices)
        out: list[Reason | None] = [None] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, stop in zip(order, reply, strict=True):
                out[index] = None if stop == 0 else Reason.NONE if stop == 255 else Reason(stop)
        return out

    async def strays(self, owner: LeaseOwner, carrier: str, known: Mapping[int, Iterable[int]]) -> int:
        """Messages leased to the owner for this carrier under leases it does not know of go back; answers how many.

        ``known``: the leases of each partition that the owner holds. For a living owner that lost the answer of a
        ``take``; no take of it for this carrier may be under way.
        """
        head = (self._settings, owner.name, carrier)
        calls = [(partition, "strays", [*head, *known.get(partition, ())]) for partition in range(self.partitions)]
        return sum(await self._link.calls(calls))

    async def progress(
        self, owner: LeaseOwner, answers: Sequence[SubmitResult], receipts: Sequence[ReceiptFact] = ()
    ) -> list[ReceiptMatch]:
        """What carriers said: all answers first, then the receipts; one ReceiptMatch per receipt."""
        names = {answer.carrier for answer in answers} | {receipt.carrier for receipt in receipts}
        carriers = {name: number for number, name in enumerate(names)}
        head: list[Any] = [self._settings, owner.name, len(carriers), *carriers]
        answer_slices = _per_partition([partition_of(answer.id) for answer in answers])
        receipt_slices = _per_partition([receipt.recipient.partition for receipt in receipts])
        calls, orders = [], []
        for partition in answer_slices.keys() | receipt_slices.keys():
            mine, theirs = answer_slices.get(partition, []), receipt_slices.get(partition, [])
            while mine or theirs:
                now, mine = mine[:SLICE], mine[SLICE:]
                then, theirs = ([], theirs) if mine else (theirs[:SLICE], theirs[SLICE:])
                args = [*head, len(now), *[pack_answer(answers[i], carriers) for i in now]]
                args += [pack_receipt(receipts[i], carriers) for i in then]
                calls.append((partition, "progress", args))
                orders.append(then)
        out = [ReceiptMatch.PARKED] * len(receipts)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, match in zip(order, reply, strict=True):
                out[index] = _MATCHES[match]
        return out

    async def cancel(self, ids: Sequence[bytes]) -> list[CancelResult]:
        """Stop messages. What waits is canceled; what is at a carrier is marked and not sent again."""
        return [CancelResult(reply) for reply in await self._by_id("cancel", ids, [(one,) for one in ids])]

    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"") -> int:
        """Send held messages to a fresh decision: these ids, or all of a scope (8 octets: account, brand, template).

        They stay HELD; ``take`` hands them back as Redecide. Answers how many.
        """
        calls: list[tuple[int, str, list[Any]]] = [
            (partition, "release", [self._settings, b"", *[ids[index] for index in indices]])
            for partition, indices in _slices([partition_of(message_id) for message_id in ids])
        ]
        if scope:
            calls += [(partition, "release", [self._settings, scope, 0]) for partition in range(self.partitions)]
        released = 0
        while calls:
            again: list[tuple[int, str, list[Any]]] = []
            for call, (count, on) in zip(calls, await self._link.calls(calls), strict=True):
                released += count
                if on >= 0:
                    again.append((call[0], "release", [self._settings, scope, on]))
            calls = again
        return released

    async def cancel_account(self, account: str, *, within: float = math.inf) -> tuple[int, bool]:
        """Cancel what waits of an account, however much it is; what is at a carrier goes its way.

        ``within``: seconds after which no new call begins. Answers how many, and whether that was all.
        """
        deadline = asyncio.get_running_loop().time() + within
        found = await self.depths()
        lanes = [depth.lane for depth in found.ready if depth.account == account]
        places = ["h", *(f"r{lane}" for lane in dict.fromkeys(lanes)), *(f"d{lane}" for lane in found.delayed)]
        calls = [(partition, place, 0) for partition in range(self.partitions) for place in places]
        canceled = 0
        while calls and asyncio.get_running_loop().time() < deadline:
            some, calls = calls[:16], calls[16:]
            asked = [(p, "cancel_account", [self._settings, account, place, at]) for p, place, at in some]
            for (p, place, _), (count, on) in zip(some, await self._link.calls(asked), strict=True):
                canceled += count
                if on >= 0:
                    calls.append((p, place, on))
        return canceled, not calls

    async def find(self, ids: Sequence[bytes]) -> list[MessageRecord | None]:
        """The records, None where there is none (any more)."""
        raws = await self._by_id("find", ids, [(one,) for one in ids], settings=False)
        return [read_record(one, raw, self._vault) if raw else None for one, raw in zip(ids, raws, strict=True)]

    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None:
        """The id that a reference (``Hasher.reference``) was accepted under within 72 h."""
        return (await self.by_references([(recipient, reference)]))[0]

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]:
        """``by_reference`` of many at once."""
        partitions = [recipient.partition for recipient, _ in wanted]
        items = [(reference,) for _, reference in wanted]
        return [found or None for found in await self._each("reference", partitions, items, settings=False)]

    async def mentions(self, account: str, client_ref: str) -> list[bytes]:
        """Ids that an account's ``client_ref`` was accepted under within 72 h, whoever the recipients, oldest first.

        The first 64 of each partition and day. Asks every partition: for people, not for traffic.
        """
        mention = self.hasher.mention(account, client_ref)
        return sorted(chain.from_iterable(await self._link.calls(self._everywhere("mentions", mention))))

    # -- recipients ----------------------------------------------------------------------------------------------------

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        """The rules of each recipient; with ``caps`` (one sequence per recipient) also the reservations under them."""
        if not caps:
            return await self._rules(recipients)
        calls, orders = [], []
        for partition, indices in _slices([recipient.partition for recipient in recipients]):
            args: list[Any] = []
            for index in indices:
                args += (recipients[index].key, pack_caps(tuple(caps[index])))
            calls.append((partition, "facts", args))
            orders.append(indices)
        out = [Facts()] * len(recipients)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, rules, used in zip(order, reply[::2], reply[1::2], strict=True):
                if rules or used:
                    out[index] = Facts(read_rules(rules), tuple(used[::2]), tuple(used[1::2]))
        return out

    async def _rules(self, recipients: Sequence[Recipient]) -> list[Facts]:
        """An ordinary command costs the store a tenth of a function, which for few recipients is most of it."""
        commands, orders = [], []
        for partition, indices in _slices([recipient.partition for recipient in recipients]):
            commands.append((partition, (b"HMGET", self._rules_at[partition], *[recipients[i].key for i in indices])))
            orders.append(indices)
        out = [Facts()] * len(recipients)
        for order, reply in zip(orders, await self._link.commands(commands), strict=True):
            for index, rules in zip(order, reply, strict=True):
                if rules:
                    out[index] = Facts(read_rules(rules))
        return out

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        """Write recipients' words. False: a later (or at the same instant a stricter) word is there already."""
        calls, orders = [], []
        for partition, indices in _slices([item.recipient.partition for item in items]):
            args: list[Any] = [self._settings]
            for index in indices:
                item = items[index]
                rule = RULE.pack(item.group, item.status, item.scope, item.at, item.until)
                args += (item.recipient.key, rule, self._vault.seal(item.detail) if item.detail else b"")
            calls.append((partition, "opt", args))
            orders.append(indices)
        out = [False] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, applied in zip(order, reply, strict=True):
                out[index] = applied == 1
        return out

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        """Every word of a recipient, with its detail."""
        packed, *details = await self._link.call(recipient.partition, "opts", recipient.key)
        rules: Sequence[Rule] = read_rules(packed)
        return [
            OptRecord(*rule, self._vault.open(detail) if detail else b"")
            for rule, detail in zip(rules, details, strict=True)
        ]

    # -- flags ---------------------------------------------------------------------------------------------------------

    async def flag(self, name: bytes, value: int) -> None:
        """Set a flag (``keys.EPOCH``, ``keys.breaker(scope)``, ``keys.pulled(scope)``) everywhere; 0 takes it away."""
        args = [self._settings, name, value]
        await self._link.calls([(partition, "flag", args) for partition in range(1, self.partitions)])
        await self._link.call(0, "flag", *args)

    async def flags(self) -> dict[bytes, int]:
        """All flags that are set (of partition 0, which ``flag`` writes last)."""
        reply = await self._link.call(0, "flags")
        return {name: int(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}

    # -- owners --------------------------------------------------------------------------------------------------------

    async def beat(self, owner: LeaseOwner) -> None:
        """Heartbeat of an owner in every partition; to be called every 2 s."""
        await self._link.calls(self._everywhere("beat", self._settings, owner.name))

    async def owners(self) -> list[OwnerSeen]:
        """Owners that hold leases or beat, in any partition."""
        seen: dict[bytes, tuple[int, int]] = {}
        for reply in await self._link.calls(self._everywhere("owners")):
            for name, beat, leases in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
                last, held = seen.get(name, (0, 0))
                seen[name] = (max(last, beat), held + leases)
        return [OwnerSeen(LeaseOwner.parse(name.decode()), beat, leases) for name, (beat, leases) in seen.items()]

    async def reclaim(self, dead: LeaseOwner | str, by: LeaseOwner) -> ReclaimResult:
        """What a dead owner held becomes unknown, and is resent or not as settings say.

        At once when ``by`` is a later incarnation of the same node; else only 10 s after its last heartbeat.
        """
        owner = LeaseOwner.parse(dead) if isinstance(dead, str) else dead
        successor = int(owner.node == by.node and owner != by)
        calls = self._everywhere("reclaim", self._settings, owner.name, successor)
        total = ReclaimResult(0, 0, 0, False)
        while calls:
            replies = await self._link.calls(calls)
            for unknown, queued, canceled, alive, _ in replies:
                total += ReclaimResult(unknown, queued, canceled, alive == 1)
            calls = [call for call, reply in zip(calls, replies, strict=True) if reply[4]]
        return total

    # -- upkeep --------------------------------------------------------------------------------------------------------

    async def sweep(self, partition: int, forms: Mapping[tuple[str, str], int] = _NO_FORMS) -> SweepResult:
        """Do what has come due: expiry, hold and receipt timeouts, deletion, parked receipts. Bounded per call.

        ``forms``: (carrier, host) -> the kind of form (``smpp.message_id``) in which its ids may be read.
        """
        allowed = chain.from_iterable((f"{carrier}\0{host}", kind) for (carrier, host), kind in forms.items())
        reply = await self._link.call(partition, "sweep", self._settings, *allowed)
        looked_at, expired, ended, deleted, matched, orphans, more, guesses, strangers, overflowed = reply
        return SweepResult(
            looked_at,
            expired,
            ended,
            deleted,
            matched,
            orphans,
            more == 1,
            [_guess(*one) for one in zip(*[iter(guesses)] * 3, strict=True)],
            [(carrier.decode(), one) for carrier, one in zip(strangers[::2], strangers[1::2], strict=True)],
            overflowed,
        )

    async def depths(self) -> QueueDepths:
        """What waits where."""
        ready: dict[tuple[str, str], int] = {}
        out = QueueDepths([], {}, 0, 0, 0, {})
        held = leases = parked = 0
        for reply in await self._link.calls(self._everywhere("depths")):
            held, leases, parked = held + reply[0], leases + reply[1], parked + reply[2]
            for field, count in zip(reply[3][::2], reply[3][1::2], strict=True):
                states = out.waiting.setdefault(field[1:].decode(), {})
                states[State(field[0])] = states.get(State(field[0]), 0) + int(count)
            for name, delayed, accounts in reply[4:]:
                lane = name.decode()
                out.delayed[lane] = out.delayed.get(lane, 0) + delayed
                for account, count in zip(accounts[::2], accounts[1::2], strict=True):
                    key = lane, account.decode()
                    ready[key] = ready.get(key, 0) + count
        out.ready.extend(LaneDepth(lane, account, count) for (lane, account), count in ready.items())
        return out._replace(held=held, leases=leases, parked=parked)

    async def events(self, partition: int, after: str = "0", count: int = 100) -> list[tuple[str, list[StreamEvent]]]:
        """Up to ``count`` entries of the partition's stream behind the entry ``after``: (entry id, its events)."""
        reply = await self._link.call(partition, "events", after, count)
        entries = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        return [(entry.decode(), read_events(packed, int(instant))) for entry, packed, instant in entries]

    async def trim(self, partition: int, entry: str) -> int:
        """Delete the entries of a partition's stream up to and with this one; answers how many.

        For whoever knows that every consumer has dealt with them. Without it the stream is bounded by count alone.
        """
        trimmed: int = await self._link.call(partition, "trim", self._settings, entry)
        return trimmed

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _everywhere(self, function: str, *args: Any) -> list[tuple[int, str, Sequence[Any]]]:
        return [(partition, function, args) for partition in range(self.partitions)]

    async def _by_id(
        self, function: str, ids: Sequence[bytes], items: Sequence[tuple[Any, ...]], *, settings: bool = True
    ) -> list[Any]:
        """``_each``, for items in the partitions of these ids."""
        return await self._each(function, [partition_of(one) for one in ids], items, settings=settings)

    async def _each(
        self, function: str, partitions: Sequence[int], items: Sequence[tuple[Any, ...]], *, settings: bool
    ) -> list[Any]:
        """Call a function that answers one value per item: a call for (a slice of) each partition's."""
        calls, orders = [], []
        for partition, indices in _slices(partitions):
            args: list[Any] = [self._settings] if settings else []
            for index in indices:
                args += items[index]
            calls.append((partition, function, args))
            orders.append(indices)
        out: list[Any] = [None] * len(items)
        for order, reply in zip(orders, await self._link.calls(calls), strict=True):
            for index, value in zip(order, reply, strict=True):
                out[index] = value
        return out


def _per_partition(partitions: Sequence[int]) -> dict[int, list[int]]:
    """Partition -> indices of its items, in order."""
    out: dict[int, list[int]] = {}
    for index, partition in enumerate(partitions):
        members = out.get(partition)
        if members is None:
            out[partition] = [index]
        else:
            members.append(index)
    return out


def _slices(partitions: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """(partition, indices of at most SLICE of its items)."""
    for partition, indices in _per_partition(partitions).items():
        for start in range(0, len(indices), SLICE):
            yield partition, indices[start : start + SLICE]


def _guess(name: bytes, receipted: bytes, answered: bytes) -> FormGuess:
    carrier, _, host = name.decode().partition("\0")
    return FormGuess(carrier, host, receipted, answered)
