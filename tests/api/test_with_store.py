"""Intake, fresh decisions and the HTTP interface over a real store whose clock belongs to the test."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.api.http_api import HttpApi
from gateway.api.listener import HttpListener
from gateway.intake.idempotency import IdempotentRequests, IdempotentRun, body_hash
from gateway.intake.redecide import Redecider
from gateway.intake.service import Intake
from gateway.intake.submission import Submission, SubmissionResult
from gateway.model import LeasedMessage, Priority, Reason, State
from gateway.policy.rulebook import by_category
from gateway.store import keys
from gateway.store.crypto import Vault
from gateway.store.idempotency import ClaimStore
from gateway.store.library import KEY_CLOCK, build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import Lane, TakeRequest, TakeResult
from gateway.store.velocity_counts import VelocityCounts
from tests.api.conftest import FakeHouse
from tests.intake.fakes import NOON, OTHER, PARTITIONS, SHOP, SWEDE, hasher, policy_context
from tests.servers import Server

HOUR = 3_600_000
EVENING = NOON + 11 * HOUR - 1000  # 23:59:59 in Stockholm
MORNING = NOON + 19 * HOUR  # 08:00 in Stockholm
GRANT = {"status": "granted", "method": "web_form", "evidence": "ticked"}
RECIPIENT = hasher().recipient(SWEDE)
OWNER = LeaseOwner("node", "1")
LANES = tuple(Lane("+46", 0, priority) for priority in Priority)


class Gateway:
    """Everything between the HTTP socket and the lanes."""

    def __init__(self, link: StoreConnection) -> None:
        self.link = link
        self.now = 0
        self.store = MessageStore(link, hasher(), Vault({1: bytes(32)}, 1), partitions=PARTITIONS)
        self.policy_context = policy_context()
        counts = VelocityCounts(link)
        intake = Intake(self.store, self.policy_context, clock=lambda: self.now, gap=0.001, velocity=counts)
        self.decisions = Redecider(self.store, self.policy_context, clock=lambda: self.now)
        accounts = Accounts((SHOP, OTHER), time.monotonic())
        runs = IdempotentRequests(ClaimStore(link, Vault({1: bytes(32)}, 1), OWNER), hasher(), clock=lambda: self.now)
        self.api = HttpApi(accounts, intake, runs, self.store, hasher(), house=FakeHouse(), clock=lambda: self.now)
        self.listener = HttpListener(self.api.app, "127.0.0.1:0")

    async def at(self, now: int) -> None:
        """Set everybody's clock."""
        self.now = now
        await self.link.commands([(p, ("SET", self.link.tags[p] + b"clock", now)) for p in range(PARTITIONS)])

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": "Bearer shop-key"}
        async with (
            aiohttp.ClientSession(self.listener.url, headers=headers) as http,
            http.request(method, path, json=body) as response,
        ):
            return response.status, msgspec.json.decode(await response.read() or b"null")

    async def raw(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        headers = {"Authorization": "Bearer shop-key", "Content-Type": "application/json"} | headers
        async with (
            aiohttp.ClientSession(self.listener.url, headers=headers) as http,
            http.post(path, data=body) as response,
        ):
            return response.status, msgspec.json.decode(await response.read())

    async def send(self, **fields: Any) -> tuple[int, Any]:
        message = {"to": "+46701740605", "text": "Your parcel waits."} | fields
        return await self("POST", "/v1/messages", message)

    async def take(self) -> TakeResult:
        (taken,) = await self.store.take(OWNER, [TakeRequest(RECIPIENT.partition, LANES, "north", 10)])
        return taken

    async def taken(self) -> list[LeasedMessage]:
        return (await self.take()).leased


async def open_link(url: str) -> StoreConnection:
    return await connect(url, tags=keys.tags(PARTITIONS), library=build_library(KEY_CLOCK), durability="everysec")


@pytest.fixture
async def gateway(store_url: str) -> AsyncIterator[Gateway]:
    link = await open_link(store_url)
    gateway = Gateway(link)
    await gateway.at(NOON)
    await gateway.listener.start()
    yield gateway
    await gateway.listener.stop(1)
    await link.close()


async def test_what_is_accepted_can_be_taken_whole(gateway: Gateway) -> None:
    fields = {"client_ref": "a", "metadata": {"order": [1, "två"]}, "encoding": "ucs2", "brand": "outlet"}
    status, body = await gateway.send(text="Grüße 😀", **fields)
    assert (status, body["status"], body["encoding"]) == (202, "queued", "ucs2")
    (leased,) = await gateway.taken()
    assert (leased.id, leased.recipient) == (uuid.UUID(body["id"]).bytes, RECIPIENT)
    assert (leased.content.text, leased.content.encoding) == ("Grüße 😀", "ucs2")
    envelope = leased.envelope
    assert (envelope.sender, envelope.client_ref, envelope.brand) == ("Shop", "a", "outlet")
    assert envelope.metadata == {"order": [1, "två"]}
    status, body = await gateway("GET", f"/v1/messages/{body['id']}")
    assert (body["status"], [move["status"] for move in body["timeline"]]) == ("sending", ["queued", "sending"])
    assert body["metadata"] == {"order": [1, "två"]}


async def test_a_batch_over_all_partitions(gateway: Gateway) -> None:
    messages = [{"to": f"+4670{i:07}", "text": "x", "client_ref": str(i)} for i in range(700)]
    status, first = await gateway("POST", "/v1/messages/batch", {"messages": messages})
    assert (status, first["accepted"], first["refused"]) == (202, 700, 0)
    status, again = await gateway("POST", "/v1/messages/batch", {"messages": messages})
    assert [row["id"] for row in again["results"]] == [row["id"] for row in first["results"]]
    assert all(row["duplicate"] for row in again["results"])
    depths = await gateway.store.depths()
    assert sum(depth.ready for depth in depths.ready) == 700
    assert {depth.account for depth in depths.ready} == {"shop"}


async def test_a_repeat_is_answered_with_how_the_first_stands(gateway: Gateway) -> None:
    _, first = await gateway.send(client_ref="a")
    await gateway.taken()
    status, again = await gateway.send(client_ref="a")
    assert (status, again["id"], again["status"]) == (202, first["id"], "sending")
    _, found = await gateway("GET", "/v1/messages?client_ref=a&to=46701740605")
    assert [message["id"] for message in found["messages"]] == [first["id"]]


async def test_a_refusal_is_recorded_and_keeps_its_reference_free(gateway: Gateway) -> None:
    status, refusal = await gateway.send(category="marketing", client_ref="a")
    assert (status, refusal["code"]) == (422, "consent_missing")
    status, record = await gateway("GET", f"/v1/messages/{refusal['id']}")
    assert (record["status"], record["reason"], record["final"]) == ("rejected", "consent_missing", True)
    assert record["decision"]["rules"] == ["consent:reject"]
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    status, body = await gateway.send(category="marketing", client_ref="a")
    assert status == 202
    assert body["id"] != refusal["id"]


async def test_a_revocation_stops_what_is_queued(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    _, body = await gateway.send(category="marketing")
    assert body["status"] == "queued"
    await gateway.at(NOON + 1)
    assert (await gateway("PUT", "/v1/consents/+46701740605", {"status": "revoked"}))[1]["applied"]
    taken = await gateway.take()
    assert (taken.leased, taken.dropped) == ([], 1)
    _, record = await gateway("GET", f"/v1/messages/{body['id']}")
    assert (record["status"], record["reason"]) == ("rejected", "consent_revoked")


async def test_a_suppression_stops_what_is_queued(gateway: Gateway) -> None:
    _, body = await gateway.send()
    await gateway("PUT", "/v1/suppressions/+46701740605", {"scope": "all", "reason": "asked"})
    assert (await gateway.take()).dropped == 1
    assert (await gateway("GET", f"/v1/messages/{body['id']}"))[1]["reason"] == "opted_out"
    _, listed = await gateway("GET", "/v1/suppressions/+46701740605")
    assert [(rule["scope"], rule["reason"]) for rule in listed["suppressions"]] == [("all", "asked")]
    assert (await gateway("DELETE", "/v1/suppressions/+46701740605"))[0] == 204
    assert (await gateway.send())[0] == 202
    assert len(await gateway.taken()) == 1


async def test_a_night_s_deferral_wakes_in_the_morning(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    await gateway.at(EVENING)
    status, body = await gateway.send(category="marketing", time_zone="Europe/Stockholm")
    assert (status, body["status"], body["decision"]["code"]) == (202, "deferred", "quiet_hours")
    assert body["decision"]["next_at"] == "2026-11-22T07:00:00.000Z"
    assert (await gateway.take()) == TakeResult([], [], 0, False, MORNING)
    await gateway.at(MORNING)
    (back,) = (await gateway.take()).redecide
    assert (back.state, back.reason) == (State.DEFERRED, Reason.QUIET_HOURS)
    await gateway.decisions.redecide([back])
    (leased,) = await gateway.taken()
    assert leased.id == uuid.UUID(body["id"]).bytes
    _, record = await gateway("GET", f"/v1/messages/{body['id']}")
    assert [move["status"] for move in record["timeline"]] == ["deferred", "queued", "sending"]
    assert record["decision"]["outcome"] == "defer"


async def test_consent_that_runs_out_over_night(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT | {"expires_at": "2026-11-22T01:00:00Z"})
    await gateway.at(EVENING)
    _, body = await gateway.send(category="marketing")
    await gateway.at(MORNING)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    assert await gateway.taken() == []
    assert (await gateway("GET", f"/v1/messages/{body['id']}"))[1]["reason"] == "consent_missing"


async def test_a_scheduled_message_goes_at_its_hour(gateway: Gateway) -> None:
    _, body = await gateway.send(send_at="2026-11-21T14:00:00Z")
    assert (body["status"], body["decision"]["code"]) == ("scheduled", "scheduled")
    await gateway.at(NOON + 2 * HOUR)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    assert len(await gateway.taken()) == 1


async def test_cancel(gateway: Gateway) -> None:
    _, waiting = await gateway.send()
    assert await gateway("POST", f"/v1/messages/{waiting['id']}/cancel") == (
        200,
        {"id": waiting["id"], "status": "canceled"},
    )
    assert await gateway.taken() == []
    _, leased = await gateway.send()
    assert len(await gateway.taken()) == 1
    assert (await gateway("POST", f"/v1/messages/{leased['id']}/cancel"))[0] == 202
    _, refused = await gateway.send(category="marketing")
    status, problem = await gateway("POST", f"/v1/messages/{refused['id']}/cancel")
    assert (status, problem["code"], problem["id"]) == (409, "already_final", refused["id"])


async def test_a_breaker_holds_and_release_lets_go(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    scope = hasher().scope("shop", "shop")
    await gateway.store.flag(keys.breaker(scope), 1)
    gateway.policy_context.rules = gateway.policy_context.rules.with_flags(0, held=[scope])
    status, body = await gateway.send(category="marketing")
    assert (status, body["status"], body["decision"]["code"]) == (202, "held", "breaker_open")
    await gateway.store.flag(keys.breaker(scope), 0)
    gateway.policy_context.rules = gateway.policy_context.rules.with_flags(0)
    assert await gateway.store.release([uuid.UUID(body["id"]).bytes]) == 1
    await gateway.decisions.redecide((await gateway.take()).redecide)
    assert len(await gateway.taken()) == 1


async def test_bombing_with_codes_is_stopped_at_the_gate(gateway: Gateway) -> None:
    """One a minute: the second is handed back for the cap and refused, since a late code is of no use."""
    ids = [(await gateway.send(category="otp", text=f"Code {i}"))[1]["id"] for i in range(2)]
    taken = await gateway.take()
    assert [leased.id for leased in taken.leased] == [uuid.UUID(ids[0]).bytes]
    await gateway.decisions.redecide(taken.redecide)
    assert await gateway.taken() == []
    _, record = await gateway("GET", f"/v1/messages/{ids[1]}")
    assert (record["status"], record["reason"]) == ("rejected", "frequency_cap")


async def test_rules_of_a_new_epoch_hold_for_what_waits(gateway: Gateway) -> None:
    _, body = await gateway.send()
    await gateway.store.flag(keys.EPOCH, 1)
    assert (await gateway.take()).leased == []
    gateway.policy_context.rules = gateway.policy_context.rules.with_flags(1)
    await gateway.at(gateway.now + 5001)
    (back,) = (await gateway.take()).redecide
    await gateway.decisions.redecide([back])
    (leased,) = await gateway.taken()
    assert leased.id == uuid.UUID(body["id"]).bytes


async def test_while_the_store_is_away_nothing_is_accepted_and_what_was_is_there_afterwards() -> None:
    server = Server()
    link = await connect(
        server.url, tags=keys.tags(PARTITIONS), library=build_library(KEY_CLOCK), durability="everysec"
    )
    gateway = Gateway(link)
    await gateway.at(NOON)
    await gateway.listener.start()
    _, before = await gateway.send(client_ref="before")
    server.run("BGREWRITEAOF")  # writes everything out, whatever the fsync policy
    await asyncio.sleep(1.1)
    server.kill()
    started = time.monotonic()
    messages = [{"to": "+46701740605", "text": "x"}] * 3
    for status, body in (await gateway.send(), await gateway("POST", "/v1/messages/batch", {"messages": messages})):
        assert (status, body["code"], body["retryable"]) == (503, "store_unavailable", True)
    assert (await gateway("GET", f"/v1/messages/{before['id']}"))[0] == 503
    assert (await gateway("PUT", "/v1/consents/+46701740605", GRANT))[0] == 503
    assert time.monotonic() - started < 2
    server.start()
    assert (await gateway.send(client_ref="before"))[1]["id"] == before["id"]
    assert (await gateway.send())[0] == 202
    await gateway.listener.stop(1)
    await link.close()
    server.stop()


async def test_a_full_store_refuses_messages_and_takes_opt_outs(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    await gateway.link.everywhere("CONFIG", "SET", "maxmemory", "1mb")
    try:
        refused = await gateway.send()
        suppressed = await gateway("PUT", "/v1/suppressions/+46701740605", {"reason": "asked"})
    finally:
        await gateway.link.everywhere("CONFIG", "SET", "maxmemory", "0")
    assert (refused[0], refused[1]["code"]) == (503, "store_full")
    assert (suppressed[0], suppressed[1]["applied"]) == (200, True)
    assert (await gateway.send())[0] == 202


async def test_a_reference_is_found_without_its_recipient(gateway: Gateway) -> None:
    """In every partition, whichever the order, and never another's."""
    sent = []
    for number in range(20):
        _, body = await gateway.send(to=f"+467017406{number:02}", client_ref="campaign")
        sent.append(body["id"])
        await gateway.at(gateway.now + 1)
    await gateway.send(client_ref="other")
    refused = await gateway.send(client_ref="campaign", category="marketing", to="+46701749999")
    assert refused[0] == 422
    _, found = await gateway("GET", "/v1/messages?client_ref=campaign")
    assert [message["id"] for message in found["messages"]] == sent
    await gateway.at(NOON + 72 * HOUR + 5)
    _, found = await gateway("GET", "/v1/messages?client_ref=campaign")
    assert [message["id"] for message in found["messages"]] == sent[6:]


async def test_of_a_reference_that_thousands_share_the_first_are_found(gateway: Gateway) -> None:
    messages = [{"to": f"+4670{i:07}", "text": "x", "client_ref": "campaign"} for i in range(3000)]
    _, body = await gateway("POST", "/v1/messages/batch", {"messages": messages})
    assert body["accepted"] == 3000
    _, found = await gateway("GET", "/v1/messages?client_ref=campaign")
    assert len(found["messages"]) == 100
    for to in (messages[0]["to"], messages[2999]["to"]):
        _, found = await gateway("GET", f"/v1/messages?client_ref=campaign&to={to}")
        assert len(found["messages"]) == 1


async def test_a_request_cut_off_half_way_is_completed_under_the_same_ids(gateway: Gateway) -> None:
    """As after a crash: the first half is stored, the claim has no answer, the repeat comes an hour later."""
    messages = [{"to": f"+4670{i:07}", "text": "x"} for i in range(700)]
    messages[5] |= {"category": "marketing"}
    headers = {"Idempotency-Key": "k"}
    submit = gateway.api.app
    whole, runs = submit._taker, submit._runs
    run = await runs.begin("shop", "k", body_hash(b"batch", msgspec.json.encode({"messages": messages})))
    assert isinstance(run, IdempotentRun)
    half = msgspec.convert(messages[:300], list[Submission])
    first = await whole.many(SHOP, half, run.base)
    submit._runs = IdempotentRequests(
        ClaimStore(gateway.link, Vault({1: bytes(32)}, 1), LeaseOwner("node", "2")), hasher()
    )
    await gateway.at(NOON + HOUR)
    for _ in range(2):
        status, body = await gateway.raw("/v1/messages/batch", msgspec.json.encode({"messages": messages}), headers)
        assert (status, body["accepted"], body["refused"]) == (202, 699, 1)
        ids = [row.get("id") or row["problem"]["id"] for row in body["results"]]
        assert ids[:300] == [str(uuid.UUID(bytes=each.id)) for each in first if isinstance(each, SubmissionResult)]
        assert len(set(ids)) == 700
        assert not any("duplicate" in row for row in body["results"])
    assert sum(depth.ready for depth in (await gateway.store.depths()).ready) == 699


async def test_a_repeat_after_the_record_has_gone_sends_nothing_twice(gateway: Gateway) -> None:
    _, body = await gateway.raw("/v1/messages", b'{"to":"+46701740605","text":"x"}', {"Idempotency-Key": "k"})
    await gateway("POST", f"/v1/messages/{body['id']}/cancel")
    name, partition = hasher().claim("shop", "k")
    key = gateway.link.tags[partition] + b"j:" + name
    ((value,),) = [await gateway.link.commands([(partition, ("GET", key))])]
    cut = value[:32] + b"\0"  # as the crash left it: no answer
    await gateway.link.commands([(partition, ("SET", key, cut))])
    await gateway.at(NOON + 7 * HOUR)
    for partition in range(PARTITIONS):
        while (await gateway.store.sweep(partition)).more:
            pass
    assert (await gateway("GET", f"/v1/messages/{body['id']}"))[0] == 404
    status, again = await gateway.raw("/v1/messages", b'{"to":"+46701740605","text":"x"}', {"Idempotency-Key": "k"})
    assert (status, again["id"]) == (202, body["id"])
    assert await gateway.taken() == []


async def test_decisions_tell_the_whole_story(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT | {"expires_at": "2026-11-22T01:00:00Z"})
    await gateway.at(EVENING)
    _, body = await gateway.send(category="marketing")
    status, told = await gateway("GET", f"/v1/messages/{body['id']}/decisions")
    assert (status, told["status"], told["permitted"]["opens"]) == (200, "deferred", "2026-11-22T07:00:00.000Z")
    (first,) = told["decisions"]
    assert first.pop("policy_version")
    assert first == {
        "time": "2026-11-21T22:59:59.000Z",
        "by": "door",
        "outcome": "defer",
        "code": "quiet_hours",
        "status": "deferred",
        "rules": ["quiet_hours:defer"],
        "zones": ["Europe/Stockholm"],
        "next_at": "2026-11-22T07:00:00.000Z",
    }
    await gateway.at(MORNING)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    _, told = await gateway("GET", f"/v1/messages/{body['id']}/decisions")
    first, second = told["decisions"]
    assert second == {
        "time": "2026-11-22T07:00:00.000Z",
        "by": "gate",
        "outcome": "reject",
        "code": "consent_missing",
        "status": "rejected",
        "rules": ["consent:reject"],
        "zones": ["Europe/Stockholm"],
        "policy_version": first["policy_version"],
    }
    assert (told["status"], "permitted" in told) == ("rejected", False)
    assert first["next_at"] == "2026-11-22T07:00:00.000Z"
    _, seen = await gateway("GET", f"/v1/messages/{body['id']}")
    assert seen["decision"]["rules"] == ["consent:reject"]


async def test_every_decision_tells_its_rules_its_instant_and_its_policy(gateway: Gateway) -> None:
    """Scheduled into the night; over its cap by day, under other rules; opted out before it could leave."""
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    _, body = await gateway.send(category="marketing", send_at="2026-11-21T22:30:00Z")
    await gateway.at(MORNING)
    limits = by_category(otp=(), transactional=(), marketing=((1, 7200),), emergency=())
    gateway.policy_context.rules = replace(gateway.policy_context.rules, caps=limits, version="2-other")
    _, first = await gateway.send(category="marketing")
    waiting = await gateway.take()  # the new one goes, which fills the cap
    assert [one.id for one in waiting.leased] == [uuid.UUID(first["id"]).bytes]
    await gateway.decisions.redecide(waiting.redecide)
    met = await gateway.take()
    await gateway.decisions.redecide(met.redecide)
    await gateway.at(MORNING + 2 * HOUR)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    await gateway("PUT", "/v1/suppressions/+46701740605", {"reason": "STOP"})
    assert await gateway.taken() == []
    _, told = await gateway("GET", f"/v1/messages/{body['id']}/decisions")
    words = [
        (each["by"], each["code"], each.get("rules"), each.get("next_at", "")[11:16]) for each in told["decisions"]
    ]
    assert words == [
        ("door", "quiet_hours", ["quiet_hours:defer", "send_at:defer"], "07:00"),
        ("gate", None, None, ""),
        ("gate", "frequency_cap", ["frequency:defer"], "09:00"),
        ("gate", None, None, ""),
        ("gate", "opted_out", ["opt_out:reject"], ""),
    ]
    assert [each.get("policy_version", "") for each in told["decisions"]][1:] == ["2-other"] * 3 + [""]


async def test_what_a_deferred_message_waited_for_is_a_decision_too(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    await gateway.at(EVENING)
    _, body = await gateway.send(category="marketing")
    await gateway.at(MORNING)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    await gateway.taken()
    _, told = await gateway("GET", f"/v1/messages/{body['id']}/decisions")
    words = [(each["by"], each["outcome"], each["status"]) for each in told["decisions"]]
    assert words == [("door", "defer", "deferred"), ("gate", "allow", "queued")]
    assert told["status"] == "sending"


async def test_a_template_that_is_pulled_over_night_is_not_sent(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+46701740605", GRANT)
    await gateway.at(EVENING)
    _, body = await gateway.send(category="marketing", text=None, template="shipped", vars={"number": 7})
    _, queued = await gateway.send(text=None, template="shipped", vars={"number": 8})
    assert (body["status"], queued["status"]) == ("deferred", "queued")
    scope = hasher().scope("shop", "template", "shipped")
    await gateway.store.flag(keys.pulled(scope), 1)
    assert (await gateway.take()).dropped == 1
    await gateway.at(MORNING)
    gateway.policy_context.rules = gateway.policy_context.rules.with_flags(0, pulled=[scope])
    await gateway.decisions.redecide((await gateway.take()).redecide)
    assert await gateway.taken() == []
    for message in (body, queued):
        _, record = await gateway("GET", f"/v1/messages/{message['id']}")
        assert (record["status"], record["reason"]) == ("rejected", "content_refused")


async def test_a_code_over_its_cap_is_refused_at_the_door(gateway: Gateway) -> None:
    """By what went out, as the store knows it; and in a batch by what it has let in before."""
    two = {"messages": [{"to": "+46701740605", "text": "Your code is 1234.", "category": "otp"}] * 2}
    _, body = await gateway("POST", "/v1/messages/batch", two)
    assert (body["accepted"], body["refused"], body["results"][1]["problem"]["code"]) == (1, 1, "frequency_cap")
    assert len(await gateway.taken()) == 1
    await gateway.at(NOON + 20_000)
    status, problem = await gateway.send(category="otp")
    assert (status, problem["code"], problem["decision"]["rules"]) == (422, "frequency_cap", ["frequency:reject"])
    assert problem["retry_at"] == "2026-11-21T12:01:00.000Z"
    assert (await gateway.send(category="otp", to="+46701740606"))[0] == 202
    assert (await gateway.send(category="transactional"))[0] == 202
    await gateway.at(NOON + 60_000)
    assert (await gateway.send(category="otp"))[0] == 202


async def test_a_repeat_of_a_code_is_answered_whatever_its_cap_says(gateway: Gateway) -> None:
    """What was accepted is accepted: by its reference, and by an Idempotency-Key."""
    status, first = await gateway.send(category="otp", client_ref="login-1")
    assert (status, len(await gateway.taken())) == (202, 1)
    status, again = await gateway.send(category="otp", client_ref="login-1")
    assert (status, again["id"], again["status"], again["duplicate"]) == (202, first["id"], "sending", True)
    status, other = await gateway.send(category="otp", client_ref="login-2")
    assert (status, other["code"]) == (422, "frequency_cap")


async def test_marketing_over_its_cap_waits_until_there_is_room(gateway: Gateway) -> None:
    limits = by_category(otp=(), transactional=(), marketing=((1, 7200),), emergency=())
    gateway.policy_context.rules = replace(gateway.policy_context.rules, caps=limits)
    await gateway("PUT", f"/v1/consents/{SWEDE}", GRANT)
    await gateway.send(category="marketing")
    assert len(await gateway.taken()) == 1
    await gateway.at(NOON + HOUR)
    status, body = await gateway.send(category="marketing")
    assert (status, body["status"], body["decision"]["code"]) == (202, "deferred", "frequency_cap")
    assert body["decision"]["next_at"] == "2026-11-21T14:00:00.000Z"
    await gateway.at(NOON + 2 * HOUR)
    await gateway.decisions.redecide((await gateway.take()).redecide)
    assert len(await gateway.taken()) == 1


async def test_what_meets_its_cap_at_the_gate_alone_waits_for_the_cap_that_is_full(gateway: Gateway) -> None:
    """The door cannot know of what is let in elsewhere at the same moment: the gate does, and says until when."""
    limits = by_category(otp=(), transactional=((1, 60), (1, 7200)), marketing=(), emergency=())
    gateway.policy_context.rules = replace(gateway.policy_context.rules, caps=limits)
    for _ in range(2):
        assert (await gateway.send())[1]["status"] == "queued"
    taken = await gateway.take()
    assert (len(taken.leased), [item.reason for item in taken.redecide]) == (1, [Reason.FREQUENCY_CAP])
    await gateway.decisions.redecide(taken.redecide)
    (record,) = await gateway.store.find([taken.redecide[0].id])
    assert record is not None
    assert (record.state, record.reason, record.due) == (State.DEFERRED, Reason.FREQUENCY_CAP, NOON + 2 * HOUR)
