"""Every call of the contract as data, and what to make of an answer: no I/O here, so that both clients share it.

A ``Call`` is safe to repeat: what changes something carries an Idempotency-Key, made once per call, so that a repeat
after a lost answer gets the first answer and does nothing twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from gateway.client.errors import BadAnswer, ClientError, InvalidError, error_of
from gateway.client.types import (
    Accepted,
    Batch,
    Canceled,
    Consent,
    ConsentDetails,
    Decision,
    Decisions,
    FieldError,
    Message,
    Problem,
    Record,
    Refused,
    Result,
    Suppression,
)

T = TypeVar("T")
CHUNK = 500  # messages a request: larger ones gain nothing and make everybody else wait
MAX_CHUNK = 5000
_MAX_OCTETS = 8 * 1024 * 1024 - 1024

_encode = msgspec.json.Encoder().encode
_problem = msgspec.json.Decoder(Problem)


class Call(NamedTuple, Generic[T]):
    """One request, and what its body decodes to (None: there is none)."""

    method: str
    path: str
    kind: type[T] | None
    body: bytes | None = None
    headers: Mapping[str, str] = {}


def untyped(call: Call[Any]) -> Call[dict[str, Any]]:
    """The same call, answered with the JSON object as it came."""
    return Call(call.method, call.path, dict, call.body, call.headers)


class RawResponse(NamedTuple):
    """An answer as it came. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], raw: RawResponse) -> T:
    """The typed body of an answer. Raises ApiError, BadAnswer."""
    if not 200 <= raw.status < 300:
        raise failure(raw)
    if call.kind is None:
        return None  # type: ignore[return-value]  # T is None then
    try:
        return msgspec.json.decode(raw.body, type=call.kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadAnswer(raw.status, raw.body.decode(errors="replace")) from None


def failure(raw: RawResponse) -> ClientError:
    """The exception for an answer that is no success."""
    try:
        problem = _problem.decode(raw.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem()
    if not problem.code:
        return BadAnswer(raw.status, raw.body.decode(errors="replace"))
    later = raw.headers.get("retry-after", "")
    return error_of(problem, None if not later else seconds_of(later, datetime.now(UTC)))


def seconds_of(retry_after: str, now: datetime) -> float | None:
    """A Retry-After: seconds, or a date; None when it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


class Retry(msgspec.Struct, frozen=True):
    """How patiently a call is repeated: ``tries`` in all, within ``patience`` seconds. Pauses double up to ``longest``
    and are spread at random; a Retry-After is obeyed, and one that lies beyond the patience ends the trying."""

    tries: int = 6
    patience: float = 30.0
    first: float = 0.2
    longest: float = 5.0

    def pause(self, error: ClientError, tried: int, spent: float, chance: float) -> float | None:
        """Seconds until the next try; None: give up. ``tried``, ``spent``: what it took so far; ``chance``: 0 to 1."""
        if not error.retryable or tried >= self.tries:
            return None
        pause: float = min(self.longest, self.first * 2 ** (tried - 1)) * (0.5 + chance / 2)
        if error.retry_after is not None:
            pause = error.retry_after + pause / 4
        return pause if spent + pause <= self.patience else None


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def send(message: Message, key: str | None) -> Call[Accepted]:
    """Raises InvalidError for a message that cannot be written as JSON."""
    return Call("POST", "/v1/messages", Accepted, _written(message), _keyed(key))


def _written(message: Message) -> bytes:
    """A message as JSON. Raises InvalidError, as the gateway would say it, when it holds what UTF-8 cannot."""
    try:
        return _encode(message)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        field = next((name for name, value in _fields(message) if not _is_written(value)), "")
        raise _unwritable(field, error) from None


def _unwritable(field: str, error: Exception) -> InvalidError:
    """The gateway's words for what it would say of a field, if it could be sent."""
    half = isinstance(error, UnicodeEncodeError)
    detail = "holds half a character (a lone surrogate)" if half else str(error)
    faults = (FieldError(field, "invalid_value", detail),)
    return InvalidError(Problem(400, "malformed", "The request is malformed", f"{field}: {detail}", errors=faults))


def _fields(message: Message) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(message):
        yield field.encode_name, getattr(message, field.name)


def _is_written(value: Any) -> bool:
    try:
        _encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True


class BatchChunk(NamedTuple):
    """A part of a batch: the index of its first message, how many go, the call (None: none goes), and those of its
    messages that cannot be written and stay here, by index in the batch."""

    start: int
    size: int
    call: Call[ResultRows] | None
    refused: tuple[Refused, ...] = ()


class ResultRow(msgspec.Struct):
    """A result of either kind; ``problem`` says which."""

    index: int = 0
    id: str = ""
    status: str = ""
    segments: int = 1
    encoding: str = ""
    to: str = ""
    client_ref: str | None = None
    decision: Decision = Decision()
    duplicate: bool = False
    replaced: dict[str, str] | None = None
    problem: Problem | None = None


class ResultRows(msgspec.Struct):
    """The answer to a batch as it travels."""

    accepted: int
    refused: int
    results: list[ResultRow]


def chunks(messages: Iterable[Message], size: int, key: str | None) -> Iterator[BatchChunk]:
    """A batch in requests of at most ``size`` messages and 8 MiB; taken from the iterable as needed.

    The keys of the requests derive from ``key``: the same messages under the same key are the same requests.
    """
    if not 1 <= size <= MAX_CHUNK:
        raise ValueError(f"a request may hold 1 to {MAX_CHUNK} messages, not {size}")
    base = key or str(uuid.uuid4())
    start = octets = 0
    encoded: list[bytes] = []
    refused: list[Refused] = []
    for index, message in enumerate(messages):
        try:
            one = _written(message)
        except InvalidError as error:
            refused.append(Refused(index, error.problem))
            continue
        if encoded and (len(encoded) == size or octets + len(one) + 1 > _MAX_OCTETS):
            yield _chunk(encoded, start, base, refused)
            start, octets, encoded, refused = index, 0, [], []
        encoded.append(one)
        octets += len(one) + 1
    if encoded or refused:
        yield _chunk(encoded, start, base, refused)


def _chunk(encoded: list[bytes], start: int, base: str, refused: list[Refused]) -> BatchChunk:
    body = b'{"messages":[' + b",".join(encoded) + b"]}"
    call = Call("POST", "/v1/messages/batch", ResultRows, body, _keyed(f"{base}.{start}")) if encoded else None
    return BatchChunk(start, len(encoded), call, tuple(refused))


NOTHING = ResultRows(0, 0, [])
"""The answer to a chunk of which nothing went."""


def results(chunk: BatchChunk, rows: ResultRows) -> Batch:
    """The answer to a chunk, its indexes counted from the start of the whole batch."""
    stayed = {one.index for one in chunk.refused}
    places = (
        [index for index in range(chunk.start, chunk.start + chunk.size + len(stayed)) if index not in stayed]
        if stayed
        else range(chunk.start, chunk.start + chunk.size)
    )
    done: list[Result] = [_result(row, places[row.index]) for row in rows.results]
    done = sorted([*done, *chunk.refused], key=lambda one: one.index) if stayed else done
    return Batch(rows.accepted, rows.refused + len(stayed), done)


def _result(row: ResultRow, index: int) -> Result:
    if row.problem is not None:
        return Refused(index, row.problem)
    return Accepted(
        row.id,
        row.status,
        row.segments,
        row.encoding,
        row.to,
        row.client_ref,
        row.decision,
        row.duplicate,
        index,
        row.replaced,
    )


def joined(batches: Iterable[Batch]) -> Batch:
    """Batches one after the other as one."""
    accepted = refused = 0
    done: list[Result] = []
    for batch in batches:
        accepted += batch.accepted
        refused += batch.refused
        done += batch.results
    return Batch(accepted, refused, done)


def message(message_id: str) -> Call[Record]:
    return Call("GET", f"/v1/messages/{_place('id', message_id)}", Record)


class FoundRecords(msgspec.Struct):
    messages: list[Record]


def find(client_ref: str, to: str | None) -> Call[FoundRecords]:
    asked = {"client_ref": _checked("client_ref", client_ref)} | ({} if to is None else {"to": _checked("to", to)})
    return Call("GET", "/v1/messages?" + urlencode(asked), FoundRecords)


def decisions(message_id: str) -> Call[Decisions]:
    return Call("GET", f"/v1/messages/{_place('id', message_id)}/decisions", Decisions)


def cancel(message_id: str) -> Call[Canceled]:
    return Call("POST", f"/v1/messages/{_place('id', message_id)}/cancel", Canceled)


class ConsentList(msgspec.Struct):
    consents: list[Consent]


class SuppressionList(msgspec.Struct):
    suppressions: list[Suppression]


def _of(collection: str, to: str) -> str:
    return f"/v1/{collection}/{_place('to', to, '+')}"


def consent(to: str, status: str, *, details: ConsentDetails, **basics: str | None) -> Call[Consent]:
    """``basics``: method, evidence, brand."""
    body: dict[str, Any] = {"status": status, **basics, **details}
    return Call("PUT", _of("consents", to), Consent, _present(body))


def consents(to: str) -> Call[ConsentList]:
    return Call("GET", _of("consents", to), ConsentList)


def suppress(to: str, reason: str, scope: str, brand: str | None) -> Call[Suppression]:
    body = {"reason": reason, "scope": scope, "brand": brand}
    return Call("PUT", _of("suppressions", to), Suppression, _present(body))


def suppressions(to: str) -> Call[SuppressionList]:
    return Call("GET", _of("suppressions", to), SuppressionList)


def unsuppress(to: str, scope: str | None, brand: str | None) -> Call[None]:
    narrowed = {name: value for name, value in (("scope", scope), ("brand", brand)) if value is not None}
    return Call("DELETE", _of("suppressions", to) + ("?" + urlencode(narrowed) if narrowed else ""), None)


def _present(body: Mapping[str, Any]) -> bytes:
    """Raises InvalidError."""
    for name, value in body.items():
        if isinstance(value, str):
            _checked(name, value)
    return _encode({name: value for name, value in body.items() if value is not None and value != ""})


def _checked(name: str, text: str) -> str:
    """``text``, if it can be written. Raises InvalidError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _unwritable(name, error) from None
    return text


def _place(name: str, text: str, safe: str = "") -> str:
    """A part of a path. Raises InvalidError."""
    return quote(_checked(name, text), safe=safe)
