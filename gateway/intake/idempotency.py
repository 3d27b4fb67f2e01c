"""Requests with an ``Idempotency-Key``: each runs once, and every repeat gets the first answer.

The claim is stored before the request runs, with a base that the ids of its messages are derived from. So a request
that was cut off half-way (the gateway died, the store went away) is simply run again by its repeat: what was accepted
the first time is found under the same ids, and the rest is accepted now.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from gateway.clock import now_ms
from gateway.intake.batcher import Batcher
from gateway.intake.durable_write import STORE_TIMEOUT, not_sent, nothing_written
from gateway.store.errors import StoreError, StoreUnconfirmed
from gateway.store.idempotency import Claim, Claimed, Settled, StoredResponse
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher
from gateway.store.requests import ClaimResult

if TYPE_CHECKING:
    from gateway.store.idempotency import ClaimStore

__all__ = ["Claimed", "IdempotentRequests", "IdempotentRun", "StoredResponse", "body_hash"]


class IdempotentRun(NamedTuple):
    """A request that runs now. ``base``: what the ids of its messages are derived from."""

    name: bytes
    partition: int
    base: bytes


def body_hash(*parts: bytes) -> bytes:
    """Return 16 octets that tell a repeat from another request under the same key."""
    return blake2b(b"\0".join(parts), digest_size=16, person=b"body").digest()


class IdempotentRequests:
    """Claims keyed requests (``begin``) before they run, and keeps their answers (``end``)."""

    def __init__(self, claims: ClaimStore, hasher: Hasher, *, clock: Callable[[], int] = now_ms) -> None:
        self._hasher = hasher
        self._clock = clock
        batcher = partial(
            Batcher, gap=0, timeout=STORE_TIMEOUT, timed_out=not_sent, not_sent=not_sent, divide=True
        )  # a claim or settlement that may have been carried out is repeated
        self._claims: Batcher[Claim, Claimed] = batcher(claims.claim)
        self._settlements: Batcher[Settled, None] = batcher(claims.settle)
        self._running: dict[bytes, bytes] = {}  # name -> hash of the body
        self._unsettled: list[Settled] = []  # the store has not taken these yet

    def __repr__(self) -> str:
        return f"<IdempotentRequests {len(self._running)} running>"

    async def begin(self, account: str, key: str, body: bytes) -> IdempotentRun | Claimed:
        """Return the run to carry out and ``end``, or why there is none: RUNNING, MISMATCH, DONE with the answer.

        ``body``: ``body_hash`` of the request. Raises StoreError.
        """
        name, partition = self._hasher.claim(account, key)
        running = self._running.get(name)
        if running is not None:
            return Claimed(ClaimResult.RUNNING if running == body else ClaimResult.MISMATCH)
        self._running[name] = body
        claimed = None
        try:
            await self._settle_late()
            (base,) = new_ids(self._clock(), [partition])
            (claimed,) = await self._claims.put([Claim(name, partition, body, base)])
        except StoreUnconfirmed as error:  # claimed or not: nothing was accepted, and the next repeat may claim it
            raise nothing_written(error) from error
        finally:
            if claimed is None or claimed.result is not ClaimResult.CLAIMED:
                del self._running[name]
        return IdempotentRun(name, partition, claimed.base) if claimed.result is ClaimResult.CLAIMED else claimed

    async def end(self, run: IdempotentRun, answer: StoredResponse | None) -> None:
        """Keep the answer for repeats; with None, the next repeat runs the request again.

        Raises nothing when the store is away: what was accepted is accepted, and a repeat finds it.
        """
        settled = Settled(run.name, run.partition, run.base, answer)
        try:
            await self._settlements.put([settled])
        except StoreError:
            self._unsettled.append(settled)
        finally:
            del self._running[run.name]

    async def _settle_late(self) -> None:
        """Store what could not be settled before: other gateways take those requests for running. Raises StoreError."""
        unsettled, self._unsettled = self._unsettled, []
        if unsettled:
            try:
                await self._settlements.put(unsettled)
            except StoreError:
                self._unsettled += unsettled
                raise
