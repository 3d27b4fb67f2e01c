"""Repeats that come late: what was accepted once is answered with its id, also when its instants have passed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.config import Account
from gateway.intake.durable_write import in_time
from gateway.intake.submission import Submission, passed
from gateway.intake.validated import IdempotentOrigin
from gateway.model import Recipient
from gateway.policy.dialling import InvalidNumber, parse_e164
from gateway.store.idempotency import item_reference
from gateway.store.keys import Hasher

Item = tuple[Account, Submission, IdempotentOrigin | None]


class ReferenceStore(Protocol):
    """What this needs of the store."""

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]: ...


async def without_instants(items: Sequence[Item], store: ReferenceStore, hasher: Hasher, now: int) -> Sequence[Item]:
    """The items, but for instants that have passed of what was accepted already: they count no more, only its id does.

    One call to the store when there is anything late, else none. Raises StoreError.
    """
    late = {
        place: named
        for place, item in enumerate(items)
        if _has_instants(item[1]) and passed(item[1], now) and (named := _named(item, hasher))
    }
    if not late:
        return items
    relieved = list(items)
    firsts = await in_time(store.by_references(list(late.values())))
    for place, first in zip(late, firsts, strict=True):
        if first is not None:
            account, asked, origin = items[place]
            relieved[place] = account, msgspec.structs.replace(asked, send_at=None, expires_at=None), origin
    return relieved


def _has_instants(asked: Submission) -> bool:
    return asked.expires_at is not None or asked.send_at is not None


def _named(item: Item, hasher: Hasher) -> tuple[Recipient, bytes] | None:
    """The reference that a repeat would share with the first one; None when there is none to share."""
    account, asked, origin = item
    try:
        recipient = hasher.recipient(parse_e164(asked.to, account.default_country))
    except InvalidNumber:
        return None
    if asked.client_ref is not None:
        return recipient, hasher.reference(account.name, recipient, asked.client_ref)
    return None if origin is None else (recipient, item_reference(*origin))
