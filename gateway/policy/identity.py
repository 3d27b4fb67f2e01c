"""The canonical digits of a subscriber's number, in whatever form it is written.

A trunk prefix after the country code (+44 0 7911 …), Mexico's old mobile 1, Argentina's mobile 9 and 15 and the numbers
that a country has renumbered one for one all reach the same subscriber. Consents, opt-outs, caps, references, receipts
and replies belong to ``identity(digits)``; the dialled digits are kept beside it and may differ.

These rules are our own data and not the telephone library's, which changes every few weeks: key names in the store
derive from identities. ``VERSION`` is recorded in the store; raise it with every change of a rule.

Not equal: Brazil's numbers with and without the ninth digit (assigned separately), Ivory Coast's of eight digits (2021:
the two new leading digits depended on the operator; the old numbers are dead), San Marino's through Italy.
"""

from __future__ import annotations

import re
from typing import NamedTuple

VERSION = 1

_LONGEST = 15  # digits of E.164

# fmt: off
_TRUNK_ZERO = frozenset(map(str, (
    20, 27, 31, 32, 33, 40, 41, 43, 44, 46, 49, 51, 53, 54, 55, 57, 58, 60, 61, 62, 63, 64, 66, 81, 82, 84,
    86, 90, 91, 92, 93, 94, 95, 98, 211, 212, 213, 218, 231, 232, 233, 234, 243, 249, 250, 251, 252, 254, 255,
    256, 260, 261, 262, 263, 264, 265, 291, 353, 355, 358, 359, 370, 373, 374, 377, 380, 381, 382, 383, 385,
    386, 387, 389, 421, 423, 508, 590, 591, 593, 594, 595, 596, 598, 686, 850, 855, 856, 880, 886, 961, 962,
    963, 964, 966, 967, 970, 971, 972, 976, 977, 994, 995, 996,
)))
# fmt: on
"""Country codes with 0 as the national trunk prefix. Not Italy, San Marino, Congo, Ivory Coast and others: there the 0
is part of the number."""

_ARGENTINA = (
    "11|2(?:2(?:02?|[13]|2[13-79]|4[1-6]|5[2457]|6[124-8]|7[1-4]|8[13-6]|9[1267])|3(?:02?|1[467]|2[03-6]|3[13-8]|"
    "[49][2-6]|5[2-8]|[67])|4(?:7[3-578]|9)|6(?:[0136]|2[24-6]|4[6-8]?|5[15-8])|80|9(?:0[1-3]|[19]|2\\d|3[1-6]|"
    "4[02568]?|5[2-4]|6[2-46]|72?|8[23]?))|3(?:3(?:2[79]|6|8[2578])|4(?:0[0-24-9]|[12]|3[5-8]?|4[24-7]|5[4-68]?|"
    "6[02-9]|7[126]|8[2379]?|9[1-36-8])|5(?:1|2[1245]|3[237]?|4[1-46-9]|6[2-4]|7[1-6]|8[2-5]?)|6[24]|7(?:[069]|"
    "1[1568]|2[15]|3[145]|4[13]|5[14-8]|7[2-57]|8[126])|8(?:[01]|2[15-7]|3[2578]?|4[13-6]|5[4-8]?|6[1-357-9]|"
    "7[36-8]?|8[5-8]?|9[124]))"
)
"""Area codes, which precede the 15 of a mobile number in national form."""


class _Rule(NamedTuple):
    """``written`` (the digits after the country code) stands for ``before`` plus its groups."""

    written: re.Pattern[str]
    before: str
    canonical: re.Pattern[str] | None = None  # a number of this form …
    spellings: tuple[str, ...] = ()  # … may also be written in these


def _rule(written: str, before: str, canonical: str = "", *spellings: str) -> _Rule:
    return _Rule(re.compile(written), before, re.compile(canonical) if canonical else None, spellings)


def _trunk(prefixes: str, number: str) -> _Rule:
    """Return the rule of one of several trunk prefixes before a number of the given form."""
    spellings = [rf"{prefix}\g<0>" for prefix in prefixes.split("|")]
    return _rule(f"(?:{prefixes})({number})", "", number, *spellings)


_ZEROS = _rule("0+([1-9].*)", "", "[1-9].*", *(rf"{'0' * count}\g<0>" for count in range(1, 9)))
_MOBILE_15 = _rule(
    rf"0?9?(?=\d{{12}}$)({_ARGENTINA})15(\d+)",
    "",
    rf"(?=\d{{10}}$)({_ARGENTINA})(\d+)",
    *(rf"{front}\g<1>15\g<2>" for front in ("", "0", "9", "09")),
)


class _Plan(NamedTuple):
    """The rules of one country code, of which the first match counts; ``first``: the leading digits of such forms."""

    code: str
    first: str
    rules: tuple[_Rule, ...]


_PLANS = [
    _Plan("1", "1", (_trunk("1", r"[2-9]\d{9}"),)),
    _Plan("7", "8", (_trunk("8", r"\d{10}"),)),
    _Plan("36", "0", (_trunk("06", r"\d{8,9}"),)),
    _Plan("52", "01", (_trunk("1|01|044|045", r"\d{10}"),)),
    _Plan("54", "01239", (_trunk("9|0|09", r"\d{10}"), _MOBILE_15, _ZEROS)),
    _Plan("55", "0", (_rule(r"0+(?:1[245]|2[1-35]|31|4[13]|[56]5|99)?(\d{10,11})", ""), _ZEROS)),  # a carrier's code
    _Plan("229", "0123456789", (_rule(r"(\d{8})", "01", r"01(\d{8})", r"\1"),)),  # since 2024-11-30
    _Plan(
        "241",
        "0",
        (
            _trunk("0", r"\d{8}"),
            _rule(r"0([47])(\d{6})", "7", r"7([47])(\d{6})", r"0\1\2"),  # these since 2019
            _rule(r"0([256])(\d{6})", "6", r"6([256])(\d{6})", r"0\1\2"),
            _rule(r"01(\d{6})", "11", r"11(\d{6})", r"01\1"),
        ),
    ),
    _Plan("370", "08", (_trunk("8", r"\d{8}"), _ZEROS)),
    _Plan("375", "08", (_trunk("80|8|0", r"[1-4]\d{8}"),)),
    _Plan("692", "1", (_trunk("1", r"\d{7}"),)),
    _Plan("993", "8", (_trunk("8", r"\d{8}"),)),
]
_PLANS += [_Plan(code, "0", (_ZEROS,)) for code in sorted(_TRUNK_ZERO - {plan.code for plan in _PLANS})]
_BY_HEAD = {
    head: plan for plan in _PLANS for head in map(str, range(100, 1000)) if head.startswith(plan.code)
}  # country codes are no prefixes of each other
_WITH_RULES = {
    head: plan
    for plan in _PLANS
    for head in map(str, range(1000, 10_000))
    if head.startswith(plan.code) and head[len(plan.code)] in plan.first
}
"""First four digits of numbers that may have another form; most numbers' are absent."""

DIALLED_AS_GIVEN = re.compile(r"521\d{10}")
"""Another form that carriers accept, and some require: it is dialled as written."""


def identity(digits: str) -> str:
    """Return the canonical digits of a number (country code first, without ``+``). Idempotent."""
    plan = _WITH_RULES.get(digits[:4])
    if plan is None:
        return digits
    national = digits[len(plan.code) :]
    for rule in plan.rules:
        if found := rule.written.fullmatch(national):
            return identity(plan.code + rule.before + "".join(found.groups()))
    return digits


def spellings(digits: str) -> list[str]:
    """Return the other forms of an identity of at most 15 digits, country code first."""
    plan = _BY_HEAD.get(digits[:3])
    if plan is None:
        return []
    national = digits[len(plan.code) :]
    found = (
        plan.code + match.expand(spelling)
        for rule in plan.rules
        if rule.canonical and (match := rule.canonical.fullmatch(national))
        for spelling in rule.spellings
    )
    return [form for form in dict.fromkeys(found) if form != digits and len(form) <= _LONGEST]
