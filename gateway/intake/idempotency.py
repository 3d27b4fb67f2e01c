"""Requests with an ``Idempotency-Key``: each runs once, and whoever repeats it gets the first answer.

The claim is stored before the request is taken in, with a base that the ids of its messages are made from. So a request
that was cut off half-way (the gateway died, the store went away) is simply run again by its repeat: what was accepted
the first time is found under the same ids, and the rest is accepted now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, Protocol

from gateway.clock import now_ms
from gateway.intake.batcher import Batcher
from gateway.intake.durable_write import PATIENCE, definite, silent
from gateway.store.errors import StoreError, StoreUnconfirmed
from gateway.store.idempotency import Claim, Claimed, Settled, StoredResponse
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher
from gateway.store.requests import ClaimResult

__all__ = ["Claimed", "IdempotentRequests", "IdempotentRun", "StoredResponse", "body_hash"]


class ClaimLedger(Protocol):
    """What runs need of the store (``gateway.store.idempotency.ClaimStore``)."""

    async def claim(self, items: Sequence[Claim]) -> list[Claimed]: ...
    async def settle(self, items: Sequence[Settled]) -> list[None]: ...


class IdempotentRun(NamedTuple):
    """A request that runs now; ``base`` makes its ids."""

    name: bytes
    partition: int
    base: bytes


def body_hash(*parts: bytes) -> bytes:
    """16 octets by which a repeat is told from another request under the same key."""
    return blake2b(b"\0".join(parts), digest_size=16, person=b"body").digest()


class IdempotentRequests:
    """``begin`` before a request is taken in, ``end`` always."""

    def __init__(self, ledger: ClaimLedger, hasher: Hasher, *, clock: Callable[[], int] = now_ms) -> None:
        self._hasher = hasher
        self._clock = clock
        patient = partial(Batcher, gap=0, patience=PATIENCE, lost=silent, kept=silent, divide=True)
        self._claims: Batcher[Claim, Claimed] = patient(ledger.claim)
        self._settles: Batcher[Settled, None] = patient(ledger.settle)
        self._running: dict[bytes, bytes] = {}  # name -> hash of the body
        self._owed: list[Settled] = []  # could not be told to the store yet

    def __repr__(self) -> str:
        return f"<IdempotentRequests {len(self._running)} running>"

    async def begin(self, account: str, key: str, body: bytes) -> IdempotentRun | Claimed:
        """A Run to carry out and ``end``; or why not: RUNNING, MISMATCH, DONE with the answer. Raises StoreError.

        ``body``: ``body_hash`` of the request.
        """
        name, partition = self._hasher.claim(account, key)
        running = self._running.get(name)
        if running is not None:
            return Claimed(ClaimResult.RUNNING if running == body else ClaimResult.MISMATCH)
        self._running[name] = body
        claimed = None
        try:
            await self._pay()
            (base,) = new_ids(self._clock(), [partition])
            (claimed,) = await self._claims.put([Claim(name, partition, body, base)])
        except StoreUnconfirmed as error:  # claimed or not: nothing was taken in, and the next one may claim it again
            raise definite(error) from error
        finally:
            if claimed is None or claimed.result is not ClaimResult.CLAIMED:
                del self._running[name]
        return IdempotentRun(name, partition, claimed.base) if claimed.result is ClaimResult.CLAIMED else claimed

    async def end(self, run: IdempotentRun, answer: StoredResponse | None) -> None:
        """Keep the answer for repeats; None: it is not to be kept, the next one runs the request again.

        A store that is away changes nothing for the caller: what was accepted is accepted, and a repeat finds it.
        """
        settled = Settled(run.name, run.partition, run.base, answer)
        try:
            await self._settles.put([settled])
        except StoreError:
            self._owed.append(settled)
        finally:
            del self._running[run.name]

    async def _pay(self) -> None:
        """Tell the store what it could not be told before: other gateways would take those requests for running."""
        owed, self._owed = self._owed, []
        if owed:
            try:
                await self._settles.put(owed)
            except StoreError:
                self._owed += owed
                raise
