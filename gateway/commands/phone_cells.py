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

    ``country``: ISO 3166 alpha-2; without + a number is read as the gateway does it for an account with this
    ``default_country``. Raises NoNumber.
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
    from gateway.policy.dialling import InvalidNumber, parse_e164

    try:
        return f"+{parse_e164(said, country)}"
    except InvalidNumber:
        raise NoNumber(f"{said} is no number of {country}; write it with + and the country code") from None
