"""Telephone numbers as people and spreadsheets write them."""

from __future__ import annotations

import re
import unicodedata

_ROUNDED = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)
_DECIMAL = re.compile(r"(\+?\d+)\.0+")
_BETWEEN = re.compile(r"[\s\-‐-―./()']")


class NoNumber(ValueError):
    """A cell holds no telephone number; the text says why."""


def plain(text: str, country: str = "") -> str:
    """A number as the gateway wants it: without spaces, dashes and brackets, 00 as +.

    ``country``: ISO 3166 alpha-2; national numbers are of that country. Raises NoNumber.
    """
    said = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf").strip()
    if _ROUNDED.fullmatch(said):
        raise NoNumber(f"{said} was rounded by a spreadsheet; format that column as text and export it again")
    if whole := _DECIMAL.fullmatch(said):
        said = whole[1]
    said = _BETWEEN.sub("", said)
    if said.startswith("00"):
        said = f"+{said[2:]}"
    return said if said.startswith("+") or not country else _international(said, country)


def _international(said: str, country: str) -> str:
    import phonenumbers

    try:
        found = phonenumbers.parse(said, country)
    except phonenumbers.NumberParseException:
        found = None
    if found is None or not phonenumbers.is_possible_number(found):
        raise NoNumber(f"{said} is no number of {country}; write it with + and the country code")
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)


def is_country(code: str) -> bool:
    """Whether there is such a country, by its two letters."""
    import phonenumbers

    return code in phonenumbers.SUPPORTED_REGIONS
