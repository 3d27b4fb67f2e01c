"""How the carrier of a message writes its text: what intake counts by and the encoder cuts by, in one place.

What ``data_coding`` 0 means is the carrier's choice. Where it is Latin-1 or ASCII, its message centre turns the text
into the GSM alphabet for the air, so such a text is counted and cut in septets all the same, and only what both sets
have goes that way.
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
    """What one carrier speaks."""

    allowed: tuple[Alphabet, ...] = _ALLOWED["gsm7"]  # in order of preference
    long: SplitMethod = SplitMethod.UDH8
    charset: str = ""  # Python's name of what data_coding 0 means; "" = the GSM alphabet


USUAL = Coding()


def coding_of(carrier: Carrier) -> Coding:
    """By the carrier's settings."""
    return Coding(_ALLOWED[carrier.alphabet], SplitMethod(carrier.long_messages), _CHARSETS[carrier.default_alphabet])


def count_for(text: str, asked: str, coding: Coding = USUAL) -> SegmentCount:
    """Alphabet, parts and units of ``text`` at a carrier; parts are those on the air, however they get there.

    ``asked``: the alphabet that the app wishes, or "". Raises TextError when the text does not fit that, or 255 parts.
    """
    subscription, allowed = _alphabets(text, asked, coding)
    return count(text, subscription, SplitMethod.UDH8 if coding.long is SplitMethod.PAYLOAD else coding.long, allowed)


def split_for(text: str, asked: str, coding: Coding, reference: int) -> Segments:
    """``text`` as the parts to submit to a carrier. Raises TextError as ``count_for``."""
    subscription, allowed = _alphabets(text, asked, coding)
    if coding.charset and (subscription or allowed[0]) is Alphabet.GSM7:
        return _in_charset(text, coding, reference)
    return split(text, reference=reference, long=coding.long, alphabet=subscription, allowed=allowed)


def _alphabets(text: str, asked: str, coding: Coding) -> tuple[Alphabet | None, tuple[Alphabet, ...]]:
    """The one alphabet to use, or None and those to try in order."""
    subscription = _ALPHABETS[asked] if asked else None
    allowed = coding.allowed
    if subscription is not None and subscription is not Alphabet.LATIN1 and subscription not in allowed:
        encode(text, subscription)  # what does not fit it is refused wherever it goes
        subscription = None
    if not coding.charset or (subscription or allowed[0]) is not Alphabet.GSM7:
        return subscription, allowed
    if _fits(text, coding.charset):
        return Alphabet.GSM7, allowed
    if subscription is not None:
        encode(text, subscription)
    return None, allowed[1:]


def _fits(text: str, charset: str) -> bool:
    """Whether both the GSM alphabet and the carrier's own have every character."""
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return False
    return septets(text) is not None


def _in_charset(text: str, coding: Coding, reference: int) -> Segments:
    """Cut by septets, written in the carrier's own set; the text fits both."""
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
    """What the carrier of a route asks of a message: how it is written, and which parameters it carries."""

    coding: Coding = USUAL
    parameters: CarrierTlvs | None = None


NO_DEMAND = RouteDemand()


def demands_of(routes: Iterable[Route], carriers: Iterable[Carrier]) -> Mapping[str, RouteDemand]:
    """Lane -> what its first carrier asks; only lanes that differ from ``NO_DEMAND``."""
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
    """The carrier that a message of this route most likely goes to."""
    if not route.weights:
        return route.carriers[0]
    return max(zip(route.weights, route.carriers, strict=True), key=lambda pair: pair[0])[1]
