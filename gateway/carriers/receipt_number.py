"""Reads the recipient's number in a receipt, in the forms that carriers write."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers

NATIONAL = 2
"""Type of number, 5.2.5."""

SHORTEST, LONGEST = 7, 15
"""Digits of an E.164 number; fewer are a short code, and no recipient."""


def number_of(address: bytes, ton: int = 0, country: str = "") -> str:
    """Return the E.164 digits of an address, "" when no message can have gone to it.

    Carriers may add ``+`` or ``00``. Numbers in national format (with a leading 0, or with that type of number) are
    read as those of ``country`` (ISO 3166); without one, a leading 0 makes them invalid and the type is ignored.
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
        return _national(digits, country) or _international(digits)  # the type of number is sometimes wrong
    return _international(digits)


def shape_of(address: bytes) -> str:
    """Describe an address for logs, without disclosing it."""
    text = address.decode("latin-1").strip("\0 \"'")
    if not text:
        return "is empty"
    if not (text.removeprefix("+").isascii() and text.removeprefix("+").isdigit()):
        return "is alphanumeric"
    if text.startswith("0"):
        return "is a number in national format"
    return f"has {len(text.removeprefix('+'))} digits"


def _international(digits: str) -> str:
    return digits if SHORTEST <= len(digits) <= LONGEST and digits[0] != "0" else ""


@lru_cache(maxsize=4096)
def _national(digits: str, country: str) -> str:
    try:
        number = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
