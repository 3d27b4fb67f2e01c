"""A batch as lines (``application/x-ndjson``): one message a line in, one result a line out, in the order sent.

Nothing waits for the end of the request: lines are taken in as they arrive, and their results leave at once. A faulty
line is one refused message, not a refused request. The last line of the answer counts: ``{"accepted", "refused"}``.

Reading never waits for the client to read: clients that send everything before they read the first octet of the answer
would wait for ever otherwise. What they have not read is kept, which ``MAX_LINES`` bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.api import schemas
from gateway.api.accounts import Accounts
from gateway.api.listener import Receive, Send
from gateway.api.problems import FieldProblem, HttpProblem, ProblemDetails, problem, refuse
from gateway.api.requests import MAX_MESSAGES, MAX_SINGLE, decode_single, malformed
from gateway.api.results import LINES, CountLine, Row, SubmitResponse, joined, row, rows_said, store_problem
from gateway.config import Account
from gateway.intake import submission
from gateway.intake.submission import Submission, SubmissionResult
from gateway.store.errors import StoreError

MAX_LINES = 50_000
SLICE = 512
_EMPTY = "there is no line in it"


class StreamIntake(Protocol):
    """What takes messages in."""

    async def many(
        self, account: Account, asked: Sequence[Submission], base: bytes | None = None
    ) -> list[SubmissionResult | submission.SubmissionProblem]: ...


class StreamContext(Protocol):
    """What may change while a stream runs."""

    accounts: Accounts
    closing: bool


class LineSplitter:
    """Cuts octets into lines; one that is too long is given as None. Empty lines are not counted."""

    def __init__(self, limit: int = MAX_SINGLE) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes, *, end: bool = False) -> list[bytes | None]:
        """What is complete now; with ``end`` the last line too, which needs no line break."""
        *whole, rest = (self._rest + data).split(b"\n")
        if end:
            whole, rest = [*whole, rest], b""
        lines: list[bytes | None] = []
        for line in whole:
            if self._skipping:
                self._skipping = False  # this was the end of one that was given as None already
            elif len(line) > self._limit:
                lines.append(None)
            elif line.strip():
                lines.append(line)
        if len(rest) > self._limit:
            if not self._skipping:
                lines.append(None)
            self._skipping, rest = True, b""
        self._rest = rest
        return lines


def _decode(line: bytes | None) -> Submission | ProblemDetails:
    """A line's message, or what is wrong with it."""
    try:
        if line is None:
            raise refuse("too_large", f"a line may have {MAX_SINGLE} octets")
        return decode_single(line, "the line")
    except HttpProblem as fault:
        return fault.body


async def _take(
    taker: StreamIntake, account: Account, lines: Sequence[bytes | None], first: int, base: bytes | None = None
) -> list[Row]:
    """The rows of these lines, ``first`` being the number of the first. Raises StoreError when nothing was accepted."""
    decoded = [_decode(line) for line in lines]
    asked = [each for each in decoded if isinstance(each, Submission)]
    results = iter(await taker.many(account, asked, base) if asked else ())
    return [
        row(next(results), index, "") if isinstance(each, Submission) else schemas.RefusedView(index, each)
        for index, each in enumerate(decoded, first)
    ]


def whole(
    body: bytes, account: Account, taker: StreamIntake, kind: bytes
) -> tuple[int, Callable[[bytes | None], Awaitable[SubmitResponse]]]:
    """How many lines a body has, and the work that answers it at once, as ``kind``. Raises HttpProblem (400, 413)."""
    lines = LineSplitter().feed(body, end=True)
    if not lines:
        raise malformed([FieldProblem("", "malformed", _EMPTY)])
    if len(lines) > MAX_MESSAGES:
        said = f"with an Idempotency-Key, or answered in JSON, a batch may have {MAX_MESSAGES} lines"
        raise refuse("too_large", said)

    async def work(base: bytes | None) -> SubmitResponse:
        return rows_said(await _take(taker, account, lines, 0, base), kind)

    return len(lines), work


class NdjsonRequest:
    """One request that is taken in as it arrives."""

    def __init__(self, door: StreamContext, account: Account, taker: StreamIntake) -> None:
        self._door = door
        self._account = account
        self._taker = taker
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._rows = self._accepted = 0

    async def run(self, receive: Receive, send: Send) -> None:
        """Raises HttpProblem (400, 401, 429) or StoreError as long as nothing was accepted."""
        writer: asyncio.Task[None] | None = None
        lines = LineSplitter()
        try:
            more, beyond = True, False
            while more and not beyond:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                more = message["more_body"]
                fresh, room = lines.feed(message["body"], end=not more), MAX_LINES - self._rows
                beyond, fresh = len(fresh) > room, fresh[:room]
                for start in range(0, len(fresh), SLICE):
                    rows = await self._slice(fresh[start : start + SLICE])
                    writer = writer or asyncio.create_task(self._write(send))
                    self._out.put_nowait(joined(rows))
            if writer is None:
                raise malformed([FieldProblem("", "malformed", _EMPTY)])
            if beyond:
                said = problem("too_large", f"a stream may have {MAX_LINES} lines; send the rest in another")
                self._out.put_nowait(joined([schemas.RefusedView(self._rows, said)]))
                self._rows += 1
            self._out.put_nowait(joined([CountLine(self._accepted, self._rows - self._accepted)]))
            self._out.put_nowait(b"")
            await writer
        finally:
            if writer is not None:
                writer.cancel()

    async def _slice(self, lines: Sequence[bytes | None]) -> list[Row]:
        """Rows of some lines, at the account's rate. After the first slice every fault is one of its lines."""
        first = self._rows
        try:
            await self._admit(len(lines))
            if self._door.closing:
                raise refuse("shutting_down")
            rows = await _take(self._taker, self._account, lines, first)
        except (HttpProblem, StoreError) as error:
            if not first:
                raise
            body = (store_problem(error) if isinstance(error, StoreError) else error).body
            rows = [schemas.RefusedView(index, body) for index in range(first, first + len(lines))]
        self._rows += len(lines)
        self._accepted += sum(isinstance(each, schemas.SubmittedView) for each in rows)
        return rows

    async def _admit(self, count: int) -> None:
        """Wait until the account may hand in so many; who is over the rate at the very start is refused instead."""
        if not self._rows:
            self._door.accounts.admit(self._account, count, time.monotonic())
            return
        while True:
            wait = self._door.accounts.wait(self._account, count, time.monotonic())
            if not wait:
                return
            await asyncio.sleep(wait)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [LINES]})
        while body := await self._out.get():
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
