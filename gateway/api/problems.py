"""Errors as applications see them: RFC 9457 problem+json, one row per code.

A code is a promise: applications branch on it, so a row may be added but never renamed. ``status`` is the HTTP status,
``retryable`` says whether the same request may succeed later, ``compat`` is the number that users of other platforms
know for the same thing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.api.schemas import DecisionView

CONTENT_TYPE = b"application/problem+json"


class ProblemKind(NamedTuple):
    """What is the same for every problem of one code."""

    status: int
    title: str
    retryable: bool = False
    compat: int = 0


KINDS: dict[str, ProblemKind] = {
    # the request itself
    "malformed": ProblemKind(400, "The request is malformed"),
    "unknown_field": ProblemKind(400, "The request has a field that does not exist"),
    "invalid_number": ProblemKind(400, "The destination is not an E.164 number", compat=21211),
    "invalid_value": ProblemKind(400, "A field has a value that is not allowed"),
    "encoding_mismatch": ProblemKind(400, "The text does not fit the encoding asked for"),
    "unauthorized": ProblemKind(401, "The API key is missing or unknown", compat=20003),
    "category_not_granted": ProblemKind(403, "The account may not send this category"),
    "sender_not_allowed": ProblemKind(403, "The account may not use this sender", compat=21606),
    "brand_not_allowed": ProblemKind(403, "The account does not have this brand"),
    "destination_not_allowed": ProblemKind(403, "Numbers of this kind are not written to", compat=21408),
    "forbidden": ProblemKind(403, "This key or token may not do that"),
    "not_found": ProblemKind(404, "There is no such thing", compat=20404),
    "method_not_allowed": ProblemKind(405, "The method is not allowed here"),
    "not_acceptable": ProblemKind(406, "The answer cannot have the form that Accept asks for"),
    "timeout": ProblemKind(408, "The request did not arrive in time", retryable=True),
    "already_final": ProblemKind(409, "The message has reached its end already"),
    "needs_restart": ProblemKind(409, "The change needs a restart"),
    "idempotency_running": ProblemKind(409, "A request with this Idempotency-Key is still running", retryable=True),
    "too_large": ProblemKind(413, "The request is too large"),
    "unsupported_media_type": ProblemKind(415, "Unsupported Content-Type or Content-Encoding"),
    "idempotency_mismatch": ProblemKind(422, "This Idempotency-Key was used for another request"),
    "rate_limited": ProblemKind(429, "The account is over its rate", retryable=True, compat=20429),
    "velocity_limit": ProblemKind(429, "The account has sent enough to this range of numbers", retryable=True),
    "headers_too_large": ProblemKind(431, "The request's headers are too large"),
    "invalid_configuration": ProblemKind(422, "The configuration cannot be used"),
    # refused by policy; the names are those of gateway.model.Reason
    "consent_missing": ProblemKind(422, "No consent is on record for this recipient"),
    "consent_revoked": ProblemKind(422, "The recipient has revoked consent"),
    "opted_out": ProblemKind(422, "The recipient has opted out", compat=21610),
    "suppressed": ProblemKind(422, "The recipient is suppressed", compat=21610),
    "quiet_hours": ProblemKind(422, "It is quiet hours at the recipient", retryable=True),
    "frequency_cap": ProblemKind(422, "The recipient has had enough messages", retryable=True, compat=30610),
    "breaker_open": ProblemKind(422, "A breaker is open", retryable=True),
    "content_refused": ProblemKind(422, "The content is refused"),
    "duplicate": ProblemKind(422, "The same content was sent already"),
    "expired": ProblemKind(422, "The message would expire before it may be sent"),
    "no_route": ProblemKind(422, "No route leads to this destination", compat=21612),
    "zone_unknown": ProblemKind(422, "The recipient's time zone is not known; give time_zone"),
    # the gateway itself
    "internal": ProblemKind(500, "The gateway failed"),
    "queue_full": ProblemKind(503, "The account's queue is full", retryable=True, compat=21611),
    "store_unavailable": ProblemKind(503, "The store is away; nothing was accepted", retryable=True),
    "write_unconfirmed": ProblemKind(503, "The store did not confirm the write; it may have been done", retryable=True),
    "store_full": ProblemKind(503, "The store is full; nothing was accepted", retryable=True),
    "audit_unavailable": ProblemKind(503, "The audit cannot be written; nothing was done", retryable=True),
    "worker_failed": ProblemKind(503, "A worker did not do it", retryable=True),
    "shutting_down": ProblemKind(503, "The gateway is shutting down", retryable=True),
}


class FieldProblem(msgspec.Struct, frozen=True, gc=False):
    """One fault of a request, at its place: ``messages[3].to``."""

    field: str
    code: str
    detail: str


class ProblemDetails(msgspec.Struct, omit_defaults=True, gc=False):
    """The body of an answer that is not a success. ``ids``: of the messages of a batch that may be accepted."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    compat_code: int = 0
    retry_at: str = ""
    errors: list[FieldProblem] = []
    id: str = ""
    ids: list[str] = []
    client_ref: str | None = None
    decision: DecisionView | None = None


def problem(code: str, detail: str = "", *, errors: list[FieldProblem] | None = None, **more: Any) -> ProblemDetails:
    """A problem of the catalogue. ``more``: id, client_ref, decision, retry_at. Raises KeyError for a foreign code."""
    kind = KINDS[code]
    return ProblemDetails(
        type=f"urn:smpp-gateway:problem:{code}",
        title=kind.title,
        status=kind.status,
        detail=detail or kind.title,
        code=code,
        retryable=kind.retryable,
        compat_code=kind.compat,
        errors=errors or [],
        **more,
    )


class HttpProblem(Exception):
    """Raised inside a door to answer with a problem; ``headers`` go with it."""

    def __init__(self, body: ProblemDetails, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(body.code)
        self.body = body
        self.headers = headers


def refuse(code: str, detail: str = "", *, headers: tuple[tuple[bytes, bytes], ...] = (), **more: Any) -> HttpProblem:
    """An exception that answers with this problem."""
    return HttpProblem(problem(code, detail, **more), headers)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header that says when to come back: whole seconds, at least one."""
    return (b"retry-after", b"%d" % max(1, -int(-seconds // 1)))
