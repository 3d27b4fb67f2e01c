"""The checks that types cannot make: is it a number, may the account send this, do the instants make sense."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gateway.config import callbacks
from gateway.intake.coding import NO_DEMAND
from gateway.intake.control_characters import ANY_CONTROL, control_detail
from gateway.intake.message_text import count_segments, listed, resolve_text
from gateway.intake.metadata import check_metadata
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionProblem
from gateway.model import Category
from gateway.policy.dialling import InvalidNumber, number_of
from gateway.policy.numbers import Number
from gateway.policy.quiet_hours import known_zone
from gateway.smpp.text import Alphabet, replace_typographic

if TYPE_CHECKING:
    from gateway.intake.policy_context import PolicyContext

MAX_AHEAD = 366 * 86_400_000
"""How far ahead ``send_at`` may lie, ms."""

SKEW = 300_000
"""A ``send_at`` this little in the past (ms) means now: the app's clock is off."""

CATEGORIES: Mapping[str, Category] = {category.name.lower(): category for category in Category}

_new_tuple = tuple.__new__  # skips the keyword handling of a NamedTuple's constructor
_ENCODINGS = {alphabet: alphabet.value for alphabet in Alphabet}  # reading .value costs 0.3 µs


class CheckedSubmission(NamedTuple):
    """A submission that may go on to policy, with every default resolved."""

    digits: str  # E.164 without +
    category: Category
    sender: str
    brand: str
    encoding: str
    segments: int
    send_at: int  # ms UTC; 0 = now
    expires_at: int  # ms UTC; 0 = not given
    text: str
    replaced: dict[str, str] | None  # characters of the text -> their replacements (``smart``)
    forced: str  # the encoding that the app insists on; "" = whichever fits
    route: str = ""  # the lane that it takes; "" = none


def check(
    submission: Submission,
    rights: AccountRights,
    now: int,
    routing: PolicyContext | None = None,
    allow_prefixes: tuple[str, ...] = (),
) -> CheckedSubmission | SubmissionProblem:
    """Return the submission ready for policy, or its first fault.

    ``now`` in ms UTC. ``routing``: segments are those of the carrier that the message's route leads to first.
    ``allow_prefixes``: digits of premium-rate and similar numbers that may be sent to all the same.
    """
    destination = _destination(submission.to, rights.country, allow_prefixes)
    if isinstance(destination, SubmissionProblem):
        return destination
    digits, number = destination
    category = rights.category if submission.category is None else CATEGORIES[submission.category]
    brand = submission.brand or rights.brand
    sender = rights.sender if submission.sender is None else submission.sender
    fault = _check_rights(submission, rights, category, brand, sender) or _check_optional(submission, rights, now)
    if fault is not None:
        return fault
    text = submission.text
    if not text or submission.template is not None or submission.vars is not None or not text.isprintable():
        resolved = resolve_text(submission, rights)
        if isinstance(resolved, SubmissionProblem):
            return resolved
        text = resolved
    encoding, replaced, forced = submission.encoding or rights.encoding, None, ""
    if encoding == "smart":
        text, replaced = replace_typographic(text)
    elif encoding != "auto":
        forced = encoding
    route = "" if routing is None else routing.route(digits, sender, category, rights.name, number.region)
    counted = count_segments(text, submission, forced, NO_DEMAND if routing is None else routing.demand(route))
    if isinstance(counted, SubmissionProblem):
        return counted
    send_at, expires_at = _ms(submission.send_at), _ms(submission.expires_at)
    starts = send_at if send_at > now else 0
    alphabet, segments, _ = counted
    addressed = digits, category, sender, brand
    written = _ENCODINGS[alphabet], segments, starts, expires_at, text, replaced or None, forced, route
    return _new_tuple(CheckedSubmission, addressed + written)


def instants_passed(submission: Submission, now: int) -> bool:
    """Return whether ``check`` would refuse the submission because an instant of it lies in the past."""
    expires_at, send_at = _ms(submission.expires_at), _ms(submission.send_at)
    return 0 < expires_at <= now or 0 < send_at < now - SKEW


def _destination(to: str, country: str, allow_prefixes: tuple[str, ...]) -> tuple[str, Number] | SubmissionProblem:
    """Return the digits to dial and what is known of the number, or why it is not sent to."""
    try:
        digits, number = found = number_of(to, country)
    except InvalidNumber as error:
        return SubmissionProblem("invalid_number", str(error), "to")
    if number.by_name and not digits.startswith(allow_prefixes):
        detail = f"+{digits[:4]}… is a {number.by_name} number, which [policy] allow_prefixes must list"
        return SubmissionProblem("destination_not_allowed", detail, "to")
    return found


def _check_rights(
    submission: Submission, rights: AccountRights, category: Category, brand: str, sender: str
) -> SubmissionProblem | None:
    """Check what the account may send."""
    if category not in rights.categories:
        granted = listed(Category(one).name.lower() for one in rights.categories)
        detail = f"this account may not send {category.name.lower()} messages{granted}"
        return SubmissionProblem("category_not_granted", detail, "category")
    if brand not in rights.brand_scopes:
        detail = f"this account may not use this brand{listed(rights.brand_scopes)}"
        return SubmissionProblem("brand_not_allowed", detail, "brand")
    if rights.senders is not None and sender not in rights.senders:
        detail = f"this account may not use this sender{listed(rights.senders)}"
        return SubmissionProblem("sender_not_allowed", detail, "from")
    if category is Category.EMERGENCY and submission.reason is None:
        return SubmissionProblem("invalid_value", "required for an emergency", "reason")
    return None


def _check_optional(submission: Submission, rights: AccountRights, now: int) -> SubmissionProblem | None:
    """Check the fields that most submissions do not have."""
    if submission.sender is not None and not _is_sender(submission.sender):
        detail = "must be 3 to 15 digits, or 1 to 11 letters, digits and signs"
        return SubmissionProblem("invalid_value", detail, "from")
    client_ref, reason = submission.client_ref, submission.reason
    if (client_ref is not None and not client_ref.isprintable()) or reason is not None:
        for field, text in (("client_ref", client_ref), ("reason", reason)):
            if found := ANY_CONTROL(text or ""):
                return SubmissionProblem("invalid_value", control_detail(found), field)
    if submission.send_at is not None or submission.expires_at is not None:
        fault = _check_instants(_ms(submission.send_at), _ms(submission.expires_at), now)
        if fault is not None:
            return fault
    if (submission.time_zone is not None or submission.residence is not None) and (fault := _check_zone(submission)):
        return fault
    if submission.callback_url is not None and (detail := _callback_fault(submission.callback_url, rights)):
        return SubmissionProblem("invalid_value", detail, "callback_url")
    return None if submission.metadata is None else check_metadata(submission.metadata)


def _check_zone(submission: Submission) -> SubmissionProblem | None:
    if submission.time_zone is None:
        return SubmissionProblem("invalid_value", "requires time_zone, where the recipient lives", "residence")
    if not known_zone(submission.time_zone):
        return SubmissionProblem("invalid_value", "not an IANA time zone, such as Europe/Stockholm", "time_zone")
    return None


def _callback_fault(url: str, rights: AccountRights) -> str:
    """Say why events cannot be posted to this URL; "" when they can."""
    if not rights.signs:
        return "this account has no webhook_secret to sign events with: have one set, or leave out callback_url"
    return callbacks.url_problem(url, rights.guard)


def _check_instants(send_at: int, expires_at: int, now: int) -> SubmissionProblem | None:
    if send_at and send_at < now - SKEW:
        return SubmissionProblem("invalid_value", "must not be in the past", "send_at")
    if send_at > now + MAX_AHEAD:
        return SubmissionProblem("invalid_value", "must not be more than a year ahead", "send_at")
    if expires_at and expires_at <= max(now, send_at):
        return SubmissionProblem("invalid_value", "must be in the future, and after send_at", "expires_at")
    return None


def _ms(instant: datetime | None) -> int:
    return 0 if instant is None else int(instant.timestamp() * 1000)


@lru_cache(maxsize=4096)
def _is_sender(sender: str) -> bool:
    """Accept digits with or without + (3 to 15), or printable ASCII (1 to 11), the alphanumeric form of carriers."""
    digits = sender.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        return 3 <= len(digits) <= 15
    return 1 <= len(sender) <= 11 and sender.isascii() and sender.isprintable() and sender.strip() == sender
