"""From a leased message to the bodies of its submit_sm: alphabet, parts, addresses, validity, from a template.

One ``Encoder`` per carrier. What does not change between messages (addresses' types, registered_delivery, the sender,
the validity of this second) is joined once and kept.
"""

from __future__ import annotations

from time import gmtime, strftime
from typing import TYPE_CHECKING

from gateway.model import Category, PartState
from gateway.policy.quiet_hours import LAST_MINUTE
from gateway.smpp.codec import submit_template
from gateway.smpp.text import Alphabet, Long, Segments, split, split_octets

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.model import Leased
    from gateway.smpp.messages import Template

MAX_VALIDITY = 30 * 86_400_000
"""Longer validities are left to the carrier: many refuse (RINVEXPIRY) what exceeds their own limit."""

KEPT = 1024
"""Templates and one-part texts kept; a full table starts afresh, which costs less than ageing each entry."""

INTERNATIONAL, NETWORK_SPECIFIC, ALPHANUMERIC = 1, 3, 5
"""Types of number (5.2.5)."""

ISDN, NO_PLAN = 1, 0
SHORT_CODE = 6
"""A numeric sender of at most so many digits is a short code."""

PRIORITY = 4
"""Where ``pipeline.submission.Asked``, as it comes back from the store, has the priority_flag (5.2.14)."""

ALLOWED = {
    "gsm7": (Alphabet.GSM7, Alphabet.UCS2),
    "latin1": (Alphabet.LATIN1, Alphabet.UCS2),
}


class Encoder:
    """Bodies of submit_sm for one carrier."""

    __slots__ = ("_allowed", "_carrier", "_long", "_plus", "_segments", "_templates", "_validities")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._allowed = ALLOWED[carrier.alphabet]
        self._long = Long(carrier.long_messages)
        self._plus = "+" if carrier.number_format == "plus" else ""
        self._templates: dict[tuple[str, bytes, int], Template] = {}
        self._segments: dict[tuple[str, str], Segments] = {}
        self._validities: dict[int, bytes] = {}

    def encode(self, leased: Leased, now: int) -> list[bytes | None]:
        """One body per part, in order; None for a part that a carrier has accepted already (``leased.parts``).

        Raises TextError when the text cannot be expressed or cut for this carrier, LocalError when an address does not
        fit its field: then this carrier cannot take the message.
        """
        cut = self._cut(leased)
        asked = leased.envelope.facts
        template = self._template(leased.envelope.sender, self._validity(leased, now), asked[PRIORITY] if asked else 0)
        dest = (self._plus + leased.recipient.digits).encode()
        esm_class, coding = cut.esm_class, cut.data_coding
        if len(cut.parts) == 1:
            part = cut.parts[0]
            return [template.encode(dest, part[0], esm_class=esm_class, data_coding=coding, tlvs=part[1])]
        done = leased.parts if len(leased.parts) == len(cut.parts) else bytes(len(cut.parts))
        return [
            template.encode(dest, part[0], esm_class=esm_class, data_coding=coding, tlvs=part[1])
            if state in _TO_SEND
            else None
            for part, state in zip(cut.parts, done, strict=True)
        ]

    def _cut(self, leased: Leased) -> Segments:
        content = leased.content
        reference = leased.reference_number
        if content.data or content.encoding == Alphabet.BINARY:
            return split_octets(
                content.data, content.esm_class, content.data_coding, reference=reference, long=self._long
            )
        key = (content.text, content.encoding)
        kept = self._segments.get(key)
        if kept is None:
            alphabet = self._alphabet(content.encoding)
            kept = split(content.text, reference=reference, long=self._long, alphabet=alphabet, allowed=self._allowed)
            if len(kept.parts) == 1:
                if len(self._segments) >= KEPT:
                    self._segments.clear()
                self._segments[key] = kept
        return kept

    def _alphabet(self, asked: str) -> Alphabet | None:
        """The alphabet the app asked for, where this carrier speaks it; None = whichever fits."""
        alphabet = Alphabet(asked) if asked else None
        return alphabet if alphabet is Alphabet.LATIN1 or alphabet in self._allowed else None

    def _template(self, sender: str, validity: bytes, priority: int) -> Template:
        template = self._templates.get((sender, validity, priority))
        if template is None:
            if len(self._templates) >= KEPT:
                self._templates.clear()
            template = self._new_template(sender, validity, priority)
            self._templates[sender, validity, priority] = template
        return template

    def _new_template(self, sender: str, validity: bytes, priority: int) -> Template:
        carrier = self._carrier
        source, ton, npi = source_address(sender, carrier.number_format == "plus")
        return submit_template(
            source=source,
            source_ton=ton if carrier.source_ton < 0 else carrier.source_ton,
            source_npi=npi if carrier.source_npi < 0 else carrier.source_npi,
            dest_ton=carrier.dest_ton,
            dest_npi=carrier.dest_npi,
            registered_delivery=carrier.registered_delivery,
            validity=validity,
            priority=priority,
        )

    def _validity(self, leased: Leased, now: int) -> bytes:
        """Until when the carrier may deliver: the expiry, for marketing no later than the end of permitted hours."""
        until = leased.expires
        if leased.category == Category.MARKETING:
            until = min(until, leased.closes + LAST_MINUTE)
        if not now < until <= now + MAX_VALIDITY:
            return b""
        second = until // 1000
        kept = self._validities.get(second)
        if kept is None:
            if len(self._validities) >= KEPT:
                self._validities.clear()
            kept = self._validities[second] = absolute_time(second)
        return kept


_TO_SEND = frozenset({PartState.PENDING, PartState.UNKNOWN})


def absolute_time(second: int) -> bytes:
    """An instant (seconds UTC) as SMPP writes it, in UTC (7.1.1): 16 octets."""
    return strftime("%y%m%d%H%M%S000+", gmtime(second)).encode()


def source_address(sender: str, plus: bool = False) -> tuple[bytes, int, int]:
    """Octets, type of number and numbering plan of a sender, by its look; ``plus`` keeps a number's ``+``."""
    digits = sender.removeprefix("+")
    if not digits:
        return b"", 0, 0
    if not (digits.isascii() and digits.isdigit()):
        return sender.encode("latin-1", "replace"), ALPHANUMERIC, NO_PLAN
    if digits == sender and len(digits) <= SHORT_CODE:
        return digits.encode(), NETWORK_SPECIFIC, NO_PLAN
    return (f"+{digits}" if plus else digits).encode(), INTERNATIONAL, ISDN
