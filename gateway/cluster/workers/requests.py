"""Requests of the supervisor to its workers: HTTP over the Unix socket of each, on behalf of an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from gateway.admin.auth import Operator
from gateway.admin.worker_access import operator_header
from gateway.api.listener import UNIX
from gateway.cluster.workers.worker import Worker

PASSED_HEADERS = ("Allow", "Retry-After")
"""The response headers of a worker that clients need, beside the content type."""

GET_TIMEOUT, ACTION_TIMEOUT = 3.0, 10.0
"""Seconds that a worker may take to respond; applying a configuration, which empties windows, has no time limit."""


class WorkerRequest(NamedTuple):
    """A request to a worker. ``operator`` None: the supervisor itself asks; the worker's audit does not record it."""

    path: str  # with its query
    method: str = "GET"
    body: bytes = b""
    operator: Operator | None = None


class WorkerReply(NamedTuple):
    """The response of a worker; status 0: there was none, and ``body`` says why."""

    worker: str
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}  # those of ``PASSED_HEADERS``

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def detail(self) -> str:
        """The problem's detail, else the whole body."""
        return str(fields(self).get("detail") or self.body.decode(errors="replace"))


async def ask(worker: Worker, request: WorkerRequest, *, time_limit: bool = True) -> WorkerReply:
    """Send the request to one worker and return its response."""
    timeout = (GET_TIMEOUT if request.method == "GET" else ACTION_TIMEOUT) if time_limit else None
    headers = operator_header(request.operator) if request.operator else {}
    connector = aiohttp.UnixConnector(path=worker.worker_identity.admin.removeprefix(UNIX), force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(timeout)) as session,
            session.request(
                request.method,
                f"http://worker{request.path}",
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            body = await response.read()
            passed = {name: response.headers[name] for name in PASSED_HEADERS if name in response.headers}
            content_type = response.headers.get("content-type", "")
            return WorkerReply(worker.name, response.status, body, content_type, passed)
    except TimeoutError:
        return WorkerReply(worker.name, 0, f"no response within {timeout:g} s".encode())
    except (aiohttp.ClientError, OSError) as error:
        return WorkerReply(worker.name, 0, str(error).encode())


async def ask_all(workers: Iterable[Worker], request: WorkerRequest) -> list[WorkerReply]:
    """Send the request to all workers at once and return their responses, in the order of the workers."""
    return list(await asyncio.gather(*(ask(worker, request) for worker in workers)))


async def ask_one(workers: Iterable[Worker], request: WorkerRequest) -> WorkerReply | None:
    """Return the response of the first worker that can be reached; None when there are no workers.

    Only a GET goes on to the next worker: any other request without a response may have been carried out.
    """
    reply: WorkerReply | None = None
    for worker in workers:
        reply = await ask(worker, request)
        if reply.status or request.method != "GET":
            return reply
    return reply


def fields(reply: WorkerReply) -> Mapping[str, Any]:
    """Return the JSON object in the body; ``{}`` when it is none."""
    try:
        found = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
