"""Repeats that come late: what was accepted once is answered with its id, also when its instants have passed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.config import Account
from gateway.model import Recipient
from gateway.pipeline.cases import Origin
from gateway.pipeline.submission import Submission, passed
from gateway.policy.numbers import InvalidNumber, parse_e164
from gateway.store.claims import item_reference
from gateway.store.keys import Hasher

Item = tuple[Account, Submission, Origin | None]


class References(Protocol):
    """What this needs of the store."""

    async def by_reference(self, recipient: Recipient, reference: bytes) -> bytes | None: ...


async def without_instants(items: Sequence[Item], store: References, hasher: Hasher, now: int) -> Sequence[Item]:
    """The items, but for instants that have passed of what was accepted already: they count no more, only its id does.

    Raises StoreError.
    """
    late = [
        place
        for place, (_, asked, origin) in enumerate(items)
        if (asked.expires_at is not None or asked.send_at is not None)
        and (asked.client_ref is not None or origin is not None)
        and passed(asked, now)
    ]
    if not late:
        return items
    relieved = list(items)
    for place in late:
        account, asked, origin = items[place]
        if await _accepted(account, asked, origin, store, hasher):
            relieved[place] = account, msgspec.structs.replace(asked, send_at=None, expires_at=None), origin
    return relieved


async def _accepted(
    account: Account, asked: Submission, origin: Origin | None, store: References, hasher: Hasher
) -> bool:
    try:
        recipient = hasher.recipient(parse_e164(asked.to))
    except InvalidNumber:
        return False
    if asked.client_ref is not None:
        reference = hasher.reference(account.name, recipient, asked.client_ref)
    elif origin is not None:
        reference = item_reference(*origin)
    return await store.by_reference(recipient, reference) is not None
