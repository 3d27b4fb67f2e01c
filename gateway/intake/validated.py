"""A submission on its way through intake, from the checks to the store, and what it becomes there. Pure."""

from __future__ import annotations

from typing import NamedTuple

from gateway.config import Account
from gateway.intake.frequency import BatchFrequency
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionResult
from gateway.intake.validation import CheckedSubmission
from gateway.model import (
    AcceptResult,
    Cap,
    Category,
    Content,
    Envelope,
    NewMessage,
    OnUnknown,
    Recipient,
    RequestedTerms,
    State,
    Verdict,
)
from gateway.policy.decide import Request
from gateway.store.idempotency import item_id, item_reference

ON_UNKNOWN = {
    Category.OTP: OnUnknown.RESEND,
    Category.TRANSACTIONAL: OnUnknown.RESEND,
    Category.EMERGENCY: OnUnknown.RESEND,
    Category.MARKETING: OnUnknown.NEVER,
}
"""Whether a submit that was never answered may be sent again: advertising twice is worse than not at all."""

_NO_TERMS = RequestedTerms()
_NO_TEMPLATE = bytes(8)


class BatchContext(NamedTuple):
    """What the slices of a batch share."""

    now: int  # ms UTC: one instant for the whole batch
    frequency: BatchFrequency


class IdempotentOrigin(NamedTuple):
    """The position of a submission in a request with an ``Idempotency-Key``: its id and reference follow from it."""

    base: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing calls on an origin


IncomingSubmission = tuple[Account, Submission, IdempotentOrigin | None]
"""A plain tuple: a NamedTuple costs four times as much to build, once a message."""


class ValidatedSubmission(NamedTuple):
    """A submission that passed the checks."""

    index: int  # type: ignore[assignment]  # in its slice; hides tuple.index, which nothing calls
    submission: Submission
    rights: AccountRights
    checked: CheckedSubmission
    recipient: Recipient
    origin: IdempotentOrigin | None
    caps: tuple[Cap, ...]  # that it counts under


class DecidedSubmission(NamedTuple):
    """A submission that policy has decided, and the message to store."""

    validated: ValidatedSubmission
    verdict: Verdict
    state: State
    counted: bool  # under its caps, for the messages that follow in the batch
    message: NewMessage


def request_of(validated: ValidatedSubmission, now: int) -> Request:
    """Return what policy decides by. ``now``: when the message came in, ms UTC."""
    submission, rights, checked = validated.submission, validated.rights, validated.checked
    return Request(
        digits=checked.digits,
        category=checked.category,
        account_scope=rights.account_scope,
        brand_scope=rights.brand_scopes[checked.brand],
        route=checked.route,
        segments=checked.segments,
        accepted_at=now,
        send_at=checked.send_at,
        expires_at=checked.expires_at,
        time_zone=submission.time_zone or "",
        residence=submission.residence is not None,
        on_quiet=submission.on_quiet or "",
        reason=submission.reason or "",
        template_scope=_NO_TEMPLATE if submission.template is None else rights.template_scopes[submission.template],
    )


def message_of(
    message_id: bytes, validated: ValidatedSubmission, verdict: Verdict, state: State, reference: bytes
) -> NewMessage:
    """Return the message to store. With an origin, id and reference are those that every repeat gets."""
    submission, rights, checked = validated.submission, validated.rights, validated.checked
    origin = validated.origin
    if origin is not None:
        message_id = item_id(origin.base, origin.index, validated.recipient.partition)
        reference = reference or item_reference(origin.base, origin.index)
    envelope = Envelope(
        to=checked.digits,
        sender=checked.sender,
        account=rights.name,
        category=int(checked.category),
        brand=checked.brand,
        client_ref=submission.client_ref or "",
        callback_url=submission.callback_url or "",
        encoding=checked.encoding,
        segments=checked.segments,
        metadata=submission.metadata,
        policy_version=verdict.policy_version,
        rules=verdict.rules,
        zones=verdict.zones,
        terms=_terms(submission, checked),
    )
    return NewMessage(
        id=message_id,
        recipient=validated.recipient,
        state=state,
        reason=verdict.code,
        due=verdict.next_at,
        category=checked.category,
        on_unknown=ON_UNKNOWN[checked.category],
        route=checked.route,
        weight=rights.weight,
        segments=checked.segments,
        permission=verdict.permission,
        envelope=envelope,
        content=Content(checked.text, checked.forced),
        reference=reference,
    )


def result_of(decided: DecidedSubmission, accepted: AcceptResult) -> SubmissionResult:
    """Return what the app is told once the store has the message."""
    checked = decided.validated.checked
    return SubmissionResult(
        accepted.id,
        decided.state,
        checked.digits,
        checked.segments,
        checked.encoding,
        decided.validated.submission.client_ref,
        decided.verdict,
        checked.replaced,
    )


def _terms(submission: Submission, checked: CheckedSubmission) -> RequestedTerms | None:
    """Return what a fresh decision needs of the submission; None when all of it is at its default."""
    terms = RequestedTerms(
        send_at=checked.send_at,
        expires_at=checked.expires_at,
        time_zone=submission.time_zone or "",
        on_quiet=submission.on_quiet or "",
        priority=submission.priority or 0,
        reason=submission.reason or "",
        template=submission.template or "",
        residence=submission.residence or "",
    )
    return None if terms == _NO_TERMS else terms
