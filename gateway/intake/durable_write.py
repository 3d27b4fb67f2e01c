"""Intake's write: each message is stored, or surely not stored, or its app is told that neither is known.

A call whose answer was lost may have been carried out. Made again it is the same call, for the ids of its messages are
the same; so it is repeated until the store answers or the request's time is over. Only then the app is told that a
message may have been accepted.
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

STORE_TIMEOUT = 1.0
"""Seconds that a submission waits for one answer of the store.

The store answers within milliseconds or is away; the ten seconds that its connection waits for everything else are
longer than most apps do, and an app that has given up does not hear whether its message was accepted.
"""

RETRY_PAUSE = 0.05
"""Seconds before an unconfirmed write is repeated."""

UNCONFIRMED = (
    "the store did not confirm the write in time, so the message may have been accepted under the id given here: GET "
    "it to see. A repeat with the same Idempotency-Key or client_ref is accepted once; one without, perhaps twice"
)

INTERNAL = (
    "the gateway failed on this message (its log says why) and did not accept it; the other messages of the request "
    "are not affected"
)

log = structlog.get_logger(__name__)


class UnstorableMessage(StoreError):
    """The message, and no other, makes the write fail. ``fault``: the error."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(f"{type(fault).__name__}: {fault}")
        self.fault = fault


Answer = TypeVar("Answer")
Outcome = AcceptResult | StoreError
Accept = Callable[[Sequence[NewMessage]], Awaitable[list[AcceptResult]]]


def not_sent() -> StoreError:
    """Return the error of what was not given to the store, because an earlier call has had no answer."""
    return StoreUnavailable("the store does not answer")


def unconfirmed() -> StoreError:
    """Return the error of what was given to the store, which has not answered."""
    return StoreUnconfirmed("the store has not confirmed the write")


async def read_in_time(answer: Awaitable[Answer]) -> Answer:
    """Return the answer of a call that only reads. Raises StoreError, also after ``STORE_TIMEOUT``."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            return await answer
    except TimeoutError:
        raise not_sent() from None
    except StoreUnconfirmed as error:
        raise nothing_written(error) from error


def nothing_written(error: StoreError) -> StoreError:
    """Return the error of a call that writes nothing: whether it was carried out does not matter."""
    return StoreUnavailable(str(error)) if isinstance(error, StoreUnconfirmed) else error


def unstored_problem(error: StoreError, detail: str, message_id: bytes = b"") -> SubmissionProblem:
    """Return the problem of a message that the store did not take, or may have taken under this id."""
    if isinstance(error, UnstorableMessage):
        return SubmissionProblem("internal", INTERNAL)
    if isinstance(error, StoreUnconfirmed):
        return SubmissionProblem("write_unconfirmed", UNCONFIRMED, id=message_id)
    return SubmissionProblem("store_full" if isinstance(error, StoreFull) else "store_unavailable", detail)


class DurableWriter:
    """Writes messages together with those of other requests, at most ``limit`` in one call."""

    def __init__(self, accept: Accept, *, limit: int, timeout: float = STORE_TIMEOUT) -> None:
        self._accept = accept
        self._timeout = timeout
        self._batches: Batcher[NewMessage, Outcome] = Batcher(
            self._write, gap=0, limit=limit, timeout=timeout, timed_out=unconfirmed, not_sent=not_sent
        )

    def __repr__(self) -> str:
        return f"<DurableWriter {self._batches!r}>"

    async def put(self, messages: Sequence[NewMessage]) -> Sequence[Outcome]:
        """Return what became of each, in order.

        A StoreUnconfirmed says that the message may be stored, any other StoreError that it is not. Raises the first
        StoreError when surely none of them is stored.
        """
        try:
            outcomes: Sequence[Outcome] = await self._batches.put(messages)
        except StoreUnconfirmed as error:
            log.warning("a write was not confirmed in time", messages=len(messages), seconds=self._timeout)
            return [error] * len(messages)
        first = outcomes[0]
        if isinstance(first, StoreError) and not any(
            isinstance(one, AcceptResult | StoreUnconfirmed) for one in outcomes
        ):
            raise first
        return outcomes

    async def _write(self, messages: list[NewMessage]) -> list[Outcome]:
        """Write, and repeat what was not confirmed until the time-out."""
        outcomes = await self._attempt(messages)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while (open_ := [i for i, one in enumerate(outcomes) if isinstance(one, StoreUnconfirmed)]) and (
            loop.time() < deadline
        ):
            await asyncio.sleep(RETRY_PAUSE)
            for i, outcome in zip(open_, await self._attempt([messages[i] for i in open_]), strict=True):
                if isinstance(outcome, AcceptResult):
                    outcomes[i] = outcome
        return outcomes

    async def _attempt(self, messages: Sequence[NewMessage]) -> list[Outcome]:
        """Call the store once; when the fault may lie in one message, find it by calls with ever fewer."""
        try:
            return list(await self._accept(messages))
        except StorePartly as error:
            return list(error.outcomes)
        except StoreError as error:
            if not of_an_item(error):
                return [error] * len(messages)
            fault: Exception = error
        except Exception as error:  # noqa: BLE001 - whatever one message provokes must not fail the others
            fault = error
        if len(messages) == 1:
            return [UnstorableMessage(fault)]
        half = len(messages) // 2
        return await self._attempt(messages[:half]) + await self._attempt(messages[half:])
