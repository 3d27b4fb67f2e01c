"""Requests with an ``Idempotency-Key``: run once, answered again."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.model import NewMessage, State
from gateway.store.errors import StoreUnavailable
from tests.api.conftest import Answer, Door
from tests.intake.fakes import SHOP

ONE = {"to": "+46701740605", "text": "Your parcel waits."}
MANY = {"messages": [{"to": f"+4670174{i:04}", "text": "x"} for i in range(700)]}
NDJSON = {"Content-Type": "application/x-ndjson"}


def keyed(key: str = "k1", **more: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": key} | more}


async def post(door: Door, body: Any, key: str = "k1", path: str = "") -> Answer:
    path = path or ("/v1/messages/batch" if "messages" in body else "/v1/messages")
    return await door("POST", path, json=body, **keyed(key))


@pytest.mark.parametrize("body", [ONE, MANY])
async def test_a_repeat_gets_the_first_answer(door: Door, body: Any) -> None:
    first = await post(door, body)
    count = len(door.store.messages)
    door.now += 3_600_000
    again = await post(door, body)
    assert (again.status, again.body) == (first.status, first.body)
    assert first.status == 202
    assert len(door.store.messages) == count
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = await post(door, body, "k2")
    assert other.status == 202
    assert len(door.store.messages) == 2 * count


async def test_another_body_is_refused(door: Door) -> None:
    await post(door, ONE)
    answer = await post(door, ONE | {"text": "Another."})
    assert (answer.status, answer.body["code"], answer.body["retryable"]) == (422, "idempotency_mismatch", False)
    assert answer.body["detail"].startswith("use a new key for every request")
    assert (await post(door, MANY)).body["code"] == "idempotency_mismatch"
    assert len(door.store.messages) == 1


async def test_accounts_do_not_share_keys(door: Door) -> None:
    first = await post(door, ONE)
    other = await door("POST", "/v1/messages", key="other-key", json=ONE | {"category": "otp"}, **keyed())
    assert (first.status, other.status) == (202, 202)
    assert first.body["id"] != other.body["id"]


async def test_while_the_first_runs_its_repeat_is_409(door: Door) -> None:
    gate = asyncio.Event()
    facts = door.store.facts

    async def slow(*args: Any) -> Any:
        await gate.wait()
        return await facts(*args)

    door.store.facts = slow  # type: ignore[method-assign]
    first = asyncio.create_task(post(door, ONE))
    while not door.claims.claims:  # noqa: ASYNC110 - it happens in the server
        await asyncio.sleep(0.001)
    again = await post(door, ONE)
    other = await post(door, ONE | {"text": "Another."})
    gate.set()
    assert (again.status, again.body["code"], again.headers["Retry-After"]) == (409, "idempotency_running", "1")
    assert other.body["code"] == "idempotency_mismatch"
    assert (await first).status == 202
    assert (await post(door, ONE)).body == (await first).body
    assert len(door.store.messages) == 1


async def test_a_refusal_by_policy_is_kept(door: Door) -> None:
    body = ONE | {"category": "marketing"}
    first, again = await post(door, body), await post(door, body)
    assert (first.status, again.status) == (422, 422)
    assert again.body == first.body
    assert again.headers["Content-Type"] == "application/problem+json"


async def test_what_is_malformed_claims_nothing(door: Door) -> None:
    assert (await post(door, {"to": 5})).status == 400
    assert not door.claims.claims
    assert (await post(door, ONE)).status == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
async def test_a_key_has_a_form(door: Door, key: str) -> None:
    answer = await post(door, ONE, key)
    assert (answer.status, answer.body["errors"][0]["field"]) == (400, "Idempotency-Key")


async def test_503_is_not_kept(door: Door) -> None:
    door.store.error = StoreUnavailable("x")
    assert (await post(door, ONE)).status == 503
    door.store.error = None
    answer = await post(door, ONE)
    assert answer.status == 202
    assert "Idempotency-Replayed" not in answer.headers


async def test_429_is_not_kept(door: Door) -> None:
    slow = msgspec.structs.replace(SHOP, rate=0.1)
    door.api.accounts = Accounts((slow,), time.monotonic())
    assert (await post(door, ONE, "k0")).status == 202
    assert (await post(door, ONE)).status == 429
    door.api.accounts = Accounts((SHOP,), time.monotonic())
    assert (await post(door, ONE)).status == 202


async def test_a_batch_that_failed_half_way_is_completed_by_its_repeat(door: Door) -> None:
    door.store.error, door.store.fail_after = StoreUnavailable("x"), 1
    first = await post(door, MANY)
    assert (first.status, first.body["accepted"], first.body["refused"]) == (202, 512, 188)
    door.store.error = None
    again = await post(door, MANY)
    assert (again.status, again.body["accepted"]) == (202, 700)
    ids = [row["id"] for row in again.body["results"]]
    assert ids[:512] == [row["id"] for row in first.body["results"][:512]]
    assert len(set(ids)) == len(door.store.messages) == 700
    assert not any("duplicate" in row for row in again.body["results"])
    assert (await post(door, MANY)).body == again.body


async def test_after_a_full_queue_the_repeat_is_taken(door: Door) -> None:
    door.store.waiting = {"shop": {State.QUEUED: 1_000_000}}
    assert (await post(door, MANY)).status == 503
    door.store.waiting = {}
    door.api.app._intake._queue_limits._asked_at = 0.0  # type: ignore[attr-defined]
    assert (await post(door, MANY)).body["accepted"] == 700


async def test_an_answer_that_could_not_be_kept_is_given_all_the_same(door: Door) -> None:
    door.claims.error = StoreUnavailable("x")
    first = await post(door, ONE)
    assert first.status == 202
    again = await post(door, ONE)
    assert (again.status, again.body["id"]) == (202, first.body["id"])
    assert len(door.store.messages) == 1


async def test_ids_carry_time_and_partition(door: Door) -> None:
    answer = await post(door, MANY)
    for row, message in zip(answer.body["results"], door.store.messages.values(), strict=True):
        identity = uuid.UUID(row["id"])
        assert identity.version == 7
        assert identity.bytes == message.id
        assert identity.int & 1023 == message.recipient.partition
        assert identity.int >> 80 == door.now


async def test_a_message_without_a_client_ref_has_a_reference_of_its_request(door: Door) -> None:
    await post(door, {"messages": [ONE, ONE | {"client_ref": "a"}]})
    first, second = door.store.messages.values()
    assert (len(first.reference), len(second.reference)) == (16, 16)
    await door.send()
    assert _last(door).reference == b""


async def test_lines_under_a_key(door: Door) -> None:
    body = b"".join(msgspec.json.encode(message) + b"\n" for message in MANY["messages"]) + b"{}\n"
    first = await door("POST", "/v1/messages/batch", data=body, **keyed(**NDJSON))
    again = await door("POST", "/v1/messages/batch", data=body, **keyed(**NDJSON))
    assert (first.status, again.status) == (202, 202)
    assert first.body == again.body
    assert again.headers["Content-Type"] == "application/x-ndjson"
    assert msgspec.json.decode(again.body.splitlines()[-1]) == {"accepted": 700, "refused": 1}
    assert len(door.store.messages) == 700


async def test_one_refused_by_policy_is_refused_again_by_whoever_runs_it_again(door: Door) -> None:
    """The gateway died after the record was written: the repeat answers from the record."""
    door.claims.error = StoreUnavailable("x")
    first = await post(door, ONE | {"category": "marketing"})
    again = await post(door, ONE | {"category": "marketing"})
    assert (first.status, again.status) == (422, 422)
    assert again.body["id"] == first.body["id"]
    assert _last(door).state is State.REJECTED


def _last(door: Door) -> NewMessage:
    return list(door.store.messages.values())[-1]
