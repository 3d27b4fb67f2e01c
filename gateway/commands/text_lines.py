"""Lines and CSV records of a text file from any program: character set, delimiter, quotes.

An error stays in its line: after an invalid octet or an unclosed quote the following lines are read as usual.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, TextIO

DELIMITERS = ",;\t|，"
BAD_OCTET = re.compile("[\udc80-\udcff]")
"""Octets that are not in the character set, as ``errors="surrogateescape"`` decodes them."""

_MAX_LINES = 100  # of one row: a text has at most 39,015 characters
_SAMPLED_LINES = 200  # non-ASCII lines that determine the character set
_CHINESE = 0.9  # least share of characters in GB 2312 (7,445 common ones) for a file to be GB18030


class BadFile(ValueError):
    """The file cannot be read; the text says why."""


class CsvRecord(NamedTuple):
    """One row of a CSV file. ``line``: where it begins; ``error``: why the cells are unreliable, or ""."""

    line: int
    cells: list[str]
    error: str = ""


# ── character sets ─────────────────────────────────────────────────────────────────────────────────────────────────


def open_text(file: BinaryIO, charset: str = "") -> TextIO:
    """Return the text of a file, with invalid octets as lone surrogates.

    Raises BadFile for a spreadsheet or an unknown ``charset``.
    """
    if charset:
        try:
            codecs.lookup(charset)
        except LookupError:
            raise BadFile(f"unknown --charset {charset}; try utf-8, gb18030 or cp1252") from None
    else:
        charset = charset_of(file)
    errors = "surrogatepass" if charset.startswith("utf-16") else "surrogateescape"
    return io.TextIOWrapper(file, charset, errors, newline="")


def charset_note(text: TextIO) -> str:
    """Return the name of a file's character set, "" for UTF-8 with or without a byte order mark."""
    name = codecs.lookup(text.encoding).name
    return "" if name in ("utf-8", "utf-8-sig", "ascii") else name.upper()


def charset_of(file: BinaryIO) -> str:
    """Return Python's name of the character set, from the first octets or else from the non-ASCII lines."""
    head = file.read(4096)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        raise BadFile("the file is a spreadsheet; save it as CSV (UTF-8)")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    lines = _non_ascii_lines(file)
    file.seek(0)
    good = sum(_is(line, "utf-8") for line in lines)
    return "gb18030" if 2 * good < len(lines) and _is_chinese(b"".join(lines)) else "utf-8"


def _non_ascii_lines(file: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    for line in file:
        if not line.isascii():
            found.append(line)
            if len(found) == _SAMPLED_LINES:
                break
    return found


def _is(octets: bytes, charset: str) -> bool:
    try:
        octets.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(octets: bytes) -> bool:
    """Whether octets are GB18030. Almost anything decodes as that, so the text must be common Chinese."""
    try:
        chars = [char for char in octets.decode("gb18030") if not char.isascii()]
    except UnicodeDecodeError:
        return False
    common = sum(len(char.encode("gb2312", "ignore")) == 2 for char in chars)
    return common >= _CHINESE * len(chars)


# ── lines and records ──────────────────────────────────────────────────────────────────────────────────────────────


class TextLines:
    """The lines of a text, counted, with push-back."""

    def __init__(self, text: Iterable[str]) -> None:
        self.number = 0  # of the last line returned
        self._text = iter(text)
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._text)
        self.number += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        """Push back the last lines returned."""
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def delimiter_of(header: str) -> str:
    """Return the delimiter that occurs most often in a header, by default a comma."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=lambda char: (bare.count(char), char == ","))


def records(lines: TextLines, delimiter: str) -> Iterator[CsvRecord]:
    """Yield the rows of a CSV file without empty lines. A row that cannot be parsed ends with its first line."""
    while True:
        begin = lines.number + 1
        taken: list[str] = []
        try:
            cells = next(csv.reader(_taken(lines, taken), delimiter=delimiter, strict=True, skipinitialspace=True))
        except StopIteration:
            return
        except csv.Error:
            lines.give_back(taken[1:])
            yield CsvRecord(begin, _loosely(taken[0], delimiter), QUOTES)
        except UnicodeDecodeError as error:
            yield CsvRecord(begin, _loosely(taken[0], delimiter) if taken else [], f"cannot decode: {error.reason}")
            return
        else:
            if cells:
                yield CsvRecord(begin, cells)


QUOTES = 'unbalanced quotes: a cell that begins with " must end with ", and a " within it must be doubled'


def _taken(lines: TextLines, taken: list[str]) -> Iterator[str]:
    """Yield the lines of one row and append them to ``taken``. Raises csv.Error for a row that does not end."""
    for line in lines:
        taken.append(line)
        if len(taken) > _MAX_LINES:
            raise csv.Error("row does not end")
        yield line


def _loosely(line: str, delimiter: str) -> list[str]:
    """Return the likely cells of a line with unbalanced quotes, for correction."""
    return [cell.strip().strip('"') for cell in line.rstrip("\r\n").split(delimiter)]
