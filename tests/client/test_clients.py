"""Both clients against canned answers: what they ask, what they make of it, what they repeat."""

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
from tests.client.door import HANG_UP, Door, opened

HELLO = Message("+46701740605", "Hello", client_ref="order-1")
SOON = Retry(tries=3, patience=5.0, first=0.001, longest=0.002)
ACCEPTED = {"id": "abc", "status": "queued", "segments": 1, "encoding": "gsm7", "to": "+46701740605"}
RECORD = ACCEPTED | {"final": False, "timeline": [{"time": "2026-11-21T12:00:00.000Z", "status": "queued"}]}


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


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
async def client(request: pytest.FixtureRequest, door: Door) -> AsyncIterator[Either]:
    either = Either(request.param(door.url, "k", timeout=5.0, retry=SOON))
    yield either
    await either.close()


def problem(code: str, status: int, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    return {"type": "t", "title": "T", "status": status, "detail": "d", "code": code, "retryable": retryable, **more}


async def test_a_message_is_handed_in(client: Either, door: Door) -> None:
    door.reply(202, ACCEPTED | {"decision": {"outcome": "allow", "code": None, "new_field": 1}})
    done = await client.send(HELLO)
    assert (done.id, done.status, done.decision.outcome) == ("abc", "queued", "allow")
    (asked,) = door.asked
    assert (asked.method, asked.path) == ("POST", "/v1/messages")
    assert asked.body == {"to": "+46701740605", "text": "Hello", "client_ref": "order-1"}
    assert asked.headers["authorization"] == "Bearer k"
    assert len(asked.headers["idempotency-key"]) == 36


async def test_what_was_lost_is_asked_again_under_the_same_key(client: Either, door: Door) -> None:
    busy = problem("store_unavailable", 503, retryable=True)
    door.replies = [HANG_UP, (503, busy, {}), (202, ACCEPTED, {})]
    assert (await client.send(HELLO)).id == "abc"
    assert len(door.asked) == 3
    assert len(set(door.keys())) == 1


async def test_the_last_failure_is_raised(client: Either, door: Door) -> None:
    door.replies = [HANG_UP] * 3
    with pytest.raises(Unreachable, match=f"no gateway answers at {door.url}"):
        await client.send(HELLO)
    for _ in range(3):
        door.reply(503, problem("queue_full", 503, retryable=True), Retry_After="0")
    with pytest.raises(UnavailableError, match="queue_full: d"):
        await client.send(HELLO)
    assert len(door.asked) == 6


async def test_a_retry_after_beyond_all_patience_is_raised_at_once(client: Either, door: Door) -> None:
    door.reply(429, problem("rate_limited", 429, retryable=True), Retry_After="60")
    with pytest.raises(RateLimitedError) as caught:
        await client.send(HELLO)
    assert (caught.value.retry_after, len(door.asked)) == (60.0, 1)


async def test_a_refusal_by_policy_carries_the_decision(client: Either, door: Door) -> None:
    decision = {"outcome": "reject", "code": "consent_missing", "rules": ["r"]}
    door.reply(422, problem("consent_missing", 422, id="abc", decision=decision))
    with pytest.raises(RefusedError) as caught:
        await client.send(HELLO)
    assert caught.value.problem.decision is not None
    assert (caught.value.code, caught.value.problem.id, caught.value.problem.decision.rules) == (
        "consent_missing",
        "abc",
        ("r",),
    )


async def test_a_batch_goes_in_requests_and_comes_back_as_one(client: Either, door: Door) -> None:
    row = {"index": 0, **ACCEPTED}
    bad = {"index": 1, "problem": problem("invalid_number", 400)}
    door.reply(202, {"accepted": 1, "refused": 1, "results": [row, bad]})
    door.reply(202, {"accepted": 1, "refused": 0, "results": [row | {"id": "def"}]})
    done = await client.batch([HELLO] * 3, key="import", size=2)
    assert (done.accepted, done.refused) == (2, 1)
    first, second, third = done.results
    assert isinstance(first, Accepted)
    assert isinstance(second, Refused)
    assert isinstance(third, Accepted)
    assert [first.index, second.index, third.index] == [0, 1, 2]
    assert (third.id, second.problem.code) == ("def", "invalid_number")
    assert door.keys() == ["import.0", "import.2"]


async def test_reading_waiting_cancelling(client: Either, door: Door) -> None:
    for status, final in (("queued", False), ("sent", False), ("delivered", True)):
        door.reply(200, RECORD | {"status": status, "final": final})
    record = await client.wait("abc", 5.0)
    assert (record.status, record.timeline[0].status) == ("delivered", "queued")
    door.reply(200, {"messages": []})
    assert await client.find("order-1", "+46701740605") == []
    door.reply(200, {"messages": [RECORD, RECORD]})
    assert len(await client.find("order-1")) == 2
    door.reply(202, {"id": "abc", "status": "cancel_requested"})
    assert (await client.cancel("abc")).status == "cancel_requested"
    paths = [(asked.method, asked.path) for asked in door.asked]
    assert paths[2:] == [
        ("GET", "/v1/messages/abc"),
        ("GET", "/v1/messages?client_ref=order-1&to=%2B46701740605"),
        ("GET", "/v1/messages?client_ref=order-1"),
        ("POST", "/v1/messages/abc/cancel"),
    ]


async def test_cancelling_twice_does_no_harm(client: Either, door: Door) -> None:
    door.reply(409, problem("already_final", 409))
    door.reply(200, RECORD | {"status": "canceled", "final": True})
    assert (await client.cancel("abc")).status == "canceled"
    door.reply(409, problem("already_final", 409))
    door.reply(200, RECORD | {"status": "delivered", "final": True})
    with pytest.raises(ConflictError, match="already_final"):
        await client.cancel("abc")


async def test_decisions(client: Either, door: Door) -> None:
    ruling = {
        "time": "2026-11-21T23:00:00.000Z",
        "by": "door",
        "outcome": "defer",
        "code": "quiet_hours",
        "status": "x",
    }
    door.reply(200, {"id": "abc", "status": "deferred", "decisions": [ruling]})
    said = await client.decisions("abc")
    assert [(one.by, one.outcome, one.code) for one in said.decisions] == [("door", "defer", "quiet_hours")]
    assert door.asked[0].path == "/v1/messages/abc/decisions"


async def test_the_wait_has_an_end(client: Either, door: Door) -> None:
    door.replies = [(200, RECORD, {})] * 20
    assert (await client.wait("abc", 0.01)).status == "queued"


async def test_words_of_recipients(client: Either, door: Door) -> None:
    to = "+46701740605"
    consent = {"to": to, "status": "granted", "brand": "shop", "occurred_at": "2026-11-21T12:00:00.000Z"}
    door.reply(200, consent | {"applied": True})
    assert (await client.grant(to, method="web_form", evidence="I agree", locale="sv")).applied
    door.reply(200, consent | {"status": "revoked"})
    assert (await client.revoke(to, brand="shop")).status == "revoked"
    door.reply(200, {"consents": [consent]})
    assert [one.brand for one in await client.consents(to)] == ["shop"]
    standing = {"to": to, "scope": "all", "by": "account", "since": "2026-11-21T12:00:00.000Z"}
    door.reply(200, standing)
    assert (await client.suppress(to, "asked by phone", scope="all")).by == "account"
    door.reply(200, {"suppressions": [standing]})
    assert len(await client.suppressions(to)) == 1
    door.reply(204)
    await client.unsuppress(to, scope="all")
    assert [(asked.method, asked.path, asked.body) for asked in door.asked] == [
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


async def test_connections_are_used_again_and_replaced_when_stale(client: Either, door: Door) -> None:
    door.replies = [(200, RECORD, {})] * 3 + [(200, RECORD, {"Connection": "close"})] + [(200, RECORD, {})] * 2
    for _ in range(6):
        await client.message("abc")
    assert door.connections == 2


def test_raw_requests_are_never_repeated(door: Door) -> None:
    client = Client(door.url, retry=SOON)
    door.replies = [HANG_UP, (418, "no JSON", {}), (200, {"ok": 1}, {})]
    with pytest.raises(Unreachable):
        client.post("/x", {})
    assert client.put("/x", {}) == (418, {"text": "no JSON"})
    assert client.get("/x").body == {"ok": 1}
    assert [asked.headers.get("idempotency-key") for asked in door.asked] == [None] * 3


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://x", "http://h:port", "http://h:0", "http://[::1"])
def test_what_is_no_address(kind: type, url: str) -> None:
    with pytest.raises(BadAddress):
        kind(url)


@pytest.mark.parametrize("key", ["two\r\nlines", "nyckel-å"])
def test_what_is_no_key(key: str) -> None:
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
