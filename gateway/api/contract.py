"""What the applications' interface is: its operations, their answers and problems, the parameters and the fields.

Data alone; ``gateway.api.openapi`` makes the document of it, and a test keeps it equal to the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.api import content_negotiation, recipients, schemas
from gateway.api.requests import MAX_KEY, MAX_MESSAGES, BatchRequest
from gateway.intake.submission import Submission

_NDJSON = content_negotiation.NDJSON.decode()

ALWAYS = ("timeout", "headers_too_large", "internal")
KEYED = ("unauthorized", *ALWAYS)
BODY = ("malformed", "unknown_field", "too_large", "unsupported_media_type", *KEYED)
STORED = ("store_unavailable", "write_unconfirmed", "store_full")
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
TAKEN = (
    "rate_limited",
    "velocity_limit",
    "queue_full",
    "shutting_down",
    "idempotency_running",
    "idempotency_mismatch",
    *STORED,
)
FAULTS = ("invalid_number", "invalid_value", "encoding_mismatch")
RIGHTS = ("category_not_granted", "sender_not_allowed", "brand_not_allowed", "destination_not_allowed")


class SuccessAnswer(NamedTuple):
    """A success: what it means and its type; ``also``: other content types of the same."""

    text: str
    type: Any = None
    also: tuple[str, ...] = ()


class ApiOperation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    text: str
    answers: Mapping[int, SuccessAnswer]
    problems: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    body: Any = None
    examples: Mapping[str, Any] = {}
    also: tuple[str, ...] = ()  # other content types of the body


_TO = "+46701740605"
_HELLO = {"to": _TO, "text": "Your parcel is waiting at the corner shop.", "category": "transactional"}
TAGS = {
    "messages": "Hand in messages, follow them, stop them.",
    "recipients": "What recipients have said: consent given and taken back, opt-outs.",
    "gateway": "Is it there, does it work, what does it speak. No key is needed.",
}

OPERATIONS = (
    ApiOperation(
        "post",
        "/v1/messages",
        "sendMessage",
        "messages",
        "Hand in one message",
        "The answer comes when the message is stored. What policy puts off is answered 202 as well, with the instant "
        "in `decision.next_at`; what policy refuses is a 422 with `id` and `decision`.",
        {202: SuccessAnswer("Stored", schemas.SubmittedView)},
        (*BODY, *FAULTS, *RIGHTS, *POLICY, *TAKEN),
        ("Idempotency-Key",),
        Submission,
        {
            "plain": _HELLO,
            "with a reference, at an hour": _HELLO
            | {"client_ref": "order-1017", "expires_at": "2099-12-31T12:00:00Z", "metadata": {"order": 1017}},
        },
    ),
    ApiOperation(
        "post",
        "/v1/messages/batch",
        "sendBatch",
        "messages",
        "Hand in many messages",
        f"Up to {MAX_MESSAGES} messages or 8 MiB. Each is accepted or refused by itself; results come in the order "
        f"sent. As `{_NDJSON}` every line is a message, in an answer a result, the last one with the counts; a faulty "
        "line is one refused message. The answer has the form of the body, or the one that `Accept` asks for. Lines "
        "for lines are a stream: taken in and answered as they arrive, up to 50,000 (5,000 with an Idempotency-Key), "
        "slowed down to the account's rate.",
        {202: SuccessAnswer("Taken in; see each result", schemas.BatchAnswer, (_NDJSON,))},
        (*BODY, "not_acceptable", *TAKEN),
        ("Idempotency-Key",),
        BatchRequest,
        {"two": {"messages": [_HELLO, _HELLO | {"to": "+46701740606", "client_ref": "order-1018"}]}},
        (_NDJSON,),
    ),
    ApiOperation(
        "get",
        "/v1/messages",
        "findMessages",
        "messages",
        "Find messages by your reference",
        "What was accepted under a `client_ref` within 72 hours. Without `to` those of every recipient, the oldest "
        "first, at most 100; `more` says that there may be others, which `to` finds.",
        {200: SuccessAnswer("None, one or several", schemas.FoundView)},
        ("malformed", "invalid_number", *KEYED, *STORED),
        ("client_ref", "?to"),
    ),
    ApiOperation(
        "get",
        "/v1/messages/{id}",
        "getMessage",
        "messages",
        "Read a message",
        "Status, parts with the carrier's ids, and the timeline. The text is not among it.",
        {200: SuccessAnswer("The record", schemas.MessageView)},
        ("not_found", *KEYED, *STORED),
        ("id",),
    ),
    ApiOperation(
        "get",
        "/v1/messages/{id}/decisions",
        "getDecisions",
        "messages",
        "Why it is where it is",
        "Every decision of policy about this message, oldest first, with the rules that objected, the zones of the "
        "recipient and the policy's version; and what is permitted now.",
        {200: SuccessAnswer("The decisions", schemas.DecisionsView)},
        ("not_found", *KEYED, *STORED),
        ("id",),
    ),
    ApiOperation(
        "post",
        "/v1/messages/{id}/cancel",
        "cancelMessage",
        "messages",
        "Stop a message",
        "What waits is canceled at once. What a carrier has already is only marked: it is not sent again.",
        {
            200: SuccessAnswer("Canceled: it is never sent", schemas.CanceledView),
            202: SuccessAnswer("A carrier has it: it is not sent again", schemas.CanceledView),
        },
        ("not_found", "already_final", *KEYED, *STORED),
        ("id",),
    ),
    ApiOperation(
        "put",
        "/v1/consents/{to}",
        "putConsent",
        "recipients",
        "Record a consent given or taken back",
        "The latest by `occurred_at` counts; a tie is a revocation. To grant, `method` and `evidence` are needed.",
        {200: SuccessAnswer("`applied` says whether it is the latest word", recipients.ConsentView)},
        ("invalid_number", "invalid_value", "brand_not_allowed", *BODY, *STORED),
        ("to",),
        recipients.ConsentBody,
        {
            "given": {"status": "granted", "method": "web_form", "evidence": "ticked: send me offers"},
            "taken back": {"status": "revoked"},
        },
    ),
    ApiOperation(
        "get",
        "/v1/consents/{to}",
        "getConsents",
        "recipients",
        "Read a recipient's consents",
        "Those for the brands of this account.",
        {200: SuccessAnswer("The consents", recipients.ConsentsView)},
        ("invalid_number", *KEYED, *STORED),
        ("to",),
    ),
    ApiOperation(
        "put",
        "/v1/suppressions/{to}",
        "putSuppression",
        "recipients",
        "Record an opt-out",
        "From marketing or from everything, for one brand or for the whole account. What waits already is stopped too.",
        {200: SuccessAnswer("It stands", recipients.SuppressionView)},
        ("invalid_number", "brand_not_allowed", *BODY, *STORED),
        ("to",),
        recipients.SuppressionBody,
        {"from marketing": {"reason": "asked by telephone"}, "from all": {"scope": "all", "reason": "asked to"}},
    ),
    ApiOperation(
        "get",
        "/v1/suppressions/{to}",
        "getSuppressions",
        "recipients",
        "Read a recipient's opt-outs",
        "Those that stand against this account's messages, the operators' included.",
        {200: SuccessAnswer("The opt-outs", recipients.SuppressionsView)},
        ("invalid_number", *KEYED, *STORED),
        ("to",),
    ),
    ApiOperation(
        "delete",
        "/v1/suppressions/{to}",
        "deleteSuppression",
        "recipients",
        "Lift opt-outs",
        "Those that this account recorded; what operators recorded stays.",
        {204: SuccessAnswer("Lifted, or there was none")},
        ("malformed", "invalid_value", "invalid_number", "brand_not_allowed", *KEYED, *STORED),
        ("to", "?scope", "?brand"),
    ),
    ApiOperation(
        "get",
        "/healthz",
        "alive",
        "gateway",
        "Is the process there",
        "For restarts by a supervisor.",
        {200: SuccessAnswer("It is", schemas.HealthView)},
        ALWAYS,
    ),
    ApiOperation(
        "get",
        "/readyz",
        "ready",
        "gateway",
        "Can it take messages",
        "For balancers: whether the store can be written to.",
        {200: SuccessAnswer("It can", schemas.HealthView)},
        (*ALWAYS, "store_unavailable"),
    ),
    ApiOperation(
        "get",
        "/v1/openapi.json",
        "openapi",
        "gateway",
        "This document",
        "OpenAPI 3.1.",
        {200: SuccessAnswer("The document", dict[str, Any])},
        ALWAYS,
    ),
)

_NUMBER = {"type": "string", "pattern": "^\\+?[0-9]{4,20}$"}

PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
        "description": "A repeat with the same key and body within 24 hours gets the first answer and sends nothing.",
        "example": "2b1f3e1c-6a3f-4c1e-9f43-0c4b1f0f7d11",
    },
    "id": {"in": "path", "schema": {"type": "string", "format": "uuid"}, "description": "The message's id."},
    "to": {
        "in": "path",
        "schema": _NUMBER,
        "description": "E.164, with or without `+`.",
        "example": _TO,
    },
    "?to": {"schema": _NUMBER, "description": "Only this recipient's.", "example": _TO},
    "client_ref": {
        "in": "query",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": "Your reference.",
        "example": "order-1017",
    },
    "?scope": {"schema": {"enum": ["marketing", "all"]}, "description": "Only opt-outs from this."},
    "?brand": {"schema": {"type": "string"}, "description": "Only this brand's."},
}

FIELDS = {
    "to": "Destination: E.164, with or without `+`; with the account's `default_country` also as it is written there. "
    "Digits without `+` that could be two numbers are refused. The answer has the number that is dialled.",
    "text": "Up to 255 segments; the alphabet is chosen by what is in it.",
    "from": "Sender: digits, a short code or up to 11 letters. Without it the account's first.",
    "category": "What the message is for. Without it the account's default.",
    "brand": "Whose message it is, for consent and opt-outs. Without it the account's first.",
    "client_ref": "Your reference: accepted once per recipient within 72 hours, repeats get the first id.",
    "callback_url": "Where events of this message go instead of the account's address.",
    "send_at": "Not before this instant, at most a year ahead.",
    "expires_at": "Not after this instant.",
    "time_zone": "The recipient's IANA zone, for quiet hours. It chooses among the zones of the number's country; any "
    "other one counts beside them: both must permit, unless `residence` is attested.",
    "residence": "`attested`: you know that the recipient lives in `time_zone`, which then counts alone; kept as "
    "evidence with the message.",
    "on_quiet": "In quiet hours: put off (`defer`) or refuse (`reject`). Without it the operator's choice.",
    "priority": "SMPP priority_flag, for the carrier. What goes first here follows from the category.",
    "encoding": "`auto`: the alphabet that fits; `smart`: typographic quotes, dashes and the like become plain ones "
    "when that keeps the text in GSM 7-bit, and `replaced` tells which; else insist on an alphabet: what does not fit "
    "is refused. Without it the account's.",
    "metadata": "Anything of yours, up to 2048 octets as JSON; given back with the message.",
    "reason": "Needed for an emergency.",
    "template": "Name of a text of the account with `{places}`, instead of `text`.",
    "vars": "A value for every place of the template.",
}
"""What is asked for in a message, for people."""
