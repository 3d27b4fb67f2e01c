from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway.config import Account
from gateway.intake import queue_limits
from gateway.intake import service as intake_module
from gateway.intake.service import SLICE, SLICE_ALONE, Intake, Submission, SubmissionProblem, SubmissionResult
from gateway.model import AcceptResult, Check, NewMessage, OnUnknown, Outcome, Reason, RuleGroup, RuleStatus, State
from gateway.store import ids
from gateway.store.errors import StoreError, StoreFull, StoreUnavailable
from gateway.store.requests import LaneDepth, OptChange
from gateway.supervision import Supervision
from tests.intake.fakes import NOON, OTHER, PARTITIONS, SHOP, SWEDE, FakeStore, hasher, policy_context
from tests.running_gateway import until

AT_NOON = datetime.fromtimestamp(NOON / 1000, UTC)


def submission(**fields: Any) -> Submission:
    return msgspec.structs.replace(Submission(to="+" + SWEDE, text="Your parcel waits."), **fields)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def intake(store: FakeStore) -> Intake:
    return Intake(store, policy_context(), clock=lambda: NOON, gap=0.001)


async def accept(intake: Intake, account: Account = SHOP, **fields: Any) -> SubmissionResult | SubmissionProblem:
    (result,) = await intake.accept(account, [submission(**fields)], NOON)
    return result


async def accepted(intake: Intake, account: Account = SHOP, **fields: Any) -> SubmissionResult:
    result = await accept(intake, account, **fields)
    assert isinstance(result, SubmissionResult), result
    return result


async def refused(intake: Intake, account: Account = SHOP, **fields: Any) -> tuple[str, str]:
    result = await accept(intake, account, **fields)
    assert isinstance(result, SubmissionProblem), result
    return result.code, result.field


async def test_an_accepted_message_is_stored_whole(intake: Intake, store: FakeStore) -> None:
    result = await accepted(
        intake, client_ref="order-1", callback_url="https://shop.example/sms", metadata={"order": 1}, brand="outlet"
    )
    message = store.messages[result.id]
    assert (result.state, result.to, result.segments, result.encoding) == (State.QUEUED, SWEDE, 1, "gsm7")
    assert (message.state, message.reason, message.route, message.due) == (State.QUEUED, Reason.NONE, "+46", 0)
    assert message.recipient == hasher().recipient(SWEDE)
    assert ids.partition_of(message.id) == message.recipient.partition < PARTITIONS
    assert ids.time_of(message.id) == NOON
    assert message.on_unknown is OnUnknown.RESEND
    assert message.permission.checks == Check.ALL_OPT_OUT
    assert message.permission.brand_scope == hasher().scope("shop", "outlet")
    assert message.reference == hasher().reference("shop", message.recipient, "order-1")
    envelope = message.envelope
    assert (envelope.to, envelope.sender, envelope.account, envelope.brand) == (SWEDE, "Shop", "shop", "outlet")
    assert (envelope.client_ref, envelope.callback_url) == ("order-1", "https://shop.example/sms")
    assert (envelope.metadata, envelope.policy_version) == ({"order": 1}, result.verdict.policy_version)
    assert message.content.text == "Your parcel waits."


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"to": "0701740605"}, "invalid_number", "to"),
        ({"to": "hello"}, "invalid_number", "to"),
        ({"category": "emergency"}, "category_not_granted", "category"),
        ({"brand": "nobody"}, "brand_not_allowed", "brand"),
        ({"sender": "Bank"}, "sender_not_allowed", "from"),
        ({"text": "привет", "encoding": "gsm7"}, "encoding_mismatch", "text"),
        ({"text": "x" * 39_016}, "invalid_value", "text"),
        ({"send_at": AT_NOON - timedelta(hours=1)}, "invalid_value", "send_at"),
        ({"send_at": AT_NOON + timedelta(days=400)}, "invalid_value", "send_at"),
        ({"expires_at": AT_NOON}, "invalid_value", "expires_at"),
        (
            {"send_at": AT_NOON + timedelta(hours=2), "expires_at": AT_NOON + timedelta(hours=1)},
            "invalid_value",
            "expires_at",
        ),
        ({"time_zone": "Europe/Atlantis"}, "invalid_value", "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "invalid_value", "time_zone"),
        ({"callback_url": "ftp://x"}, "invalid_value", "callback_url"),
        ({"callback_url": "https://user@x"}, "invalid_value", "callback_url"),
        ({"callback_url": "https://x:port/"}, "invalid_value", "callback_url"),
        ({"metadata": {"a": "x" * 3000}}, "too_large", "metadata"),
    ],
)
async def test_invalid_values_are_refused_by_field(
    intake: Intake, store: FakeStore, fields: dict[str, Any], code: str, field: str
) -> None:
    assert await refused(intake, **fields) == (code, field)
    assert not store.messages


async def test_metadata_nested_too_deeply_is_refused(intake: Intake) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert await refused(intake, metadata={"a": deep}) == ("too_large", "metadata")


@pytest.mark.parametrize("sender", ["12", "1234567890123456", "far too long", "", " x", "å"])
async def test_an_invalid_sender_is_refused(intake: Intake, sender: str) -> None:
    assert await refused(intake, OTHER, sender=sender) == ("invalid_value", "from")


@pytest.mark.parametrize("sender", ["12345", "+46701740606", "Shop & Co", "46701740606"])
async def test_senders_of_every_shape(intake: Intake, store: FakeStore, sender: str) -> None:
    result = await accepted(intake, OTHER, category="otp", sender=sender)
    assert store.messages[result.id].envelope.sender == sender


async def test_an_emergency_needs_a_reason(intake: Intake) -> None:
    assert await refused(intake, OTHER, category="emergency") == ("invalid_value", "reason")
    result = await accepted(intake, OTHER, category="emergency", reason="flight SK1 is cancelled")
    assert result.state is State.QUEUED


async def test_a_send_at_of_a_clock_that_is_off_means_now(intake: Intake, store: FakeStore) -> None:
    result = await accepted(intake, send_at=AT_NOON - timedelta(minutes=1))
    assert result.state is State.QUEUED


async def test_a_scheduled_message(intake: Intake, store: FakeStore) -> None:
    result = await accepted(intake, send_at=AT_NOON + timedelta(hours=1))
    message = store.messages[result.id]
    assert (message.state, message.reason, message.due) == (State.SCHEDULED, Reason.SCHEDULED, NOON + 3_600_000)
    assert message.envelope.terms is not None
    assert message.envelope.terms.send_at == NOON + 3_600_000


async def test_without_consent_marketing_is_refused_and_recorded(intake: Intake, store: FakeStore) -> None:
    result = await accepted(intake, category="marketing")
    assert result.state is State.REJECTED
    assert (result.verdict.outcome, result.verdict.code) == (Outcome.REJECT, Reason.CONSENT_MISSING)
    message = store.messages[result.id]
    assert (message.state, message.reason) == (State.REJECTED, Reason.CONSENT_MISSING)
    assert message.on_unknown is OnUnknown.NEVER


async def test_at_night_marketing_is_deferred(intake: Intake, store: FakeStore) -> None:
    night = 1_795_302_000_000  # 23:00 UTC, midnight in Stockholm
    recipient = hasher().recipient(SWEDE)
    scope = hasher().scope("shop", "shop")
    await store.opt([OptChange(recipient, RuleGroup.CONSENT, RuleStatus.ALLOWS, scope, NOON)])
    (result,) = await intake.accept(SHOP, [submission(category="marketing")], night)
    assert isinstance(result, SubmissionResult)
    assert (result.state, result.verdict.code) == (State.DEFERRED, Reason.QUIET_HOURS)
    message = store.messages[result.id]
    assert message.due == result.verdict.next_at == 1_795_330_800_000  # 07:00 UTC, 08:00 in Stockholm
    (result,) = await intake.accept(SHOP, [submission(category="marketing", on_quiet="reject")], night)
    assert isinstance(result, SubmissionResult)
    assert (result.state, result.verdict.code) == (State.REJECTED, Reason.QUIET_HOURS)


async def test_an_opt_out_from_everything_stops_transactional_too(intake: Intake, store: FakeStore) -> None:
    store.stops(hasher().recipient(SWEDE), RuleGroup.ALL, hasher().scope("shop"), NOON)
    result = await accepted(intake)
    assert (result.state, result.verdict.code) == (State.REJECTED, Reason.OPTED_OUT)


async def test_a_destination_without_a_route_is_refused(intake: Intake) -> None:
    result = await accepted(intake, to="+68890123")
    assert (result.state, result.verdict.code) == (State.REJECTED, Reason.NO_ROUTE)


async def test_a_reference_is_accepted_once_and_answered_with_the_first(intake: Intake, store: FakeStore) -> None:
    first = await accepted(intake, client_ref="a")
    store.states[first.id] = State.DELIVERED
    again = await accepted(intake, client_ref="a", text="x" * 200)
    assert (again.id, again.duplicate, again.state) == (first.id, True, State.DELIVERED)
    assert (again.segments, again.verdict.outcome) == (1, Outcome.ALLOW)
    other = await accepted(intake, OTHER, category="transactional", client_ref="a")
    assert other.id != first.id
    assert len(store.messages) == 2


async def test_a_refusal_does_not_use_up_its_reference(intake: Intake) -> None:
    first = await accepted(intake, category="marketing", client_ref="a")
    assert first.state is State.REJECTED
    again = await accepted(intake, client_ref="a")
    assert (again.duplicate, again.state) == (False, State.QUEUED)


async def test_results_come_in_the_order_sent_and_in_slices(intake: Intake, store: FakeStore) -> None:
    asked = [submission(to=f"+4670{i:07}" if i % 7 else "nonsense", client_ref=str(i)) for i in range(600)]
    results = await intake.many(SHOP, asked)
    assert [isinstance(result, SubmissionProblem) for result in results] == [i % 7 == 0 for i in range(600)]
    assert [r.client_ref for r in results if isinstance(r, SubmissionResult)] == [str(i) for i in range(600) if i % 7]
    assert [count for name, count in store.calls if name == "accept"] == [219, 219, 76]
    assert max(count for _, count in store.calls) <= SLICE


async def test_nothing_to_store_asks_nothing(intake: Intake, store: FakeStore) -> None:
    await intake.many(SHOP, [submission(to="1")])
    assert [name for name, _ in store.calls] == ["depths"]


@pytest.mark.parametrize(
    ("error", "code"), [(StoreUnavailable("x"), "store_unavailable"), (StoreFull("x"), "store_full")]
)
async def test_a_store_that_fails_in_the_middle(
    intake: Intake, store: FakeStore, error: StoreUnavailable, code: str
) -> None:
    store.error, store.fail_after = error, 1
    results = await intake.many(SHOP, [submission(to=f"+4670{i:07}") for i in range(SLICE_ALONE + 10)])
    assert all(isinstance(result, SubmissionResult) for result in results[:SLICE_ALONE])
    assert [result.code for result in results[SLICE_ALONE:] if isinstance(result, SubmissionProblem)] == [code] * 10


class PausedStore(FakeStore):
    """Answers as many writes as ``writes`` has been released."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = asyncio.Semaphore(0)

    async def accept(self, items: Sequence[NewMessage]) -> list[AcceptResult]:
        answers = await super().accept(items)
        await self.writes.acquire()
        return answers


async def test_while_one_slice_is_written_the_next_is_decided() -> None:
    store = PausedStore()
    intake = Intake(store, policy_context(), clock=lambda: NOON)
    asked = [submission(to=f"+4670{i:07}") for i in range(SLICE_ALONE + 10)]
    many = asyncio.create_task(intake.many(SHOP, asked))
    await until(lambda: ("facts", 10) in store.calls, 5)
    assert [call for call in store.calls if call[0] == "accept"] == [("accept", SLICE_ALONE)]
    store.writes.release()
    store.writes.release()
    assert all(isinstance(result, SubmissionResult) for result in await many)


async def test_a_batch_beside_another_one_goes_in_large_slices(store: FakeStore) -> None:
    intake = Intake(store, policy_context(), clock=lambda: NOON)
    asked = [submission(to=f"+4670{i:07}") for i in range(SLICE_ALONE + 10)]
    await asyncio.gather(intake.many(SHOP, asked), intake.many(SHOP, asked))
    assert sorted(count for name, count in store.calls if name == "facts") in (
        [10, SLICE_ALONE, SLICE_ALONE + 10],
        [10, 2 * SLICE_ALONE + 10],
    )
    store.calls.clear()
    await intake.many(SHOP, asked)
    assert [count for name, count in store.calls if name == "facts"] == [SLICE_ALONE, 10], "alone again"


async def test_dispatchers_hear_of_each_slice_as_soon_as_it_is_stored() -> None:
    store = PausedStore()
    told: list[int] = []
    intake = Intake(
        store, policy_context(), clock=lambda: NOON, work_available=lambda partitions, **_: told.append(len(partitions))
    )
    many = asyncio.create_task(intake.many(SHOP, [submission(to=f"+4670{i:07}") for i in range(SLICE_ALONE + 10)]))
    store.writes.release()
    await until(lambda: ("accept", 10) in store.calls, 5)
    assert told == [PARTITIONS]
    store.writes.release()
    await many
    assert len(told) == 2


async def test_nothing_behind_a_slice_that_could_not_be_written_is_written(intake: Intake, store: FakeStore) -> None:
    store.error, store.fail_after = StoreUnavailable("away"), 1
    results = await intake.many(SHOP, [submission(to=f"+4670{i:07}") for i in range(3 * SLICE_ALONE)])
    stored = [isinstance(result, SubmissionResult) for result in results]
    assert stored == [True] * SLICE_ALONE + [False] * 2 * SLICE_ALONE
    assert [name for name, _ in store.calls if name == "accept"] == ["accept", "accept"]
    assert len(store.messages) == SLICE_ALONE


async def test_a_store_that_is_away_accepts_nothing(intake: Intake, store: FakeStore) -> None:
    store.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await intake.many(SHOP, [submission()])
    with pytest.raises(StoreUnavailable):
        await intake.one(SHOP, submission())


async def test_single_submits_of_different_accounts_share_a_call(intake: Intake, store: FakeStore) -> None:
    futures = [intake.one(account, submission(category="otp")) for account in (SHOP, OTHER, SHOP)]
    import asyncio

    results = await asyncio.gather(*futures)
    assert [store.messages[r.id].envelope.account for r in results if isinstance(r, SubmissionResult)] == [
        "shop",
        "other",
        "shop",
    ]
    assert ("accept", 3) in store.calls


async def test_a_full_queue_refuses(store: FakeStore) -> None:
    small = msgspec.structs.replace(SHOP, max_queued=5)
    intake = Intake(store, policy_context(small), clock=lambda: NOON)
    store.waiting = {"shop": {State.QUEUED: 1, State.SCHEDULED: 1, State.HELD: 1}, "other": {State.QUEUED: 9}}
    results = await intake.many(small, [submission() for _ in range(4)])
    assert [isinstance(result, SubmissionResult) for result in results] == [True, True, False, False]
    assert isinstance(results[3], SubmissionProblem)
    assert results[3].code == "queue_full"


async def test_a_full_gateway_refuses_all_accounts(store: FakeStore) -> None:
    """What is ready, delayed and held counts, and what comes in meanwhile."""
    intake = Intake(store, policy_context(), clock=lambda: NOON, max_waiting=20)
    store.ready, store.delayed, store.held = [LaneDepth("+46#0:1", "other", 9)], {"+46#0:1": 4}, 4
    results = await intake.many(SHOP, [submission() for _ in range(4)])
    assert [isinstance(result, SubmissionResult) for result in results] == [True, True, True, False]
    refused = await intake.one(OTHER, submission(category="otp"))
    assert isinstance(refused, SubmissionProblem)
    assert (refused.code, refused.detail) == ("queue_full", "20 messages are waiting in this gateway already")


async def test_carriers_are_told_which_partitions_of_a_route_have_new_messages(store: FakeStore) -> None:
    told: list[tuple[str | None, Collection[int], bool]] = []

    def work_available(partitions: Collection[int], *, urgent: bool = False, route: str | None = None) -> None:
        told.append((route, partitions, urgent))

    intake = Intake(store, policy_context(), clock=lambda: NOON, work_available=work_available)
    results = await intake.many(SHOP, [submission(), submission(to="+8613800138000"), submission(category="marketing")])
    partitions = {ids.partition_of(result.id) for result in results if isinstance(result, SubmissionResult)}
    assert set().union(*(some for _, some, _ in told)) == partitions
    assert {urgent for _, _, urgent in told} == {False}
    assert len({route for route, _, _ in told}) == len(told), "one call for each route"
    calls = len(told)
    await intake.many(SHOP, [submission(category="marketing")])
    assert len(told) == calls
    await intake.many(SHOP, [submission(), submission(category="otp")])
    ((_, some, urgent),) = told[calls:]
    assert (some, urgent) == ({hasher().recipient(SWEDE).partition}, True)


async def test_an_account_removed_by_a_reload_is_unauthorized(store: FakeStore) -> None:
    shared = policy_context()
    intake = Intake(store, shared, clock=lambda: NOON)
    shared.set_accounts([OTHER])
    assert await refused(intake) == ("unauthorized", "")


@pytest.mark.parametrize("by_account", [True, False])
async def test_a_smart_text_is_stored_and_counted_as_it_will_be_sent(store: FakeStore, by_account: bool) -> None:
    account = msgspec.structs.replace(SHOP, encoding="smart" if by_account else "auto")
    intake = Intake(store, policy_context(account), clock=lambda: NOON, gap=0.001)
    fields = {} if by_account else {"encoding": "smart"}
    result = await accepted(intake, account, text="It’s “here”…" + "a" * 100, **fields)
    content = store.messages[result.id].content
    assert content.text == 'It\'s "here"...' + "a" * 100
    assert content.encoding == ""  # no alphabet is insisted on
    assert (result.encoding, result.segments) == ("gsm7", 1)
    assert result.replaced == {"’": "'", "“": '"', "”": '"', "…": "..."}
    for text, more in (("“да”", fields), ("“auto”", {"encoding": "auto"}), ("plain", fields)):
        same = await accepted(intake, account, text=text, **more)
        assert store.messages[same.id].content.text == text
        assert same.replaced is None
    assert (await refused(intake, account, text="“", encoding="gsm7"))[0] == "encoding_mismatch"


async def test_a_repeat_does_not_list_characters_replaced_in_its_own_text(store: FakeStore, intake: Intake) -> None:
    await accepted(intake, client_ref="a", text="first")
    again = await accepted(intake, client_ref="a", text="It’s", encoding="smart")
    assert (again.duplicate, again.replaced) == (True, None)


def _odd(monkeypatch: pytest.MonkeyPatch, name: str, holds: Callable[..., bool]) -> None:
    """``intake.name`` fails when ``holds`` says so of what it is given."""
    normal = getattr(intake_module, name)

    def odd(*given: Any) -> Any:
        if holds(*given):
            raise OverflowError("what a message")
        return normal(*given)

    monkeypatch.setattr(intake_module, name, odd)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("check", lambda asked, *_: asked.text == "odd"),
        ("message_of", lambda message_id, case, *_: case.submission.text == "odd"),
    ],
)
async def test_an_internal_error_refuses_one_message_of_a_batch(
    name: str, holds: Callable[..., bool], intake: Intake, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _odd(monkeypatch, name, holds)
    asked = [submission(to=f"+46701740{number:03}", text="odd" if number == 7 else "fine") for number in range(20)]
    results = await intake.accept(SHOP, asked, NOON)
    assert [place for place, one in enumerate(results) if isinstance(one, SubmissionProblem)] == [7]
    problem = results[7]
    assert isinstance(problem, SubmissionProblem)
    assert (problem.code, "log says why" in problem.detail) == ("internal", True)
    assert len(store.messages) == 19


@pytest.mark.parametrize("error", [OverflowError("does not fit"), StoreError("malformed: argument 7")])
async def test_an_unstorable_message_refuses_no_other_of_its_batch(
    error: Exception, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = store.accept

    async def picky(items: Sequence[NewMessage]) -> list[AcceptResult]:
        if any(item.content.text == "odd" for item in items):
            raise error
        return await normal(items)

    monkeypatch.setattr(store, "accept", picky)
    intake = Intake(store, policy_context(), clock=lambda: NOON, gap=0.001)
    others = [intake.one(SHOP, submission(to=f"+46701740{number:03}")) for number in range(20)]
    batch = intake.many(SHOP, [submission(to=f"+46701741{n:03}", text="odd" if n == 3 else "fine") for n in range(9)])
    *singles, many = await asyncio.gather(*others, batch)
    assert all(isinstance(one, SubmissionResult) for one in singles)
    assert [one.code for one in many if isinstance(one, SubmissionProblem)] == ["internal"]
    assert len(store.messages) == 28


async def test_a_failing_notice_to_the_carriers_does_not_fail_the_request(store: FakeStore) -> None:
    def work_available(*_: object, **__: object) -> None:
        raise KeyError("nobody")

    assert isinstance(
        await accept(Intake(store, policy_context(), clock=lambda: NOON, gap=0.001, work_available=work_available)),
        SubmissionResult,
    )


# ---- receivers that messages name


RECEIVER = "https://shop.example/sms"


class Followers:
    """Hears whose messages name a receiver, as webhooks do: it takes a while, and may fail."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.told: list[tuple[set[str], int]] = []
        """Accounts, and how many messages were stored before it was done."""
        self.error: StoreError | None = None

    async def announce(self, accounts: set[str]) -> None:
        for _ in range(10):
            await asyncio.sleep(0)  # a write that does not wait for this comes first
        if self.error is not None:
            raise self.error
        self.told.append((accounts, len(self.store.messages)))

    def intake(self, *accounts: Account) -> Intake:
        return Intake(
            self.store, policy_context(*accounts), clock=lambda: NOON, gap=0.001, announce_callbacks=self.announce
        )


async def test_accounts_with_a_callback_url_are_announced_before_the_write(store: FakeStore) -> None:
    followers = Followers(store)
    third = msgspec.structs.replace(SHOP, name="third", brands=("third",))
    intake = followers.intake(SHOP, OTHER, third)
    await asyncio.gather(
        intake.one(SHOP, submission(callback_url=RECEIVER)),
        intake.one(SHOP, submission()),
        intake.one(OTHER, submission(category="otp")),
        intake.one(third, submission(callback_url=RECEIVER)),
    )
    assert followers.told == [({"shop", "third"}, 0)]
    assert len(store.messages) == 4


async def test_a_refused_message_announces_its_callback_url_before_its_only_event(store: FakeStore) -> None:
    followers = Followers(store)
    result = await accepted(followers.intake(), category="marketing", callback_url=RECEIVER)
    assert (result.state, followers.told, len(store.messages)) == (State.REJECTED, [({"shop"}, 0)], 1)


async def test_only_stored_messages_with_a_callback_url_are_announced(store: FakeStore) -> None:
    followers = Followers(store)
    intake = followers.intake()
    await accepted(intake)
    await refused(intake, callback_url=RECEIVER, to="nonsense")
    assert (followers.told, len(store.messages)) == ([], 1)


async def test_nothing_is_stored_when_callback_urls_cannot_be_announced(store: FakeStore) -> None:
    followers = Followers(store)
    intake = followers.intake()
    followers.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await intake.one(SHOP, submission(callback_url=RECEIVER))
    assert not store.messages
    followers.error = None
    await accepted(intake, callback_url=RECEIVER)
    assert followers.told == [({"shop"}, 0)]


async def test_a_batch_ends_where_callback_urls_could_not_be_announced(store: FakeStore) -> None:
    followers = Followers(store)
    followers.error = StoreUnavailable("away")
    asked = [
        submission(to=f"+4670{i:07}", callback_url=RECEIVER if i >= SLICE_ALONE else None)
        for i in range(SLICE_ALONE + 3)
    ]
    results = await followers.intake().many(SHOP, asked)
    assert all(isinstance(result, SubmissionResult) for result in results[:SLICE_ALONE])
    assert [one.code for one in results[SLICE_ALONE:] if isinstance(one, SubmissionProblem)] == [
        "store_unavailable"
    ] * 3
    assert len(store.messages) == SLICE_ALONE


# ---- room that is given back


async def test_refused_messages_take_no_room_in_the_queue(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether policy refuses it, we fail over it, or the store will not hold it."""
    _odd(monkeypatch, "message_of", lambda message_id, case, *_: case.submission.text == "odd")
    normal = store.accept

    async def picky(items: Sequence[NewMessage]) -> list[AcceptResult]:
        if any(item.content.text == "unfit" for item in items):
            raise OverflowError("does not fit")
        return await normal(items)

    monkeypatch.setattr(store, "accept", picky)
    monkeypatch.setattr(queue_limits, "FRESH", float("inf"))  # what the store says of it comes later
    small = msgspec.structs.replace(SHOP, max_queued=5)
    intake = Intake(store, policy_context(small), clock=lambda: NOON, gap=0.001)
    fine = submission()
    asked = [submission(category="marketing"), submission(text="odd"), submission(text="unfit"), fine]
    results = await intake.many(small, asked)
    assert [isinstance(result, SubmissionProblem) and result.code for result in results] == [
        False,
        "internal",
        "internal",
        False,
    ]
    results = await intake.many(small, [fine] * 5)
    assert [isinstance(result, SubmissionResult) for result in results] == [True] * 4 + [False]


async def test_results_are_counted_by_account_and_code(intake: Intake, store: FakeStore) -> None:
    await accepted(intake, client_ref="a")
    await accepted(intake, client_ref="a")
    await accepted(intake, category="marketing")
    await refused(intake, to="nonsense")
    for error in (StoreFull("full"), StoreUnavailable("away")):
        store.error = error
        with pytest.raises(type(error)):
            await accept(intake)
    assert intake.counters.counts == {
        ("shop", "queued", ""): 1,
        ("shop", "duplicate", ""): 1,
        ("shop", "rejected", "consent_missing"): 1,
        ("shop", "refused", "invalid_number"): 1,
        ("shop", "refused", "store_full"): 1,
        ("shop", "refused", "store_unavailable"): 1,
    }


async def test_internal_errors_are_counted(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of the three ways in which it may come: the checks, the message, the notice to the carriers."""
    parts = Supervision()

    def work_available(*_: object, **__: object) -> None:
        raise KeyError("nobody")

    intake = Intake(
        store, policy_context(), clock=lambda: NOON, gap=0.001, work_available=work_available, supervision=parts
    )
    await accepted(intake)
    _odd(monkeypatch, "message_of", lambda *_: True)
    await refused(intake)
    _odd(monkeypatch, "check", lambda *_: True)
    await refused(intake)
    assert parts.failures == {"work_available": 1, "intake": 2}
