"""Late repeats: a submission accepted before is answered with its id even when its instants have passed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.intake.durable_write import read_in_time
from gateway.intake.submission import Submission
from gateway.intake.validated import IncomingSubmission
from gateway.intake.validation import instants_passed
from gateway.model import Recipient
from gateway.policy.dialling import InvalidNumber, parse_e164
from gateway.store.idempotency import item_reference
from gateway.store.keys import Hasher

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore


async def without_passed_instants(
    items: Sequence[IncomingSubmission], store: MessageStore, hasher: Hasher, now: int
) -> Sequence[IncomingSubmission]:
    """Return the items, those accepted before without their instants that have passed: only the id counts then.

    Makes one call to the store when an item is late, else none. Raises StoreError.
    """
    late = {
        index: reference
        for index, item in enumerate(items)
        if _has_instants(item[1]) and instants_passed(item[1], now) and (reference := _reference(item, hasher))
    }
    if not late:
        return items
    changed = list(items)
    first_ids = await read_in_time(store.by_references(list(late.values())))
    for index, first_id in zip(late, first_ids, strict=True):
        if first_id is not None:
            account, submission, origin = items[index]
            timeless = msgspec.structs.replace(submission, send_at=None, expires_at=None)
            changed[index] = account, timeless, origin
    return changed


def _has_instants(submission: Submission) -> bool:
    return submission.expires_at is not None or submission.send_at is not None


def _reference(item: IncomingSubmission, hasher: Hasher) -> tuple[Recipient, bytes] | None:
    """Return recipient and reference, which a repeat shares with the first; None when it has no reference."""
    account, submission, origin = item
    try:
        recipient = hasher.recipient(parse_e164(submission.to, account.default_country))
    except InvalidNumber:
        return None
    if submission.client_ref is not None:
        return recipient, hasher.reference(account.name, recipient, submission.client_ref)
    return None if origin is None else (recipient, item_reference(*origin))
