"""Receipts: from deliver_sm and data_sm to facts in the store, and only then their answers.

What is not a receipt (a reply, an MO message) cannot be stored yet, so it is not acknowledged either: it is answered
ESME_RX_T_APPN, a temporary refusal. The carrier keeps it and offers it again for as long as it lives there, which loses
less than the alternatives: status 0 would lose it at once, a permanent refusal makes the carrier throw it away.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import structlog

from gateway.model import Match, PartState, ReceiptFact, Recipient
from gateway.smpp.message_id import IdForm, id_forms, receipted_id
from gateway.smpp.pdus import ESM_RECEIPT
from gateway.smpp.receipt import (
    DELETED,
    DELIVERED,
    EXPIRED,
    INTERMEDIATE,
    REJECTED,
    UNDELIVERABLE,
    UNKNOWN,
    is_receipt,
    parse,
)
from gateway.smpp.status import Status

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.pipeline.report import Reporter
    from gateway.smpp.messages import Message

PATIENCE = 8.0
"""Seconds the store may be away before receipts are answered RMSGQFUL instead of waiting: carriers repeat those."""

COMPLAIN_EVERY = 60.0

AHEAD, BEHIND = 86_400_000, 31 * 86_400_000
"""How far a carrier's date may lie ahead of our clock, and behind it (ms), to be its word and not its mistake."""

NOBODY = Recipient("", bytes(16), 0)
"""Whoever it is: with ``receipt_key = "id"`` the number in a receipt says nothing."""

PART_STATES = {
    **dict.fromkeys(INTERMEDIATE, PartState.ACCEPTED),
    DELIVERED: PartState.DELIVERED,
    EXPIRED: PartState.EXPIRED,
    DELETED: PartState.UNDELIVERED,
    UNDELIVERABLE: PartState.UNDELIVERED,
    UNKNOWN: PartState.UNDELIVERED,
    REJECTED: PartState.UNDELIVERED,
}

log = structlog.get_logger(__name__)


class Replier(Protocol):
    """The bind that a receipt came over."""

    def respond(self, command_id: int, sequence: int, status: int) -> None: ...


class Numbers(Protocol):
    """Who names recipients (``gateway.store.keys.Hasher``)."""

    def recipient(self, digits: str) -> Recipient: ...


class Ticket(NamedTuple):
    """Whom to answer once the receipt is stored."""

    bind: Replier
    command_id: int
    sequence: int
    fact: ReceiptFact | None = None  # when it is looked up by its plain ids only
    guessed: bool = False  # when it was not found by those


class Receipts:
    """The receipts of one carrier. ``counts``: applied, repeated, parked, unreadable, replies, refused.

    A carrier either names its messages by the ids it gave, or it never does. So ids are looked up as they are (after
    ``id_form``); guesses at other forms cost more than all the rest of a receipt and are made when nothing is found.
    Once a guess was right they are made for every receipt of this carrier.
    """

    def __init__(
        self,
        carrier: Carrier,
        numbers: Numbers,
        reporter: Reporter,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.adjust(carrier)
        self._numbers = numbers
        self._reporter = reporter
        self._clock = clock
        self._puzzled = float("-inf")
        self._complained = float("-inf")
        self._guessing = False
        self.counts: Counter[str] = Counter()
        self.said: Counter[PartState] = Counter()
        """What the receipts say, told twice or not."""

    def adjust(self, carrier: Carrier) -> None:
        """Read receipts by these settings from now on."""
        self._name = carrier.name
        self._form: IdForm = carrier.id_form
        self._offset = carrier.utc_offset
        self._by_id = carrier.receipt_key == "id"

    def received(self, bind: Replier, messages: Sequence[Message], now: float) -> None:
        """A batch as it came off the wire. Never raises; every message is answered sooner or later."""
        if self._refuse_all(now):
            self._refuse(bind, messages)
            return
        facts: list[ReceiptFact] = []
        tickets: list[Any] = []
        lean, wall, odd = not self._guessing, self._clock(), 0
        for message in messages:
            fact = self._fact(message)
            if fact is not None and fact.at and not wall - BEHIND < fact.at < wall + AHEAD:
                odd, fact.at = fact.at - wall, 0
            if fact is None:
                self._not_stored(bind, message, now)
            else:
                facts.append(fact)
                tickets.append(Ticket(bind, message.command_id, message.sequence, fact if lean else None))
        if facts:
            self.said.update([fact.state for fact in facts])
            self._reporter.receipts(facts, tickets)
        if odd:
            self._wonder(odd / 86_400_000, now)

    def stored(self, matches: Sequence[Match], tickets: Sequence[Any]) -> None:
        """The store holds these: acknowledge them; what it could not match is looked up once more by other forms."""
        again: list[tuple[ReceiptFact, Ticket]] = []
        for match, ticket in zip(matches, tickets, strict=True):
            bind, command_id, sequence, fact, guessed = ticket
            if match is Match.PARKED and fact is not None and (wider := self._guess(fact)) is not None:
                again.append((wider, Ticket(bind, command_id, sequence, None, True)))
                continue
            bind.respond(command_id, sequence, Status.ESME_ROK)
            if guessed and match is Match.APPLIED:
                self._guess_was_right()
        for match, count in Counter(matches).items():
            self.counts[match.name.lower()] += count
        if again:
            self.counts["parked"] -= len(again)
            self._reporter.receipts([fact for fact, _ in again], [ticket for _, ticket in again])

    def _wonder(self, days: float, now: float) -> None:
        """A date that cannot be is passed over; say so at most once a minute."""
        if now - self._puzzled >= COMPLAIN_EVERY:
            self._puzzled = now
            log.warning(
                "done dates in receipts are far off and not kept", carrier=self._name, days_ahead=round(days, 1)
            )

    def _guess(self, fact: ReceiptFact) -> ReceiptFact | None:
        """The receipt with every form its ids may have, None when there is but one."""
        forms = tuple(dict.fromkeys(form for one in fact.ids for form in id_forms(one, self._form)))
        return None if forms == fact.ids else msgspec.structs.replace(fact, ids=forms)

    def _guess_was_right(self) -> None:
        if not self._guessing:
            self._guessing = True
            log.warning("ids in receipts differ from those in answers: set id_form", carrier=self._name)

    def _fact(self, message: Message) -> ReceiptFact | None:
        """What the store needs to know, or None when this is no receipt that can be read."""
        if message.esm_class & 0x3C != ESM_RECEIPT and not is_receipt(message):
            return None
        receipt = parse(message, utc_offset_minutes=self._offset)
        digits = number_of(message.source)
        if receipt is None or not (digits or self._by_id):
            return None
        ids = receipt.ids
        fact = ReceiptFact(
            self._name,
            (receipted_id(ids[0], self._form),) if len(ids) == 1 else self._plain(ids),
            NOBODY if self._by_id else self._numbers.recipient(digits),
            PART_STATES.get(receipt.state, PartState.UNDELIVERED),
            receipt.error.decode("latin-1"),
            receipt.done_date,
        )
        return (self._guess(fact) or fact) if self._guessing else fact

    def _plain(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(receipted_id(one, self._form) for one in ids))

    def _refuse_all(self, now: float) -> bool:
        """Whether the store has been away so long, or so much waits, that the carrier had better keep its receipts."""
        away = self._reporter.away_since
        return self._reporter.room <= 0 or (away is not None and now - away > PATIENCE)

    def _refuse(self, bind: Replier, messages: Sequence[Message]) -> None:
        self.counts["refused"] += len(messages)
        for message in messages:
            bind.respond(message.command_id, message.sequence, Status.ESME_RMSGQFUL)

    def _not_stored(self, bind: Replier, message: Message, now: float) -> None:
        """A reply, or a receipt without id and state: say so at most once a minute, and refuse it."""
        reply = not is_receipt(message)
        self.counts["replies" if reply else "unreadable"] += 1
        # Nothing will ever be read out of an unreadable receipt: a temporary refusal would bring it back for ever.
        bind.respond(message.command_id, message.sequence, Status.ESME_RX_T_APPN if reply else Status.ESME_RX_P_APPN)
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.warning(
                "carrier sent what cannot be stored",
                carrier=self._name,
                kind="reply" if reply else "unreadable receipt",
            )


def number_of(address: bytes) -> str:
    """E.164 digits of a receipt's source address, "" when it is no number. Carriers may add ``+`` or ``00``."""
    if address.isdigit() and address[:1] != b"0":
        return address.decode()
    text = address.decode("latin-1").strip()
    digits = text.removeprefix("+") if text.startswith("+") else text.removeprefix("00")
    return digits if digits.isascii() and digits.isdigit() else ""
