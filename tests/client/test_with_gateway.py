"""Both clients against a real gateway with a simulated carrier: every call once, as an app would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import (
    Accepted,
    AsyncClient,
    Client,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Message,
    NotFoundError,
    Refused,
    RefusedError,
    UnauthorizedError,
)
from tests.client.test_clients import Either
from tests.running_gateway import KEY, RunningGateway, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp("client"), ["north"]) as built:
        yield built


@pytest_asyncio.fixture(params=[Client, AsyncClient], loop_scope="module")
async def client(request: pytest.FixtureRequest, gateway: RunningGateway) -> AsyncIterator[Any]:
    either = Either(request.param(gateway.http.url, KEY))
    yield either
    await either.close()


def number(client: Any, index: int) -> str:
    """A recipient that is this test's and this client's alone."""
    return f"+4670174{1 + isinstance(client.client, AsyncClient)}{index:03}"


async def test_a_message_until_it_is_delivered(client: Any) -> None:
    to = number(client, 1)
    accepted = await client.send(Message(to, "Your parcel is here", client_ref="order-1", metadata={"order": 1}))
    record = await client.wait(accepted.id, 20)
    assert (record.status, record.final, record.metadata, record.carrier) == ("delivered", True, {"order": 1}, "north")
    assert [part.status for part in record.parts] == ["delivered"]
    assert record.timeline[0].status == "queued"
    again = await client.send(Message(to, "Your parcel is here", client_ref="order-1"))
    assert (again.id, again.duplicate) == (accepted.id, True)
    assert [found.id for found in await client.find("order-1", to)] == [accepted.id]
    assert accepted.id in [found.id for found in await client.find("order-1")]
    assert [ruling.outcome for ruling in (await client.decisions(accepted.id)).decisions] == ["allow"]
    with pytest.raises(ConflictError, match="already_final"):
        await client.cancel(accepted.id)


async def test_an_idempotency_key_of_the_caller(client: Any) -> None:
    to = number(client, 2)
    first = await client.send(Message(to, "once"), key=f"key {to}")
    assert (await client.send(Message(to, "once"), key=f"key {to}")).id == first.id
    with pytest.raises(ConflictError, match="idempotency_mismatch"):
        await client.send(Message(to, "something else"), key=f"key {to}")


async def test_a_batch_with_accepted_and_refused_messages(client: Any) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    messages = [Message(number(client, 100 + index), "Hello", send_at=tomorrow) for index in range(7)]
    messages[3] = Message("nobody", "Hello")
    done = await client.batch(messages, key=f"batch {messages[0].to}", size=3)
    assert (done.accepted, done.refused) == (6, 1)
    assert [result.index for result in done.results] == list(range(7))
    assert isinstance(done.results[3], Refused)
    assert done.results[3].problem.code == "invalid_number"
    scheduled = done.results[6]
    assert isinstance(scheduled, Accepted)
    assert (scheduled.status, scheduled.decision.code) == ("scheduled", "scheduled")
    again = await client.batch(messages, key=f"batch {messages[0].to}", size=3)
    assert [getattr(result, "id", "") for result in again.results] == [getattr(r, "id", "") for r in done.results]
    for _ in range(2):
        assert (await client.cancel(scheduled.id)).status == "canceled"


async def test_consents_and_suppressions(client: Any) -> None:
    to = number(client, 3)
    offer = Message(to, "Autumn sale", category="marketing", time_zone="Europe/Stockholm")
    with pytest.raises(RefusedError, match="consent_missing") as refused:
        await client.send(offer)
    assert (await client.message(refused.value.problem.id)).status == "rejected"
    assert (await client.grant(to, method="web_form", evidence="Yes")).applied
    assert [consent.status for consent in await client.consents(to)] == ["granted"]
    assert (await client.send(offer)).status in {"queued", "deferred"}
    assert (await client.suppress(to, "asked by phone", scope="all")).applied
    with pytest.raises(RefusedError, match=r"opted_out|suppressed"):
        await client.send(Message(to, "Your parcel is here"))
    assert [one.scope for one in await client.suppressions(to)] == ["all"]
    await client.unsuppress(to)
    assert await client.suppressions(to) == []
    assert (await client.revoke(to, method="phone")).status == "revoked"
    with pytest.raises(RefusedError, match="consent_revoked"):
        await client.send(offer)


async def test_errors_have_their_exceptions(client: Any, gateway: RunningGateway) -> None:
    to = number(client, 4)
    with pytest.raises(InvalidError) as malformed:
        await client.send(Message("nobody", "Hello"))
    assert [fault.field for fault in malformed.value.problem.errors] == ["to"]
    with pytest.raises(ForbiddenError, match="category_not_granted"):
        await client.send(Message(to, "Fire!", category="emergency", reason="drill"))
    with pytest.raises(NotFoundError):
        await client.message("01a200af-07bf-72d4-a8dd-601152b41807")
    stranger = Either(type(client.client)(gateway.http.url, "wrong"))
    with pytest.raises(UnauthorizedError):
        await stranger.send(Message(to, "Hello"))
    await stranger.close()


async def test_concurrent_calls(client: Any) -> None:
    sent = await asyncio.gather(*(client.send(Message(number(client, 200 + n), "Hello")) for n in range(40)))
    assert len({one.id for one in sent}) == 40
