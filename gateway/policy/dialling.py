"""From a number as written to the digits to dial: E.164 without ``+``, or an error that says what is wrong.

Numbers that the numbering plans call impossible are refused. A trunk prefix after the country code is removed. Digits
without ``+`` that are valid both with and without a country code are refused, unless a default country decides.
"""

from __future__ import annotations

import re
from functools import cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumberFormat

from gateway.policy.identity import identity
from gateway.policy.numbers import Number, describe

_CODES = frozenset(str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
_SHORTEST, _LONGEST = 7, 15  # digits; E.164 sets the upper bound, no plan assigns fewer than seven
_SHORTEST_AT_HOME = 4

_BARE = {
    10: (re.compile("[2-9]..[2-9].*"), "1", "in North America"),
    11: (re.compile("1[3-9].*"), "86", "in China"),
}
"""Length of a national number -> its form, country code, region. There numbers are written without a prefix, and many
of them are also valid in another country (136 1234 5678 is in Texas), so that only ``+`` decides."""

_SUBSCRIBERS = frozenset({"mobile", "fixed_or_mobile"})


class InvalidNumber(ValueError):
    """Not a destination; the message says why, for the person who typed it."""


def parse_e164(text: str, country: str = "") -> str:
    """Return the digits to dial for a number written with or without ``+``. Raise InvalidNumber.

    ``country`` (ISO, "" = none): digits without ``+`` that are valid in this country are read so, national form
    (0701740605) included; else they are E.164, country code first.
    """
    return number_of(text, country)[0]


def number_of(text: str, country: str = "") -> tuple[str, Number]:
    """Return the facts about a number as ``parse_e164`` reads it. Raise InvalidNumber."""
    plus = text[:1] == "+"
    digits = text[1:] if plus else text
    if not (
        _SHORTEST <= len(digits) <= _LONGEST
        and digits.isascii()
        and digits.isdigit()
        and (digits[:2] in _CODES or digits[0] in _CODES or digits[:3] in _CODES)
    ):
        if plus or not country or not (digits.isascii() and digits.isdigit()):
            raise InvalidNumber(_fault(digits))
        digits = _national(digits, country)
    elif not plus and country:
        digits = _either(digits, country)
    elif not plus and len(digits) in _BARE:
        _refuse_ambiguous(digits)
    number = describe(digits)
    if not number.possible:
        digits = _repaired(digits)
        number = describe(digits)
    return digits, number


def _repaired(digits: str) -> str:
    """Return the number meant by digits with a trunk prefix after the country code, or in an outdated form."""
    for meant in (_as_library_says("+" + digits, None), identity(digits)):
        if meant and describe(meant).possible:
            return meant
    raise InvalidNumber(_impossible(digits))


def _as_library_says(text: str, country: str | None) -> str:
    try:
        parsed = phonenumbers.parse(text, country)
    except NumberParseException:
        return ""
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164)[1:]


def _national(digits: str, country: str) -> str:
    """Return the digits of a number in national form, or with the country's international prefix (00, 011)."""
    meant = _as_library_says(digits, country) if len(digits) >= _SHORTEST_AT_HOME else ""
    if meant and describe(meant).possible:
        return meant
    raise InvalidNumber(
        f"is not a valid number in {country}, the account's default_country; "
        "write it in full, or with + and the country code"
    )


def _either(digits: str, country: str) -> str:
    """Return the country's number when it fits the plan, else E.164; a new range of the country comes last.

    Where numbers have many lengths (Germany, Indonesia), E.164 digits with the country's own code may fit the plan as a
    fixed line too: then they are read as E.164.
    """
    code = str(phonenumbers.country_code_for_region(country))
    inside = identity(code + digits)
    at_home = describe(inside) if len(inside) <= _LONGEST else None
    if at_home and at_home.possible and at_home.kind != "unknown":
        coded = digits.startswith(code) and at_home.kind not in _SUBSCRIBERS
        return digits if coded and _is_assigned(digits) else inside
    if describe(digits).possible:
        return digits
    return inside if at_home and at_home.possible else _repaired(digits)


def _is_assigned(digits: str) -> bool:
    number = describe(digits)
    return number.possible and number.kind != "unknown"


def _refuse_ambiguous(digits: str) -> None:
    """Raise InvalidNumber for a national number of ``_BARE``, which may be valid in another country as well."""
    look, code, where = _BARE[len(digits)]
    if look.fullmatch(digits) and describe(code + digits).kind in _SUBSCRIBERS:
        if describe(digits).possible:
            fault = f"may be +{digits} or, {where}, +{code}{digits}"
        else:
            fault = f"is not a valid E.164 number, but {where} it is +{code}{digits}"
        raise InvalidNumber(f"{fault}; write it with + and the country code, or set the account's default_country")


def _fault(digits: str) -> str:
    if not digits:
        return "is empty; write the number in E.164, such as +8613800138000"
    if not (digits.isascii() and digits.isdigit()):
        odd = next(char for char in digits if not (char.isascii() and char.isdigit()))
        return f"contains {odd!r}; write digits only, with or without a leading +"
    if digits[0] == "0":
        return (
            "begins with 0; write the country code first, such as +44 for 0044 or for a national 0, "
            "or set the account's default_country"
        )
    if len(digits) < _SHORTEST:
        return f"has {len(digits)} digits, too few for E.164; write the country code and the full number"
    if len(digits) > _LONGEST:
        return f"has {len(digits)} digits; E.164 allows at most {_LONGEST}"
    return f"begins with +{digits[:3]}, which is not a country code"


def _impossible(digits: str) -> str:
    code = next(digits[:length] for length in (1, 2, 3) if digits[:length] in _CODES)
    lengths = _lengths(int(code))
    return (
        f"is not a valid number: after +{code} come {lengths} digits, not {len(digits) - len(code)}; "
        "write the country code and the full number"
    )


@cache
def _lengths(code: int) -> str:
    """Return how many digits follow a country code, in words."""
    region = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code][0]
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    plan = metadata.general_desc if metadata else None
    words = [str(length) for length in (plan.possible_length if plan else ())]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def is_country(name: str) -> bool:
    """Whether ``name`` is the ISO code of a country with a known numbering plan."""
    return name in phonenumbers.SUPPORTED_REGIONS
