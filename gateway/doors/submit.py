"""The two routes that carry the traffic, as raw ASGI: ``POST /v1/messages`` and ``POST /v1/messages/batch``.

The answer leaves after the store holds the messages, never before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.config import Account
from gateway.doors import wire
from gateway.doors.accounts import Accounts
from gateway.doors.listener import App, Receive, Scope, Send
from gateway.doors.problems import CONTENT_TYPE, FieldError, HttpProblem, Problem, problem, refuse, retry_after
from gateway.doors.requests import (
    MAX_BATCH,
    MAX_SINGLE,
    Head,
    check_type,
    decode_batch,
    decode_single,
    read_body,
    read_head,
)
from gateway.model import State
from gateway.pipeline import submission
from gateway.pipeline.submission import Result, Submission
from gateway.store import ids
from gateway.store.errors import StoreError, StoreFull

RETRY_SECONDS = 2.0
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", CONTENT_TYPE)
_STATUSES = wire.STATUSES
_encode = msgspec.json.Encoder().encode


class Taker(Protocol):
    """What these routes need of the pipeline."""

    async def one(self, account: Account, asked: Submission) -> Result | submission.Problem:
        """One message, gathered with others that arrive at the same time. Raises StoreError."""
        ...

    async def many(self, account: Account, asked: Sequence[Submission]) -> list[Result | submission.Problem]:
        """A batch; results in the order sent. Raises StoreError when nothing was accepted."""
        ...


class Submit:
    """The fast routes; every other request goes to ``behind``."""

    def __init__(self, accounts: Accounts, taker: Taker, behind: App) -> None:
        self.accounts = accounts
        self.closing = False  # a gateway that stops takes no new messages
        self._taker = taker
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._behind(scope, receive, send)
            return
        path = scope["path"]
        if path == "/v1/messages":
            await self._guarded(self._single, scope, receive, send)
        elif path == "/v1/messages/batch":
            await self._guarded(self._batch, scope, receive, send)
        else:
            await self._behind(scope, receive, send)

    async def _guarded(self, route: App, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await route(scope, receive, send)
        except HttpProblem as error:
            await answer(send, error.body.status, _encode(error.body), _PROBLEM, *error.headers)
        except StoreError as error:
            refusal = store_problem(error)
            await answer(send, refusal.body.status, _encode(refusal.body), _PROBLEM, *refusal.headers)

    def _enter(self, scope: Scope) -> tuple[Account, Head]:
        """Who calls, before anything of the body is read."""
        head = read_head(scope["headers"])
        account = self.accounts.caller(head.authorization)
        check_type(head)
        if self.closing:
            raise refuse("shutting_down", headers=(retry_after(RETRY_SECONDS), (b"connection", b"close")))
        return account, head

    async def _single(self, scope: Scope, receive: Receive, send: Send) -> None:
        account, head = self._enter(scope)
        asked = decode_single(await read_body(head, receive, MAX_SINGLE))
        self.accounts.admit(account, 1, time.monotonic())
        result = await self._taker.one(account, asked)
        said = shape(result)
        if isinstance(said, Problem):
            await answer(send, said.status, _encode(said), _PROBLEM, *_come_back(said))
        else:
            await answer(send, 202, _encode(said), _JSON)

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        account, head = self._enter(scope)
        asked = decode_batch(await read_body(head, receive, MAX_BATCH))
        self.accounts.admit(account, len(asked), time.monotonic())
        results = await self._taker.many(account, asked)
        rows: list[wire.Submitted | wire.Refused] = []
        accepted = 0
        for index, result in enumerate(results):
            said = shape(result, index)
            if isinstance(said, Problem):
                rows.append(wire.Refused(index, said))
            else:
                accepted += 1
                rows.append(said)
        if not accepted and (busy := _busy(rows)) is not None:
            await answer(send, busy.status, _encode(busy), _PROBLEM, *_come_back(busy))
            return
        await answer(send, 202, _encode(wire.BatchAnswer(accepted, len(rows) - accepted, rows)), _JSON)


def shape(result: Result | submission.Problem, index: int | None = None) -> wire.Submitted | Problem:
    """A result as the contract has it; ``index`` is its place in a batch."""
    if isinstance(result, submission.Problem):
        return _fault(result, index)
    if result.state is State.REJECTED and not result.duplicate:
        verdict = result.verdict
        return problem(
            wire.CODES[verdict.code],
            id=ids.text(result.id),
            client_ref=result.client_ref,
            decision=wire.decision(verdict),
            retry_at=wire.rfc3339(verdict.next_at),
        )
    return wire.Submitted(
        ids.text(result.id),
        _STATUSES[result.state],
        result.segments,
        result.encoding,
        "+" + result.to,
        result.client_ref,
        wire.decision(result.verdict),
        result.duplicate,
        index,
    )


def _fault(fault: submission.Problem, index: int | None) -> Problem:
    if not fault.field:
        return problem(fault.code, fault.detail)
    field = fault.field if index is None else f"messages[{index}].{fault.field}"
    return problem(fault.code, f"{field}: {fault.detail}", errors=[FieldError(field, fault.code, fault.detail)])


def _busy(rows: Sequence[wire.Submitted | wire.Refused]) -> Problem | None:
    """The gateway's own problem (503) when it is what refused every message: then the whole batch is to come again."""
    problems = [row.problem for row in rows if isinstance(row, wire.Refused)]
    first: Problem = problems[0]
    return first if first.status == 503 and all(said.code == first.code for said in problems) else None


def _come_back(said: Problem) -> tuple[tuple[bytes, bytes], ...]:
    return (retry_after(RETRY_SECONDS),) if said.status == 503 else ()


def store_problem(error: StoreError) -> HttpProblem:
    """503 with Retry-After: the store is away or full, nothing was accepted."""
    code = "store_full" if isinstance(error, StoreFull) else "store_unavailable"
    return refuse(code, headers=(retry_after(RETRY_SECONDS),))


async def answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A whole response."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
