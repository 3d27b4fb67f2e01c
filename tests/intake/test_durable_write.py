"""What is said of a message that was written: it is stored, it is not, or nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.intake import durable_write
from gateway.intake.durable_write import DurableWriter
from gateway.intake.idempotency import IdempotentRequests
from gateway.intake.service import Intake, Submission, SubmissionProblem, SubmissionResult
from gateway.model import AcceptResult, NewMessage
from gateway.policy.velocity import VelocityTable
from gateway.store.errors import StoreError, StoreFull, StorePartly, StoreUnavailable, StoreUnconfirmed
from gateway.store.velocity_counts import VelocityCounts, VelocityGrant, VelocityWant
from tests.intake.fakes import NOON, SHOP, SWEDE, FakeClaims, FakeStore, hasher, policy_context


class Message:
    """Stands for one."""

    def __init__(self, message_id: bytes) -> None:
        self.id = message_id


ONE, TWO = Message(b"1"), Message(b"2")


class Script:
    """Answers one call after the other as it was told to, the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[bytes]] = []

    async def __call__(self, items: Sequence[NewMessage]) -> list[AcceptResult]:
        self.asked.append([item.id for item in items])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, StoreError):
            raise answer
        if answer == "hangs":
            await asyncio.Event().wait()
        return [AcceptResult(item.id, answer == "new") for item in items]


async def put(script: Script, *messages: Any, seconds: float = 0.2) -> list[str]:
    outcomes = await DurableWriter(script, limit=100, timeout=seconds).put(messages)
    return [type(outcome).__name__ for outcome in outcomes]


async def test_a_write_whose_answer_was_lost_is_settled_by_repeating_it() -> None:
    script = Script(StoreUnconfirmed("cut"), StoreUnavailable("starting"), "known")
    assert await put(script, ONE, seconds=5.0) == ["AcceptResult"]
    assert script.asked == [[b"1"]] * 3


async def test_an_unconfirmed_write_is_never_reported_as_not_written() -> None:
    for later in (StoreUnavailable("refused"), StoreFull("full"), StoreUnconfirmed("cut")):
        assert await put(Script(StoreUnconfirmed("cut"), later), ONE) == ["StoreUnconfirmed"]


async def test_a_write_that_surely_failed_is_not_repeated() -> None:
    for error in (StoreUnavailable("refused"), StoreFull("full")):
        script = Script(error, "new")
        with pytest.raises(type(error)):
            await put(script, ONE)
        assert script.asked == [[b"1"]]


async def test_only_the_unconfirmed_messages_of_a_batch_are_written_again() -> None:
    partly = StorePartly([AcceptResult(b"1", True), StoreUnconfirmed("cut"), StoreUnavailable("refused")])
    script = Script(partly, "known")
    assert await put(script, ONE, TWO, Message(b"3")) == ["AcceptResult", "AcceptResult", "StoreUnavailable"]
    assert script.asked == [[b"1", b"2", b"3"], [b"2"]]


async def test_a_store_that_hangs_is_not_waited_for() -> None:
    """The first may be written; what comes behind it was not handed on, and is surely not."""
    hanging = DurableWriter(Script("hangs"), limit=1, timeout=0.1)
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(hanging.put([ONE]), hanging.put([TWO]), return_exceptions=True)
        assert isinstance(first, list)
        assert isinstance(first[0], StoreUnconfirmed)
        assert type(second) is StoreUnavailable
        with pytest.raises(StoreUnavailable):
            await hanging.put([TWO])


# -- what intake says of it


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setattr(durable_write, "STORE_TIMEOUT", 0.1)
    return FakeStore()


def taking(store: FakeStore) -> Intake:
    return Intake(store, policy_context(), clock=lambda: NOON, gap=0.001)


async def test_a_message_that_may_have_been_accepted_is_answered_with_its_id(store: FakeStore) -> None:
    store.error = StoreUnconfirmed("cut")
    intake = taking(store)
    intake._writer = DurableWriter(store.accept, limit=10, timeout=0.1)
    single = await intake.one(SHOP, Submission(to="+" + SWEDE, text="x"))
    many = await intake.many(SHOP, [Submission(to="+" + SWEDE, text="x"), Submission(to="nobody", text="x")])
    for result in (single, many[0]):
        assert isinstance(result, SubmissionProblem)
        assert result.code == "write_unconfirmed"
        assert len(result.id) == 16
        assert "Idempotency-Key" in result.detail
    assert isinstance(many[1], SubmissionProblem)
    assert (many[1].code, many[1].id) == ("invalid_number", b"")


async def test_a_read_that_was_cut_off_has_accepted_nothing(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(*_: Any) -> Any:
        raise StoreUnconfirmed("cut")

    monkeypatch.setattr(store, "facts", cut)
    with pytest.raises(StoreUnavailable) as raised:
        await taking(store).one(SHOP, Submission(to="+" + SWEDE, text="x"))
    assert type(raised.value) is StoreUnavailable
    assert not store.messages


async def test_nothing_is_accepted_when_velocity_limits_cannot_be_read_in_time(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(VelocityCounts):
        def __init__(self) -> None:
            pass

        async def take(self, wants: Sequence[VelocityWant], now: int) -> list[VelocityGrant]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr(durable_write, "STORE_TIMEOUT", 0.05)
    context = policy_context()
    context.rules = replace(context.rules, velocity=VelocityTable({"*": (1, 60)}))
    intake = Intake(store, context, clock=lambda: NOON, gap=0.001, velocity=Silent())
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(5):
            await intake.one(SHOP, Submission(to="+" + SWEDE, text="x"))
    assert not store.messages


async def test_a_repeat_whose_status_cannot_be_read_is_not_reported_as_refused(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake, asked = taking(store), Submission(to="+" + SWEDE, text="x", client_ref="a")
    first = await intake.one(SHOP, asked)

    async def away(*_: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "find", away)
    fresh = msgspec.structs.replace(asked, client_ref="b")
    again, other = await intake.many(SHOP, [asked, fresh])
    assert isinstance(first, SubmissionResult)
    assert isinstance(again, SubmissionProblem)
    assert (again.code, again.id) == ("write_unconfirmed", first.id)
    assert isinstance(other, SubmissionResult)


async def test_a_claim_that_was_cut_off_has_accepted_nothing_and_is_claimed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = FakeClaims()
    runs = IdempotentRequests(claims, hasher())

    async def cut(*_: Any) -> Any:
        raise StoreUnconfirmed("cut")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "_claims", type("Cut", (), {"put": cut})())
        with pytest.raises(StoreUnavailable) as raised:
            await runs.begin("shop", "key", bytes(16))
    assert type(raised.value) is StoreUnavailable
    assert not hasattr(await runs.begin("shop", "key", bytes(16)), "answer")
