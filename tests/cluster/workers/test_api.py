"""The supervisor's admin routes, with workers that fail: the response says what was done and what was not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.admin.audit import Audit
from gateway.admin.auth import AdminGuard, Tokens
from gateway.admin.routes import admin_app
from gateway.admin.worker_access import SupervisorOnly
from gateway.api.listener import UNIX, HttpListener
from gateway.client import Client, Retry
from gateway.cluster.worker_identity import WorkerIdentity
from gateway.cluster.workers.api import SupervisorApi
from gateway.cluster.workers.metrics import SupervisorMetrics
from gateway.cluster.workers.pool import WorkerPool
from tests.cluster.workers.test_merge import view

TOKEN = "a token of the operators"


class Worker:
    """Responds as configured; records each request and its operator."""

    def __init__(self, number: int, folder: Path) -> None:
        self.worker_identity = WorkerIdentity(number, f"a.{number}", "", "", f"{UNIX}{folder / f'w{number}'}")
        self.name, self.state, self.last_fault = str(number), "up", ""
        self.requests: list[tuple[str, str, str, bool]] = []
        self.fail_status = 0
        routes = [Route("/{path:path}", self.answer, methods=["GET", "POST"])]
        self.listener = HttpListener(SupervisorOnly(Starlette(routes=routes)), self.worker_identity.admin)

    async def answer(self, request: Request) -> Response:
        operator = request.scope["operator"]
        self.requests.append((request.method, str(request.url.path), operator.name, operator.recorded))
        if self.fail_status:
            return JSONResponse({"code": "store_unavailable", "detail": "the store is away"}, self.fail_status)
        if request.url.path.startswith("/carriers/"):
            return JSONResponse({name: getattr(view(), name) for name in view().__struct_fields__})
        return JSONResponse({"worker": self.name, "receivers": 2})


class FakePool(list[Worker]):
    @property
    def up(self) -> list[Worker]:
        return [worker for worker in self if worker.state == "up"]


class Health:
    async def status(self) -> Any:
        return {}

    async def ready(self) -> str:
        return ""


class FakeMetrics:
    def page(self) -> bytes:
        return b"# HELP w Workers.\n# TYPE w gauge\nw 2.0\n"


class SupervisedWorkers:
    """Two fake workers and the admin listener of their supervisor."""

    def __init__(self, folder: Path) -> None:
        self.pool = FakePool(Worker(number, folder) for number in (1, 2))
        self.audit = Audit(folder)
        metrics = cast("SupervisorMetrics", FakeMetrics())
        api = SupervisorApi(lambda: cast("WorkerPool", self.pool), self.audit, metrics)
        guard = AdminGuard(Tokens([("alice", TOKEN, True)]), admin_app(Health(), api.routes()), lambda _: False)
        self.listener = HttpListener(guard, "127.0.0.1:0")

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request from a thread of its own; the workers respond in this loop."""
        client = Client(self.listener.url, TOKEN, retry=Retry(tries=1))
        answer = await asyncio.to_thread(client.request, method, path, body)
        return answer.status, answer.body


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[SupervisedWorkers]:
    workers = SupervisedWorkers(tmp_path)
    listeners = [workers.listener, *(worker.listener for worker in workers.pool)]
    for listener in listeners:
        await listener.start()
    yield workers
    await asyncio.gather(*(listener.stop(0) for listener in listeners))


async def test_an_action_that_one_worker_fails_names_it(workers: SupervisedWorkers) -> None:
    workers.pool[1].fail_status = 503
    status, body = await workers.ask("POST", "/carriers/north/pause")
    assert (status, body["code"], body["detail"]) == (503, "worker_failed", "worker 2 failed; done by: 1")
    assert body["errors"] == [{"field": "worker 2", "code": "store_unavailable", "detail": "the store is away"}]
    (entry,) = await workers.audit.tail(10)
    assert (entry["action"], entry["target"], entry["who"], entry["outcome"]) == (
        "carrier.pause",
        "north",
        "alice",
        "failed",
    )
    assert workers.pool[0].requests == [("POST", "/carriers/north/pause", "supervisor", True)]


async def test_a_get_needs_one_successful_worker(workers: SupervisedWorkers) -> None:
    workers.pool[0].fail_status = 500
    status, body = await workers.ask("GET", "/carriers/north")
    assert (status, body["name"]) == (200, "north")
    await workers.pool[1].listener.stop(0)
    status, body = await workers.ask("GET", "/carriers/north")
    assert (status, body["code"]) == (503, "worker_failed")


async def test_an_action_for_one_worker_reaches_no_other(workers: SupervisedWorkers) -> None:
    status, _ = await workers.ask("POST", "/carriers/north/binds/2/drain?worker=2")
    assert (status, workers.pool[0].requests) == (200, [])
    assert [path for _, path, _, _ in workers.pool[1].requests] == ["/carriers/north/binds/2/drain"]
    (entry,) = await workers.audit.tail(10)
    assert (entry["action"], entry["target"], entry["worker"]) == ("bind.drain", "north/2", "2")


async def test_a_store_action_is_passed_on_once_in_the_operators_name(workers: SupervisedWorkers) -> None:
    status, body = await workers.ask("POST", "/held/release", {"everybody": True})
    assert (status, body["worker"]) == (200, "1")
    assert workers.pool[0].requests == [("POST", "/held/release", "alice", False)]
    assert workers.pool[1].requests == []


async def test_a_get_goes_on_to_the_next_worker_and_an_action_does_not(workers: SupervisedWorkers) -> None:
    await workers.pool[0].listener.stop(0)
    assert await workers.ask("GET", "/queue") == (200, {"worker": "2", "receivers": 2})
    status, body = await workers.ask("POST", "/breakers/open", {"everybody": True})
    assert (status, body["code"], workers.pool[1].requests[1:]) == (503, "worker_failed", [])


async def test_retried_endpoints_of_all_workers_are_added_up(workers: SupervisedWorkers) -> None:
    assert await workers.ask("POST", "/webhooks/retry", {"account": "shop"}) == (200, {"receivers": 4})


async def test_without_any_worker_the_problem_says_why(workers: SupervisedWorkers) -> None:
    for worker in workers.pool:
        worker.state, worker.last_fault = "down", "killed by SIGKILL"
    for path in ("/queue", "/carriers"):
        status, body = await workers.ask("GET", path)
        assert (status, body["code"]) == (503, "worker_failed")
        assert "worker 2: killed by SIGKILL" in body["detail"]
    assert (await workers.ask("GET", "/metrics"))[0] == 200
