"""The HTTP contract as data: operations, their responses and problems, parameters and fields.

``gateway.api.openapi`` makes the document of it, and a test keeps it equal to the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.api import content_negotiation, recipients, schemas
from gateway.api.requests import MAX_KEY, MAX_MESSAGES, BatchRequest
from gateway.intake.submission import Submission

_NDJSON = content_negotiation.NDJSON.decode()

# Codes of problems, by what makes a request get them.
ALWAYS = ("timeout", "headers_too_large", "internal")
AUTHENTICATED = ("unauthorized", *ALWAYS)
WITH_BODY = ("malformed", "unknown_field", "too_large", "unsupported_media_type", *AUTHENTICATED)
STORE = ("store_unavailable", "write_unconfirmed", "store_full")
POLICY = (
    "consent_missing",
    "consent_revoked",
    "opted_out",
    "suppressed",
    "quiet_hours",
    "frequency_cap",
    "breaker_open",
    "content_refused",
    "duplicate",
    "expired",
    "no_route",
    "zone_unknown",
)
SUBMISSION = (
    "rate_limited",
    "velocity_limit",
    "queue_full",
    "shutting_down",
    "idempotency_running",
    "idempotency_mismatch",
    *STORE,
)
VALUES = ("invalid_number", "invalid_value", "encoding_mismatch")
RIGHTS = ("category_not_granted", "sender_not_allowed", "brand_not_allowed", "destination_not_allowed")


class SuccessResponse(NamedTuple):
    """A successful response."""

    description: str
    type: Any = None
    media_types: tuple[str, ...] = ()  # beside JSON


class ApiOperation(NamedTuple):
    """One method of one path. ``parameters``: keys of ``PARAMETERS``; ``problems``: codes."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str
    responses: Mapping[int, SuccessResponse]
    problems: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    body: Any = None
    examples: Mapping[str, Any] = {}
    media_types: tuple[str, ...] = ()  # of the body, beside JSON


_TO = "+46701740605"
_HELLO = {"to": _TO, "text": "Your parcel is waiting at the corner shop.", "category": "transactional"}
TAGS = {
    "messages": "Send messages, track them, cancel them.",
    "recipients": "Recipients' choices: consents and opt-outs.",
    "gateway": "Health, readiness and this document. No API key is needed.",
}

OPERATIONS = (
    ApiOperation(
        "post",
        "/v1/messages",
        name="sendMessage",
        tag="messages",
        summary="Send a message",
        description=(
            "The response comes once the message is stored. A message that policy defers is answered 202 as well, with "
            "the time in `decision.next_at`; a message that policy refuses is answered 422, with `id` and `decision`."
        ),
        responses={202: SuccessResponse("Stored", schemas.SubmittedView)},
        problems=(*WITH_BODY, *VALUES, *RIGHTS, *POLICY, *SUBMISSION),
        parameters=("Idempotency-Key",),
        body=Submission,
        examples={
            "plain": _HELLO,
            "with a reference and an expiry": _HELLO
            | {"client_ref": "order-1017", "expires_at": "2099-12-31T12:00:00Z", "metadata": {"order": 1017}},
        },
    ),
    ApiOperation(
        "post",
        "/v1/messages/batch",
        name="sendBatch",
        tag="messages",
        summary="Send a batch of messages",
        description=(
            f"Up to {MAX_MESSAGES} messages or 8 MiB. Each message is accepted or refused on its own; results are in "
            f"the order sent. With `{_NDJSON}` every line of the body is a message and every line of the response a "
            "result, the last one the counts; a faulty line is one refused message. The response has the media type of "
            "the body, or the one that `Accept` asks for. NDJSON answered in NDJSON is a stream: lines are accepted "
            "and answered as they arrive, up to 50,000 (5,000 with an Idempotency-Key), at the account's rate limit."
        ),
        responses={202: SuccessResponse("Processed; see each result", schemas.BatchAnswer, (_NDJSON,))},
        problems=(*WITH_BODY, "not_acceptable", *SUBMISSION),
        parameters=("Idempotency-Key",),
        body=BatchRequest,
        examples={"two": {"messages": [_HELLO, _HELLO | {"to": "+46701740606", "client_ref": "order-1018"}]}},
        media_types=(_NDJSON,),
    ),
    ApiOperation(
        "get",
        "/v1/messages",
        name="findMessages",
        tag="messages",
        summary="Find messages by your reference",
        description=(
            "The messages accepted under a `client_ref` within 72 hours. Without `to`, those of every recipient, "
            "oldest first, at most 100; `more` says that there may be others, which a search with `to` finds."
        ),
        responses={200: SuccessResponse("The messages, possibly none", schemas.FoundView)},
        problems=("malformed", "invalid_number", *AUTHENTICATED, *STORE),
        parameters=("client_ref", "?to"),
    ),
    ApiOperation(
        "get",
        "/v1/messages/{id}",
        name="getMessage",
        tag="messages",
        summary="Get a message",
        description="Its status, its parts with the carrier's ids, and its timeline. The text is not included.",
        responses={200: SuccessResponse("The record", schemas.MessageView)},
        problems=("not_found", *AUTHENTICATED, *STORE),
        parameters=("id",),
    ),
    ApiOperation(
        "get",
        "/v1/messages/{id}/decisions",
        name="getDecisions",
        tag="messages",
        summary="Get the decisions about a message",
        description=(
            "Every policy decision about this message, oldest first, with the rules that objected, the recipient's "
            "time zones and the policy version; and what is permitted now."
        ),
        responses={200: SuccessResponse("The decisions", schemas.DecisionsView)},
        problems=("not_found", *AUTHENTICATED, *STORE),
        parameters=("id",),
    ),
    ApiOperation(
        "post",
        "/v1/messages/{id}/cancel",
        name="cancelMessage",
        tag="messages",
        summary="Cancel a message",
        description=(
            "A waiting message is canceled at once. A message that a carrier already has is only marked, so that it is "
            "not sent again."
        ),
        responses={
            200: SuccessResponse("Canceled: the message is never sent", schemas.CanceledView),
            202: SuccessResponse("A carrier already has the message: it is not sent again", schemas.CanceledView),
        },
        problems=("not_found", "already_final", *AUTHENTICATED, *STORE),
        parameters=("id",),
    ),
    ApiOperation(
        "put",
        "/v1/consents/{to}",
        name="putConsent",
        tag="recipients",
        summary="Record a consent granted or revoked",
        description=(
            "The latest by `occurred_at` counts; a tie is a revocation. `method` and `evidence` are required to grant."
        ),
        responses={200: SuccessResponse("`applied` says whether this is the latest one", recipients.ConsentView)},
        problems=("invalid_number", "invalid_value", "brand_not_allowed", *WITH_BODY, *STORE),
        parameters=("to",),
        body=recipients.ConsentBody,
        examples={
            "granted": {"status": "granted", "method": "web_form", "evidence": "ticked: send me offers"},
            "revoked": {"status": "revoked"},
        },
    ),
    ApiOperation(
        "get",
        "/v1/consents/{to}",
        name="getConsents",
        tag="recipients",
        summary="List a recipient's consents",
        description="Those for the brands of this account.",
        responses={200: SuccessResponse("The consents", recipients.ConsentsView)},
        problems=("invalid_number", *AUTHENTICATED, *STORE),
        parameters=("to",),
    ),
    ApiOperation(
        "put",
        "/v1/suppressions/{to}",
        name="putSuppression",
        tag="recipients",
        summary="Record an opt-out",
        description=(
            "From marketing or from everything, for one brand or for the whole account. Waiting messages are "
            "stopped too."
        ),
        responses={200: SuccessResponse("The opt-out", recipients.SuppressionView)},
        problems=("invalid_number", "brand_not_allowed", *WITH_BODY, *STORE),
        parameters=("to",),
        body=recipients.SuppressionBody,
        examples={
            "from marketing": {"reason": "asked by telephone"},
            "from all": {"scope": "all", "reason": "asked to"},
        },
    ),
    ApiOperation(
        "get",
        "/v1/suppressions/{to}",
        name="getSuppressions",
        tag="recipients",
        summary="List a recipient's opt-outs",
        description="Those in force against this account's messages, including the operators' own.",
        responses={200: SuccessResponse("The opt-outs", recipients.SuppressionsView)},
        problems=("invalid_number", *AUTHENTICATED, *STORE),
        parameters=("to",),
    ),
    ApiOperation(
        "delete",
        "/v1/suppressions/{to}",
        name="deleteSuppression",
        tag="recipients",
        summary="Lift opt-outs",
        description="Those that this account recorded; opt-outs that operators recorded stay.",
        responses={204: SuccessResponse("Lifted, or there was none")},
        problems=("malformed", "invalid_value", "invalid_number", "brand_not_allowed", *AUTHENTICATED, *STORE),
        parameters=("to", "?scope", "?brand"),
    ),
    ApiOperation(
        "get",
        "/healthz",
        name="alive",
        tag="gateway",
        summary="Health",
        description="Whether the process responds. For a supervisor that restarts it.",
        responses={200: SuccessResponse("The process responds", schemas.HealthView)},
        problems=ALWAYS,
    ),
    ApiOperation(
        "get",
        "/readyz",
        name="ready",
        tag="gateway",
        summary="Readiness",
        description="Whether the store can be written to. For load balancers.",
        responses={200: SuccessResponse("Messages are accepted", schemas.HealthView)},
        problems=(*ALWAYS, "store_unavailable"),
    ),
    ApiOperation(
        "get",
        "/v1/openapi.json",
        name="openapi",
        tag="gateway",
        summary="This document",
        description="OpenAPI 3.1.",
        responses={200: SuccessResponse("The document", dict[str, Any])},
        problems=ALWAYS,
    ),
)

_NUMBER = {"type": "string", "pattern": "^\\+?[0-9]{4,20}$"}

PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
        "description": "A repeat with the same key and body within 24 hours gets the first response and sends nothing.",
        "example": "2b1f3e1c-6a3f-4c1e-9f43-0c4b1f0f7d11",
    },
    "id": {"in": "path", "schema": {"type": "string", "format": "uuid"}, "description": "The message's id."},
    "to": {
        "in": "path",
        "schema": _NUMBER,
        "description": "E.164, with or without `+`.",
        "example": _TO,
    },
    "?to": {"schema": _NUMBER, "description": "Only messages to this recipient.", "example": _TO},
    "client_ref": {
        "in": "query",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": "Your reference.",
        "example": "order-1017",
    },
    "?scope": {"schema": {"enum": ["marketing", "all"]}, "description": "Only opt-outs of this scope."},
    "?brand": {"schema": {"type": "string"}, "description": "Only opt-outs of this brand."},
}

FIELDS = {
    "to": "Destination in E.164, with or without `+`; with the account's `default_country` also in national form. "
    "Digits without `+` that could be two different numbers are refused. The response has the number that is dialled.",
    "text": "Up to 255 segments. The encoding follows from the characters, unless `encoding` forces one.",
    "from": "Sender: digits, a short code or up to 11 letters. Default: the first sender of the account.",
    "category": "The purpose of the message. Default: the account's.",
    "brand": "The brand that sends the message, for consents and opt-outs. Default: the account's first.",
    "client_ref": "Your reference: accepted once per recipient within 72 hours; repeats get the id of the first.",
    "callback_url": "URL for the events of this message, instead of the account's.",
    "send_at": "Send no earlier than this time; at most a year ahead.",
    "expires_at": "Send no later than this time.",
    "time_zone": "The recipient's IANA time zone, for quiet hours. It selects among the zones of the number's country; "
    "any other zone applies in addition: both must permit, unless `residence` is attested.",
    "residence": "`attested`: you know that the recipient lives in `time_zone`, which then applies alone; kept with "
    "the message as evidence.",
    "on_quiet": "During quiet hours, `defer` the message or `reject` it. Default: the operator's choice.",
    "priority": "SMPP priority_flag, for the carrier. The order within the gateway follows from the category.",
    "encoding": "`auto`: the encoding that fits; `smart`: typographic quotes, dashes and the like become plain ones "
    "when that keeps the text in GSM 7-bit, and `replaced` lists them; any other value forces an encoding, and a text "
    "that does not fit is refused. Default: the account's.",
    "metadata": "Any JSON object of up to 2048 bytes; returned with the message.",
    "reason": "Required for category `emergency`.",
    "template": "Name of one of the account's templates, a text with `{placeholders}`; instead of `text`.",
    "vars": "A value for every placeholder of the template.",
}
"""Descriptions of the fields of a message."""
