"""Reads receipts: from deliver_sm and data_sm to what the store needs to match them, or the reason to refuse them."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, NamedTuple

from gateway.carriers.receipt_number import number_of, shape_of
from gateway.model import PartState, ReceiptDetail, ReceiptFact, Recipient
from gateway.policy.quiet_hours import zone_of
from gateway.smpp.message_id import FormKind, IdForm, apply, forms_of, receipted_id
from gateway.smpp.pdu import ESM_RECEIPT, MAX_ID
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

if TYPE_CHECKING:
    from gateway.cluster.receipt_id_forms import ReceiptIdForms
    from gateway.config import Carrier
    from gateway.smpp.short_message import ShortMessage
    from gateway.store.keys import Hasher

ANY_RECIPIENT = Recipient("", bytes(16), 0)
"""Stands for whichever recipient: with ``receipt_key = "id"`` the number in a receipt is not used."""

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


class ReceiptRefusal(NamedTuple):
    """Why a message is not stored. ``kind`` is counted and logged, ``field`` is the field of the PDU at fault."""

    kind: str
    status: int
    field: str
    why: str
    remedy: str = ""


REPLY = ReceiptRefusal(
    "replies", CommandStatus.ESME_RX_T_APPN, "esm_class", "marks no receipt, and replies cannot be stored yet"
)
RECEIPT_TEXT = ReceiptRefusal(
    "receipt_texts",
    CommandStatus.ESME_RX_T_APPN,
    "esm_class",
    "marks no receipt, but the text is one",
    "set receipt_text = true for this carrier",
)
# Nothing will ever be read out of these: a temporary refusal would bring them back for ever.
UNREAD = ReceiptRefusal("unreadable", CommandStatus.ESME_RX_P_APPN, "short_message", "holds neither an id nor a state")


def no_recipient(message: ShortMessage) -> ReceiptRefusal:
    """Return the refusal of a receipt in which no recipient's number can be read."""
    why = f"{shape_of(message.source)}, and destination_addr {shape_of(message.dest)}: no recipient's number"
    remedy = 'set receipt_key = "id" for this carrier (or country, for numbers in national format)'
    return ReceiptRefusal("numberless", CommandStatus.ESME_RX_P_APPN, "source_addr", why, remedy)


class ReceiptReader:
    """Reads the receipts of one carrier.

    Ids are read as they are (after ``id_form``), or in the form that was learned for their host. ``detail`` adds all
    that may help to find the message of a receipt whose ids are not known.
    """

    def __init__(self, carrier: Carrier, hasher: Hasher, forms: ReceiptIdForms) -> None:
        self._hasher = hasher
        self._forms = forms
        self.recipient_in_dest: bool | None = None
        """Whether the recipient is in destination_addr; None until it is known."""
        self.adjust(carrier)

    def __repr__(self) -> str:
        return f"<ReceiptReader {self._name}>"

    def adjust(self, carrier: Carrier) -> None:
        """Read by these settings from now on."""
        self._name = carrier.name
        self._form: IdForm = carrier.id_form
        self._carrier_zone = _zone(carrier.clock)
        self._by_text = carrier.receipt_text
        self._country = carrier.country
        self._by_id = carrier.receipt_key == "id"
        self._whole = carrier.receipts == "last"
        if self._form != "auto":
            self._forms.forget(self._name)

    @property
    def by_id(self) -> bool:
        """Whether messages are found by ids alone (``receipt_key = "id"``)."""
        return self._by_id

    @property
    def learns_forms(self) -> bool:
        """Whether the forms of ids are learned (``id_form = "auto"``)."""
        return self._form == "auto"

    def read(self, message: ShortMessage) -> Receipt | ReceiptRefusal:
        """Return the receipt, or why it is not one that can be read."""
        if message.esm_class & 0x3C != ESM_RECEIPT and not is_receipt(message, trust_text=self._by_text):
            return RECEIPT_TEXT if not self._by_text and is_receipt(message, trust_text=True) else REPLY
        return parse(message, clock=self._carrier_zone) or UNREAD

    def fact(
        self, message: ShortMessage, receipt: Receipt, form: FormKind | None, host: str
    ) -> ReceiptFact | ReceiptRefusal:
        """Return what the store needs to know, or why it is refused.

        ``form``: of the ids of this bind's host, None while it is not known. ``host``: where ids are kept per host.
        """
        recipient = ANY_RECIPIENT if self._by_id else self._recipient(message)
        if recipient is None:
            return no_recipient(message)
        ids = receipt.ids
        plain = (receipted_id(ids[0], self._form),) if len(ids) == 1 else self._plain(ids)
        if form:  # known, and not AS_IS
            plain = tuple(dict.fromkeys((*[apply(form, one) for one in ids], *plain)))
        return ReceiptFact(
            carrier=self._name,
            ids=plain,
            recipient=recipient,
            state=PART_STATES[receipt.state],
            error=receipt.error.decode("latin-1"),
            at=receipt.done_date,
            whole=self._whole,
            host=host,
        )

    def other_recipient(self, message: ShortMessage, recipient: Recipient) -> tuple[Recipient | None, bool]:
        """Return the recipient named by destination_addr if it is another one, and whether it is the only one named.

        Of use while it is not known which of the two numbers is the recipient's.
        """
        dest = self._dest(message)
        if not dest:
            return None, False
        other = self._hasher.recipient(dest)
        if other == recipient:
            return None, not self._source(message)
        return other, False

    def detail(self, receipt: Receipt, host: str) -> ReceiptDetail:
        """Return what may help to find the message of a receipt whose ids are not known."""
        forms = forms_of(receipt.ids[0]) if receipt.ids and self._form == "auto" else ()
        guesses = [(kind, one) for kind, one in forms if kind and len(one) <= MAX_ID]
        excerpt = self._hasher.excerpt(receipt.text.decode("utf-8", "replace"))
        sure = bool(receipt.ids) and (self._form != "auto" or self._forms.sure((self._name, host)))
        return ReceiptDetail(tuple(guesses), host, excerpt, sure)

    def _recipient(self, message: ShortMessage) -> Recipient | None:
        """Return the recipient: by source_addr, where most carriers write it, or by destination_addr."""
        if self.recipient_in_dest:
            digits = self._dest(message) or self._source(message)
        else:
            digits = number_of(message.source, message.source_ton, self._country) or self._dest(message)
        return self._hasher.recipient(digits) if digits else None

    def _source(self, message: ShortMessage) -> str:
        return number_of(message.source, message.source_ton, self._country)

    def _dest(self, message: ShortMessage) -> str:
        return number_of(message.dest, message.dest_ton, self._country)

    def _plain(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(receipted_id(one, self._form) for one in ids))


def _zone(clock: int | str) -> tzinfo:
    """Return the time zone of a carrier's clock: minutes ahead of UTC, or a zone's name."""
    if isinstance(clock, str):
        return zone_of(clock)
    return timezone(timedelta(minutes=clock)) if clock else UTC
