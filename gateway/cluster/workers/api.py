"""Admin routes of a supervisor: one answer for all workers.

Carriers and webhook endpoints are held by every worker: such requests go to all of them at once, and the supervisor
records an action once. What is in the store any worker can read and change: such requests are passed on unchanged, and
that worker records the action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.admin.auth import Operator
from gateway.admin.request_body import read_body
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.api.responses import JsonResponse
from gateway.carriers.views import CarrierView
from gateway.cluster.workers import merge
from gateway.cluster.workers.requests import WorkerReply, WorkerRequest, ask_all, ask_one, fields
from gateway.webhooks.admin import EndpointStatus

if TYPE_CHECKING:
    from gateway.admin.audit import Audit
    from gateway.cluster.workers.metrics import SupervisorMetrics
    from gateway.cluster.workers.pool import WorkerPool

METHODS = ["GET", "POST", "PUT", "DELETE"]

_views = msgspec.json.Decoder(dict[str, list[CarrierView]]).decode
_view = msgspec.json.Decoder(CarrierView).decode
_standings = msgspec.json.Decoder(dict[str, list[EndpointStatus]]).decode


class SupervisorApi:
    """Serves the admin listener of a supervisor (``routes``)."""

    def __init__(self, pool: Callable[[], WorkerPool], audit: Audit, metrics: SupervisorMetrics) -> None:
        self._pool = pool
        self._audit = audit
        self._metrics = metrics

    def __repr__(self) -> str:
        return f"<SupervisorApi of {self._pool()!r}>"

    def routes(self) -> list[Route]:
        """Return all routes; the last one matches whatever the others do not."""
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

    # ---- reading

    async def metrics(self, _request: Request) -> Response:
        """``GET /metrics``: the metrics of all workers and of the supervisor on one page."""
        up = self._pool().up
        replies = await ask_all(up, WorkerRequest("/metrics?part=own"))
        store = await ask_one(up, WorkerRequest("/metrics?part=store"))
        own = {reply.worker: reply.body for reply in replies if reply.ok}
        text = merge.page({"supervisor": self._metrics.page(), **own}, store.body if store and store.ok else b"")
        content_type = next((reply.content_type for reply in replies if reply.ok), "text/plain")
        return Response(text, media_type=content_type)

    async def status(self) -> dict[str, Any]:
        """Return the merged status of all workers. Raise HttpProblem when none responds."""
        replies = await self._all(WorkerRequest("/status"))
        return merge.status({reply.worker: fields(reply) for reply in replies})

    async def carriers(self, _request: Request) -> Response:
        """``GET /carriers``: with the binds of all workers."""
        return JsonResponse({"carriers": await self._carriers()})

    async def carrier(self, request: Request) -> Response:
        """``GET /carriers/{name}``."""
        return _merged_carrier(await self._all(WorkerRequest(_path(request))))

    async def receivers(self, _request: Request) -> Response:
        """``GET /webhooks``."""
        replies = await self._all(WorkerRequest("/webhooks"))
        return JsonResponse({"receivers": merge.standings(_standings(reply.body)["receivers"] for reply in replies)})

    async def message(self, request: Request) -> Response:
        """``GET /messages/{id}``: explained with the carriers as all workers together see them."""
        body = msgspec.json.encode(await self._carriers())
        return await self._pass_on(WorkerRequest(_path(request), "GET", body, _operator(request)))

    # ---- actions

    async def control(self, request: Request) -> Response:
        """``POST /carriers/{name}/pause|drain|resume|reconnect``: at every worker."""
        return await self._control(request, f"carrier.{request.path_params['verb']}", request.path_params["name"])

    async def control_bind(self, request: Request) -> Response:
        """``POST /carriers/{name}/binds/{number}/…[?worker=1]``: one bind, at that worker or at every worker."""
        name, bind = request.path_params["name"], request.path_params["bind"].rpartition("/")[2]
        return await self._control(request, f"bind.{request.path_params['verb']}", f"{name}/{bind}")

    async def _control(self, request: Request, action: str, target: str) -> Response:
        worker = request.query_params.get("worker", "")
        worker_request = WorkerRequest(quote(request.url.path), "POST")
        async with self._audit.action(request, action, target, worker=worker) as result:
            replies = await self._all(worker_request, worker)
            result["workers"] = [reply.worker for reply in replies]
        return _merged_carrier(replies)

    async def retry(self, request: Request) -> Response:
        """``POST /webhooks/retry``: at every worker."""
        body = await read_body(request)
        chosen = fields(WorkerReply("", 200, body))
        account, url = str(chosen.get("account", "")), str(chosen.get("url", ""))
        async with self._audit.action(request, "webhooks.retry", account, url=url):
            replies = await self._all(WorkerRequest("/webhooks/retry", "POST", body))
        return JsonResponse({"receivers": sum(fields(reply).get("receivers", 0) for reply in replies)})

    async def pass_on(self, request: Request) -> Response:
        """Any other request: pass it on unchanged to one worker."""
        return await self._pass_on(
            WorkerRequest(_path(request), request.method, await read_body(request), _operator(request)),
        )

    # ---- requests to workers

    async def _carriers(self) -> list[CarrierView]:
        replies = await self._all(WorkerRequest("/carriers"))
        return merge.carriers({reply.worker: _views(reply.body)["carriers"] for reply in replies})

    async def _pass_on(self, request: WorkerRequest) -> Response:
        reply = await ask_one(self._pool().up, request)
        if reply is None:
            raise self._none_up()
        if not reply.status:
            raise _failed([reply], [])
        return Response(reply.body, reply.status, reply.headers, media_type=reply.content_type)

    async def _all(self, request: WorkerRequest, only: str = "") -> list[WorkerReply]:
        """Return the successful responses of all workers that are up, or of the worker ``only``.

        Raise HttpProblem when there is none. An action must succeed at every worker, save those that refuse it with a
        4xx status while others succeed; for a GET one successful response is enough. A worker that is down is not
        asked: at its start it reads the carriers' modes from the store.
        """
        pool = self._pool()
        workers = [worker for worker in pool.up if only in ("", worker.name)]
        if not workers and only:
            known = ", ".join(worker.name for worker in pool)
            raise refuse("not_found", f"no worker {only} is up; configured workers: {known}")
        if not workers:
            raise self._none_up()
        replies = await ask_all(workers, request)
        good = [reply for reply in replies if reply.ok]
        refused = [reply for reply in replies if 400 <= reply.status < 500]
        failed = [reply for reply in replies if not reply.ok and reply not in refused]
        if failed and (request.method != "GET" or not good):
            raise _failed(failed, good)
        if not good:
            raise _as_problem(refused[0])
        return good

    def _none_up(self) -> HttpProblem:
        faults = [f"worker {worker.name}: {worker.last_fault or worker.state}" for worker in self._pool()]
        return refuse("worker_failed", f"no worker is up ({'; '.join(faults)})")


def _merged_carrier(replies: Iterable[WorkerReply]) -> Response:
    return JsonResponse(merge.carrier({reply.worker: _view(reply.body) for reply in replies}))


def _failed(failed: Iterable[WorkerReply], good: Iterable[WorkerReply]) -> HttpProblem:
    """Return the problem that names the workers that failed and those that succeeded."""
    faults = [
        FieldProblem(f"worker {reply.worker}", str(fields(reply).get("code", "no_answer")), reply.detail)
        for reply in failed
    ]
    done = ", ".join(reply.worker for reply in good)
    names = ", ".join(fault.field for fault in faults)
    return refuse("worker_failed", f"{names} failed; done by: {done or 'none'}", errors=faults)


def _as_problem(reply: WorkerReply) -> HttpProblem:
    """Return a worker's problem as our own."""
    body = fields(reply)
    errors = [msgspec.convert(error, FieldProblem) for error in body.get("errors", ())]
    return refuse(str(body.get("code", "malformed")), str(body.get("detail", "")), errors=errors)


def _operator(request: Request) -> Operator:
    operator: Operator = request.scope["operator"]
    return operator


def _path(request: Request) -> str:
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")
