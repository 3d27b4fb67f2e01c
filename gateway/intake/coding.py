"""How the carrier of a message encodes its text: intake counts segments by it, the encoder splits by it.

What ``data_coding`` 0 means is the carrier's choice. Where it is Latin-1 or ASCII, its message centre converts the text
to the GSM alphabet for the air interface, so such a text is counted and split in septets all the same, and is sent that
way only when both character sets have every character.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gateway.intake.carrier_tlvs import CarrierTlvs
from gateway.smpp.pdu import ESM_UDHI
from gateway.smpp.text import (
    SINGLE_SEPTETS,
    Alphabet,
    Segment,
    SegmentCount,
    Segments,
    SplitMethod,
    count,
    cut,
    encode,
    gsm_decode,
    septets,
    split,
)
from gateway.smpp.tlv import MESSAGE_PAYLOAD, encode_tlv

if TYPE_CHECKING:
    from gateway.config import Carrier, Route

_ALLOWED = {
    "gsm7": (Alphabet.GSM7, Alphabet.UCS2),
    "latin1": (Alphabet.LATIN1, Alphabet.UCS2),
}
_CHARSETS = {"gsm7": "", "latin1": "latin-1", "ascii": "ascii"}
_ALPHABETS = {alphabet.value: alphabet for alphabet in Alphabet}


class Coding(NamedTuple):
    """The encodings and the form of long messages that one carrier takes."""

    allowed: tuple[Alphabet, ...] = _ALLOWED["gsm7"]  # in order of preference
    long: SplitMethod = SplitMethod.UDH8
    charset: str = ""  # Python's name of what data_coding 0 means; "" = the GSM alphabet


DEFAULT_CODING = Coding()


def coding_of(carrier: Carrier) -> Coding:
    """Return the coding that the carrier's settings ask for."""
    return Coding(_ALLOWED[carrier.alphabet], SplitMethod(carrier.long_messages), _CHARSETS[carrier.default_alphabet])


def count_for(text: str, forced: str, coding: Coding = DEFAULT_CODING) -> SegmentCount:
    """Return alphabet, segments and units of ``text`` at a carrier; segments are those on the air.

    ``forced``: the encoding that the app insists on, or "". Raises TextError when the text does not fit it, or needs
    more than 255 segments.
    """
    alphabet, allowed = _alphabets(text, forced, coding)
    return count(text, alphabet, SplitMethod.UDH8 if coding.long is SplitMethod.PAYLOAD else coding.long, allowed)


def split_for(text: str, forced: str, coding: Coding, reference: int) -> Segments:
    """Return ``text`` as the segments to submit to a carrier. Raises TextError as ``count_for`` does."""
    alphabet, allowed = _alphabets(text, forced, coding)
    if coding.charset and (alphabet or allowed[0]) is Alphabet.GSM7:
        return _in_charset(text, coding, reference)
    return split(text, reference=reference, long=coding.long, alphabet=alphabet, allowed=allowed)


def _alphabets(text: str, forced: str, coding: Coding) -> tuple[Alphabet | None, tuple[Alphabet, ...]]:
    """Return the one alphabet to use, or None, and the alphabets to try in order."""
    alphabet = _ALPHABETS[forced] if forced else None
    allowed = coding.allowed
    if alphabet is not None and alphabet is not Alphabet.LATIN1 and alphabet not in allowed:
        encode(text, alphabet)  # a text that does not fit it is refused at every carrier
        alphabet = None
    if not coding.charset or (alphabet or allowed[0]) is not Alphabet.GSM7:
        return alphabet, allowed
    if _fits(text, coding.charset):
        return Alphabet.GSM7, allowed
    if alphabet is not None:
        encode(text, alphabet)
    return None, allowed[1:]


def _fits(text: str, charset: str) -> bool:
    """Return whether both the GSM alphabet and the carrier's character set have every character."""
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return septets(text) is not None


def _in_charset(text: str, coding: Coding, reference: int) -> Segments:
    """Split by septets, encode in the carrier's character set; the text fits both."""
    octets = encode(text, Alphabet.GSM7)
    if coding.long is SplitMethod.PAYLOAD and len(octets) > SINGLE_SEPTETS:
        whole = Segment(b"", encode_tlv(MESSAGE_PAYLOAD, text.encode(coding.charset)))
        return Segments(Alphabet.GSM7, 0, 0, (whole,))
    parts = cut(octets, Alphabet.GSM7, 0, reference, coding.long)
    header = 1 + parts.parts[0].short_message[0] if parts.esm_class & ESM_UDHI else 0
    return parts._replace(
        parts=tuple(
            Segment(octets[:header] + gsm_decode(octets[header:]).encode(coding.charset), tlvs)
            for octets, tlvs in parts.parts
        )
    )


class RouteDemand(NamedTuple):
    """What the carrier of a route requires of a message: its coding and its TLVs."""

    coding: Coding = DEFAULT_CODING
    parameters: CarrierTlvs | None = None


NO_DEMAND = RouteDemand()


def demands_of(routes: Iterable[Route], carriers: Iterable[Carrier]) -> Mapping[str, RouteDemand]:
    """Return lane -> what its first carrier requires; only lanes that differ from ``NO_DEMAND``."""
    by_name = {
        carrier.name: RouteDemand(coding_of(carrier), CarrierTlvs(carrier.name, carrier.tlvs) if carrier.tlvs else None)
        for carrier in carriers
    }
    found = {}
    for route in routes:
        demand = by_name.get(_first(route), NO_DEMAND)
        if demand != NO_DEMAND:
            found[route.lane] = demand
    return found


def _first(route: Route) -> str:
    """Return the carrier that a message of this route most likely goes to."""
    if not route.weights:
        return route.carriers[0]
    return max(zip(route.weights, route.carriers, strict=True), key=lambda pair: pair[0])[1]
