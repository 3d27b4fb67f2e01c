"""Every call of the HTTP interface as data, and the decoding of its response. No I/O: both clients share this.

A ``Call`` can be repeated safely: one that changes something carries an Idempotency-Key, so a repeat after a lost
response returns the first response and changes nothing twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from gateway.client.errors import BadAnswer, ClientError, InvalidError, error_of
from gateway.client.retry import seconds_of
from gateway.client.types import (
    Accepted,
    Canceled,
    Consent,
    ConsentDetails,
    Decisions,
    FieldError,
    Message,
    Problem,
    Record,
    Suppression,
)

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_problem = msgspec.json.Decoder(Problem)
_UNENCODABLE = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)


# ── calls and responses ────────────────────────────────────────────────────────────────────────────────────────────


class Call(NamedTuple, Generic[T]):
    """One request. ``kind``: the type that the response body decodes to; None when it has no body."""

    method: str
    path: str
    kind: type[T] | None
    body: bytes | None = None
    headers: Mapping[str, str] = {}


def untyped(call: Call[Any]) -> Call[dict[str, Any]]:
    """Return the same call with the response as a plain JSON object."""
    return Call(call.method, call.path, dict, call.body, call.headers)


class RawResponse(NamedTuple):
    """A response as received. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], raw: RawResponse) -> T:
    """Return the decoded body of a response. Raises ApiError, BadAnswer."""
    if not 200 <= raw.status < 300:
        raise failure(raw)
    if call.kind is None:
        return None  # type: ignore[return-value]  # T is None then
    try:
        return msgspec.json.decode(raw.body, type=call.kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadAnswer(raw.status, raw.body.decode(errors="replace")) from None


def failure(raw: RawResponse) -> ClientError:
    """Return the exception for a response that is not 2xx."""
    try:
        problem = _problem.decode(raw.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem()
    if not problem.code:
        return BadAnswer(raw.status, raw.body.decode(errors="replace"))
    later = raw.headers.get("retry-after", "")
    return error_of(problem, None if not later else seconds_of(later, datetime.now(UTC)))


def idempotency(key: str | None) -> dict[str, str]:
    """Return the Idempotency-Key header, with a new key for None."""
    return {"Idempotency-Key": key or str(uuid.uuid4())}


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────


def send(message: Message, key: str | None) -> Call[Accepted]:
    """POST /v1/messages. Raises InvalidError for a message that cannot be encoded as JSON."""
    return Call("POST", "/v1/messages", Accepted, message_body(message), idempotency(key))


def message(message_id: str) -> Call[Record]:
    """GET /v1/messages/{id}."""
    return Call("GET", f"/v1/messages/{_path_part('id', message_id)}", Record)


class FoundRecords(msgspec.Struct):
    """The response to ``find``."""

    messages: list[Record]


def find(client_ref: str, to: str | None) -> Call[FoundRecords]:
    """GET /v1/messages?client_ref=…."""
    query = {"client_ref": _checked("client_ref", client_ref)} | ({} if to is None else {"to": _checked("to", to)})
    return Call("GET", "/v1/messages?" + urlencode(query), FoundRecords)


def decisions(message_id: str) -> Call[Decisions]:
    """GET /v1/messages/{id}/decisions."""
    return Call("GET", f"/v1/messages/{_path_part('id', message_id)}/decisions", Decisions)


def cancel(message_id: str) -> Call[Canceled]:
    """POST /v1/messages/{id}/cancel."""
    return Call("POST", f"/v1/messages/{_path_part('id', message_id)}/cancel", Canceled)


# ── recipients ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ConsentList(msgspec.Struct):
    """The response to ``consents``."""

    consents: list[Consent]


class SuppressionList(msgspec.Struct):
    """The response to ``suppressions``."""

    suppressions: list[Suppression]


def consent(to: str, status: str, *, details: ConsentDetails, **fields: str | None) -> Call[Consent]:
    """PUT /v1/consents/{to}. ``fields``: method, evidence, brand."""
    body: dict[str, Any] = {"status": status, **fields, **details}
    return Call("PUT", _recipient_path("consents", to), Consent, _body(body))


def consents(to: str) -> Call[ConsentList]:
    """GET /v1/consents/{to}."""
    return Call("GET", _recipient_path("consents", to), ConsentList)


def suppress(to: str, reason: str, scope: str, brand: str | None) -> Call[Suppression]:
    """PUT /v1/suppressions/{to}."""
    body = {"reason": reason, "scope": scope, "brand": brand}
    return Call("PUT", _recipient_path("suppressions", to), Suppression, _body(body))


def suppressions(to: str) -> Call[SuppressionList]:
    """GET /v1/suppressions/{to}."""
    return Call("GET", _recipient_path("suppressions", to), SuppressionList)


def unsuppress(to: str, scope: str | None, brand: str | None) -> Call[None]:
    """DELETE /v1/suppressions/{to}."""
    query = {name: value for name, value in (("scope", scope), ("brand", brand)) if value is not None}
    return Call("DELETE", _recipient_path("suppressions", to) + ("?" + urlencode(query) if query else ""), None)


# ── encoding ───────────────────────────────────────────────────────────────────────────────────────────────────────


def message_body(message: Message) -> bytes:
    """Return a message as JSON. Raises InvalidError, as the gateway would, when a field cannot be encoded."""
    try:
        return _encode(message)
    except _UNENCODABLE as error:
        field = next((name for name, value in _fields(message) if not _is_encodable(value)), "")
        raise _invalid(field, error) from None


def _invalid(field: str, error: Exception) -> InvalidError:
    """Return the error that the gateway would report for a field, had it been possible to send it."""
    surrogate = isinstance(error, UnicodeEncodeError)
    detail = "contains half a character (a lone surrogate)" if surrogate else str(error)
    errors = (FieldError(field, "invalid_value", detail),)
    return InvalidError(Problem(400, "malformed", "The request is malformed", f"{field}: {detail}", errors=errors))


def _fields(message: Message) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(message):
        yield field.encode_name, getattr(message, field.name)


def _is_encodable(value: Any) -> bool:
    try:
        _encode(value)
    except _UNENCODABLE:
        return False
    return True


def _recipient_path(collection: str, to: str) -> str:
    return f"/v1/{collection}/{_path_part('to', to, '+')}"


def _body(fields: Mapping[str, Any]) -> bytes:
    """Return fields as JSON, without those that are empty. Raises InvalidError."""
    for name, value in fields.items():
        if isinstance(value, str):
            _checked(name, value)
    return _encode({name: value for name, value in fields.items() if value is not None and value != ""})


def _checked(name: str, text: str) -> str:
    """Return ``text`` unchanged. Raises InvalidError when it cannot be encoded as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid(name, error) from None
    return text


def _path_part(name: str, text: str, safe: str = "") -> str:
    """Return ``text`` percent-encoded for a path. Raises InvalidError."""
    return quote(_checked(name, text), safe=safe)
