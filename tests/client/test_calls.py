from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from gateway.api import problems, recipients, schemas
from gateway.client import (
    ApiError,
    BadAnswer,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Message,
    NotFoundError,
    RateLimitedError,
    Refused,
    RefusedError,
    Retry,
    UnauthorizedError,
    UnavailableError,
    Unreachable,
    batches,
    calls,
    types,
)
from gateway.client.calls import RawResponse
from gateway.client.retry import seconds_of
from gateway.intake.submission import Submission
from gateway.webhooks import event_json

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PATIENT = Retry(tries=4, patience=10.0, first=0.2, longest=1.0)


def said(code: str, **headers: str) -> RawResponse:
    body = problems.problem(code)
    return RawResponse(body.status, headers, msgspec.json.encode(body))


def test_message_has_every_field_of_the_api() -> None:
    ours = {field.encode_name for field in msgspec.structs.fields(Message)}
    theirs = {field.encode_name for field in msgspec.structs.fields(Submission)}
    assert ours == theirs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (types.Accepted, schemas.SubmittedView),
        (types.Decision, schemas.DecisionView),
        (types.Record, schemas.MessageView),
        (types.Part, schemas.PartView),
        (types.Move, schemas.MoveView),
        (types.Canceled, schemas.CanceledView),
        (types.Decisions, schemas.DecisionsView),
        (types.Ruling, schemas.DecisionRecordView),
        (types.Permitted, schemas.PermittedView),
        (types.Problem, problems.ProblemDetails),
        (types.FieldError, problems.FieldProblem),
        (types.Consent, recipients.ConsentView),
        (types.Suppression, recipients.SuppressionView),
        (types.Event, event_json.WebhookEvent),
        (types.EventData, event_json.WebhookEventData),
    ],
)
def test_every_field_of_a_response_is_known(ours: type[msgspec.Struct], theirs: type[msgspec.Struct]) -> None:
    known = {field.encode_name: field for field in msgspec.structs.fields(ours)}
    sent = {field.encode_name: field for field in msgspec.structs.fields(theirs)}
    assert sent.keys() <= known.keys()
    needed = {name for name, field in known.items() if field.required}
    assert needed <= {name for name, field in sent.items() if field.required}
    assert _nullable(theirs) <= _nullable(ours)


def _nullable(kind: type[msgspec.Struct]) -> set[str]:
    """Fields that may travel as null. (What is null by default does not travel at all from many.)"""
    hints, quiet = get_type_hints(kind), kind.__struct_config__.omit_defaults
    fields = [field for field in msgspec.structs.fields(kind) if not (quiet and field.default is None)]
    return {one.encode_name for one in fields if NoneType in get_args(hints[one.name]) or hints[one.name] is Any}


def test_only_given_fields_are_sent() -> None:
    call = calls.send(Message("+46701740605", "Hi", sender="Shop", send_at=NOW), "mine")
    assert msgspec.json.decode(call.body or b"") == {
        "to": "+46701740605",
        "text": "Hi",
        "from": "Shop",
        "send_at": "2026-11-21T12:00:00Z",
    }
    assert call.headers == {"Idempotency-Key": "mine"}


def test_each_call_has_its_own_idempotency_key() -> None:
    one, other = (calls.send(Message("+46701740605", "Hi"), None) for _ in range(2))
    assert one.headers != other.headers


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("malformed", InvalidError),
        ("too_large", InvalidError),
        ("unauthorized", UnauthorizedError),
        ("category_not_granted", ForbiddenError),
        ("not_found", NotFoundError),
        ("already_final", ConflictError),
        ("opted_out", RefusedError),
        ("rate_limited", RateLimitedError),
        ("timeout", UnavailableError),
        ("store_unavailable", UnavailableError),
        ("internal", UnavailableError),
    ],
)
def test_each_problem_has_its_exception(code: str, kind: type[ApiError]) -> None:
    error = calls.failure(said(code))
    assert type(error) is kind
    assert (error.code, error.status) == (code, problems.KINDS[code].status)
    assert str(error) == f"{code}: {problems.KINDS[code].title}"


@pytest.mark.parametrize("code", problems.KINDS)
def test_every_problem_of_the_api_is_decoded(code: str) -> None:
    assert isinstance(calls.failure(said(code)), ApiError)


def test_a_response_of_another_program_is_a_bad_answer() -> None:
    error = calls.failure(RawResponse(502, {}, b"<html>Bad gateway</html>"))
    assert isinstance(error, BadAnswer)
    assert error.retryable
    assert "502" in str(error)
    assert "Bad gateway" in str(error)
    with pytest.raises(BadAnswer):
        calls.read(calls.message("1"), RawResponse(200, {}, b"<html>"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0), ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert seconds_of(text, NOW) == seconds


def test_delays_double_up_to_the_longest() -> None:
    lost = Unreachable("")
    assert [PATIENT.pause(lost, tried, 0.0, 1.0) for tried in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, None]
    assert PATIENT.pause(lost, 1, 0.0, 0.0) == 0.1
    assert PATIENT.pause(lost, 1, 9.95, 1.0) is None
    assert Retry(tries=99, longest=1.0).pause(lost, 50, 0.0, 1.0) == 1.0


def test_retry_after_is_honoured_or_ends_the_attempts() -> None:
    busy = calls.failure(said("rate_limited", **{"retry-after": "3"}))
    assert 3.0 <= (PATIENT.pause(busy, 1, 0.0, 0.5) or 0.0) < 3.2
    assert PATIENT.pause(busy, 1, 8.0, 0.5) is None


@pytest.mark.parametrize("code", ["malformed", "unauthorized", "quiet_hours", "frequency_cap", "opted_out"])
def test_permanent_errors_are_not_retried(code: str) -> None:
    assert PATIENT.pause(calls.failure(said(code)), 1, 0.0, 0.5) is None


def test_a_batch_is_divided_by_number_and_by_size() -> None:
    few = [Message("+46701740605", f"{index}") for index in range(7)]
    assert [(chunk.start, chunk.size) for chunk in batches.chunks(few, 3, "k")] == [(0, 3), (3, 3), (6, 1)]
    assert [chunk.call.headers["Idempotency-Key"] for chunk in batches.chunks(few, 3, "k")] == ["k.0", "k.3", "k.6"]
    long = [Message("+46701740605", "x" * 39_000)] * 300
    cut = list(batches.chunks(long, 5000, "k"))
    assert [chunk.start + chunk.size for chunk in cut] == [214, 300]
    assert all(len(chunk.call.body or b"") <= 8 * 1024 * 1024 for chunk in cut)
    assert list(batches.chunks([], 3, "k")) == []
    with pytest.raises(ValueError, match="1 to 5000"):
        list(batches.chunks(few, 5001, "k"))


def test_paths_are_quoted() -> None:
    assert calls.message("a/b?").path == "/v1/messages/a%2Fb%3F"
    assert calls.find("order 1&", "+46701740605").path == "/v1/messages?client_ref=order+1%26&to=%2B46701740605"
    assert calls.unsuppress("+46701740605", "all", None).path == "/v1/suppressions/+46701740605?scope=all"


def test_a_lone_surrogate_refuses_only_its_own_message() -> None:
    messages = [
        Message("+1", "a"),
        Message("+2", "\ud83d"),
        Message("+3", "b"),
        Message("+4", "c", metadata={"x": "\udc00"}),
    ]
    first, second = batches.chunks(messages, 1, "k")
    assert [(chunk.start, chunk.size) for chunk in (first, second)] == [(0, 1), (2, 1)]
    answer = batches.ResultRows(1, 0, [batches.ResultRow(0, "m1", "queued")])
    batch = batches.joined([batches.results(first, answer), batches.results(second, answer)])
    assert (batch.accepted, batch.refused) == (2, 2)
    assert [one.index for one in batch.results] == [0, 1, 2, 3]
    wrong = [one.problem.detail for one in batch.results if isinstance(one, Refused)]
    assert wrong == [f"{name}: contains half a character (a lone surrogate)" for name in ("text", "metadata")]
    (alone,) = batches.chunks([Message("\udcff", "a")], 500, None)
    assert (alone.call, batches.results(alone, batches.NOTHING).refused) == (None, 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: calls.send(Message("+1", "\ud83d"), None),
        lambda: calls.message("\udcff"),
        lambda: calls.consents("\udcff"),
        lambda: calls.find("\udcff", None),
        lambda: calls.suppress("+1", "\udcff", "all", None),
    ],
)
def test_a_lone_surrogate_in_an_argument_is_invalid(ask: Callable[[], object]) -> None:
    with pytest.raises(InvalidError, match="half a character"):
        ask()
