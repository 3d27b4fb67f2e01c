from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.model import RuleGroup, RuleStatus, State
from gateway.store.errors import StoreFull, StoreUnavailable
from gateway.store.requests import OptChange
from tests.api.conftest import ApiClient
from tests.intake.fakes import OTHER, SHOP, SWEDE, hasher


async def test_a_message_is_accepted(api_client: ApiClient) -> None:
    status, body, headers = await api_client.send(client_ref="order-1")
    assert status == 202
    assert headers["Content-Type"] == "application/json"
    assert uuid.UUID(body["id"]).version == 7
    assert uuid.UUID(body.pop("id")).bytes in api_client.store.messages
    assert body.pop("decision").pop("policy_version")
    assert body == {
        "status": "queued",
        "segments": 1,
        "encoding": "gsm7",
        "to": "+46701740605",
        "client_ref": "order-1",
    }


async def test_a_template_is_filled(api_client: ApiClient) -> None:
    answer = await api_client.send(text=None, template="shipped", vars={"number": 17})
    assert answer.status == 202
    (message,) = api_client.store.messages.values()
    assert message.content.text == "Your parcel 17 {of 17} is on its way."
    assert message.permission.template_scope == hasher().scope("shop", "template", "shipped")
    assert message.envelope.terms is not None
    assert message.envelope.terms.template == "shipped"


async def test_a_withdrawn_template_is_refused(api_client: ApiClient) -> None:
    scope = hasher().scope("shop", "template", "shipped")
    api_client.policy_context.rules = api_client.policy_context.rules.with_flags(1, pulled=[scope])
    answer = await api_client.send(text=None, template="shipped", vars={"number": "A"})
    assert (answer.status, answer.body["code"]) == (422, "content_refused")
    assert (await api_client.send()).status == 202


async def test_the_decision_has_its_shape(api_client: ApiClient) -> None:
    _, body, _ = await api_client.send()
    decision = body["decision"]
    assert decision.pop("policy_version")
    assert decision == {"outcome": "allow", "code": None, "zones": [], "rules": []}


async def test_a_refusal_by_policy_has_id_and_decision(api_client: ApiClient) -> None:
    status, body, headers = await api_client.send(category="marketing", client_ref="a")
    assert status == 422
    assert headers["Content-Type"] == "application/problem+json"
    assert uuid.UUID(body["id"]).bytes in api_client.store.messages
    assert (body["code"], body["status"], body["retryable"], body["client_ref"]) == ("consent_missing", 422, False, "a")
    assert body["type"] == "urn:smpp-gateway:problem:consent_missing"
    assert (body["decision"]["outcome"], body["decision"]["rules"]) == ("reject", ["consent:reject"])
    assert (await api_client("GET", f"/v1/messages/{body['id']}")).body["status"] == "rejected"


async def test_an_opt_out_has_the_compatible_code(api_client: ApiClient) -> None:
    api_client.store.stops(hasher().recipient(SWEDE), RuleGroup.ALL, hasher().scope("shop"), 1)
    status, body, _ = await api_client.send()
    assert (status, body["code"], body["compat_code"]) == (422, "opted_out", 21610)


async def test_a_deferral_names_the_instant(api_client: ApiClient) -> None:
    scope = hasher().scope("shop", "shop")
    await api_client.store.opt([OptChange(hasher().recipient(SWEDE), RuleGroup.CONSENT, RuleStatus.ALLOWS, scope, 1)])
    api_client.now = 1_795_302_000_000  # midnight in Stockholm
    status, body, _ = await api_client.send(category="marketing")
    assert (status, body["status"]) == (202, "deferred")
    assert body["decision"]["next_at"] == "2026-11-22T07:00:00.000Z"
    assert (body["decision"]["outcome"], body["decision"]["zones"]) == ("defer", ["Europe/Stockholm"])


async def test_a_repeated_reference_answers_the_first_id(api_client: ApiClient) -> None:
    first = await api_client.send(client_ref="a")
    again = await api_client.send(client_ref="a")
    assert again.status == 202
    assert (again.body["id"], again.body["duplicate"]) == (first.body["id"], True)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b'{"to":"+46701740605"}', 400, "malformed", "text"),
        (b'{"to":"+46701740605","text":"x","colour":"red"}', 400, "unknown_field", "colour"),
        (b'{"to":"+46701740605","text":"x","template":"t"}', 400, "invalid_value", "text"),
        (b'{"to":"+46701740605","template":"t"}', 400, "invalid_value", "template"),
        (b'{"to":"+46701740605","text":"x","vars":{}}', 400, "invalid_value", "vars"),
        (b'{"to":"+46701740605","template":"shipped"}', 400, "invalid_value", "vars.number"),
        (b'{"to":"+46701740605","template":"shipped","vars":{"number":1,"x":2}}', 400, "unknown_field", "vars.x"),
        (b'{"to":"+46701740605","template":"shipped","vars":{"number":true}}', 400, "malformed", "vars"),
        (b'{"to":46701740605,"text":"x"}', 400, "malformed", "to"),
        (b'{"to":"0046701740605","text":"x"}', 400, "invalid_number", "to"),
        (b'{"to":"+46701740605","text":""}', 400, "malformed", "text"),
        (b'{"to":"+46701740605","text":"x","send_at":"2026-11-22T08:00:00"}', 400, "malformed", "send_at"),
        (b'{"to":"+46701740605","text":"x","category":"news"}', 400, "malformed", "category"),
        (b'{"to":"+46701740605","text":"x","category":"emergency"}', 403, "category_not_granted", "category"),
        (b'{"to":"+46701740605","text":"x","from":"Bank"}', 403, "sender_not_allowed", "from"),
        (b"[]", 400, "malformed", ""),
        (b"", 400, "malformed", ""),
        (b"to=46701740605", 400, "malformed", ""),
        (b'{"to":"+46701740605","text":"\xff"}', 400, "malformed", ""),
        (b'{"to":"+46701740605","text":"\\ud83d"}', 400, "malformed", ""),
        (b'{"to":"+46701740605","text":"x","metadata":{"a":' + b"[" * 20_000, 400, "malformed", ""),
        (
            b'{"to":"+46701740605","text":"x","metadata":' + b'{"a":' * 50 + b"1" + b"}" * 51,
            413,
            "too_large",
            "metadata",
        ),
    ],
)
async def test_faults_are_named(api_client: ApiClient, body: bytes, status: int, code: str, field: str) -> None:
    answer = await api_client("POST", "/v1/messages", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in answer.body["errors"]] == [field]
    assert not api_client.store.messages


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 202),
    ],
)
async def test_the_body_must_be_json(api_client: ApiClient, headers: dict[str, str], status: int) -> None:
    body = b'{"to":"+46701740605","text":"x"}'
    answer = await api_client("POST", "/v1/messages", data=body, headers=headers, compress=False)
    assert answer.status == status
    assert status == 202 or answer.body["title"] == "Unsupported Content-Type or Content-Encoding"


async def test_an_unencodable_character_is_named(api_client: ApiClient) -> None:
    for text, where in (("你好", "U+4F60, character 1"), ("x" * 200 + "你", "U+4F60, character 201")):
        status, body, _ = await api_client.send(text=text, encoding="gsm7")
        assert (status, body["code"]) == (400, "encoding_mismatch")
        assert f"the first is {where}; leave out encoding" in body["detail"]


async def test_a_right_that_is_missing_is_refused_with_the_rights_that_exist(api_client: ApiClient) -> None:
    for fields, said in (
        ({"brand": "nope"}, "brand: this account may not use this brand; allowed: "),
        ({"category": "emergency"}, "category: this account may not send emergency messages; allowed: "),
        ({"from": "Bank"}, "from: this account may not use this sender; allowed: "),
    ):
        status, body, _ = await api_client.send(**fields)
        assert (status, body["detail"].startswith(said)) == (403, True), body


async def test_an_unknown_field_is_refused_with_the_known_ones(api_client: ApiClient) -> None:
    message = {"to": "+46701740605", "text": "x"}
    _, body, _ = await api_client.send(sender="Shop")
    assert body["detail"].startswith("sender: unknown field; allowed: to, text, from, ")
    _, body, _ = await api_client("POST", "/v1/messages/batch", json={"messages": [message | {"sender": "Shop"}]})
    assert body["detail"].startswith("messages[0].sender: unknown field; allowed: to, text, from, ")
    _, body, _ = await api_client("POST", "/v1/messages/batch", json=message)
    assert body["detail"] == "to: unknown field; allowed: messages"


async def test_without_a_key(api_client: ApiClient) -> None:
    for key in ("", "nonsense", "x" * 1000):
        status, body, headers = await api_client.send(key=key)
        assert (status, body["code"]) == (401, "unauthorized")
        assert body["detail"].startswith("unknown API key" if key else "send Authorization: Bearer")
        assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_large_bodies(api_client: ApiClient) -> None:
    headers = {"Content-Type": "application/json"}
    for size in (65 * 1024, 3_000_000):
        answer = await api_client("POST", "/v1/messages", data=b"x" * size, headers=headers)
        assert (answer.status, answer.body["code"]) == (413, "too_large")
    answer = await api_client("POST", "/v1/messages", data=b"x" * 70_000, headers=headers | {"Expect": "100-continue"})
    assert answer.status == 413
    assert (await api_client.send()).status == 202


async def test_a_body_without_a_length_is_bounded_too(api_client: ApiClient) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 4096

    answer = await api_client("POST", "/v1/messages", data=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status == 413


async def test_a_batch_is_accepted_in_part(api_client: ApiClient) -> None:
    messages = [
        {"to": "+46701740605", "text": "one", "client_ref": "1"},
        {"to": "nobody", "text": "two"},
        {"to": "+46701740605", "text": "three", "category": "marketing"},
        {"to": "46701740606", "text": "четыре"},
    ]
    status, body, _ = await api_client("POST", "/v1/messages/batch", json={"messages": messages})
    assert (status, body["accepted"], body["refused"]) == (202, 2, 2)
    first, second, third, fourth = body["results"]
    assert (first["index"], first["status"], first["client_ref"]) == (0, "queued", "1")
    assert (second["index"], second["problem"]["code"], second["problem"]["status"]) == (1, "invalid_number", 400)
    assert second["problem"]["errors"][0]["field"] == "messages[1].to"
    assert (third["index"], third["problem"]["code"]) == (2, "consent_missing")
    assert third["problem"]["id"]
    assert (fourth["index"], fourth["encoding"], fourth["to"]) == (3, "ucs2", "+46701740606")


async def test_a_malformed_batch_names_every_faulty_message(api_client: ApiClient) -> None:
    good = {"to": "+46701740605", "text": "x"}
    messages = [good, good | {"txt": 1}, good, {"to": 5, "text": "x"}]
    status, body, _ = await api_client("POST", "/v1/messages/batch", json={"messages": messages})
    assert (status, body["code"]) == (400, "malformed")
    assert [error["field"] for error in body["errors"]] == ["messages[1].txt", "messages[3].to"]
    assert body["errors"][0]["code"] == "unknown_field"
    assert not api_client.store.messages


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": {}}, 400, "messages"),
        ({"items": []}, 400, "items"),
        ({}, 400, "messages"),
        ({"messages": [], "more": 1}, 400, "more"),
        ({"messages": [5]}, 400, "messages[0]"),
    ],
)
async def test_a_batch_of_the_wrong_shape(api_client: ApiClient, body: Any, status: int, field: str) -> None:
    answer = await api_client("POST", "/v1/messages/batch", json=body)
    assert (answer.status, answer.body["errors"][0]["field"]) == (status, field)


async def test_a_batch_has_bounds(api_client: ApiClient) -> None:
    messages = [{"to": "+46701740605", "text": "x"}] * 5001
    assert (await api_client("POST", "/v1/messages/batch", json={"messages": messages})).status == 413
    status, body, _ = await api_client("POST", "/v1/messages/batch", json={"messages": messages[:5000]})
    assert (status, body["accepted"]) == (202, 5000)
    assert len({result["id"] for result in body["results"]}) == 5000
    headers = {"Content-Type": "application/json"}
    assert (await api_client("POST", "/v1/messages/batch", data=b" " * 9_000_000, headers=headers)).status == 413


@pytest.mark.parametrize(
    ("error", "code"), [(StoreUnavailable("x"), "store_unavailable"), (StoreFull("x"), "store_full")]
)
async def test_without_a_store_nothing_is_accepted(api_client: ApiClient, error: Any, code: str) -> None:
    api_client.store.error = error
    messages = {"messages": [{"to": "+46701740605", "text": "x"}]}
    for answer in (await api_client.send(), await api_client("POST", "/v1/messages/batch", json=messages)):
        assert (answer.status, answer.body["code"], answer.body["retryable"]) == (503, code, True)
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_full_queue_is_503(api_client: ApiClient) -> None:
    api_client.store.waiting = {"shop": {State.QUEUED: 999_000, State.DEFERRED: 1000}}
    messages = {"messages": [{"to": "+46701740605", "text": "x"}] * 2}
    for answer in (await api_client.send(), await api_client("POST", "/v1/messages/batch", json=messages)):
        assert (answer.status, answer.body["code"]) == (503, "queue_full")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_over_its_rate_an_account_waits_and_others_do_not(api_client: ApiClient) -> None:
    slow = msgspec.structs.replace(SHOP, rate=2)
    api_client.api.accounts = Accounts((slow, OTHER), time.monotonic())
    answers = [await api_client.send() for _ in range(3)]
    assert answers[0].status == 202
    assert (answers[-1].status, answers[-1].body["code"]) == (429, "rate_limited")
    assert answers[-1].headers["Retry-After"] == "1"
    assert (await api_client.send("other-key", category="otp")).status == 202


async def test_a_stopping_gateway_accepts_no_messages(api_client: ApiClient) -> None:
    sent = await api_client.send()
    api_client.api.close()
    answer = await api_client.send()
    assert (answer.status, answer.body["code"], answer.headers["Connection"]) == (503, "shutting_down", "close")
    assert (await api_client("GET", f"/v1/messages/{sent.body['id']}")).status == 200


async def test_a_held_message_is_202(api_client: ApiClient) -> None:
    scope = hasher().scope("shop", "shop")
    await api_client.store.opt([OptChange(hasher().recipient(SWEDE), RuleGroup.CONSENT, RuleStatus.ALLOWS, scope, 1)])
    api_client.policy_context.rules = api_client.policy_context.rules.with_flags(1, held=[scope])
    status, body, _ = await api_client.send(category="marketing")
    assert (status, body["status"], body["decision"]["code"]) == (202, "held", "breaker_open")
    assert next(iter(api_client.store.messages.values())).state is State.HELD


async def test_characters_replaced_by_smart_are_listed(api_client: ApiClient) -> None:
    answer = await api_client.send(text="It’s here", encoding="smart")
    assert (answer.status, answer.body["encoding"], answer.body["replaced"]) == (202, "gsm7", {"’": "'"})
    assert "replaced" not in (await api_client.send(text="here", encoding="smart")).body
