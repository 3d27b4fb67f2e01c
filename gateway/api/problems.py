"""Errors as applications see them: RFC 9457 problem+json, one row per code.

Applications branch on the code, so a row may be added but never renamed. ``retryable`` says whether the same request
may succeed later; ``compat`` is the number that other platforms have for the same error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.api.schemas import DecisionView

CONTENT_TYPE = b"application/problem+json"

RETRY_SECONDS = 2.0
"""Retry-After while the store is unavailable or full, or the gateway is shutting down."""


class ProblemKind(NamedTuple):
    """What all problems of one code have in common; ``status`` is the HTTP status."""

    status: int
    title: str
    retryable: bool = False
    compat: int = 0


KINDS: dict[str, ProblemKind] = {
    # the request itself
    "malformed": ProblemKind(400, "The request is malformed"),
    "unknown_field": ProblemKind(400, "The request has an unknown field"),
    "invalid_number": ProblemKind(400, "The destination is not an E.164 number", compat=21211),
    "invalid_value": ProblemKind(400, "A field has an invalid value"),
    "encoding_mismatch": ProblemKind(400, "The text does not fit the requested encoding"),
    "unauthorized": ProblemKind(401, "The API key is missing or unknown", compat=20003),
    "category_not_granted": ProblemKind(403, "The account may not send this category"),
    "sender_not_allowed": ProblemKind(403, "The account may not use this sender", compat=21606),
    "brand_not_allowed": ProblemKind(403, "The account does not have this brand"),
    "destination_not_allowed": ProblemKind(403, "Sending to this kind of number is not allowed", compat=21408),
    "forbidden": ProblemKind(403, "The key or token does not permit this"),
    "not_found": ProblemKind(404, "Not found", compat=20404),
    "method_not_allowed": ProblemKind(405, "Method not allowed"),
    "not_acceptable": ProblemKind(406, "No media type in Accept is available"),
    "timeout": ProblemKind(408, "The request did not arrive in time", retryable=True),
    "already_final": ProblemKind(409, "The message is already final"),
    "needs_restart": ProblemKind(409, "The change requires a restart"),
    "idempotency_running": ProblemKind(409, "A request with this Idempotency-Key is still in progress", retryable=True),
    "too_large": ProblemKind(413, "The request is too large"),
    "unsupported_media_type": ProblemKind(415, "Unsupported Content-Type or Content-Encoding"),
    "idempotency_mismatch": ProblemKind(422, "This Idempotency-Key was used for a different request"),
    "rate_limited": ProblemKind(429, "The account exceeds its rate limit", retryable=True, compat=20429),
    "velocity_limit": ProblemKind(429, "The account has reached its limit for this range of numbers", retryable=True),
    "headers_too_large": ProblemKind(431, "The request's headers are too large"),
    "invalid_configuration": ProblemKind(422, "The configuration cannot be used"),
    # refused by policy: the names of gateway.model.Reason
    "consent_missing": ProblemKind(422, "No consent is on record for this recipient"),
    "consent_revoked": ProblemKind(422, "The recipient has revoked consent"),
    "opted_out": ProblemKind(422, "The recipient has opted out", compat=21610),
    "suppressed": ProblemKind(422, "The recipient is suppressed", compat=21610),
    "quiet_hours": ProblemKind(422, "The recipient is in quiet hours", retryable=True),
    "frequency_cap": ProblemKind(422, "The recipient has reached a frequency cap", retryable=True, compat=30610),
    "breaker_open": ProblemKind(422, "A breaker is open", retryable=True),
    "content_refused": ProblemKind(422, "The content is refused"),
    "duplicate": ProblemKind(422, "The same content was already sent"),
    "expired": ProblemKind(422, "The message would expire before it may be sent"),
    "no_route": ProblemKind(422, "No route leads to this destination", compat=21612),
    "zone_unknown": ProblemKind(422, "The recipient's time zone is unknown; give time_zone"),
    # the gateway itself
    "internal": ProblemKind(500, "The gateway failed to process the request"),
    "queue_full": ProblemKind(503, "The queue is full", retryable=True, compat=21611),
    "store_unavailable": ProblemKind(503, "The store is unavailable; nothing was accepted", retryable=True),
    "write_unconfirmed": ProblemKind(503, "The store did not confirm the write; it may have been made", retryable=True),
    "store_full": ProblemKind(503, "The store is full; nothing was accepted", retryable=True),
    "audit_unavailable": ProblemKind(503, "The audit log cannot be written; nothing was done", retryable=True),
    "worker_failed": ProblemKind(503, "A worker process failed to do this", retryable=True),
    "shutting_down": ProblemKind(503, "The gateway is shutting down", retryable=True),
}


class FieldProblem(msgspec.Struct, frozen=True, gc=False):
    """One fault of a request and the field at fault: ``messages[3].to``."""

    field: str
    code: str
    detail: str


class ProblemDetails(msgspec.Struct, omit_defaults=True, gc=False):
    """The body of an error response. ``ids``: the messages of a batch that may have been accepted."""

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
    """Return a problem. ``more``: id, client_ref, decision, retry_at. Raises KeyError for an unknown code."""
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
    """Raised while a request is handled, to answer it with a problem and these ``headers``."""

    def __init__(self, body: ProblemDetails, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(body.code)
        self.body = body
        self.headers = headers


def refuse(code: str, detail: str = "", *, headers: tuple[tuple[bytes, bytes], ...] = (), **more: Any) -> HttpProblem:
    """Return the exception that answers with this problem."""
    return HttpProblem(problem(code, detail, **more), headers)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """Return the Retry-After header: whole seconds, at least one."""
    return (b"retry-after", b"%d" % max(1, -int(-seconds // 1)))
