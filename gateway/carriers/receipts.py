"""Receipts: from deliver_sm and data_sm to facts in the store, and only then their responses.

What is not a receipt (a reply, an MO message) cannot be stored yet, so it is not acknowledged either: it is answered
ESME_RX_T_APPN, a temporary refusal. The carrier keeps it and offers it again for as long as it lives there, which loses
less than the alternatives: status 0 would lose it at once, a permanent refusal makes the carrier discard it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from gateway.carriers.receipt_reader import ReceiptReader, ReceiptRefusal
from gateway.clock import now_ms
from gateway.model import PartState, ReceiptFact, ReceiptMatch
from gateway.smpp.pdu import command_name
from gateway.smpp.status import CommandStatus
from gateway.supervision import TRIES, FailureCounts, Supervision

if TYPE_CHECKING:
    from gateway.carriers.connection import Bind
    from gateway.carriers.progress import ProgressWriter
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.smpp.receipt import Receipt
    from gateway.smpp.short_message import ShortMessage
    from gateway.store.keys import Hasher

STORE_WAIT = 8.0
"""Seconds the store may be away before receipts are answered RMSGQFUL instead of waiting: carriers repeat those."""

LOG_EVERY = 60.0
"""Seconds between two log lines of one kind."""

AHEAD, BEHIND = 86_400_000, 31 * 86_400_000
"""How far a carrier's date may lie ahead of our clock, and behind it (ms); a date beyond that is wrong and not kept."""

log = structlog.get_logger(__name__)
_new_tuple = tuple.__new__


class PendingReceipt(NamedTuple):
    """The bind to answer once the receipt is stored, and what to look up when it matches nothing."""

    bind: Bind
    command_id: int
    sequence: int
    fact: ReceiptFact | None = None  # to be sent in detail when its ids are not known
    receipt: Receipt | None = None  # the same as it was read
    swapped: ReceiptFact | None = None  # the same for the number in destination_addr
    lookup: str = ""  # what it is looked up by now: "" | "destination" | "detail"


FAULT = ReceiptRefusal(
    "failed", CommandStatus.ESME_RX_T_APPN, "short_message", "makes the gateway fail: see the traceback in its log"
)
REPEATED_FAULT = FAULT._replace(status=CommandStatus.ESME_RX_P_APPN)


class ReceiptHandler:
    """The receipts of one carrier. ``counts``: applied, repeated, parked, ambiguous, refused (the store was away too
    long), set_aside (it never will), and what is refused for itself: unreadable, numberless, replies, receipt_texts,
    failed.

    A receipt whose ids are not known is sent to the store once more with all that may help to find its message: the
    other forms of its ids, its host, an excerpt of the text. What the store makes of it is described in
    ``scripts/shared/parked.lua``.

    Until the form of a host's ids is learned, the other forms are sent at once: an id that may be another message's in
    one of them ends neither.
    """

    def __init__(
        self,
        carrier: Carrier,
        hasher: Hasher,
        progress_writer: ProgressWriter,
        forms: ReceiptIdForms,
        clock: Callable[[], int] = now_ms,
        *,
        supervision: Supervision | None = None,
    ) -> None:
        """``clock``: ms UTC."""
        self.forms = forms
        self._supervision = supervision or Supervision()
        self._tries = FailureCounts()
        self._reader = ReceiptReader(carrier, hasher, forms)
        self._set_carrier(carrier)
        self._progress_writer = progress_writer
        self._clock = clock
        self._learning = False  # receipts are under way from a host whose form of ids is not known
        self._logged: dict[str, float] = {}  # kind of line -> when it was logged last
        self.counts: Counter[str] = Counter()
        self.states: Counter[PartState] = Counter()
        """States that receipts report, repeated ones included."""

    def adjust(self, carrier: Carrier) -> None:
        """Read receipts by these settings from now on."""
        self._reader.adjust(carrier)
        self._set_carrier(carrier)

    def _set_carrier(self, carrier: Carrier) -> None:
        self._name = carrier.name
        self._ids_per_host = carrier.receipt_key == "id" and len(carrier.hosts) > 1

    # ---- called by binds (``connection.MessageListener``)

    def received(self, bind: Bind, messages: Sequence[ShortMessage], now: float) -> None:
        """Handle a batch as it came off the wire. Never raises; every message is answered sooner or later."""
        if self._refuses_all(now):
            self._refuse_all(bind, messages)
            return
        facts: list[ReceiptFact] = []
        tickets: list[Any] = []
        wall, wrong_by = self._clock(), 0
        reader = self._reader
        recipient_known = reader.recipient_in_dest is not None or reader.by_id
        form = self.forms.kind((self._name, bind.peer)) if reader.learns_forms else None
        unlearned = form is None and reader.learns_forms and not reader.by_id
        self._learning = self._learning or unlearned
        host = bind.peer if self._ids_per_host else ""
        for message in messages:
            try:
                receipt = reader.read(message)
                if isinstance(receipt, ReceiptRefusal):
                    self._refuse(bind, message, receipt, now)
                    continue
                fact = reader.fact(message, receipt, form, host)
                if isinstance(fact, ReceiptRefusal):
                    self._refuse(bind, message, fact, now)
                    continue
                if unlearned and receipt.ids:
                    fact.detail = reader.detail(receipt, bind.peer)._replace(early=True)
                if fact.at and not wall - BEHIND < fact.at < wall + AHEAD:
                    wrong_by, fact.at = fact.at - wall, 0
                ticket = _new_tuple(
                    PendingReceipt, (bind, message.command_id, message.sequence, fact, receipt, None, "")
                )
                if not recipient_known:
                    ticket = self._with_other_recipient(ticket, message, fact)
            except Exception as error:  # noqa: BLE001 - a fault over one message must not cost the others
                self._refuse(bind, message, self._fault(message, error), now)
                continue
            facts.append(fact)
            tickets.append(ticket)
        if facts:
            self.states.update([fact.state for fact in facts])
            self._progress_writer.add_receipts(facts, tickets)
        if wrong_by and self._may_log("dates", now):
            log.warning(
                "done dates in receipts are far off and not kept: set utc_offset or time_zone of this carrier",
                carrier=self._name,
                days_ahead=round(wrong_by / 86_400_000, 1),
            )

    # ---- called by the progress writer (``progress.ReceiptListener``)

    def stored(self, matches: Sequence[ReceiptMatch], tickets: Sequence[Any]) -> None:
        """Acknowledge receipts that the store holds; what matched nothing is looked up once more in other ways."""
        again: list[tuple[ReceiptFact, PendingReceipt]] = []
        useful: Counter[Bind] = Counter()
        pairs = list(zip(matches, tickets, strict=True))
        if self._learning:  # first: the others are read by what it teaches
            self._learning = False
            self._learn_plain(
                Counter(ticket.bind for match, ticket in pairs if match is ReceiptMatch.APPLIED and not ticket.lookup)
            )
        for match, ticket in pairs:
            if match is ReceiptMatch.PARKED and (other := self._guarded_lookup(ticket)) is not None:
                again.append(other)
                continue
            ticket.bind.respond(ticket.command_id, ticket.sequence, CommandStatus.ESME_ROK)
            if match is ReceiptMatch.APPLIED:
                useful[ticket.bind] += 1
                if self._reader.recipient_in_dest is None:
                    self._learn_recipient(ticket)
        for bind, count in useful.items():
            bind.useful(count)
        for match, count in Counter(matches).items():
            self.counts[match.name.lower()] += count
        if again:
            self.counts["parked"] -= len(again)
            self._progress_writer.add_receipts([fact for fact, _ in again], [ticket for _, ticket in again])

    def set_aside(self, tickets: Sequence[PendingReceipt]) -> None:
        """Refuse for good the receipts that the store will never hold: they must not be acknowledged."""
        self.counts["set_aside"] += len(tickets)
        for ticket in tickets:
            ticket.bind.respond(ticket.command_id, ticket.sequence, CommandStatus.ESME_RX_P_APPN)

    # ---- what matched nothing

    def _guarded_lookup(self, ticket: PendingReceipt) -> tuple[ReceiptFact, PendingReceipt] | None:
        try:
            return self._next_lookup(ticket)
        except Exception as error:  # noqa: BLE001 - the receipt is stored as it is, so it is acknowledged
            self._supervision.failed("receipt", error)
            return None

    def _next_lookup(self, ticket: PendingReceipt) -> tuple[ReceiptFact, PendingReceipt] | None:
        """Return what to look up after no match: messages of the other number; then with all that is known."""
        if ticket.swapped is not None:
            return ticket.swapped, ticket._replace(swapped=None, lookup="destination")
        if ticket.fact is None or ticket.receipt is None or self._reader.by_id:
            return None
        detail = self._reader.detail(ticket.receipt, ticket.bind.peer)
        return msgspec.structs.replace(ticket.fact, detail=detail), ticket._replace(fact=None, lookup="detail")

    def _with_other_recipient(self, ticket: PendingReceipt, message: ShortMessage, fact: ReceiptFact) -> PendingReceipt:
        """Add a lookup by the other number, while it is not known which of the two is the recipient's."""
        other, only_in_dest = self._reader.other_recipient(message, fact.recipient)
        if other is None:
            return ticket._replace(lookup="destination") if only_in_dest else ticket
        return ticket._replace(swapped=msgspec.structs.replace(fact, recipient=other))

    # ---- learning

    def _learn_plain(self, plain: Mapping[Bind, int]) -> None:
        """Learn the form of ids: so many receipts of each bind matched by their ids as they came."""
        for bind, times in plain.items():
            host = (self._name, bind.peer)
            if self.forms.kind(host) is None:
                self.forms.plain(host, times)

    def _learn_recipient(self, ticket: PendingReceipt) -> None:
        """Learn from a receipt that matched in which of the two numbers the recipient is."""
        if ticket.lookup != "detail" and not self._reader.by_id:
            self._reader.recipient_in_dest = ticket.lookup == "destination"
            if self._reader.recipient_in_dest:
                log.info("receipts of this carrier name their recipient in destination_addr", carrier=self._name)

    # ---- refusals

    def _fault(self, message: ShortMessage, error: Exception) -> ReceiptRefusal:
        """Return the refusal of a message over which the gateway fails: temporary, at the third try permanent."""
        self._supervision.failed("receipt", error)
        key = hash((message.source, message.dest, message.payload, tuple((message.tlvs or {}).items())))
        if self._tries.add(key) < TRIES:
            return FAULT
        self._tries.forget(key)
        self._supervision.set_aside(
            "receipt", f"{self._name}: {command_name(message.command_id)} {message.sequence}", error
        )
        return REPEATED_FAULT

    def _refuses_all(self, now: float) -> bool:
        """Whether the store has been away so long, or so much waits, that the carrier must keep its receipts."""
        away = self._progress_writer.away_since
        return self._progress_writer.room <= 0 or (away is not None and now - away > STORE_WAIT)

    def _refuse_all(self, bind: Bind, messages: Sequence[ShortMessage]) -> None:
        self.counts["refused"] += len(messages)
        for message in messages:
            bind.respond(message.command_id, message.sequence, CommandStatus.ESME_RMSGQFUL)

    def _refuse(self, bind: Bind, message: ShortMessage, refusal: ReceiptRefusal, now: float) -> None:
        """Refuse what is no receipt or cannot be read; log once a minute for each kind."""
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
        if now - self._logged.get(kind, float("-inf")) < LOG_EVERY:
            return False
        self._logged[kind] = now
        return True
