"""The store as the rest of the gateway sees it: typed lists in, typed lists out, one pipeline of functions per call.

Every promise is one function in ``functions/`` that runs atomically on one partition. This module sorts a batch by
partition, cuts it into slices, packs, seals, calls, and opens and unpacks what comes back. Every call may be repeated
after an error: nothing happens twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.model import (
    Accepted,
    Answer,
    Cap,
    Event,
    Facts,
    Match,
    NewMessage,
    Permit,
    ReceiptFact,
    Recipient,
)
from gateway.store.keys import Hasher
from gateway.store.owner import Owner
from gateway.store.record import Record
from gateway.store.requests import (
    CancelResult,
    Depths,
    OptChange,
    OptRecord,
    OwnerSeen,
    Reclaimed,
    Retention,
    Swept,
    Taken,
    TakeRequest,
)


class Link(Protocol):
    """What the store needs of a connection (see ``gateway.store.connect``)."""

    async def call(self, partition: int, function: str, *args: Any) -> Any: ...
    async def calls(self, requests: Sequence[tuple[int, str, Sequence[Any]]]) -> list[Any]: ...


class Vault(Protocol):
    """What seals numbers and texts (see ``gateway.store.privacy``)."""

    def seal(self, plain: bytes) -> bytes: ...
    def open(self, blob: bytes) -> bytes: ...


class Store:
    """All promises of the store. Every method may raise StoreError."""

    def __init__(
        self, link: Link, hasher: Hasher, vault: Vault, *, partitions: int, retention: Retention = Retention()
    ) -> None: ...

    async def accept(self, items: Sequence[NewMessage]) -> list[Accepted]:
        """Store messages, each in its lane, its first event raised: once, or not at all. In the order given.

        An id that is there already, or a reference seen within 72 h, changes nothing and answers the id that counts.
        A REJECTED message leaves a record for 24 h and does not use up its reference.
        """

    async def facts(self, recipients: Sequence[Recipient], caps: Sequence[Sequence[Cap]] = ()) -> list[Facts]:
        """The rules of each recipient; with ``caps`` (one sequence per recipient) also the reservations under them."""

    async def take(self, owner: Owner, requests: Sequence[TakeRequest]) -> list[Taken]:
        """Wake what is due, pop the fairest, gate, reserve, lease to the owner; one Taken per request."""

    async def permit(self, items: Sequence[Permit]) -> list[bool]:
        """Carry out fresh decisions. False: the token is no longer the message's, nothing was done."""

    async def untake(self, owner: Owner, items: Sequence[tuple[bytes, int]]) -> None:
        """(id, lease) pairs that were never written go back to the head of their lane; no attempt is counted."""

    async def progress(
        self, owner: Owner, answers: Sequence[Answer], receipts: Sequence[ReceiptFact] = ()
    ) -> list[Match]:
        """What carriers said: all answers first, then the receipts; one Match per receipt."""

    async def cancel(self, ids: Sequence[bytes]) -> list[CancelResult]:
        """Stop messages. What waits is canceled; what is at a carrier is marked and not sent again."""

    async def opt(self, items: Sequence[OptChange]) -> list[bool]:
        """Write recipients' words. False: a later (or at the same instant a stricter) word is there already."""

    async def opts(self, recipient: Recipient) -> list[OptRecord]:
        """Every word of a recipient, with its detail."""

    async def flag(self, name: bytes, value: int) -> None:
        """Set a flag (``keys.EPOCH``, ``keys.breaker(scope)``, ``keys.pulled(scope)``) everywhere; 0 takes it away."""

    async def flags(self) -> dict[bytes, int]:
        """All flags that are set (of partition 0; ``flag`` writes it last)."""

    async def release(self, ids: Sequence[bytes] = (), scope: bytes = b"") -> int:
        """Send held messages to a fresh decision: these ids, or all of a scope (8 octets: account, brand, template).

        They stay HELD; ``take`` hands them back as Redecide. Answers how many.
        """

    async def find(self, ids: Sequence[bytes]) -> list[Record | None]:
        """The records, None where there is none (any more)."""

    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None:
        """The id that a reference (``Hasher.reference``) was accepted under within 72 h."""

    async def beat(self, owner: Owner) -> None:
        """Heartbeat of an owner in every partition; to be called every 2 s."""

    async def owners(self) -> list[OwnerSeen]:
        """Owners that hold leases or beat, in any partition."""

    async def reclaim(self, dead: Owner | str, by: Owner) -> Reclaimed:
        """What a dead owner held becomes unknown, and is resent or not as settings say.

        At once when ``by`` is a later incarnation of the same node; else only 10 s after its last heartbeat.
        """

    async def sweep(self, partition: int) -> Swept:
        """Do what has come due: expiry, hold and receipt timeouts, deletion, parked receipts. Bounded per call."""

    async def depths(self) -> Depths:
        """What waits where."""

    async def events(self, partition: int, after: str = "0", count: int = 100) -> list[tuple[str, list[Event]]]:
        """Up to ``count`` entries of the partition's stream behind the entry ``after``: (entry id, its events)."""
