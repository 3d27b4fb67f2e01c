"""Telephone numbers as people and spreadsheets write them, normalised."""

from __future__ import annotations

import re
import unicodedata

_ROUNDED = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)
_DECIMAL = re.compile(r"(\+?\d+)\.0+")
_BETWEEN = re.compile(r"[\s\-‐-―./()']")


class NoNumber(ValueError):
    """A cell does not hold a telephone number; the text says why."""


def plain(text: str, country: str = "") -> str:
    """Return a number without spaces, dashes and brackets, with 00 replaced by +. Raises NoNumber.

    ``country``: ISO 3166 alpha-2; a number without + is read as for an account with this ``default_country``.
    """
    number = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf").strip()
    if _ROUNDED.fullmatch(number):
        raise NoNumber(f"{number} was rounded by a spreadsheet; format the column as text and export it again")
    if whole := _DECIMAL.fullmatch(number):
        number = whole[1]
    number = _BETWEEN.sub("", number)
    if number.startswith("00"):
        number = f"+{number[2:]}"
    return number if number.startswith("+") or not country else _international(number, country)


def _international(number: str, country: str) -> str:
    from gateway.policy.dialling import InvalidNumber, parse_e164

    try:
        return f"+{parse_e164(number, country)}"
    except InvalidNumber:
        raise NoNumber(f"{number} is not a number in {country}; write it with + and the country code") from None
