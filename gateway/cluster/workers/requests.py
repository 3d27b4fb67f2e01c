"""Asking workers: HTTP over the socket file of each, on behalf of an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from gateway.admin.auth import Operator
from gateway.admin.worker_access import header
from gateway.api.listener import UNIX
from gateway.cluster.workers.worker import Worker

PASSED = ("Allow", "Retry-After")
"""What a client needs of a worker's headers, beside the type."""

LOOK, ORDER = 3.0, 10.0
"""Seconds that a worker may take to answer; what waits for windows to empty is given longer."""


class WorkerRequest(NamedTuple):
    """A request as it is passed on. ``operator`` None: the supervisor itself asks, and nothing goes into the audit."""

    path: str  # with its query
    method: str = "GET"
    body: bytes = b""
    operator: Operator | None = None


class WorkerReply(NamedTuple):
    """What a worker answered; status 0: nothing, and ``body`` says why."""

    worker: str
    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = {}  # of those in ``PASSED``

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


async def ask(worker: Worker, question: WorkerRequest, *, long: bool = False) -> WorkerReply:
    """One worker's answer. ``long``: it may take as long as it lives."""
    patience = None if long else LOOK if question.method == "GET" else ORDER
    headers = header(question.operator) if question.operator else {}
    connector = aiohttp.UnixConnector(path=worker.worker_identity.door.removeprefix(UNIX), force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(patience)) as session,
            session.request(
                question.method,
                f"http://worker{question.path}",
                data=question.body or None,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.read()
            passed = {name: answer.headers[name] for name in PASSED if name in answer.headers}
            return WorkerReply(worker.name, answer.status, body, answer.headers.get("content-type", ""), passed)
    except TimeoutError:
        return WorkerReply(worker.name, 0, f"no answer within {patience:g} s".encode())
    except (aiohttp.ClientError, OSError) as error:
        return WorkerReply(worker.name, 0, str(error).encode())


async def ask_all(workers: Iterable[Worker], question: WorkerRequest) -> list[WorkerReply]:
    """The answers of all, in their order, asked at the same time."""
    return list(await asyncio.gather(*(ask(worker, question) for worker in workers)))


async def ask_one(workers: Iterable[Worker], question: WorkerRequest) -> WorkerReply | None:
    """The answer of the first that can be reached; None when none can.

    An order is put to the first alone: one that got no answer may have been carried out.
    """
    reply: WorkerReply | None = None
    for worker in workers:
        reply = await ask(worker, question)
        if reply.status or question.method != "GET":
            return reply
    return reply


def fields(reply: WorkerReply) -> Mapping[str, Any]:
    """A JSON object; {} when it is none."""
    try:
        found = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
