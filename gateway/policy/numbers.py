"""Facts about telephone numbers: region, time zones, kind, and whether the numbering plan allows them.

phonenumbers provides all of it, at 38 µs a number. Region and kind depend on the leading digits and the length alone,
so they are looked up once per prefix and cached; zones come from its longest-prefix table directly. Never import
``phonenumbers.geocoder``: 4 s and 180 MB.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneNumberType as Type
from phonenumbers import ValidationResult
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

from gateway.policy.identity import DIALLED_AS_GIVEN, identity
from gateway.policy.zones import in_country, of_countries

_CACHE_LIMIT = 200_000  # prefixes; about 60 MB if all are probed

# Digits that determine region and kind. North America: the area code; on its islands, which have toll-free and company
# numbers in it, the exchange (``_cached``). The rest: enough for the islands that share a country code (Guernsey's
# 447911, the Vatican's 3906698, Christmas Island's 6189164, Western Sahara's 212528, Saint Barthélemy's 59059027).
_DEPTH = {"1": 4, "7": 6, "21": 7, "26": 7, "39": 7, "44": 7, "59": 8, "61": 7, "86": 5}
_DEFAULT_DEPTH = 6
_DEPTHS = {
    f"{a}{b}": _DEPTH.get(f"{a}{b}", _DEPTH.get(str(a), _DEFAULT_DEPTH)) for a in range(1, 10) for b in range(10)
}

_BY_AREA_CODE = frozenset({"US", "CA"})

_KINDS = {
    Type.FIXED_LINE: "fixed",
    Type.MOBILE: "mobile",
    Type.FIXED_LINE_OR_MOBILE: "fixed_or_mobile",
    Type.TOLL_FREE: "toll_free",
    Type.PREMIUM_RATE: "premium",
    Type.SHARED_COST: "shared_cost",
    Type.VOIP: "voip",
    Type.PERSONAL_NUMBER: "personal",
    Type.PAGER: "pager",
    Type.UAN: "uan",
    Type.VOICEMAIL: "voicemail",
}
_EXPENSIVE = {"premium": "premium-rate", "shared_cost": "shared-cost", "personal": "personal"}
"""Kinds that cost the sender more than a subscriber's number (UK personal numbers, 070, are among them)."""

_GEOGRAPHIC = frozenset({"fixed", "mobile", "fixed_or_mobile"})


class Number(NamedTuple):
    """Facts about a number. ``zones`` is empty when unknown: then the app must name the zone."""

    region: str  # ISO 3166 alpha-2, or "" when unknown or international (satellite and such)
    zones: tuple[str, ...]  # IANA names, sorted: the recipient may be in any of them
    kind: str  # fixed | mobile | fixed_or_mobile | toll_free | premium | … | unknown
    possible: bool  # in international form, with a length of the country's plan
    by_name: str = ""  # "premium", "satellite", …: so expensive that the operator must allow its prefix


class _Prefix(NamedTuple):
    """Facts shared by all numbers of one prefix and length."""

    number: Number
    lengths: tuple[int, ...]  # lengths of longer prefixes with other zones, longest first
    numbers: dict[tuple[str, ...], Number]  # ``number`` with those zones


_prefixes: dict[tuple[str, int], _Prefix] = {}
_blocks: dict[tuple[str, int], _Prefix] = {}


def describe(digits: str) -> Number:
    """Return the facts about E.164 digits (as from ``dialling.parse_e164``)."""
    key = digits[: _DEPTHS.get(digits[:2], _DEFAULT_DEPTH)], len(digits)
    prefix = _prefixes.get(key)
    if prefix is None:
        prefix = _cached(key, digits)
    for length in prefix.lengths:
        zones = TIMEZONE_DATA.get(digits[:length])
        if zones is not None:
            return prefix.numbers.get(zones) or _with_zones(prefix, zones)
    return prefix.number


def _cached(key: tuple[str, int], digits: str) -> _Prefix:
    """Look up and cache facts per prefix; per thousand numbers for those of no plan, which say nothing about their
    prefix; per exchange on the islands of North America."""
    block, exchange = (digits[:-3], len(digits)), (digits[:7], len(digits))
    known = _blocks.get(block) or _blocks.get(exchange)
    if known is not None:
        return known
    for memory in (_prefixes, _blocks):
        if len(memory) >= _CACHE_LIMIT:
            memory.clear()
    prefix = _look_up(key[0], digits)
    if prefix.number.kind == "unknown":
        _blocks[block] = prefix
    elif digits[0] == "1" and prefix.number.region not in _BY_AREA_CODE:
        _blocks[exchange] = prefix
    else:
        _prefixes[key] = prefix
    return prefix


def _look_up(head: str, digits: str) -> _Prefix:
    """Look up one number with phonenumbers; the result stands for its prefix."""
    try:
        parsed = phonenumbers.parse("+" + digits)
        possible = _possible(parsed, digits)
        if not possible and (canonical := identity(digits)) != digits:  # another spelling of a valid number
            parsed = phonenumbers.parse("+" + canonical)
            possible = bool(DIALLED_AS_GIVEN.fullmatch(digits)) and _possible(parsed, canonical)
            head = canonical[: len(head) + len(canonical) - len(digits)]  # the same digits of the prefix
    except phonenumbers.NumberParseException:
        return _Prefix(Number("", (), "unknown", False), (), {})
    code = str(parsed.country_code)
    kind = _KINDS.get(phonenumbers.number_type(parsed), "unknown")
    # North America has no mobile ranges: a number of no plan still belongs to its area code.
    geographic = phonenumbers.is_number_geographical(parsed) or (kind == "unknown" and code == "1")
    found = _longest(head) if geographic else TIMEZONE_DATA.get(code, ())
    region = phonenumbers.region_code_for_number(parsed) or _nearest_region(code, found)
    # A toll-free number may be answered anywhere: only subscribers' numbers narrow the zones to the country.
    zones = in_country(found, region) if kind in _GEOGRAPHIC or kind == "unknown" else _sorted(found)
    region = "" if region == "001" else region  # 001 is the world: satellite phones and the like
    by_name = _EXPENSIVE.get(kind, "") if region else "satellite or international"
    number = Number(region, zones, kind, possible, by_name)
    return _Prefix(number, _longer_prefixes().get(head, ()) if geographic else (), {})


def _possible(parsed: phonenumbers.PhoneNumber, digits: str) -> bool:
    """Whether the digits are a valid number as they stand, without a prefix that the library removed."""
    return (
        f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}" == digits
        and phonenumbers.is_possible_number_with_reason(parsed) == ValidationResult.IS_POSSIBLE
    )


def _with_zones(prefix: _Prefix, zones: tuple[str, ...]) -> Number:
    number = prefix.number._replace(zones=in_country(zones, prefix.number.region))
    prefix.numbers[zones] = number
    return number


def _nearest_region(code: str, zones: tuple[str, ...]) -> str:
    """Return the region of a number of no plan: of its country code; of several, the first with its zones."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    at_home = (region for region in regions if not of_countries().get(region, frozenset()).isdisjoint(zones))
    return next(at_home, next(iter(regions), ""))


def _longest(head: str) -> tuple[str, ...]:
    for length in range(min(len(head), TIMEZONE_LONGEST_PREFIX), 0, -1):
        zones = TIMEZONE_DATA.get(head[:length])
        if zones is not None:
            return zones
    return ()


def _sorted(zones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(zone for zone in zones if zone != "Etc/Unknown"))


@cache
def _longer_prefixes() -> dict[str, tuple[int, ...]]:
    """Return, by leading digits (up to seven), the lengths of longer prefixes in the zone table, longest first."""
    found: dict[str, set[int]] = {}
    for prefix in TIMEZONE_DATA:
        for depth in range(4, min(8, len(prefix))):
            found.setdefault(prefix[:depth], set()).add(len(prefix))
    return {head: tuple(sorted(lengths, reverse=True)) for head, lengths in found.items()}
