"""One person, one number, over HTTP and a real store: whatever spelling is used, it is the same recipient."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from gateway.api.accounts import Accounts
from gateway.api.results import single_response
from gateway.intake.submission import SubmissionProblem
from gateway.model import Priority
from gateway.policy.route import RouteConditions, RouteTable
from gateway.policy.velocity import VelocityTable
from gateway.store.requests import Lane, TakeRequest
from tests.api.test_with_store import GRANT, OWNER, Gateway, open_link
from tests.intake.fakes import NOON, SHOP

SPELLINGS = ("+447911123456", "+4407911123456", "447911123456", "+44007911123456")
HOUR = 3_600_000


@pytest.fixture
async def gateway(store_url: str) -> AsyncIterator[Gateway]:
    link = await open_link(store_url)
    gateway = Gateway(link)
    gateway.policy_context.routes = RouteTable([RouteConditions("everywhere")])
    await gateway.at(NOON)
    await gateway.listener.start()
    yield gateway
    await gateway.listener.stop(1)
    await link.close()


@pytest.mark.parametrize("opted", SPELLINGS)
async def test_an_opt_out_under_one_spelling_stops_messages_to_every_other(gateway: Gateway, opted: str) -> None:
    await gateway("PUT", f"/v1/suppressions/{opted}", {"scope": "all", "reason": "asked"})
    for to in SPELLINGS:
        status, body = await gateway.send(to=to)
        assert (status, body["code"]) == (422, "opted_out"), to


async def test_an_opt_out_stops_waiting_messages_under_another_spelling(gateway: Gateway) -> None:
    _, queued = await gateway.send(to="+4407911123456")
    await gateway.at(NOON + 1)
    await gateway("PUT", "/v1/suppressions/+447911123456", {"scope": "all", "reason": "asked"})
    who = gateway.policy_context.hasher.recipient("447911123456")
    lane = Lane("everywhere", 0, Priority.TRANSACTIONAL)
    (taken,) = await gateway.store.take(OWNER, [TakeRequest(who.partition, (lane,), "north", 10)])
    assert (taken.leased, taken.dropped) == ([], 1)
    assert (await gateway("GET", f"/v1/messages/{queued['id']}"))[1]["reason"] == "opted_out"


async def test_a_consent_holds_for_every_spelling_of_the_number(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+525512345678", GRANT)
    await gateway.at(NOON + 8 * HOUR)  # day in Mexico
    for to in ("+525512345678", "+5215512345678", "+52015512345678"):
        status, body = await gateway.send(to=to, category="marketing", client_ref=to)
        assert status == 202, body


async def test_a_cap_holds_for_every_spelling_of_the_number(gateway: Gateway) -> None:
    messages = [{"to": to, "text": "1234", "category": "otp"} for to in SPELLINGS]
    _, body = await gateway("POST", "/v1/messages/batch", {"messages": messages})
    assert (body["accepted"], body["refused"]) == (1, 3)
    assert {row["problem"]["code"] for row in body["results"][1:]} == {"frequency_cap"}


async def test_a_reference_is_one_message_for_every_spelling_of_the_number(gateway: Gateway) -> None:
    answers = [await gateway.send(to=to, client_ref="order-1") for to in SPELLINGS]
    assert len({body["id"] for _, body in answers}) == 1
    assert {body["to"] for _, body in answers} == {"+447911123456"}
    _, found = await gateway("GET", "/v1/messages?client_ref=order-1&to=%2B4407911123456")
    assert len(found["messages"]) == 1


async def test_the_answer_and_the_carrier_have_the_number_that_is_dialled(gateway: Gateway) -> None:
    for to, dialled in (("+4407911123456", "+447911123456"), ("+5215512345678", "+5215512345678")):
        _, body = await gateway.send(to=to)
        assert body["to"] == dialled


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("4155552671", "North America"),
        ("+4155552671", "after +41 come"),
        ("13612345678", "may be +13612345678 or, in China, +8613612345678"),
        ("+22507123456", "after +225 come 10"),
        ("0701740605", "default_country"),
    ],
)
async def test_wrong_numbers_are_refused_by_name(gateway: Gateway, to: str, words: str) -> None:
    status, body = await gateway.send(to=to)
    assert (status, body["code"], body["errors"][0]["field"]) == (400, "invalid_number", "to")
    assert words in body["detail"]


async def test_a_default_country_reads_national_numbers(gateway: Gateway) -> None:
    swedish = msgspec.structs.replace(SHOP, default_country="SE")
    gateway.policy_context.set_accounts([swedish])
    gateway.api.accounts = Accounts((swedish,), time.monotonic())
    _, body = await gateway.send(to="0701740605")
    assert body["to"] == "+46701740605"
    _, first = await gateway.send(to="0701740605", client_ref="a", expires_at="2026-11-21T12:01:00Z")
    await gateway.at(NOON + 120_000)
    _, late = await gateway.send(to="0701740605", client_ref="a", expires_at="2026-11-21T12:01:00Z")
    _, found = await gateway("GET", "/v1/messages?client_ref=a&to=0701740605")
    assert first["id"] == late["id"] == found["messages"][0]["id"]
    await gateway("PUT", "/v1/suppressions/0701740605", {"scope": "all", "reason": "asked"})
    assert (await gateway.send(to="+46701740605"))[1]["code"] == "opted_out"


@pytest.mark.parametrize("to", ["+979123456789", "+8821234567890", "+19005551234", "+447012345678"])
async def test_premium_and_satellite_numbers_must_be_allowed_by_prefix(gateway: Gateway, to: str) -> None:
    status, body = await gateway.send(to=to)
    assert (status, body["code"], body["errors"][0]["field"]) == (403, "destination_not_allowed", "to")
    assert "allow_prefixes" in body["detail"]
    gateway.policy_context.rules = replace(gateway.policy_context.rules, allow_prefixes=(to[1:5],))
    assert (await gateway.send(to=to))[0] == 202


async def test_a_foreign_zone_never_permits_marketing_at_night_unless_residence_is_attested(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+8613800138000", GRANT)
    await gateway.at(NOON + 6 * HOUR)  # 02:00 in Shanghai, 13:00 in New York
    offer = {"to": "+8613800138000", "category": "marketing", "time_zone": "America/New_York"}
    _, body = await gateway.send(**offer)
    assert (body["status"], body["decision"]["code"]) == ("deferred", "quiet_hours")
    assert body["decision"]["zones"] == ["America/New_York", "Asia/Shanghai"]
    _, body = await gateway.send(**offer, residence="attested")
    assert (body["status"], body["decision"]["zones"]) == ("queued", ["America/New_York"])
    status, body = await gateway.send(to="+8613800138000", residence="attested")
    assert (status, body["errors"][0]["field"]) == (400, "residence")


async def test_an_attested_residence_counts_when_a_message_is_decided_again(gateway: Gateway) -> None:
    await gateway("PUT", "/v1/consents/+8613800138000", GRANT)
    offer = {"to": "+8613800138000", "category": "marketing", "time_zone": "America/New_York", "residence": "attested"}
    _, body = await gateway.send(**offer, send_at="2026-11-21T18:00:00Z")  # 13:00 there, 02:00 in Shanghai
    assert body["status"] == "scheduled"
    await gateway.at(NOON + 6 * HOUR)
    who = gateway.policy_context.hasher.recipient("8613800138000")
    request = TakeRequest(who.partition, (Lane("everywhere", 0, Priority.MARKETING),), "north", 10)
    (taken,) = await gateway.store.take(OWNER, [request])
    await gateway.decisions.redecide(taken.redecide)
    (taken,) = await gateway.store.take(OWNER, [request])
    assert [str(uuid.UUID(bytes=leased.id)) for leased in taken.leased] == [body["id"]]


async def test_messages_over_a_velocity_limit_are_refused_with_the_time_to_retry(gateway: Gateway) -> None:
    gateway.policy_context.rules = replace(gateway.policy_context.rules, velocity=VelocityTable({"+225": (3, 60)}))
    messages = [{"to": f"+22507000000{n:02}", "text": "x", "client_ref": str(n)} for n in range(5)]
    _, body = await gateway(
        "POST", "/v1/messages/batch", {"messages": [*messages, {"to": "+46701740605", "text": "x"}]}
    )
    assert (body["accepted"], body["refused"]) == (4, 2)
    problem = body["results"][3]["problem"]
    assert (problem["code"], problem["status"], problem["retryable"]) == ("velocity_limit", 429, True)
    assert "3 messages in 1 min to numbers that begin with +225" in problem["detail"]
    assert problem["retry_at"] == "2026-11-21T12:01:10.000Z"
    status, body = await gateway.send(to="+2250700000099")
    assert (status, body["code"]) == (429, "velocity_limit")
    status, repeat = await gateway("POST", "/v1/messages", messages[0])  # taken already: its answer, not a refusal
    assert (status, repeat["duplicate"]) == (202, True)
    await gateway.at(NOON + 70_000)
    assert (await gateway.send(to="+2250700000099"))[0] == 202


def test_a_velocity_limit_says_when_to_retry() -> None:
    said = single_response(SubmissionProblem("velocity_limit", "enough", "to", retry_at=NOON + 61_500, wait=61.5))
    assert (said.status, said.final) == (429, False)
    assert said.headers == ((b"retry-after", b"62"),)


async def test_messages_over_a_velocity_limit_take_no_room_in_the_queue(gateway: Gateway) -> None:
    gateway.policy_context.rules = replace(gateway.policy_context.rules, velocity=VelocityTable({"+225": (1, 60)}))
    small = msgspec.structs.replace(SHOP, max_queued=4)
    gateway.api.accounts = Accounts((small,), time.monotonic())
    for _ in range(4):
        await gateway.send(to="+2250700000099")
    assert (await gateway.send(to="+2250700000099"))[1]["code"] == "velocity_limit"  # and not queue_full
    assert (await gateway.send())[0] == 202
