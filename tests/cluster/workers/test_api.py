"""The supervisor's operators' routes, with workers that fail: what was done and what was not is said."""

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
from gateway.cluster.workers.pool import WorkerPool
from tests.cluster.workers.test_merge import view

TOKEN = "a token of the operators"


class Worker:
    """Answers as it is told; keeps what it was asked, and by whom."""

    def __init__(self, number: int, folder: Path) -> None:
        self.worker_identity = WorkerIdentity(number, f"a.{number}", "", "", f"{UNIX}{folder / f'w{number}'}")
        self.name, self.state, self.fault = str(number), "up", ""
        self.asked: list[tuple[str, str, str, bool]] = []
        self.fails = 0
        routes = [Route("/{path:path}", self.answer, methods=["GET", "POST"])]
        self.listener = HttpListener(SupervisorOnly(Starlette(routes=routes)), self.worker_identity.door)

    async def answer(self, request: Request) -> Response:
        operator = request.scope["operator"]
        self.asked.append((request.method, str(request.url.path), operator.name, operator.recorded))
        if self.fails:
            return JSONResponse({"code": "store_unavailable", "detail": "the store is away"}, self.fails)
        if request.url.path.startswith("/carriers/"):
            return JSONResponse({name: getattr(view(), name) for name in view().__struct_fields__})
        return JSONResponse({"worker": self.name, "receivers": 2})


class FakeCrew(list[Worker]):
    @property
    def up(self) -> list[Worker]:
        return [worker for worker in self if worker.state == "up"]


class House:
    async def status(self) -> Any:
        return {}

    async def ready(self) -> str:
        return ""


class Measures:
    def page(self) -> bytes:
        return b"# HELP w Workers.\n# TYPE w gauge\nw 2.0\n"


class Rig:
    def __init__(self, folder: Path) -> None:
        self.pool = FakeCrew(Worker(number, folder) for number in (1, 2))
        self.audit = Audit(folder)
        door = SupervisorApi(lambda: cast("WorkerPool", self.pool), self.audit, Measures())
        guard = AdminGuard(Tokens([("alice", TOKEN, True)]), admin_app(House(), door.routes()), lambda _: False)
        self.listener = HttpListener(guard, "127.0.0.1:0")

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Asked in a thread of its own, while the workers answer here."""
        client = Client(self.listener.url, TOKEN, retry=Retry(tries=1))
        answer = await asyncio.to_thread(client.request, method, path, body)
        return answer.status, answer.body


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    listeners = [rig.listener, *(worker.listener for worker in rig.pool)]
    for listener in listeners:
        await listener.start()
    yield rig
    await asyncio.gather(*(listener.stop(0) for listener in listeners))


async def test_an_order_that_one_worker_did_not_carry_out_says_so(rig: Rig) -> None:
    rig.pool[1].fails = 503
    status, body = await rig.ask("POST", "/carriers/north/pause")
    assert (status, body["code"], body["detail"]) == (503, "worker_failed", "worker 2 failed; done by: 1")
    assert body["errors"] == [{"field": "worker 2", "code": "store_unavailable", "detail": "the store is away"}]
    (entry,) = await rig.audit.tail(10)
    assert (entry["action"], entry["target"], entry["who"], entry["outcome"]) == (
        "carrier.pause",
        "north",
        "alice",
        "failed",
    )
    assert rig.pool[0].asked == [("POST", "/carriers/north/pause", "supervisor", True)]


async def test_a_look_is_what_those_say_who_answer(rig: Rig) -> None:
    rig.pool[0].fails = 500
    status, body = await rig.ask("GET", "/carriers/north")
    assert (status, body["name"]) == (200, "north")
    await rig.pool[1].listener.stop(0)
    status, body = await rig.ask("GET", "/carriers/north")
    assert (status, body["code"]) == (503, "worker_failed")


async def test_an_order_to_one_worker_reaches_no_other(rig: Rig) -> None:
    status, _ = await rig.ask("POST", "/carriers/north/binds/2/drain?worker=2")
    assert (status, rig.pool[0].asked) == (200, [])
    assert [path for _, path, _, _ in rig.pool[1].asked] == ["/carriers/north/binds/2/drain"]
    (entry,) = await rig.audit.tail(10)
    assert (entry["action"], entry["target"], entry["worker"]) == ("bind.drain", "north/2", "2")


async def test_what_is_stored_is_passed_on_once_in_the_operators_name(rig: Rig) -> None:
    status, body = await rig.ask("POST", "/held/release", {"everybody": True})
    assert (status, body["worker"]) == (200, "1")
    assert rig.pool[0].asked == [("POST", "/held/release", "alice", False)]
    assert rig.pool[1].asked == []


async def test_a_question_goes_on_to_the_next_and_an_order_does_not(rig: Rig) -> None:
    await rig.pool[0].listener.stop(0)
    assert await rig.ask("GET", "/queue") == (200, {"worker": "2", "receivers": 2})
    status, body = await rig.ask("POST", "/breakers/open", {"everybody": True})
    assert (status, body["code"], rig.pool[1].asked[1:]) == (503, "worker_failed", [])


async def test_counts_of_all_are_added_up(rig: Rig) -> None:
    assert await rig.ask("POST", "/webhooks/retry", {"account": "shop"}) == (200, {"receivers": 4})


async def test_without_any_worker_the_reason_is_told(rig: Rig) -> None:
    for worker in rig.pool:
        worker.state, worker.fault = "down", "killed by SIGKILL"
    for path in ("/queue", "/carriers"):
        status, body = await rig.ask("GET", path)
        assert (status, body["code"]) == (503, "worker_failed")
        assert "worker 2: killed by SIGKILL" in body["detail"]
    assert (await rig.ask("GET", "/metrics"))[0] == 200
