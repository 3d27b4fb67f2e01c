"""The two routes that carry the traffic, as raw ASGI: ``POST /v1/messages`` and ``POST /v1/messages/batch``.

The response leaves after the store has the messages, never before.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.api.admission import Admission
from gateway.api.content_negotiation import JSON, NDJSON, negotiate
from gateway.api.listener import App, Message, Receive, Scope, Send
from gateway.api.ndjson import NdjsonRequest, whole_body
from gateway.api.problems import RETRY_SECONDS, HttpProblem, problem, refuse, retry_after
from gateway.api.requests import (
    MAX_BATCH,
    MAX_SINGLE,
    RequestHead,
    check_key,
    check_type,
    decode_batch,
    decode_single,
    media_type,
    read_body,
    read_head,
)
from gateway.api.results import SubmitResponse, batch_response, problem_response, single_response, store_problem
from gateway.config import Account
from gateway.intake.idempotency import Claimed, StoredResponse, body_hash
from gateway.intake.submission import Submission
from gateway.store.errors import StoreError
from gateway.store.requests import ClaimResult

if TYPE_CHECKING:
    from gateway.intake.idempotency import IdempotentRequests
    from gateway.intake.service import Intake

_REPLAYED = ((b"idempotency-replayed", b"true"),)
Work = Callable[[bytes | None], Awaitable[SubmitResponse]]


class SubmitHandler:
    """The two submit routes; every other request goes to ``fallback``."""

    def __init__(
        self, admission: Admission, intake: Intake, idempotent_requests: IdempotentRequests, fallback: App
    ) -> None:
        self._admission = admission
        self._intake = intake
        self._idempotent_requests = idempotent_requests
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._fallback(scope, receive, send)
            return
        path = scope["path"]
        if path == "/v1/messages":
            await self._guarded(self._single, scope, receive, send)
        elif path == "/v1/messages/batch":
            await self._guarded(self._batch, scope, receive, send)
        else:
            await self._fallback(scope, receive, send)

    async def _guarded(self, route: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a route; answer its errors with problems."""
        try:
            await route(scope, receive, send)
        except HttpProblem as error:
            await respond(send, problem_response(error.body, error.headers))
        except StoreError as error:
            refusal = store_problem(error)
            await respond(send, problem_response(refusal.body, refusal.headers))
        except Exception:
            # Our bug: the client gets a problem as for every other error, and the server logs what is raised on.
            await respond(send, problem_response(problem("internal"), ((b"connection", b"close"),)))
            raise

    def _authenticate(self, scope: Scope, *media_types: bytes) -> tuple[Account, RequestHead]:
        """Return the caller and the head, before anything of the body is read. Raises HttpProblem (401, 415, 503)."""
        head = read_head(scope["headers"])
        account = self._admission.accounts.caller(head.authorization)
        check_type(head, *media_types)
        if self._admission.closing:
            raise refuse("shutting_down", headers=(retry_after(RETRY_SECONDS), (b"connection", b"close")))
        return account, head

    async def _single(self, scope: Scope, receive: Receive, send: Send) -> None:
        account, head = self._authenticate(scope)
        body = await read_body(head, receive, MAX_SINGLE)
        submission = decode_single(body)
        if head.idempotency_key is None:
            self._admission.accounts.admit(account, 1, time.monotonic())
            await respond(send, single_response(await self._intake.one(account, submission)))
            return

        async def work(base: bytes | None) -> SubmitResponse:
            return single_response(await self._intake.one(account, submission, base))

        await respond(send, await self._once(account, head, body_hash(b"single", body), 1, work))

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a batch. NDJSON answered in NDJSON is streamed, unless the response is kept for repeats."""
        account, head = self._authenticate(scope, NDJSON)
        given = NDJSON if media_type(head) == NDJSON else JSON
        wanted = negotiate(scope["headers"], given, (JSON, NDJSON))
        if given == wanted == NDJSON and head.idempotency_key is None:
            await NdjsonRequest(self._admission, account, self._intake).run(receive, send)
            return
        body = await read_body(head, receive, MAX_BATCH)
        if given == NDJSON:
            count, work = whole_body(body, account, self._intake, wanted)
        else:
            count, work = self._json(account, decode_batch(body), wanted)
        if head.idempotency_key is None:
            self._admission.accounts.admit(account, count, time.monotonic())
            await respond(send, await work(None))
            return
        kind = b"lines" if given == NDJSON else b"batch"
        await respond(send, await self._once(account, head, body_hash(kind, body), count, work))

    def _json(self, account: Account, submissions: list[Submission], wanted: bytes) -> tuple[int, Work]:
        """Return the number of messages, and the function that accepts them and returns the response."""

        async def work(base: bytes | None) -> SubmitResponse:
            return batch_response(await self._intake.many(account, submissions, base), wanted)

        return len(submissions), work

    async def _once(self, account: Account, head: RequestHead, body: bytes, count: int, work: Work) -> SubmitResponse:
        """Run the request, or return the response that it got within 24 hours. ``body``: its hash.

        Raises HttpProblem (409 while it runs, 422 for another body, 429), StoreError.
        """
        key = check_key(head)
        self._admission.accounts.admit(account, count, time.monotonic())
        run = await self._idempotent_requests.begin(account.name, key, body)
        if isinstance(run, Claimed):
            return _replay(run)
        response = None
        try:
            response = await work(run.base)
        finally:
            kept = None
            if response is not None and response.final:
                kept = StoredResponse(response.status, response.body, response.content_type[1])
            await self._idempotent_requests.end(run, kept)
        return response


def _replay(claimed: Claimed) -> SubmitResponse:
    if claimed.answer is not None:
        status, body, content_type = claimed.answer
        return SubmitResponse(status, body, (b"content-type", content_type), _REPLAYED)
    if claimed.result is ClaimResult.MISMATCH:
        raise refuse(
            "idempotency_mismatch", "use a new key for every request; only a repeat has the same key and the same body"
        )
    raise refuse("idempotency_running", headers=(retry_after(1.0),))


async def respond(send: Send, response: SubmitResponse) -> None:
    """Send a whole response."""
    headers = [(b"content-length", b"%d" % len(response.body)), response.content_type, *response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body: Message = {"type": "http.response.body", "body": response.body}
    await send(body)
