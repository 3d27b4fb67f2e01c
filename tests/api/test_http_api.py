from __future__ import annotations

import uuid

import pytest

from gateway.model import State
from tests.api.conftest import ApiClient


async def test_a_message_is_read_back(api_client: ApiClient) -> None:
    sent = await api_client.send(client_ref="a", metadata={"order": 7}, expires_at="2026-11-21T13:00:00Z")
    status, body, _ = await api_client("GET", f"/v1/messages/{sent.body['id']}")
    assert status == 200
    assert body["decision"].pop("policy_version")
    assert body == {
        "id": sent.body["id"],
        "status": "queued",
        "final": False,
        "reason": None,
        "to": "+46701740605",
        "from": "Shop",
        "category": "transactional",
        "brand": "shop",
        "client_ref": "a",
        "segments": 1,
        "encoding": "gsm7",
        "accepted_at": "2026-11-21T12:00:00.000Z",
        "updated_at": "2026-11-21T12:00:00.000Z",
        "expires_at": "2026-11-21T13:00:00.000Z",
        "decision": {"outcome": "allow", "code": None, "zones": [], "rules": []},
        "parts": [],
        "timeline": [{"time": "2026-11-21T12:00:00.000Z", "status": "queued", "reason": None}],
        "route": "+46",
        "metadata": {"order": 7},
    }


@pytest.mark.parametrize("path", ["", "/cancel"])
async def test_messages_of_another_account_are_not_found(api_client: ApiClient, path: str) -> None:
    sent = await api_client.send()
    method = "POST" if path else "GET"
    nobody, strange = str(uuid.uuid4()), "0199c2a4-0000-7000-8000-00000000ffff"
    for key, name in (("other-key", sent.body["id"]), ("shop-key", nobody), ("shop-key", "x"), ("shop-key", strange)):
        status, body, _ = await api_client(method, f"/v1/messages/{name}{path}", key=key)
        assert (status, body["code"]) == (404, "not_found")


async def test_a_message_is_found_by_its_reference(api_client: ApiClient) -> None:
    sent = await api_client.send(client_ref="a&b")
    query = {"client_ref": "a&b", "to": "+46701740605"}
    status, body, _ = await api_client("GET", "/v1/messages", params=query)
    assert (status, [message["id"] for message in body["messages"]]) == (200, [sent.body["id"]])
    assert (await api_client("GET", "/v1/messages", params=query, key="other-key")).body == {"messages": []}
    assert (await api_client("GET", "/v1/messages?client_ref=a%26b&to=+46701740605")).body["messages"]
    answer = await api_client("GET", "/v1/messages", params={"to": "+46701740605"})
    assert (answer.status, answer.body["errors"][0]["field"]) == (400, "client_ref")


async def test_a_reference_alone_finds_every_recipient_s(api_client: ApiClient) -> None:
    sent = [await api_client.send(client_ref="a", to=to) for to in ("+46701740605", "+46701740606")]
    await api_client.send(client_ref="b")
    answer = await api_client("GET", "/v1/messages", params={"client_ref": "a"})
    assert [message["id"] for message in answer.body["messages"]] == [each.body["id"] for each in sent]
    assert (await api_client("GET", "/v1/messages", params={"client_ref": "a"}, key="other-key")).body == {
        "messages": []
    }


async def test_a_search_says_when_there_may_be_more(api_client: ApiClient) -> None:
    messages = [{"to": f"+467017{number:05}", "text": "x", "client_ref": "many"} for number in range(120)]
    await api_client("POST", "/v1/messages/batch", json={"messages": messages})
    answer = await api_client("GET", "/v1/messages", params={"client_ref": "many"})
    assert (len(answer.body["messages"]), answer.body["more"]) == (100, True)


@pytest.mark.parametrize(
    ("state", "status", "word"),
    [
        (State.QUEUED, 200, "canceled"),
        (State.SENDING, 202, "cancel_requested"),
        (State.DELIVERED, 409, None),
        (None, 404, None),
    ],
)
async def test_cancel(api_client: ApiClient, state: State | None, status: int, word: str | None) -> None:
    sent = await api_client.send()
    message_id = uuid.UUID(sent.body["id"]).bytes
    if state is None:
        del api_client.store.states[message_id], api_client.store.messages[message_id]
    else:
        api_client.store.states[message_id] = state
    answer = await api_client("POST", f"/v1/messages/{sent.body['id']}/cancel")
    assert answer.status == status
    assert word is None or answer.body["status"] == word


async def test_the_root_redirects_to_the_page(api_client: ApiClient) -> None:
    answer = await api_client("GET", "/", key="", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "docs")
    page = await api_client("GET", "/", key="")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("PUT", "/v1/messages", 405),
        ("PUT", "/v1/messages/batch", 405),
        ("DELETE", "/v1/consents/+46701740605", 405),
        ("POST", "/v1/messages/", 404),
    ],
)
async def test_unknown_paths_and_methods_get_problems(
    api_client: ApiClient, method: str, path: str, status: int
) -> None:
    answer = await api_client(method, path)
    assert (answer.status, answer.body["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    said = f"no resource at {path}: " if status == 404 else f"allowed methods: {answer.headers['Allow']}"
    assert answer.body["detail"].startswith(said)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/messages", "GET, HEAD, POST"),
        ("/v1/messages/batch", "POST"),
        ("/v1/messages/x", "GET, HEAD"),
        ("/v1/suppressions/+46701740605", "DELETE, GET, HEAD, PUT"),
    ],
)
async def test_405_names_every_method_of_the_path(api_client: ApiClient, path: str, allowed: str) -> None:
    answer = await api_client("PATCH", path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/messages/x"),
        ("GET", "/v1/messages"),
        ("POST", "/v1/messages/x/cancel"),
        ("PUT", "/v1/consents/+46701740605"),
        ("GET", "/v1/consents/+46701740605"),
        ("PUT", "/v1/suppressions/+46701740605"),
        ("GET", "/v1/suppressions/+46701740605"),
        ("DELETE", "/v1/suppressions/+46701740605"),
    ],
)
async def test_every_route_requires_a_key(api_client: ApiClient, method: str, path: str) -> None:
    assert (await api_client(method, path, key="wrong")).status == 401


async def test_health_routes_require_no_key(api_client: ApiClient) -> None:
    assert (await api_client("GET", "/healthz", key="")).status == 200
    assert (await api_client("GET", "/readyz", key="")).status == 200
