"""From a leased message to the bodies of its submit_sm: alphabet, parts, addresses, validity, from a template.

One ``SubmitEncoder`` per carrier. What does not change between messages (addresses' types, registered_delivery, the
sender, the validity of this second) is joined once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.carriers.validity import Validity, ValidityRefusals
from gateway.intake.carrier_tlvs import CarrierTlvs
from gateway.intake.coding import coding_of, split_for
from gateway.model import PartState
from gateway.smpp.short_message import submit_template
from gateway.smpp.text import Alphabet, Segment, Segments, split_octets

if TYPE_CHECKING:
    from gateway.config import Carrier
    from gateway.model import LeasedMessage
    from gateway.smpp.short_message import PduTemplate

KEPT = 1024
"""Templates and one-part texts kept; a full table starts afresh, which costs less than ageing each entry."""

INTERNATIONAL, NETWORK_SPECIFIC, ALPHANUMERIC = 1, 3, 5
"""Types of number (5.2.5)."""

ISDN, NO_PLAN = 1, 0
SHORT_CODE = 6
"""A numeric sender of at most so many digits is a short code."""

PRIORITY = 4
"""Where ``intake.submission.RequestedTerms``, as it comes back from the store, has the priority_flag (5.2.14)."""

TEMPLATE = 6
"""… and the name of the template."""


class SubmitEncoder:
    """Bodies of submit_sm for one carrier."""

    __slots__ = ("_carrier", "_coding", "_parameters", "_plus", "_segments", "_templates", "_validity")

    def __init__(self, carrier: Carrier, refusals: ValidityRefusals | None = None) -> None:
        """``refusals``: what is known of this carrier and validity_period."""
        self._carrier = carrier
        self._coding = coding_of(carrier)
        self._parameters = CarrierTlvs(carrier.name, carrier.tlvs) if carrier.tlvs else None
        self._validity = Validity(carrier, refusals or ValidityRefusals(carrier.name))
        self._plus = "+" if carrier.number_format == "plus" else ""
        self._templates: dict[tuple[str, bytes, int], PduTemplate] = {}
        self._segments: dict[tuple[str, str], Segments] = {}

    def encode(self, leased: LeasedMessage, now: int) -> list[bytes | None]:
        """One body per part, in order; None for a part that a carrier has accepted already (``leased.parts``).

        Raises TextError when the text cannot be expressed or cut for this carrier, LocalError when an address does not
        fit its field, a parameter that the carrier demands is missing, or it refuses the validity that advertising must
        have: then this carrier cannot take the message. Raises Closing when it has to wait for other hours.
        """
        cut = self._cut(leased)
        asked = leased.envelope.facts
        template = self._template(
            leased.envelope.sender, self._validity.text(leased, now), asked[PRIORITY] if asked else 0
        )
        dest = (self._plus + leased.recipient.digits).encode()
        esm_class, coding = cut.esm_class, cut.data_coding
        parts = cut.parts
        if self._parameters is not None:
            parts = _with_parameters(leased, parts, self._parameters)
        if len(parts) == 1:
            part = parts[0]
            return [template.encode(dest, part[0], esm_class=esm_class, data_coding=coding, tlvs=part[1])]
        done = leased.parts if len(leased.parts) == len(parts) else bytes(len(parts))
        return [
            template.encode(dest, part[0], esm_class=esm_class, data_coding=coding, tlvs=part[1])
            if state in _TO_SEND
            else None
            for part, state in zip(parts, done, strict=True)
        ]

    def _cut(self, leased: LeasedMessage) -> Segments:
        content = leased.content
        reference = leased.reference_number
        if content.data or content.encoding == Alphabet.BINARY:
            return split_octets(
                content.data, content.esm_class, content.data_coding, reference=reference, long=self._coding.long
            )
        key = (content.text, content.encoding)
        kept = self._segments.get(key)
        if kept is None:
            kept = split_for(content.text, content.encoding, self._coding, reference)
            if len(kept.parts) == 1:
                if len(self._segments) >= KEPT:
                    self._segments.clear()
                self._segments[key] = kept
        return kept

    def _template(self, sender: str, validity: bytes, priority: int) -> PduTemplate:
        template = self._templates.get((sender, validity, priority))
        if template is None:
            if len(self._templates) >= KEPT:
                self._templates.clear()
            template = self._new_template(sender, validity, priority)
            self._templates[sender, validity, priority] = template
        return template

    def _new_template(self, sender: str, validity: bytes, priority: int) -> PduTemplate:
        carrier = self._carrier
        source, ton, npi = source_address(sender, carrier.number_format == "plus")
        return submit_template(
            source=source,
            source_ton=ton if carrier.source_ton < 0 else carrier.source_ton,
            source_npi=npi if carrier.source_npi < 0 else carrier.source_npi,
            dest_ton=carrier.dest_ton,
            dest_npi=carrier.dest_npi,
            registered_delivery=carrier.registered_delivery,
            service_type=carrier.service_type.encode("latin-1", "replace"),
            validity=validity,
            priority=priority,
        )


def _with_parameters(leased: LeasedMessage, parts: Sequence[Segment], parameters: CarrierTlvs) -> tuple[Segment, ...]:
    """Every part with what the carrier demands of this message."""
    asked = leased.envelope.facts
    template = asked[TEMPLATE] if asked and len(asked) > TEMPLATE else ""
    more = parameters.octets(leased.envelope.metadata, template)
    return tuple(Segment(part[0], part[1] + more) for part in parts)


_TO_SEND = frozenset({PartState.PENDING, PartState.UNKNOWN})


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
