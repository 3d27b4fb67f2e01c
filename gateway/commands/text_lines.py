"""The lines of a file of messages, whatever program wrote it: its character set, its delimiter, its quotes.

What cannot be read stays where it is: a bad octet or a quote that is never closed spoils its own line, and the lines
below it are read all the same.
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
"""What ``errors="surrogateescape"`` makes of an octet that is not of the character set."""

_MOST_LINES = 100  # of one row: a text has 39,015 characters at most, and hardly a hundred lines
_LOOKED_AT = 200  # lines beyond ASCII that decide about the character set
_CHINESE = 0.9  # of what a file in GB18030 says is in the 7,445 characters that everybody uses


class BadFile(ValueError):
    """The file as a whole cannot be read; the text says why."""


class CsvRecord(NamedTuple):
    """One row of a CSV file. ``line``: where it begins; ``fault``: why the cells are not to be believed, or ""."""

    line: int
    cells: list[str]
    fault: str = ""


# ── character sets ─────────────────────────────────────────────────────────────────────────────────────────────────


def opened(file: BinaryIO, charset: str = "") -> TextIO:
    """The text of a file; bad octets are kept as lone surrogates. Raises BadFile (a spreadsheet, no such charset)."""
    if charset:
        try:
            codecs.lookup(charset)
        except LookupError:
            raise BadFile(
                f"--charset {charset}: there is no such character set; try utf-8, gb18030 or cp1252"
            ) from None
    else:
        charset = charset_of(file)
    errors = "surrogatepass" if charset.startswith("utf-16") else "surrogateescape"
    return io.TextIOWrapper(file, charset, errors, newline="")


def noteworthy(text: TextIO) -> str:
    """The character set of an opened file as people call it, "" when it is UTF-8, marked or not."""
    name = codecs.lookup(text.encoding).name
    return "" if name in ("utf-8", "utf-8-sig", "ascii") else name.upper()


def charset_of(file: BinaryIO) -> str:
    """Python's name of the character set: by its first octets, else by what the lines beyond ASCII can be."""
    head = file.read(4096)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        raise BadFile("this is a spreadsheet; save it as CSV (UTF-8) and hand that in")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    lines = _beyond_ascii(file)
    file.seek(0)
    good = sum(_is(line, "utf-8") for line in lines)
    return "gb18030" if 2 * good < len(lines) and _is_chinese(b"".join(lines)) else "utf-8"


def _beyond_ascii(file: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    for line in file:
        if not line.isascii():
            found.append(line)
            if len(found) == _LOOKED_AT:
                break
    return found


def _is(octets: bytes, charset: str) -> bool:
    try:
        octets.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(octets: bytes) -> bool:
    """Whether octets are GB18030. Almost anything can be read as that, so what it says must be ordinary Chinese."""
    try:
        said = [char for char in octets.decode("gb18030") if not char.isascii()]
    except UnicodeDecodeError:
        return False
    usual = sum(len(char.encode("gb2312", "ignore")) == 2 for char in said)
    return usual >= _CHINESE * len(said)


# ── lines and records ──────────────────────────────────────────────────────────────────────────────────────────────


class TextLines:
    """The lines of a text, counted, with a way back."""

    def __init__(self, text: Iterable[str]) -> None:
        self.number = 0  # of the line given out last
        self._text = iter(text)
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._text)
        self.number += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        """Let these, given out last, be read once more."""
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def delimiter_of(header: str) -> str:
    """The character that separates the cells of a header: the one that it has most of, else a comma."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=lambda char: (bare.count(char), char == ","))


def records(lines: TextLines, delimiter: str) -> Iterator[CsvRecord]:
    """The rows of a CSV file; empty lines are passed over. A row that cannot be read ends with its first line."""
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
            yield CsvRecord(begin, _loosely(taken[0], delimiter) if taken else [], f"cannot be read: {error.reason}")
            return
        else:
            if cells:
                yield CsvRecord(begin, cells)


QUOTES = 'its quotes do not match: a cell that begins with " ends with ", and a " within it is written twice'


def _taken(lines: TextLines, taken: list[str]) -> Iterator[str]:
    """The lines of one row, noted as they are read. Raises csv.Error for one that has no end."""
    for line in lines:
        taken.append(line)
        if len(taken) > _MOST_LINES:
            raise csv.Error("no end")
        yield line


def _loosely(line: str, delimiter: str) -> list[str]:
    """What a line with unmatched quotes most likely says, for the person who mends it."""
    return [cell.strip().strip('"') for cell in line.rstrip("\r\n").split(delimiter)]
