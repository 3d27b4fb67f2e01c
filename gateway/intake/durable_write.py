"""Intake's write: every message is stored, or surely not, or it is said that nobody knows.

A call whose answer was lost may have been carried out. It is the same call when it is made again, for the ids of its
messages are the same, so it is made again until the store answers or the requests' time is over; only then somebody
has to be told that a message may have been accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from gateway.intake.batcher import Batcher
from gateway.intake.submission import SubmissionProblem
from gateway.model import AcceptResult, NewMessage
from gateway.store.errors import StoreError, StoreFull, StorePartly, StoreUnavailable, StoreUnconfirmed, of_an_item

PATIENCE = 1.0
"""Seconds that somebody who submits waits for one answer of the store."""

PAUSE = 0.05

UNCONFIRMED = (
    "the store did not confirm the write in time, so it may have been accepted, under the id given here: GET it "
    "to see. Repeated with the same Idempotency-Key or client_ref it is accepted once; repeated without, perhaps twice"
)

log = structlog.get_logger(__name__)

FAILS_OVER = (
    "the gateway fails over this message (its log says why), and did not accept it; the others of the request are not "
    "concerned"
)


class UnstorableMessage(StoreError):
    """The message makes the write fail, and only it does. ``fault``: the error."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(f"{type(fault).__name__}: {fault}")
        self.fault = fault


Answer = TypeVar("Answer")
Outcome = AcceptResult | StoreError
Accept = Callable[[Sequence[NewMessage]], Awaitable[list[AcceptResult]]]


def silent() -> StoreError:
    """The store was asked before, and is silent: nothing of this was handed to it."""
    return StoreUnavailable("the store does not answer")


def unconfirmed() -> StoreError:
    """It has been handed this, and is silent."""
    return StoreUnconfirmed("the store has not confirmed the write")


async def in_time(asked: Awaitable[Answer]) -> Answer:
    """The answer of something that only reads. Raises StoreError, also when it takes longer than ``PATIENCE``."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await asked
    except TimeoutError:
        raise silent() from None
    except StoreUnconfirmed as error:
        raise definite(error) from error


def definite(error: StoreError) -> StoreError:
    """The same error of a call that wrote nothing: whether it was carried out does not matter."""
    return StoreUnavailable(str(error)) if isinstance(error, StoreUnconfirmed) else error


def unstored(error: StoreError, detail: str, message_id: bytes = b"") -> SubmissionProblem:
    """The problem of a message that the store did not take, or may have taken under this id."""
    if isinstance(error, UnstorableMessage):
        return SubmissionProblem("internal", FAILS_OVER)
    if isinstance(error, StoreUnconfirmed):
        return SubmissionProblem("write_unconfirmed", UNCONFIRMED, id=message_id)
    return SubmissionProblem("store_full" if isinstance(error, StoreFull) else "store_unavailable", detail)


class DurableWriter:
    """``put`` gathers what arrives together. ``limit``: messages of different requests in one call."""

    def __init__(self, accept: Accept, *, limit: int, patience: float = PATIENCE) -> None:
        self._accept = accept
        self._patience = patience
        self._gathered: Batcher[NewMessage, Outcome] = Batcher(
            self._write, gap=0, limit=limit, patience=patience, lost=unconfirmed, kept=silent
        )

    def __repr__(self) -> str:
        return f"<DurableWriter {self._gathered!r}>"

    async def put(self, messages: Sequence[NewMessage]) -> Sequence[Outcome]:
        """What became of each, in order. A StoreUnconfirmed says that the message may be stored; others, that it is
        not. Raises the StoreError when that is all that can be said of every one."""
        try:
            outcomes: Sequence[Outcome] = await self._gathered.put(messages)
        except StoreUnconfirmed as error:
            log.warning("a write was not confirmed in time", messages=len(messages), seconds=self._patience)
            return [error] * len(messages)
        first = outcomes[0]
        if isinstance(first, StoreError) and not any(
            isinstance(one, AcceptResult | StoreUnconfirmed) for one in outcomes
        ):
            raise first
        return outcomes

    async def _write(self, messages: list[NewMessage]) -> list[Outcome]:
        outcomes = await self._once(messages)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while (lost := [at for at, one in enumerate(outcomes) if isinstance(one, StoreUnconfirmed)]) and (
            loop.time() < until
        ):
            await asyncio.sleep(PAUSE)
            for at, again in zip(lost, await self._once([messages[at] for at in lost]), strict=True):
                if isinstance(again, AcceptResult):
                    outcomes[at] = again
        return outcomes

    async def _once(self, messages: Sequence[NewMessage]) -> list[Outcome]:
        try:
            return list(await self._accept(messages))
        except StorePartly as error:
            return list(error.outcomes)
        except StoreError as error:
            if not of_an_item(error):
                return [error] * len(messages)
            fault: Exception = error
        except Exception as error:  # noqa: BLE001 - whatever is odd about one of them
            fault = error
        if len(messages) == 1:
            return [UnstorableMessage(fault)]
        half = len(messages) // 2
        return await self._once(messages[:half]) + await self._once(messages[half:])
