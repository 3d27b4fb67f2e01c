"""What intake has in hand: a submission on its way from the checks to the store, and what it becomes there. Pure."""

from __future__ import annotations

from typing import NamedTuple

from gateway.intake.frequency import BatchFrequency
from gateway.intake.submission import (
    ON_UNKNOWN,
    AccountRights,
    CheckedSubmission,
    Submission,
    SubmissionResult,
)
from gateway.model import AcceptResult, Cap, Content, Envelope, NewMessage, Recipient, RequestedTerms, State, Verdict
from gateway.policy.decide import Request
from gateway.store.idempotency import item_id, item_reference


class BatchContext(NamedTuple):
    """What the slices of a batch share."""

    now: int  # ms UTC: one instant for all of it
    frequency: BatchFrequency


class IdempotentOrigin(NamedTuple):
    """Where a submission of a request with an ``Idempotency-Key`` comes from: its id and reference follow from it."""

    base: bytes
    index: int  # type: ignore[assignment]  # the word everybody uses; nobody looks for one in an origin


class ValidatedSubmission(NamedTuple):
    """A submission that passed the checks, at its place in the slice."""

    place: int
    asked: Submission
    rights: AccountRights
    checked: CheckedSubmission
    recipient: Recipient
    origin: IdempotentOrigin | None
    caps: tuple[Cap, ...]  # it counts under these


class RoutedVerdict(NamedTuple):
    """What policy said, and where the message goes for it."""

    verdict: Verdict
    state: State
    route: str
    counted: bool  # under its caps, for what follows in the batch


def request_of(case: ValidatedSubmission, route: str, now: int) -> Request:
    """What policy is asked about a message that comes in now."""
    asked, rights, checked = case.asked, case.rights, case.checked
    return Request(
        digits=checked.digits,
        category=checked.category,
        account_scope=rights.account_scope,
        brand_scope=rights.brand_scopes[checked.brand],
        route=route,
        segments=checked.segments,
        accepted_at=now,
        send_at=checked.send_at,
        expires_at=checked.expires_at,
        time_zone=asked.time_zone or "",
        residence=asked.residence is not None,
        on_quiet=asked.on_quiet or "",
        reason=asked.reason or "",
        template_scope=_NO_TEMPLATE if asked.template is None else rights.template_scopes[asked.template],
    )


def message_of(message_id: bytes, case: ValidatedSubmission, ruling: RoutedVerdict, reference: bytes) -> NewMessage:
    """The message as it is stored."""
    asked, rights, checked = case.asked, case.rights, case.checked
    verdict = ruling.verdict
    envelope = Envelope(
        to=checked.digits,
        sender=checked.sender,
        account=rights.name,
        category=int(checked.category),
        brand=checked.brand,
        client_ref=asked.client_ref or "",
        callback_url=asked.callback_url or "",
        encoding=checked.encoding,
        segments=checked.segments,
        metadata=asked.metadata,
        policy_version=verdict.policy_version,
        rules=verdict.rules,
        zones=verdict.zones,
        terms=_terms(asked, checked),
    )
    return NewMessage(
        id=message_id,
        recipient=case.recipient,
        state=ruling.state,
        reason=verdict.code,
        due=verdict.next_at,
        category=checked.category,
        on_unknown=ON_UNKNOWN[checked.category],
        route=ruling.route,
        weight=rights.weight,
        segments=checked.segments,
        permission=verdict.permission,
        envelope=envelope,
        content=Content(checked.text, checked.forced),
        reference=reference,
    )


def trace(message: NewMessage, base: bytes, index: int) -> None:
    """Give a message of a request that may be repeated its lasting id and, for want of a ``client_ref``, reference."""
    message.id = item_id(base, index, message.recipient.partition)
    message.reference = message.reference or item_reference(base, index)


def result_of(case: ValidatedSubmission, ruling: RoutedVerdict, done: AcceptResult) -> SubmissionResult:
    """What the app is told when the store holds it."""
    checked = case.checked
    return SubmissionResult(
        done.id,
        ruling.state,
        checked.digits,
        checked.segments,
        checked.encoding,
        case.asked.client_ref,
        ruling.verdict,
        checked.replaced,
    )


def _terms(asked: Submission, checked: CheckedSubmission) -> RequestedTerms | None:
    """Return what a fresh decision needs of the submission; None when all of it is at its default."""
    terms = RequestedTerms(
        checked.send_at,
        checked.expires_at,
        asked.time_zone or "",
        asked.on_quiet or "",
        asked.priority or 0,
        asked.reason or "",
        asked.template or "",
        asked.residence or "",
    )
    return None if terms == _NO_TERMS else terms


_NO_TERMS = RequestedTerms()
_NO_TEMPLATE = bytes(8)
