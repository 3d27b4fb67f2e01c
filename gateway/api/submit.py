"""The two routes that carry the traffic, as raw ASGI: ``POST /v1/messages`` and ``POST /v1/messages/batch``.

The answer leaves after the store holds the messages, never before.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.api.accounts import Accounts
from gateway.api.content_negotiation import JSON, NDJSON, form
from gateway.api.listener import App, Message, Receive, Scope, Send
from gateway.api.ndjson import NdjsonRequest
from gateway.api.ndjson import whole as ndjson_whole
from gateway.api.problems import HttpProblem, problem, refuse, retry_after
from gateway.api.requests import (
    MAX_BATCH,
    MAX_SINGLE,
    RequestHead,
    check_key,
    check_type,
    decode_batch,
    decode_single,
    kind_of,
    read_body,
    read_head,
)
from gateway.api.results import RETRY_SECONDS, SubmitResponse, batch, said_problem, single, store_problem
from gateway.config import Account
from gateway.intake import submission
from gateway.intake.idempotency import Claimed, IdempotentRun, StoredResponse, body_hash
from gateway.intake.submission import Submission, SubmissionResult
from gateway.store.errors import StoreError
from gateway.store.requests import ClaimResult

_REPLAYED = ((b"idempotency-replayed", b"true"),)
Work = Callable[[bytes | None], Awaitable[SubmitResponse]]


class SubmitIntake(Protocol):
    """What these routes need of the pipeline. ``base``: of a request that may be repeated."""

    async def one(
        self, account: Account, asked: Submission, base: bytes | None = None
    ) -> SubmissionResult | submission.SubmissionProblem:
        """One message, gathered with others that arrive at the same time. Raises StoreError."""
        ...

    async def many(
        self, account: Account, asked: Sequence[Submission], base: bytes | None = None
    ) -> list[SubmissionResult | submission.SubmissionProblem]:
        """A batch; results in the order sent. Raises StoreError when nothing was accepted."""
        ...


class Runner(Protocol):
    """What these routes need for requests with an ``Idempotency-Key`` (see ``intake.idempotency``)."""

    async def begin(self, account: str, key: str, body: bytes) -> IdempotentRun | Claimed: ...
    async def end(self, run: IdempotentRun, answer: StoredResponse | None) -> None: ...


class SubmitHandler:
    """The fast routes; every other request goes to ``behind``."""

    def __init__(self, accounts: Accounts, taker: SubmitIntake, runs: Runner, behind: App) -> None:
        self.accounts = accounts
        self.closing = False  # a gateway that stops takes no new messages
        self._taker = taker
        self._runs = runs
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
            await answer(send, said_problem(error.body, error.headers))
        except StoreError as error:
            refusal = store_problem(error)
            await answer(send, said_problem(refusal.body, refusal.headers))
        except Exception:
            # Our bug: the client hears it in the form of every other problem, and the server logs what is raised on.
            await answer(send, said_problem(problem("internal"), ((b"connection", b"close"),)))
            raise

    def _enter(self, scope: Scope, *kinds: bytes) -> tuple[Account, RequestHead]:
        """Who calls, before anything of the body is read."""
        head = read_head(scope["headers"])
        account = self.accounts.caller(head.authorization)
        check_type(head, *kinds)
        if self.closing:
            raise refuse("shutting_down", headers=(retry_after(RETRY_SECONDS), (b"connection", b"close")))
        return account, head

    async def _single(self, scope: Scope, receive: Receive, send: Send) -> None:
        account, head = self._enter(scope)
        body = await read_body(head, receive, MAX_SINGLE)
        asked = decode_single(body)
        if head.idempotency_key is None:
            self.accounts.admit(account, 1, time.monotonic())
            await answer(send, single(await self._taker.one(account, asked)))
            return

        async def work(base: bytes | None) -> SubmitResponse:
            return single(await self._taker.one(account, asked, base))

        await answer(send, await self._once(account, head, body_hash(b"single", body), 1, work))

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """JSON or lines in, JSON or lines out: lines for lines are streamed, unless the answer is kept for repeats."""
        account, head = self._enter(scope, NDJSON)
        given = NDJSON if kind_of(head) == NDJSON else JSON
        wanted = form(scope["headers"], given, (JSON, NDJSON))
        if given == wanted == NDJSON and head.idempotency_key is None:
            await NdjsonRequest(self, account, self._taker).run(receive, send)
            return
        body = await read_body(head, receive, MAX_BATCH)
        if given == NDJSON:
            count, work = ndjson_whole(body, account, self._taker, wanted)
        else:
            count, work = self._json(account, decode_batch(body), wanted)
        if head.idempotency_key is None:
            self.accounts.admit(account, count, time.monotonic())
            await answer(send, await work(None))
            return
        kind = b"lines" if given == NDJSON else b"batch"
        await answer(send, await self._once(account, head, body_hash(kind, body), count, work))

    def _json(self, account: Account, asked: list[Submission], wanted: bytes) -> tuple[int, Work]:
        """How many messages, and the work that answers them."""

        async def work(base: bytes | None) -> SubmitResponse:
            return batch(await self._taker.many(account, asked, base), wanted)

        return len(asked), work

    async def _once(self, account: Account, head: RequestHead, body: bytes, count: int, work: Work) -> SubmitResponse:
        """Do the work, or give the answer that it was given within 24 hours. ``body``: its hash.

        Raises HttpProblem (409 while it runs, 422 for another body, 429), StoreError.
        """
        key = check_key(head)
        self.accounts.admit(account, count, time.monotonic())
        run = await self._runs.begin(account.name, key, body)
        if isinstance(run, Claimed):
            return _replay(run)
        said = None
        try:
            said = await work(run.base)
        finally:
            kept = StoredResponse(said.status, said.body, said.kind[1]) if said is not None and said.final else None
            await self._runs.end(run, kept)
        return said


def _replay(claimed: Claimed) -> SubmitResponse:
    if claimed.answer is not None:
        status, body, kind = claimed.answer
        return SubmitResponse(status, body, (b"content-type", kind), _REPLAYED)
    if claimed.result is ClaimResult.MISMATCH:
        raise refuse(
            "idempotency_mismatch", "give every request a key of its own; only a repeat has the same, and the same body"
        )
    raise refuse("idempotency_running", headers=(retry_after(1.0),))


async def answer(send: Send, said: SubmitResponse) -> None:
    """A whole response."""
    headers = [(b"content-length", b"%d" % len(said.body)), said.kind, *said.headers]
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    body: Message = {"type": "http.response.body", "body": said.body}
    await send(body)
