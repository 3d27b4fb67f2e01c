"""Both clients against canned responses: requests, decoding, retries."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.client import (
    Accepted,
    AsyncClient,
    BadAddress,
    Client,
    ConflictError,
    Message,
    RateLimitedError,
    Refused,
    RefusedError,
    Retry,
    UnavailableError,
    Unreachable,
)
from tests.client.canned_gateway import NO_RESPONSE, CannedGateway, opened

HELLO = Message("+46701740605", "Hello", client_ref="order-1")
SOON = Retry(tries=3, patience=5.0, first=0.001, longest=0.002)
ACCEPTED = {"id": "abc", "status": "queued", "segments": 1, "encoding": "gsm7", "to": "+46701740605"}
RECORD = ACCEPTED | {"final": False, "timeline": [{"time": "2026-11-21T12:00:00.000Z", "status": "queued"}]}


@pytest.fixture
def server() -> Iterator[CannedGateway]:
    with opened() as server:
        yield server


class Either:
    """Either client behind one face: calls are awaited in both."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            method = getattr(self.client, name)
            if isinstance(self.client, AsyncClient):
                return await method(*args, **kwargs)
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


@pytest.fixture(params=[Client, AsyncClient])
async def client(request: pytest.FixtureRequest, server: CannedGateway) -> AsyncIterator[Either]:
    either = Either(request.param(server.url, "k", timeout=5.0, retry=SOON))
    yield either
    await either.close()


def problem(code: str, status: int, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": "t", "title": "T", "status": status, "detail": "d", "code": code, "retryable": retryable, **more}


async def test_a_message_is_sent(client: Either, server: CannedGateway) -> None:
    server.reply(202, ACCEPTED | {"decision": {"outcome": "allow", "code": None, "new_field": 1}})
    done = await client.send(HELLO)
    assert (done.id, done.status, done.decision.outcome) == ("abc", "queued", "allow")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.body == {"to": "+46701740605", "text": "Hello", "client_ref": "order-1"}
    assert request.headers["authorization"] == "Bearer k"
    assert len(request.headers["idempotency-key"]) == 36


async def test_a_lost_response_is_retried_under_the_same_key(client: Either, server: CannedGateway) -> None:
    busy = problem("store_unavailable", 503, retryable=True)
    server.replies = [NO_RESPONSE, (503, busy, {}), (202, ACCEPTED, {})]
    assert (await client.send(HELLO)).id == "abc"
    assert len(server.requests) == 3
    assert len(set(server.keys())) == 1


async def test_the_last_error_is_raised(client: Either, server: CannedGateway) -> None:
    server.replies = [NO_RESPONSE] * 3
    with pytest.raises(Unreachable, match=f"no gateway answers at {server.url}"):
        await client.send(HELLO)
    for _ in range(3):
        server.reply(503, problem("queue_full", 503, retryable=True), Retry_After="0")
    with pytest.raises(UnavailableError, match="queue_full: d"):
        await client.send(HELLO)
    assert len(server.requests) == 6


async def test_retry_after_beyond_the_patience_is_raised_at_once(client: Either, server: CannedGateway) -> None:
    server.reply(429, problem("rate_limited", 429, retryable=True), Retry_After="60")
    with pytest.raises(RateLimitedError) as caught:
        await client.send(HELLO)
    assert (caught.value.retry_after, len(server.requests)) == (60.0, 1)


async def test_a_refusal_by_policy_carries_the_decision(client: Either, server: CannedGateway) -> None:
    decision = {"outcome": "reject", "code": "consent_missing", "rules": ["r"]}
    server.reply(422, problem("consent_missing", 422, id="abc", decision=decision))
    with pytest.raises(RefusedError) as caught:
        await client.send(HELLO)
    assert caught.value.problem.decision is not None
    assert (caught.value.code, caught.value.problem.id, caught.value.problem.decision.rules) == (
        "consent_missing",
        "abc",
        ("r",),
    )


async def test_a_batch_goes_in_several_requests_with_one_result(client: Either, server: CannedGateway) -> None:
    row = {"index": 0, **ACCEPTED}
    bad = {"index": 1, "problem": problem("invalid_number", 400)}
    server.reply(202, {"accepted": 1, "refused": 1, "results": [row, bad]})
    server.reply(202, {"accepted": 1, "refused": 0, "results": [row | {"id": "def"}]})
    done = await client.batch([HELLO] * 3, key="import", size=2)
    assert (done.accepted, done.refused) == (2, 1)
    first, second, third = done.results
    assert isinstance(first, Accepted)
    assert isinstance(second, Refused)
    assert isinstance(third, Accepted)
    assert [first.index, second.index, third.index] == [0, 1, 2]
    assert (third.id, second.problem.code) == ("def", "invalid_number")
    assert server.keys() == ["import.0", "import.2"]


async def test_message_wait_find_and_cancel(client: Either, server: CannedGateway) -> None:
    for status, final in (("queued", False), ("sent", False), ("delivered", True)):
        server.reply(200, RECORD | {"status": status, "final": final})
    record = await client.wait("abc", 5.0)
    assert (record.status, record.timeline[0].status) == ("delivered", "queued")
    server.reply(200, {"messages": []})
    assert await client.find("order-1", "+46701740605") == []
    server.reply(200, {"messages": [RECORD, RECORD]})
    assert len(await client.find("order-1")) == 2
    server.reply(202, {"id": "abc", "status": "cancel_requested"})
    assert (await client.cancel("abc")).status == "cancel_requested"
    paths = [(request.method, request.path) for request in server.requests]
    assert paths[2:] == [
        ("GET", "/v1/messages/abc"),
        ("GET", "/v1/messages?client_ref=order-1&to=%2B46701740605"),
        ("GET", "/v1/messages?client_ref=order-1"),
        ("POST", "/v1/messages/abc/cancel"),
    ]


async def test_canceling_twice_succeeds(client: Either, server: CannedGateway) -> None:
    server.reply(409, problem("already_final", 409))
    server.reply(200, RECORD | {"status": "canceled", "final": True})
    assert (await client.cancel("abc")).status == "canceled"
    server.reply(409, problem("already_final", 409))
    server.reply(200, RECORD | {"status": "delivered", "final": True})
    with pytest.raises(ConflictError, match="already_final"):
        await client.cancel("abc")


async def test_decisions(client: Either, server: CannedGateway) -> None:
    ruling = {
        "time": "2026-11-21T23:00:00.000Z",
        "by": "server",
        "outcome": "defer",
        "code": "quiet_hours",
        "status": "x",
    }
    server.reply(200, {"id": "abc", "status": "deferred", "decisions": [ruling]})
    said = await client.decisions("abc")
    assert [(one.by, one.outcome, one.code) for one in said.decisions] == [("server", "defer", "quiet_hours")]
    assert server.requests[0].path == "/v1/messages/abc/decisions"


async def test_wait_ends_after_its_seconds(client: Either, server: CannedGateway) -> None:
    server.replies = [(200, RECORD, {})] * 20
    assert (await client.wait("abc", 0.01)).status == "queued"


async def test_consents_and_suppressions(client: Either, server: CannedGateway) -> None:
    to = "+46701740605"
    consent = {"to": to, "status": "granted", "brand": "shop", "occurred_at": "2026-11-21T12:00:00.000Z"}
    server.reply(200, consent | {"applied": True})
    assert (await client.grant(to, method="web_form", evidence="I agree", locale="sv")).applied
    server.reply(200, consent | {"status": "revoked"})
    assert (await client.revoke(to, brand="shop")).status == "revoked"
    server.reply(200, {"consents": [consent]})
    assert [one.brand for one in await client.consents(to)] == ["shop"]
    standing = {"to": to, "scope": "all", "by": "account", "since": "2026-11-21T12:00:00.000Z"}
    server.reply(200, standing)
    assert (await client.suppress(to, "asked by phone", scope="all")).by == "account"
    server.reply(200, {"suppressions": [standing]})
    assert len(await client.suppressions(to)) == 1
    server.reply(204)
    await client.unsuppress(to, scope="all")
    assert [(request.method, request.path, request.body) for request in server.requests] == [
        (
            "PUT",
            f"/v1/consents/{to}",
            {"status": "granted", "method": "web_form", "evidence": "I agree", "locale": "sv"},
        ),
        ("PUT", f"/v1/consents/{to}", {"status": "revoked", "brand": "shop"}),
        ("GET", f"/v1/consents/{to}", None),
        ("PUT", f"/v1/suppressions/{to}", {"reason": "asked by phone", "scope": "all"}),
        ("GET", f"/v1/suppressions/{to}", None),
        ("DELETE", f"/v1/suppressions/{to}?scope=all", None),
    ]


async def test_connections_are_reused_and_replaced_when_stale(client: Either, server: CannedGateway) -> None:
    server.replies = [(200, RECORD, {})] * 3 + [(200, RECORD, {"Connection": "close"})] + [(200, RECORD, {})] * 2
    for _ in range(6):
        await client.message("abc")
    assert server.connections == 2


def test_raw_requests_are_never_retried(server: CannedGateway) -> None:
    client = Client(server.url, retry=SOON)
    server.replies = [NO_RESPONSE, (418, "no JSON", {}), (200, {"ok": 1}, {})]
    with pytest.raises(Unreachable):
        client.post("/x", {})
    assert client.put("/x", {}) == (418, {"text": "no JSON"})
    assert client.get("/x").body == {"ok": 1}
    assert [request.headers.get("idempotency-key") for request in server.requests] == [None] * 3


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://x", "http://h:port", "http://h:0", "http://[::1"])
def test_an_invalid_url_is_refused(kind: type, url: str) -> None:
    with pytest.raises(BadAddress):
        kind(url)


@pytest.mark.parametrize("key", ["two\r\nlines", "nyckel-å"])
def test_an_invalid_key_is_refused(key: str) -> None:
    with pytest.raises(BadAddress, match="ASCII"):
        Client(key=key)


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        raw = {"get", "post", "put", "request"}
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, callable)
            if not name.startswith("_") and name not in raw
        }

    assert calls(Client) == calls(AsyncClient)


def test_the_blocking_client_loads_no_event_loop() -> None:
    script = "import sys, gateway.client; print([n for n in ('aiohttp', 'asyncio', 'uvloop') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
