"""Files of messages: CSV with a header, or NDJSON. Rows are read one at a time, whatever the length of the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec

from gateway.client import Message

FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Message))
NOTES = ("_code", "_detail")  # of a file of failures; passed over when it is read again


class BadFile(ValueError):
    """The file as a whole cannot be read; the text says why."""


class Row(NamedTuple):
    """One line of a file: as it stood there, and as a message or with the reason why it is none."""

    line: int
    given: dict[str, Any]
    message: Message | None
    fault: str = ""


def is_csv(name: str) -> bool:
    """By the name; what has none (standard input) is NDJSON."""
    return name.lower().endswith((".csv", ".tsv"))


def read(stream: TextIO, name: str, usual: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """The rows of a file. ``usual``: fields for rows that lack them. Raises BadFile.

    Every row gets a client_ref when it has none: ``prefix:line``, or without a prefix one made of what it says and
    where, so that the same file handed in again is not sent again.
    """
    lines = _csv(stream, name) if is_csv(name) else _ndjson(stream)
    for line, given in lines:
        if isinstance(given, str):
            yield Row(line, {}, None, given)
        else:
            yield _row(line, given, usual, prefix)


def _row(line: int, given: dict[str, Any], usual: Mapping[str, Any], prefix: str) -> Row:
    said = {name: value for name, value in given.items() if name not in NOTES and value not in ("", None)}
    wanted = {**usual, **said}
    wanted.setdefault("client_ref", f"{prefix}:{line}" if prefix else _reference(line, wanted))
    unknown = [name for name in wanted if name not in FIELDS]
    if unknown:
        return Row(line, given, None, f"{unknown[0]}: there is no such field")
    try:
        for name in ("metadata", "vars"):  # JSON in a cell
            if isinstance(wanted.get(name), str):
                wanted[name] = msgspec.json.decode(wanted[name])
        return Row(line, given, msgspec.convert(wanted, Message, strict=False))
    except msgspec.ValidationError as error:
        return Row(line, given, None, str(error))
    except msgspec.DecodeError as error:
        return Row(line, given, None, f"metadata and vars must be JSON: {error}")


def _reference(line: int, wanted: Mapping[str, Any]) -> str:
    text = json.dumps([line, wanted], sort_keys=True, ensure_ascii=False)
    return "file-" + blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _csv(stream: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(stream, delimiter="\t" if name.lower().endswith(".tsv") else ",", strict=True)
    header: list[str] = []
    try:
        header = [column.strip().lstrip("\ufeff") for column in next(reader, [])]
        unknown = [column for column in header if column not in FIELDS and not column.startswith("_")]
        if not header or unknown or "to" not in header:
            fault = f"column {unknown[0]!r} is not a field" if unknown else "there is no column named to"
            raise BadFile(f"{fault}; the first line names the columns: {', '.join(FIELDS)}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header):
                yield reader.line_num, f"{len(cells)} cells, but the header has {len(header)}"
            else:
                yield reader.line_num, dict(zip(header, cells, strict=False))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadFile(f"line {reader.line_num}: {error}") from None


def _ndjson(stream: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                given = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not JSON: {error}"
                continue
            yield number, given if isinstance(given, dict) else "not a JSON object"
    except UnicodeDecodeError as error:
        raise BadFile(f"line {number + 1}: not UTF-8: {error.reason}") from None


def count(path: Path) -> int:
    """How many rows a file has, about: for a progress bar."""
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(0, lines - 1) if is_csv(path.name) else lines


class Failures:
    """Rows that were not accepted, written in the form they came in, so that the file can be handed in again.

    Nothing is written, and no file made, until the first failure.
    """

    def __init__(self, path: Path, columns: Iterable[str] = ()) -> None:
        self.path = path
        self.count = 0
        self._columns = [*(column for column in columns if column not in NOTES), *NOTES]
        self._file: TextIO | None = None

    def add(self, given: Mapping[str, Any], code: str, detail: str) -> None:
        """Raises OSError."""
        self.count += 1
        row = {**given, NOTES[0]: code, NOTES[1]: detail}
        as_csv = is_csv(self.path.name)
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", newline="")
            if as_csv:
                self._columns = [*dict.fromkeys([*(name for name in given if name not in NOTES), *self._columns])]
                self._file.write(_line(self._columns, self.path.name))
        if as_csv:
            self._file.write(_line([row.get(column, "") for column in self._columns], self.path.name))
        else:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(cells: list[Any], name: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter="\t" if name.lower().endswith(".tsv") else ",", lineterminator="\n").writerow(cells)
    return out.getvalue()
