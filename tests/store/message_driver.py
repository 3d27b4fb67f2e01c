"""A store with short words for what the tests of its functions do: accept, take, answer, report, sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.model import (
    Category,
    Content,
    Envelope,
    LeasedMessage,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Permission,
    Priority,
    Reason,
    ReceiptDetail,
    ReceiptFact,
    ReceiptMatch,
    Recipient,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store.ids import new_ids
from gateway.store.owner import LeaseOwner
from gateway.store.requests import Lane, TakeRequest, TakeResult
from tests.model.store_driver import StoreDriver

HOUR = 3_600_000
OWNER = LeaseOwner("node", "one")
SCOPE = b"shop----"
BRAND = b"shop/b--"
TEMPLATE = b"template"

UNKNOWN = [PartAnswer(0, PartState.UNKNOWN)]
"""The answer of a message of one part that was written and never answered."""


class MessageDriver(StoreDriver):
    """A driver with short words for what the stories do."""

    def message(self, digits: str = "46700000001", **changes: Any) -> NewMessage:
        recipient = self.hasher.recipient(digits)
        permission = changes.pop("permission", None) or self.permission()
        account, category = changes.pop("account", "shop"), changes.get("category", Category.TRANSACTIONAL)
        message = NewMessage(
            new_ids(self.now, [recipient.partition])[0],
            recipient,
            State.QUEUED,
            Reason.NONE,
            0,
            category,
            OnUnknown.RESEND,
            "north",
            1,
            1,
            permission,
            Envelope(digits, "Shop", account, int(category), "b"),
            Content("hello"),
        )
        return msgspec.structs.replace(message, **changes)

    def permission(self, **changes: Any) -> Permission:
        checks = changes.pop("checks", 0)
        granted = Permission(self.now, self.now + HOUR, self.now + 2 * HOUR, checks, SCOPE, BRAND, TEMPLATE)
        return msgspec.structs.replace(granted, **changes)

    def accept(self, *messages: NewMessage) -> list[Any]:
        return self.run(self.store.accept(messages))

    def take(self, limit: int = 10, **changes: Any) -> TakeResult:
        """From the partition of the usual recipient."""
        where: dict[str, Any] = {"partition": self.hasher.recipient("46700000001").partition, "carrier": "north"}
        lanes = changes.pop("lanes", tuple(Lane("north", 0, priority) for priority in Priority))
        owner = changes.pop("owner", OWNER)
        (taken,) = self.run(self.store.take(owner, [TakeRequest(**where | changes, lanes=lanes, limit=limit)]))
        return taken

    def answer(self, leased: LeasedMessage, resolution: Resolution, **changes: Any) -> SubmitResult:
        parts = changes.pop("parts", [PartAnswer(0, PartState.PENDING, b"", 8)])
        answer = SubmitResult(leased.id, leased.lease, "north", resolution, Reason.NONE, 0, 0, len(parts), parts)
        return msgspec.structs.replace(answer, **changes)

    def sent(self, leased: LeasedMessage, *ids: bytes) -> SubmitResult:
        parts = [PartAnswer(index, PartState.ACCEPTED, carrier_id) for index, carrier_id in enumerate(ids)]
        return self.answer(leased, Resolution.SENT, parts=parts)

    def report(self, *answers: SubmitResult, receipts: Sequence[ReceiptFact] = ()) -> list[ReceiptMatch]:
        return self.run(self.store.progress(OWNER, answers, receipts))

    def receipt(
        self, recipient: Recipient, *ids: bytes, state: PartState = PartState.DELIVERED, carrier: str = "north"
    ) -> ReceiptFact:
        return ReceiptFact(carrier, ids, recipient, state, "000")

    def unmatched_receipt(self, recipient: Recipient, *ids: bytes, **changes: Any) -> ReceiptFact:
        """A receipt of an unknown id with all its details."""
        guesses = tuple(enumerate(ids[1:], 1))
        details = {"host": "h", "excerpt": b"", "sure": True, "early": False}
        details |= {name: changes.pop(name) for name in details if name in changes}
        detail = ReceiptDetail(guesses, **details)
        return msgspec.structs.replace(self.receipt(recipient, ids[0], **changes), detail=detail)

    def record(self, message: NewMessage | LeasedMessage) -> Any:
        (found,) = self.run(self.store.find([message.id]))
        return found

    def sweep(self) -> list[int]:
        """Every partition until nothing is due; the sums."""
        total = [0] * 6
        for partition in range(self.store.partitions):
            more = True
            while more:
                swept = self.run(self.store.sweep(partition))
                *counts, more = swept[:7]
                total = [a + b for a, b in zip(total, counts, strict=True)]
        return total

    def later(self, ms: int) -> None:
        self.set_clock(self.now + ms)
