"""The recipient's number in a receipt, however its carrier writes it."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers

NATIONAL = 2
"""Type of number, 5.2.5."""

SHORTEST, LONGEST = 7, 15
"""Digits of an E.164 number; fewer are a short code, and no recipient."""


def number_of(address: bytes, ton: int = 0, country: str = "") -> str:
    """E.164 digits of an address, "" when it is no number that a message can have gone to.

    Carriers may add ``+`` or ``00``. Numbers written as at home (with a leading 0, or of that type) are read as those
    of ``country`` (ISO 3166); without one, a leading 0 makes them no numbers, and the type of number says nothing.
    """
    if (
        address.isdigit()
        and address[:1] != b"0"
        and (ton != NATIONAL or not country)
        and SHORTEST <= len(address) <= LONGEST
    ):
        return address.decode()
    text = address.decode("latin-1").strip("\0 \"'")
    digits = text.removeprefix("+").replace("-", "").replace(" ", "")
    if not (digits.isascii() and digits.isdigit()):
        return ""
    if digits != text and text.startswith("+"):
        return _international(digits)
    if digits.startswith("00"):
        return _international(digits[2:])
    if country and (digits.startswith("0") or ton == NATIONAL):
        return _at_home(digits, country) or _international(digits)  # the type of number is wrong at times
    return _international(digits)


def shape_of(address: bytes) -> str:
    """What an address looks like, for logs, without telling it."""
    text = address.decode("latin-1").strip("\0 \"'")
    if not text:
        return "is empty"
    if not (text.removeprefix("+").isascii() and text.removeprefix("+").isdigit()):
        return "is alphanumeric"
    if text.startswith("0"):
        return "is a number written as at home"
    return f"has {len(text.removeprefix('+'))} digits"


def _international(digits: str) -> str:
    return digits if SHORTEST <= len(digits) <= LONGEST and digits[0] != "0" else ""


@lru_cache(maxsize=4096)
def _at_home(digits: str, country: str) -> str:
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
