"""Requests and responses as typed structs. Fields that a newer gateway adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

Category = Literal["otp", "transactional", "marketing", "emergency"]
Scope = Literal["marketing", "all"]


class Message(msgspec.Struct, omit_defaults=True, rename={"sender": "from"}):
    """One message to send: a text, or a template of the account with its variables.

    ``to`` is E.164; fields left out take the account's defaults. ``client_ref``: your own reference, accepted once per
    recipient within 72 hours. ``reason``: required for emergencies. Datetimes must have a time zone.
    """

    to: str
    text: str | None = None
    sender: str | None = None
    category: Category | None = None
    brand: str | None = None
    client_ref: str | None = None
    callback_url: str | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    time_zone: str | None = None
    residence: Literal["attested"] | None = None
    on_quiet: Literal["defer", "reject"] | None = None
    priority: int | None = None
    encoding: Literal["auto", "smart", "gsm7", "latin1", "ucs2"] | None = None
    metadata: dict[str, Any] | None = None
    reason: str | None = None
    template: str | None = None
    vars: dict[str, str | int] | None = None


class Decision(msgspec.Struct, frozen=True):
    """A policy decision. ``outcome``: allow | defer | hold | reject; ``next_at``: when a deferred message is sent."""

    outcome: str = ""
    code: str | None = None
    zones: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    policy_version: str = ""
    next_at: datetime | None = None


class FieldError(msgspec.Struct, frozen=True):
    """One error in a request. ``field``: its path, like ``messages[3].to``."""

    field: str = ""
    code: str = ""
    detail: str = ""


class Problem(msgspec.Struct, frozen=True):
    """Why the gateway refused a request (RFC 9457). Branch on ``code``, which is stable; the texts are for people."""

    status: int = 0
    code: str = ""
    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    retryable: bool = False
    compat_code: int = 0
    retry_at: datetime | None = None
    errors: tuple[FieldError, ...] = ()
    id: str = ""
    client_ref: str | None = None
    decision: Decision | None = None
    ids: tuple[str, ...] = ()  # messages of a batch that may have been accepted (``write_unconfirmed``)


def problem_body(problem: Problem) -> dict[str, Any]:
    """Return a problem as a JSON object, without empty fields."""
    body: dict[str, Any] = msgspec.to_builtins(problem)
    return {name: value for name, value in body.items() if value not in (None, "", (), [], 0) or name == "retryable"}


class Accepted(msgspec.Struct, frozen=True):
    """A message that is stored durably: ``queued``, ``scheduled``, ``deferred`` or ``held``.

    ``duplicate``: its client_ref was used before; id and status are those of the first message. ``index``: position
    in the batch.
    """

    id: str
    status: str
    segments: int = 1
    encoding: str = ""
    to: str = ""
    client_ref: str | None = None
    decision: Decision = Decision()
    duplicate: bool = False
    index: int = 0
    replaced: dict[str, str] | None = None  # characters that encoding "smart" replaced


class Refused(msgspec.Struct, frozen=True):
    """A message of a batch that was not accepted, and why."""

    index: int
    problem: Problem


Result = Accepted | Refused


class Batch(msgspec.Struct, frozen=True):
    """The results of a batch, in the order sent."""

    accepted: int
    refused: int
    results: list[Result]


class Part(msgspec.Struct, frozen=True):
    """One segment at its carrier. ``done_at``: when the carrier finished with it, from the receipt's done date."""

    index: int
    status: str
    carrier_message_id: str = ""
    done_at: datetime | None = None


class Move(msgspec.Struct, frozen=True):
    """One entry of a message's timeline."""

    time: datetime
    status: str
    reason: str | None = None
    carrier: str = ""
    smpp_status: int = 0
    receipt_error: str = ""


class Copy(msgspec.Struct, frozen=True):
    """One of several submits of a part, made because an earlier one got no response."""

    part: int
    status: str
    carrier: str = ""
    carrier_message_id: str = ""


class Record(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """Everything the gateway reports about a message, never its text. ``final``: the status will not change again."""

    id: str
    status: str
    final: bool
    to: str
    sender: str = ""
    reason: str | None = None
    category: str = ""
    brand: str = ""
    client_ref: str | None = None
    segments: int = 1
    encoding: str = ""
    accepted_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    decision: Decision = Decision()
    parts: tuple[Part, ...] = ()
    timeline: tuple[Move, ...] = ()
    cancel_requested: bool = False
    resent: bool = False
    copies: tuple[Copy, ...] = ()
    carrier: str = ""
    route: str = ""
    metadata: Any = None


class Ruling(msgspec.Struct, frozen=True):
    """One policy decision. ``by``: ``door`` at submission, ``gate`` when the message was decided again later."""

    time: datetime
    by: str
    outcome: str
    status: str = ""
    code: str | None = None
    rules: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    policy_version: str = ""
    next_at: datetime | None = None


class Permitted(msgspec.Struct, frozen=True):
    """When a waiting message may be sent: from ``opens`` until just before ``closes``."""

    opens: datetime
    closes: datetime | None = None
    expires_at: datetime | None = None


class Decisions(msgspec.Struct, frozen=True):
    """Every policy decision on a message, oldest first."""

    id: str
    status: str
    decisions: tuple[Ruling, ...] = ()
    permitted: Permitted | None = None


class Canceled(msgspec.Struct, frozen=True):
    """The response to cancel. ``status``: ``canceled``, or ``cancel_requested`` when a carrier may already have it."""

    id: str
    status: str


class Consent(msgspec.Struct, frozen=True):
    """A recipient's consent. ``status``: granted | revoked; ``applied``: False when a newer change is on record."""

    to: str
    status: str
    brand: str = ""
    category: str = ""
    channel: str = ""
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    expires_at: datetime | None = None
    method: str = ""
    evidence: str = ""
    locale: str = ""
    actor: str = ""
    ip: str = ""
    user_agent: str = ""
    source_url: str = ""
    applied: bool | None = None


class ConsentDetails(TypedDict, total=False):
    """Optional fields of a consent."""

    category: Literal["marketing"]
    channel: Literal["sms"]
    occurred_at: datetime
    expires_at: datetime
    locale: str
    actor: str
    ip: str
    user_agent: str
    source_url: str


class Suppression(msgspec.Struct, frozen=True):
    """An opt-out in force. ``by``: ``brand``, ``account`` or ``operator`` (for all accounts)."""

    to: str
    scope: str
    by: str = ""
    since: datetime | None = None
    brand: str = ""
    reason: str = ""
    applied: bool | None = None


class EventData(msgspec.Struct, frozen=True):
    """The message of an event. ``to`` and other fields are missing when its record had expired.

    ``done_at``: when the carrier finished with it, from the receipt's done date, if any.
    """

    message_id: str = ""
    client_ref: str | None = None
    to: str | None = None
    status: str = ""
    previous_status: str | None = None
    reason: str | None = None
    carrier: str | None = None
    carrier_message_id: str | None = None
    smpp_status: int = 0
    receipt_error: str | None = None
    segments: int = 1
    parts_accepted: int = 0
    done_at: datetime | None = None
    metadata: Any = None  # the message's


class Event(msgspec.Struct, frozen=True):
    """One webhook event. Deduplicate by ``id``; ``sequence`` counts per message."""

    id: str
    type: str
    time: datetime | None = None
    account: str = ""
    sequence: int = 0
    data: EventData = EventData()
