"""Receipts: from deliver_sm and data_sm to facts in the store, and only then their answers.

What is not a receipt (a reply, an MO message) cannot be stored yet, so it is not acknowledged either: it is answered
ESME_RX_T_APPN, a temporary refusal. The carrier keeps it and offers it again for as long as it lives there, which loses
less than the alternatives: status 0 would lose it at once, a permanent refusal makes the carrier throw it away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import structlog

from gateway.carriers.receipt_number import number_of, shape_of
from gateway.clock import now_ms
from gateway.model import PartState, ReceiptDetail, ReceiptFact, ReceiptMatch, Recipient
from gateway.policy.quiet_hours import zone_of
from gateway.smpp.message_id import FormKind, IdForm, apply, forms_of, receipted_id
from gateway.smpp.pdu import ESM_RECEIPT, MAX_ID, command_name
from gateway.smpp.receipt import (
    DELETED,
    DELIVERED,
    EXPIRED,
    INTERMEDIATE,
    REJECTED,
    UNDELIVERABLE,
    UNKNOWN,
    UNREADABLE,
    Receipt,
    is_receipt,
    parse,
)
from gateway.smpp.status import CommandStatus
from gateway.supervision import TRIES, FailureCounts, Supervision

if TYPE_CHECKING:
    from gateway.carriers.progress import ProgressWriter
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.smpp.short_message import ShortMessage

PATIENCE = 8.0
"""Seconds the store may be away before receipts are answered RMSGQFUL instead of waiting: carriers repeat those."""

COMPLAIN_EVERY = 60.0
"""Seconds between two log lines of one kind."""

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
    REJECTED: PartState.UNDELIVERED,
    UNKNOWN: PartState.RECEIPT_UNKNOWN,
    UNREADABLE: PartState.RECEIPT_UNREADABLE,
}

log = structlog.get_logger(__name__)
_new_tuple = tuple.__new__


class Replier(Protocol):
    """The bind that a receipt came over."""

    @property
    def peer(self) -> str:
        """The host and port at its other end."""

    def respond(self, command_id: int, sequence: int, status: int) -> None: ...
    def useful(self, count: int) -> None:
        """So many of the messages received were about messages of ours."""


class RecipientNames(Protocol):
    """Who names recipients and texts (``gateway.store.keys.Hasher``)."""

    def recipient(self, digits: str) -> Recipient: ...
    def excerpt(self, text: str) -> bytes: ...


class PendingReceipt(NamedTuple):
    """Whom to answer once the receipt is stored, and what else to try when nothing is found for it."""

    bind: Replier
    command_id: int
    sequence: int
    fact: ReceiptFact | None = None  # to be told in detail when its ids are not known
    receipt: Receipt | None = None  # the same as it was read
    turned: ReceiptFact | None = None  # for the number in destination_addr
    by: str = ""  # what it is looked up by now: "" | "destination" | "detail"


class ReceiptRefusal(NamedTuple):
    """Why a message is not stored. ``kind`` is counted and logged, ``field`` the place of the PDU, ``remedy`` ours."""

    kind: str
    status: int
    field: str
    why: str
    remedy: str = ""


REPLY = ReceiptRefusal(
    "replies", CommandStatus.ESME_RX_T_APPN, "esm_class", "is no receipt's, and replies cannot be stored yet"
)
BY_TEXT = ReceiptRefusal(
    "receipt_texts",
    CommandStatus.ESME_RX_T_APPN,
    "esm_class",
    "is no receipt's, the text is one's",
    "set receipt_text = true for this carrier",
)
# Nothing will ever be read out of these: a temporary refusal would bring them back for ever.
UNREAD = ReceiptRefusal("unreadable", CommandStatus.ESME_RX_P_APPN, "short_message", "holds neither an id nor a state")
BAFFLING = ReceiptRefusal(
    "failed", CommandStatus.ESME_RX_T_APPN, "short_message", "makes the gateway fail, which its log tells of"
)
BAFFLED = BAFFLING._replace(status=CommandStatus.ESME_RX_P_APPN)


def nameless(message: ShortMessage) -> ReceiptRefusal:
    """A receipt in which no number of a recipient can be read."""
    why = f"{shape_of(message.source)}, and destination_addr {shape_of(message.dest)}: no recipient's number"
    remedy = 'set receipt_key = "id" for this carrier (or country, for numbers written as at home)'
    return ReceiptRefusal("numberless", CommandStatus.ESME_RX_P_APPN, "source_addr", why, remedy)


class ReceiptHandler:
    """The receipts of one carrier. ``counts``: applied, repeated, parked, ambiguous, refused (the store was away too
    long), and what is refused for itself: unreadable, numberless, replies, receipt_texts.

    Ids are looked up as they are (after ``id_form``), or in the form that was learned for their host. A receipt whose
    ids are not known is told to the store once more with all that may help to find its message: the other forms of its
    ids, its host, an excerpt of the text. What the store makes of it is said in ``scripts/shared/parked.lua``.

    Until the form of a host is learned, the other forms are told at once: an id that may be another message's in one of
    them ends neither.
    """

    def __init__(
        self,
        carrier: Carrier,
        numbers: RecipientNames,
        progress_writer: ProgressWriter,
        forms: ReceiptIdForms,
        clock: Callable[[], int] = now_ms,
        *,
        supervision: Supervision | None = None,
    ) -> None:
        self.forms = forms
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self.adjust(carrier)
        self._numbers = numbers
        self._progress_writer = progress_writer
        self._clock = clock
        self._learning = False  # receipts are under way from a host whose form of ids is not known
        self._host = ""  # of the batch, where ids of several hosts are kept apart
        self._logged: dict[str, float] = {}  # kind of line -> when it was written last
        self._as_submitted: bool | None = None  # source and destination are not swapped; None = nobody knows yet
        self.counts: Counter[str] = Counter()
        self.said: Counter[PartState] = Counter()
        """What the receipts say, told twice or not."""

    def adjust(self, carrier: Carrier) -> None:
        """Read receipts by these settings from now on."""
        self._name = carrier.name
        self._form: IdForm = carrier.id_form
        self._clock_there = _clock(carrier.clock)
        self._by_text = carrier.receipt_text
        self._country = carrier.country
        self._by_id = carrier.receipt_key == "id"
        self._hosted = self._by_id and len(carrier.hosts) > 1
        self._whole = carrier.receipts == "last"
        if self._form != "auto":
            self.forms.forget(self._name)

    def received(self, bind: Replier, messages: Sequence[ShortMessage], now: float) -> None:
        """A batch as it came off the wire. Never raises; every message is answered sooner or later."""
        if self._refuse_all(now):
            self._refuse(bind, messages)
            return
        facts: list[ReceiptFact] = []
        tickets: list[Any] = []
        wall, odd = self._clock(), 0
        sided = self._as_submitted is not None or self._by_id  # it is known which number is the recipient's
        form = self.forms.kind((self._name, bind.peer)) if self._form == "auto" else None
        unlearned = form is None and self._form == "auto" and not self._by_id
        self._learning = self._learning or unlearned
        if self._hosted:
            self._host = bind.peer
        for message in messages:
            try:
                receipt = self._read(message)
                if isinstance(receipt, ReceiptRefusal):
                    self._not_stored(bind, message, receipt, now)
                    continue
                fact = self._fact(message, receipt, form)
                if isinstance(fact, ReceiptRefusal):
                    self._not_stored(bind, message, fact, now)
                    continue
                if unlearned and receipt.ids:
                    fact.detail = self._detail(receipt, bind.peer)._replace(early=True)
                if fact.at and not wall - BEHIND < fact.at < wall + AHEAD:
                    odd, fact.at = fact.at - wall, 0
                ticket = _new_tuple(
                    PendingReceipt, (bind, message.command_id, message.sequence, fact, receipt, None, "")
                )
                if not sided:
                    ticket = self._both(ticket, message, fact)
            except Exception as error:  # noqa: BLE001 - what is odd about one message harms it alone
                self._not_stored(bind, message, self._baffled(message, error), now)
                continue
            facts.append(fact)
            tickets.append(ticket)
        if facts:
            self.said.update([fact.state for fact in facts])
            self._progress_writer.receipts(facts, tickets)
        if odd and self._may_log("dates", now):
            log.warning(
                "done dates in receipts are far off and not kept: set utc_offset or time_zone of this carrier",
                carrier=self._name,
                days_ahead=round(odd / 86_400_000, 1),
            )

    def stored(self, matches: Sequence[ReceiptMatch], tickets: Sequence[Any]) -> None:
        """The store holds these: acknowledge them; what it could not match is looked up once more by other forms."""
        again: list[tuple[ReceiptFact, PendingReceipt]] = []
        useful: Counter[Replier] = Counter()
        pairs = list(zip(matches, tickets, strict=True))
        if self._learning:  # first: it tells what to make of the others
            self._learning = False
            self._found(
                Counter(ticket.bind for match, ticket in pairs if match is ReceiptMatch.APPLIED and not ticket.by)
            )
        for match, ticket in pairs:
            if match is ReceiptMatch.PARKED and (another := self._tried_otherwise(ticket)) is not None:
                again.append(another)
                continue
            ticket.bind.respond(ticket.command_id, ticket.sequence, CommandStatus.ESME_ROK)
            if match is ReceiptMatch.APPLIED:
                useful[ticket.bind] += 1
                if self._as_submitted is None:
                    self._learn(ticket)
        for bind, count in useful.items():
            bind.useful(count)
        for match, count in Counter(matches).items():
            self.counts[match.name.lower()] += count
        if again:
            self.counts["parked"] -= len(again)
            self._progress_writer.receipts([fact for fact, _ in again], [ticket for _, ticket in again])

    def set_aside(self, tickets: Sequence[PendingReceipt]) -> None:
        """The store will never hold these: refused for good, for what is not kept must not be acknowledged."""
        self.counts["aside"] += len(tickets)
        for ticket in tickets:
            ticket.bind.respond(ticket.command_id, ticket.sequence, CommandStatus.ESME_RX_P_APPN)

    def _baffled(self, message: ShortMessage, error: Exception) -> ReceiptRefusal:
        """It makes our own code fail: refused for now, so that the carrier keeps it; for good at the third try."""
        self._supervision.failed("receipt", error)
        one = hash((message.source, message.dest, message.payload, tuple((message.tlvs or {}).items())))
        if self._tries.add(one) < TRIES:
            return BAFFLING
        self._tries.forget(one)
        self._supervision.set_aside(
            "receipt", f"{self._name}: {command_name(message.command_id)} {message.sequence}", error
        )
        return BAFFLED

    def _found(self, plain: Mapping[Replier, int]) -> None:
        """So many receipts of each bind were found by their ids alone: as they came, unless a form has been learned."""
        for bind, times in plain.items():
            host = (self._name, bind.peer)
            if self.forms.kind(host) is None:
                self.forms.plain(host, times)

    def _tried_otherwise(self, ticket: PendingReceipt) -> tuple[ReceiptFact, PendingReceipt] | None:
        try:
            return self._another_try(ticket)
        except Exception as error:  # noqa: BLE001 - it is stored as it is, so it is acknowledged
            self._supervision.failed("receipt", error)
            return None

    def _another_try(self, ticket: PendingReceipt) -> tuple[ReceiptFact, PendingReceipt] | None:
        """What to look up when nothing was found: the other number's messages; then all that is known is told."""
        if ticket.turned is not None:
            return ticket.turned, ticket._replace(turned=None, by="destination")
        if ticket.fact is None or ticket.receipt is None or self._by_id:
            return None
        detail = self._detail(ticket.receipt, ticket.bind.peer)
        return msgspec.structs.replace(ticket.fact, detail=detail), ticket._replace(fact=None, by="detail")

    def _detail(self, receipt: Receipt, host: str) -> ReceiptDetail:
        """What may help to find the message of a receipt whose ids are not known."""
        guesses = forms_of(receipt.ids[0]) if receipt.ids and self._form == "auto" else ()
        told = [(kind, one) for kind, one in guesses if kind and len(one) <= MAX_ID]
        mark = self._numbers.excerpt(receipt.text.decode("utf-8", "replace"))
        sure = bool(receipt.ids) and (self._form != "auto" or self.forms.sure((self._name, host)))
        return ReceiptDetail(tuple(told), host, mark, sure)

    def _learn(self, ticket: PendingReceipt) -> None:
        """A receipt has found its message: by which number, tells of the next ones."""
        if ticket.by != "detail" and not self._by_id:
            self._as_submitted = ticket.by == "destination"
            if self._as_submitted:
                log.info("receipts of this carrier name their recipient in destination_addr", carrier=self._name)

    def _read(self, message: ShortMessage) -> Receipt | ReceiptRefusal:
        """The receipt, or why it is none that can be read."""
        if message.esm_class & 0x3C != ESM_RECEIPT and not is_receipt(message, trust_text=self._by_text):
            return BY_TEXT if not self._by_text and is_receipt(message, trust_text=True) else REPLY
        return parse(message, clock=self._clock_there) or UNREAD

    def _fact(self, message: ShortMessage, receipt: Receipt, form: FormKind | None) -> ReceiptFact | ReceiptRefusal:
        """What the store needs to know, or why it is not to be told."""
        recipient = NOBODY if self._by_id else self._recipient(message)
        if recipient is None:
            return nameless(message)
        ids = receipt.ids
        plain = (receipted_id(ids[0], self._form),) if len(ids) == 1 else self._plain(ids)
        if form:  # not None, and not as it is
            plain = tuple(dict.fromkeys((*[apply(form, one) for one in ids], *plain)))
        return ReceiptFact(
            self._name,
            plain,
            recipient,
            PART_STATES[receipt.state],
            receipt.error.decode("latin-1"),
            receipt.done_date,
            self._whole,
            None,
            self._host,
        )

    def _recipient(self, message: ShortMessage) -> Recipient | None:
        """Whose receipt it is: by source_addr, where most carriers write it, or by destination_addr."""
        if self._as_submitted:
            digits = self._dest(message) or self._source(message)
        else:
            digits = number_of(message.source, message.source_ton, self._country) or self._dest(message)
        return self._numbers.recipient(digits) if digits else None

    def _source(self, message: ShortMessage) -> str:
        return number_of(message.source, message.source_ton, self._country)

    def _dest(self, message: ShortMessage) -> str:
        return number_of(message.dest, message.dest_ton, self._country)

    def _both(self, ticket: PendingReceipt, message: ShortMessage, fact: ReceiptFact) -> PendingReceipt:
        """While it is not known which number is the recipient's, the other one is looked up as well."""
        dest = self._dest(message)
        if not dest:
            return ticket
        other = self._numbers.recipient(dest)
        if other == fact.recipient:
            return ticket._replace(by="destination") if not self._source(message) else ticket
        return ticket._replace(turned=msgspec.structs.replace(fact, recipient=other))

    def _plain(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(receipted_id(one, self._form) for one in ids))

    def _refuse_all(self, now: float) -> bool:
        """Whether the store has been away so long, or so much waits, that the carrier had better keep its receipts."""
        away = self._progress_writer.away_since
        return self._progress_writer.room <= 0 or (away is not None and now - away > PATIENCE)

    def _refuse(self, bind: Replier, messages: Sequence[ShortMessage]) -> None:
        self.counts["refused"] += len(messages)
        for message in messages:
            bind.respond(message.command_id, message.sequence, CommandStatus.ESME_RMSGQFUL)

    def _not_stored(self, bind: Replier, message: ShortMessage, refusal: ReceiptRefusal, now: float) -> None:
        """Refuse what is no receipt or cannot be read; one line a minute says so for each kind."""
        self.counts[refusal.kind] += 1
        bind.respond(message.command_id, message.sequence, refusal.status)
        if self._may_log(refusal.kind, now):
            log.warning(
                "carrier sent what cannot be stored",
                carrier=self._name,
                kind=refusal.kind,
                pdu=command_name(message.command_id),
                sequence=message.sequence,
                field=refusal.field,
                why=refusal.why,
                remedy=refusal.remedy,
                count=self.counts[refusal.kind],
            )

    def _may_log(self, kind: str, now: float) -> bool:
        """Whether a line of this kind is due."""
        if now - self._logged.get(kind, float("-inf")) < COMPLAIN_EVERY:
            return False
        self._logged[kind] = now
        return True


def _clock(clock: int | str) -> tzinfo:
    """The clock of a carrier: minutes ahead of UTC, or a zone."""
    if isinstance(clock, str):
        return zone_of(clock)
    return timezone(timedelta(minutes=clock)) if clock else UTC
