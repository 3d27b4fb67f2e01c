"""A batch as lines (``application/x-ndjson``): one message a line in, one result a line out, in the order sent.

Lines are accepted as they arrive, and their results leave at once. A faulty line is one refused message, not a refused
request. The last line of the response has the counts: ``{"accepted", "refused"}``.

Reading never waits for the client to read: a client that sends everything before it reads the first octet of the
response would wait for ever. What it has not read is kept in memory, bounded by ``MAX_LINES``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from gateway.api import schemas
from gateway.api.admission import Admission
from gateway.api.listener import Receive, Send
from gateway.api.problems import FieldProblem, HttpProblem, ProblemDetails, problem, refuse
from gateway.api.requests import MAX_MESSAGES, MAX_SINGLE, decode_single, malformed
from gateway.api.results import (
    NDJSON,
    CountLine,
    Row,
    SubmitResponse,
    ndjson_lines,
    row_of,
    rows_response,
    store_problem,
)
from gateway.config import Account
from gateway.intake.submission import Submission
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from gateway.intake.service import Intake

MAX_LINES = 50_000
SLICE = 512
"""Lines accepted together."""

_EMPTY = "the body has no lines"


class LineSplitter:
    """Split octets into lines. A line that is too long is returned as None; empty lines are skipped."""

    def __init__(self, limit: int = MAX_SINGLE) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes, *, end: bool = False) -> list[bytes | None]:
        """Return the lines complete now; with ``end`` the last one too, which needs no line break."""
        *whole, rest = (self._rest + data).split(b"\n")
        if end:
            whole, rest = [*whole, rest], b""
        lines: list[bytes | None] = []
        for line in whole:
            if self._skipping:
                self._skipping = False  # the end of a line that was returned as None already
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
    """Return a line's message, or what is wrong with the line."""
    try:
        if line is None:
            raise refuse("too_large", f"a line may have at most {MAX_SINGLE} bytes")
        return decode_single(line, "the line")
    except HttpProblem as error:
        return error.body


async def _accept(
    intake: Intake, account: Account, lines: Sequence[bytes | None], first: int, base: bytes | None = None
) -> list[Row]:
    """Return the rows of these lines, numbered from ``first``. Raises StoreError when nothing was accepted."""
    decoded = [_decode(line) for line in lines]
    submissions = [each for each in decoded if isinstance(each, Submission)]
    results = iter(await intake.many(account, submissions, base) if submissions else ())
    return [
        row_of(next(results), index, "") if isinstance(each, Submission) else schemas.RefusedView(index, each)
        for index, each in enumerate(decoded, first)
    ]


def whole_body(
    body: bytes, account: Account, intake: Intake, media_type: bytes
) -> tuple[int, Callable[[bytes | None], Awaitable[SubmitResponse]]]:
    """Return the number of lines, and the function that accepts them and returns one response of this media type.

    Raises HttpProblem (400, 413).
    """
    lines = LineSplitter().feed(body, end=True)
    if not lines:
        raise malformed([FieldProblem("", "malformed", _EMPTY)])
    if len(lines) > MAX_MESSAGES:
        detail = f"with an Idempotency-Key, or answered in JSON, a batch may have at most {MAX_MESSAGES} lines"
        raise refuse("too_large", detail)

    async def work(base: bytes | None) -> SubmitResponse:
        return rows_response(await _accept(intake, account, lines, 0, base), media_type)

    return len(lines), work


class NdjsonRequest:
    """One request whose lines are accepted as they arrive."""

    def __init__(self, admission: Admission, account: Account, intake: Intake) -> None:
        self._admission = admission
        self._account = account
        self._intake = intake
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._rows = self._accepted = 0

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the request. Raises HttpProblem (400, 401, 429, 503) or StoreError while nothing was accepted."""
        writer: asyncio.Task[None] | None = None
        splitter = LineSplitter()
        try:
            more, over_limit = True, False
            while more and not over_limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                more = message["more_body"]
                lines, room = splitter.feed(message["body"], end=not more), MAX_LINES - self._rows
                over_limit, lines = len(lines) > room, lines[:room]
                for start in range(0, len(lines), SLICE):
                    rows = await self._accept_slice(lines[start : start + SLICE])
                    writer = writer or asyncio.create_task(self._write(send))
                    self._out.put_nowait(ndjson_lines(rows))
            if writer is None:
                raise malformed([FieldProblem("", "malformed", _EMPTY)])
            if over_limit:
                detail = f"a stream may have at most {MAX_LINES} lines; send the rest in another request"
                self._out.put_nowait(ndjson_lines([schemas.RefusedView(self._rows, problem("too_large", detail))]))
                self._rows += 1
            self._out.put_nowait(ndjson_lines([CountLine(self._accepted, self._rows - self._accepted)]))
            self._out.put_nowait(b"")
            await writer
        finally:
            if writer is not None:
                writer.cancel()

    async def _accept_slice(self, lines: Sequence[bytes | None]) -> list[Row]:
        """Return the rows of some lines, at the account's rate. After the first slice every fault is a row's."""
        first = self._rows
        try:
            await self._admit(len(lines))
            if self._admission.closing:
                raise refuse("shutting_down")
            rows = await _accept(self._intake, self._account, lines, first)
        except (HttpProblem, StoreError) as error:
            if not first:
                raise
            body = (store_problem(error) if isinstance(error, StoreError) else error).body
            rows = [schemas.RefusedView(index, body) for index in range(first, first + len(lines))]
        self._rows += len(lines)
        self._accepted += sum(isinstance(row, schemas.SubmittedView) for row in rows)
        return rows

    async def _admit(self, count: int) -> None:
        """Wait until the account's rate limit admits so many; the first slice is refused instead of waiting."""
        if not self._rows:
            self._admission.accounts.admit(self._account, count, time.monotonic())
            return
        while True:
            wait = self._admission.accounts.wait(self._account, count, time.monotonic())
            if not wait:
                return
            await asyncio.sleep(wait)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [NDJSON]})
        while body := await self._out.get():
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
