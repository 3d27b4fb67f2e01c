"""What operators ask of a supervisor: answered for all workers together.

What every worker has to do (carriers, receivers of webhooks) all are asked at the same time, and recorded once. What is
in the store any worker tells and does: such requests are passed on as they are, and the worker records them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.audit import Audit
from gateway.admin.auth import Operator
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.api.responses import JsonResponse
from gateway.carriers.views import CarrierView
from gateway.cluster.workers import merge
from gateway.cluster.workers.pool import WorkerPool
from gateway.cluster.workers.requests import WorkerReply, WorkerRequest, ask_all, ask_one, fields
from gateway.webhooks.admin import EndpointStatus

METHODS = ["GET", "POST", "PUT", "DELETE"]
MAX_BODY = 1024 * 1024
_views = msgspec.json.Decoder(dict[str, list[CarrierView]]).decode
_view = msgspec.json.Decoder(CarrierView).decode
_standings = msgspec.json.Decoder(dict[str, list[EndpointStatus]]).decode


class SupervisorMeasures(Protocol):
    """What the supervisor itself counts (``metrics.Metrics``)."""

    def page(self) -> bytes: ...


class SupervisorApi:
    """``routes`` for the operators' listener of a supervisor."""

    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit, measures: SupervisorMeasures) -> None:
        self._pool = pool
        self._audit = audit
        self._measures = measures

    def __repr__(self) -> str:
        return f"<SupervisorApi of {self._pool()!r}>"

    def routes(self) -> list[Route]:
        """The last one takes whatever the others do not."""
        post = ["POST"]
        return [
            Route("/metrics", self.metrics),
            Route("/carriers", self.carriers),
            Route("/carriers/{name}", self.carrier),
            Route("/carriers/{name}/{verb}", self.control, methods=post),
            Route("/carriers/{name}/binds/{bind}/{verb}", self.control_bind, methods=post),
            Route("/messages/{id}", self.message),
            Route("/webhooks", self.receivers),
            Route("/webhooks/retry", self.retry, methods=post),
            Route("/{path:path}", self.pass_on, methods=METHODS),
        ]

    # ---- looking

    async def metrics(self, _request: Request) -> Response:
        """``GET /metrics``: of all workers and the supervisor on one page."""
        up = self._pool().up
        replies = await ask_all(up, WorkerRequest("/metrics?part=own"))
        shared = await ask_one(up, WorkerRequest("/metrics?part=store"))
        own = {reply.worker: reply.body for reply in replies if reply.ok}
        text = merge.page({"supervisor": self._measures.page(), **own}, shared.body if shared and shared.ok else b"")
        return Response(text, media_type=next((reply.kind for reply in replies if reply.ok), "text/plain"))

    async def status(self) -> dict[str, Any]:
        """The status of all, without what the supervisor adds. Raises HttpProblem when nobody tells."""
        replies = await self._all(WorkerRequest("/status"))
        return merge.status({reply.worker: fields(reply) for reply in replies})

    async def carriers(self, _request: Request) -> Response:
        """``GET /carriers``: with the binds of all workers."""
        return JsonResponse({"carriers": await self._carriers()})

    async def carrier(self, request: Request) -> Response:
        """``GET /carriers/{name}``."""
        return _one(await self._all(WorkerRequest(_path(request))))

    async def receivers(self, _request: Request) -> Response:
        """``GET /webhooks``."""
        replies = await self._all(WorkerRequest("/webhooks"))
        return JsonResponse({"receivers": merge.standings(_standings(reply.body)["receivers"] for reply in replies)})

    async def message(self, request: Request) -> Response:
        """``GET /messages/{id}``: explained with what the carriers do at all workers."""
        body = msgspec.json.encode(await self._carriers())
        return await self._passed(WorkerRequest(_path(request), "GET", body, _operator(request)))

    # ---- doing

    async def control(self, request: Request) -> Response:
        """``POST /carriers/{name}/pause|drain|resume|reconnect``: at every worker."""
        return await self._control(request, f"carrier.{request.path_params['verb']}", request.path_params["name"])

    async def control_bind(self, request: Request) -> Response:
        """``POST /carriers/{name}/binds/{number}/…[?worker=1]``: one bind, there or at all."""
        name, bind = request.path_params["name"], request.path_params["bind"].rpartition("/")[2]
        return await self._control(request, f"bind.{request.path_params['verb']}", f"{name}/{bind}")

    async def _control(self, request: Request, action: str, target: str) -> Response:
        wanted = request.query_params.get("worker", "")
        question = WorkerRequest(quote(request.url.path), "POST")
        async with self._audit.action(request, action, target, worker=wanted) as result:
            replies = await self._all(question, wanted)
            result["workers"] = [reply.worker for reply in replies]
        return _one(replies)

    async def retry(self, request: Request) -> Response:
        """``POST /webhooks/retry``: at every worker."""
        body = await _body(request)
        chosen = fields(WorkerReply("", 200, body))
        account, url = str(chosen.get("account", "")), str(chosen.get("url", ""))
        async with self._audit.action(request, "webhooks.retry", account, url=url):
            replies = await self._all(WorkerRequest("/webhooks/retry", "POST", body))
        return JsonResponse({"receivers": sum(fields(reply).get("receivers", 0) for reply in replies)})

    async def pass_on(self, request: Request) -> Response:
        """All the rest: to one worker, as it came."""
        return await self._passed(
            WorkerRequest(_path(request), request.method, await _body(request), _operator(request)),
        )

    # ---- asking

    async def _carriers(self) -> list[CarrierView]:
        replies = await self._all(WorkerRequest("/carriers"))
        return merge.carriers({reply.worker: _views(reply.body)["carriers"] for reply in replies})

    async def _passed(self, question: WorkerRequest) -> Response:
        reply = await ask_one(self._pool().up, question)
        if reply is None:
            raise self._nobody()
        if not reply.status:
            raise _failed([reply], [])
        return Response(reply.body, reply.status, reply.headers, media_type=reply.kind)

    async def _all(self, question: WorkerRequest, only: str = "") -> list[WorkerReply]:
        """Good answers of all that are up (or of one). Raises HttpProblem when any fails for more than not having it.

        A worker that is down is not asked: it learns from the store how things are to stand when it comes up. Of a
        question, what some answer will do.
        """
        pool = self._pool()
        workers = [worker for worker in pool.up if only in ("", worker.name)]
        if not workers:
            known = ", ".join(worker.name for worker in pool)
            raise (
                refuse("not_found", f"there is no worker {only} that is up; known are: {known}")
                if only
                else (self._nobody())
            )
        replies = await ask_all(workers, question)
        good = [reply for reply in replies if reply.ok]
        refused = [reply for reply in replies if 400 <= reply.status < 500]
        failed = [reply for reply in replies if not reply.ok and reply not in refused]
        if failed and (question.method != "GET" or not good):
            raise _failed(failed, good)
        if not good:
            raise _as_it_came(refused[0])
        return good

    def _nobody(self) -> HttpProblem:
        faults = [f"worker {worker.name}: {worker.fault or worker.state}" for worker in self._pool()]
        return refuse("worker_failed", f"no worker is up ({'; '.join(faults)})")


def _one(replies: Iterable[WorkerReply]) -> Response:
    return JsonResponse(merge.carrier({reply.worker: _view(reply.body) for reply in replies}))


def _failed(failed: Iterable[WorkerReply], good: Iterable[WorkerReply]) -> HttpProblem:
    """Some did it, some did not."""
    faults = []
    for reply in failed:
        words = str(fields(reply).get("detail") or reply.body.decode(errors="replace"))
        faults.append(FieldProblem(f"worker {reply.worker}", str(fields(reply).get("code", "no_answer")), words))
    done = ", ".join(reply.worker for reply in good)
    names = ", ".join(fault.field for fault in faults)
    return refuse("worker_failed", f"{names} failed; done by: {done or 'nobody'}", errors=faults)


def _as_it_came(reply: WorkerReply) -> HttpProblem:
    """A worker's problem as our own."""
    said = fields(reply)
    errors = [msgspec.convert(error, FieldProblem) for error in said.get("errors", ())]
    return refuse(str(said.get("code", "malformed")), str(said.get("detail", "")), errors=errors)


def _operator(request: Request) -> Operator:
    found: Operator = request.scope["operator"]
    return found


def _path(request: Request) -> str:
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise refuse("too_large", f"the body may have {MAX_BODY} octets")
    return bytes(body)
