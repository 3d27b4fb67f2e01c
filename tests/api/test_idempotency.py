"""Requests with an ``Idempotency-Key``: run once, answered again."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.intake.service import SLICE_ALONE
from gateway.model import NewMessage, State
from gateway.store.errors import StoreUnavailable
from tests.api.conftest import Answer, ApiClient
from tests.intake.fakes import SHOP

ONE = {"to": "+46701740605", "text": "Your parcel waits."}
MANY = {"messages": [{"to": f"+4670174{i:04}", "text": "x"} for i in range(700)]}
NDJSON = {"Content-Type": "application/x-ndjson"}


def keyed(key: str = "k1", **more: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": key} | more}


async def post(api_client: ApiClient, body: Any, key: str = "k1", path: str = "") -> Answer:
    path = path or ("/v1/messages/batch" if "messages" in body else "/v1/messages")
    return await api_client("POST", path, json=body, **keyed(key))


@pytest.mark.parametrize("body", [ONE, MANY])
async def test_a_repeat_gets_the_first_answer(api_client: ApiClient, body: Any) -> None:
    first = await post(api_client, body)
    count = len(api_client.store.messages)
    api_client.now += 3_600_000
    again = await post(api_client, body)
    assert (again.status, again.body) == (first.status, first.body)
    assert first.status == 202
    assert len(api_client.store.messages) == count
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = await post(api_client, body, "k2")
    assert other.status == 202
    assert len(api_client.store.messages) == 2 * count


async def test_another_body_is_refused(api_client: ApiClient) -> None:
    await post(api_client, ONE)
    answer = await post(api_client, ONE | {"text": "Another."})
    assert (answer.status, answer.body["code"], answer.body["retryable"]) == (422, "idempotency_mismatch", False)
    assert answer.body["detail"].startswith("use a new key for every request")
    assert (await post(api_client, MANY)).body["code"] == "idempotency_mismatch"
    assert len(api_client.store.messages) == 1


async def test_accounts_do_not_share_keys(api_client: ApiClient) -> None:
    first = await post(api_client, ONE)
    other = await api_client("POST", "/v1/messages", key="other-key", json=ONE | {"category": "otp"}, **keyed())
    assert (first.status, other.status) == (202, 202)
    assert first.body["id"] != other.body["id"]


async def test_while_the_first_runs_its_repeat_is_409(api_client: ApiClient) -> None:
    gate = asyncio.Event()
    facts = api_client.store.facts

    async def slow(*args: Any) -> Any:
        await gate.wait()
        return await facts(*args)

    api_client.store.facts = slow  # type: ignore[method-assign]
    first = asyncio.create_task(post(api_client, ONE))
    while not api_client.claims.claims:  # noqa: ASYNC110 - it happens in the server
        await asyncio.sleep(0.001)
    again = await post(api_client, ONE)
    other = await post(api_client, ONE | {"text": "Another."})
    gate.set()
    assert (again.status, again.body["code"], again.headers["Retry-After"]) == (409, "idempotency_running", "1")
    assert other.body["code"] == "idempotency_mismatch"
    assert (await first).status == 202
    assert (await post(api_client, ONE)).body == (await first).body
    assert len(api_client.store.messages) == 1


async def test_a_refusal_by_policy_is_kept(api_client: ApiClient) -> None:
    body = ONE | {"category": "marketing"}
    first, again = await post(api_client, body), await post(api_client, body)
    assert (first.status, again.status) == (422, 422)
    assert again.body == first.body
    assert again.headers["Content-Type"] == "application/problem+json"


async def test_what_is_malformed_claims_nothing(api_client: ApiClient) -> None:
    assert (await post(api_client, {"to": 5})).status == 400
    assert not api_client.claims.claims
    assert (await post(api_client, ONE)).status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
async def test_an_invalid_idempotency_key_is_refused(api_client: ApiClient, key: str) -> None:
    answer = await post(api_client, ONE, key)
    assert (answer.status, answer.body["errors"][0]["field"]) == (400, "Idempotency-Key")


async def test_503_is_not_kept(api_client: ApiClient) -> None:
    api_client.store.error = StoreUnavailable("x")
    assert (await post(api_client, ONE)).status == 503
    api_client.store.error = None
    answer = await post(api_client, ONE)
    assert answer.status == 202
    assert "Idempotency-Replayed" not in answer.headers


async def test_429_is_not_kept(api_client: ApiClient) -> None:
    slow = msgspec.structs.replace(SHOP, rate=0.1)
    api_client.api.accounts = Accounts((slow,), time.monotonic())
    assert (await post(api_client, ONE, "k0")).status == 202
    assert (await post(api_client, ONE)).status == 429
    api_client.api.accounts = Accounts((SHOP,), time.monotonic())
    assert (await post(api_client, ONE)).status == 202


async def test_a_batch_that_failed_half_way_is_completed_by_its_repeat(api_client: ApiClient) -> None:
    api_client.store.error, api_client.store.fail_after = StoreUnavailable("x"), 1
    first = await post(api_client, MANY)
    assert (first.status, first.body["accepted"], first.body["refused"]) == (202, SLICE_ALONE, 700 - SLICE_ALONE)
    api_client.store.error = None
    again = await post(api_client, MANY)
    assert (again.status, again.body["accepted"]) == (202, 700)
    ids = [row["id"] for row in again.body["results"]]
    assert ids[:SLICE_ALONE] == [row["id"] for row in first.body["results"][:SLICE_ALONE]]
    assert len(set(ids)) == len(api_client.store.messages) == 700
    assert not any("duplicate" in row for row in again.body["results"])
    assert (await post(api_client, MANY)).body == again.body


async def test_after_a_full_queue_the_repeat_is_accepted(api_client: ApiClient) -> None:
    api_client.store.waiting = {"shop": {State.QUEUED: 1_000_000}}
    assert (await post(api_client, MANY)).status == 503
    api_client.store.waiting = {}
    api_client.api.app._intake._queue_limits._asked_at = 0.0  # type: ignore[attr-defined]
    assert (await post(api_client, MANY)).body["accepted"] == 700


async def test_a_response_that_could_not_be_kept_is_sent_all_the_same(api_client: ApiClient) -> None:
    api_client.claims.error = StoreUnavailable("x")
    first = await post(api_client, ONE)
    assert first.status == 202
    again = await post(api_client, ONE)
    assert (again.status, again.body["id"]) == (202, first.body["id"])
    assert len(api_client.store.messages) == 1


async def test_ids_carry_time_and_partition(api_client: ApiClient) -> None:
    answer = await post(api_client, MANY)
    for row, message in zip(answer.body["results"], api_client.store.messages.values(), strict=True):
        identity = uuid.UUID(row["id"])
        assert identity.version == 7
        assert identity.bytes == message.id
        assert identity.int & 1023 == message.recipient.partition
        assert identity.int >> 80 == api_client.now


async def test_a_message_without_a_client_ref_has_a_reference_of_its_request(api_client: ApiClient) -> None:
    await post(api_client, {"messages": [ONE, ONE | {"client_ref": "a"}]})
    first, second = api_client.store.messages.values()
    assert (len(first.reference), len(second.reference)) == (16, 16)
    await api_client.send()
    assert _last(api_client).reference == b""


async def test_lines_under_a_key(api_client: ApiClient) -> None:
    body = b"".join(msgspec.json.encode(message) + b"\n" for message in MANY["messages"]) + b"{}\n"
    first = await api_client("POST", "/v1/messages/batch", data=body, **keyed(**NDJSON))
    again = await api_client("POST", "/v1/messages/batch", data=body, **keyed(**NDJSON))
    assert (first.status, again.status) == (202, 202)
    assert first.body == again.body
    assert again.headers["Content-Type"] == "application/x-ndjson"
    assert msgspec.json.decode(again.body.splitlines()[-1]) == {"accepted": 700, "refused": 1}
    assert len(api_client.store.messages) == 700


async def test_a_message_refused_by_policy_is_refused_again_when_the_request_is_repeated(api_client: ApiClient) -> None:
    """The gateway died after the record was written: the repeat answers from the record."""
    api_client.claims.error = StoreUnavailable("x")
    first = await post(api_client, ONE | {"category": "marketing"})
    again = await post(api_client, ONE | {"category": "marketing"})
    assert (first.status, again.status) == (422, 422)
    assert again.body["id"] == first.body["id"]
    assert _last(api_client).state is State.REJECTED


def _last(api_client: ApiClient) -> NewMessage:
    return list(api_client.store.messages.values())[-1]
