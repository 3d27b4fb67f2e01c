"""Files of messages: CSV with a header, or NDJSON. Rows are read one at a time, whatever the length of the file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec

from gateway.api.field_help import in_words
from gateway.client import Message
from gateway.commands.phone_cells import NoNumber, plain
from gateway.commands.placeholders import BadPlaceholder, PlaceholderText, unfilled
from gateway.commands.text_lines import BAD_OCTET, BadFile, TextLines, delimiter_of, records

FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Message))
NOTES = ("_code", "_detail")  # of a file of failures; passed over when it is read again
REST, LINE = "_rest", "_line"  # cells that have no column, and a line that was no JSON: kept for mending
QUOTE = 'a text with the separator in it needs quotes around it, "like this"'
_OR_SAY = "or say --charset (cp1252 for a spreadsheet's plain CSV in Western Europe)"
SAME = 1_000_000  # rows that are remembered, to tell when one comes twice

ALSO = {
    "to": "phone phone_number telephone tel mobile mobile_number cell msisdn number recipient destination "
    "手机 手机号 手机号码 电话 电话号码 号码 收件人 接收号码 接收人 手機 手機號 手機號碼 電話",
    "text": "message msg sms body content 内容 短信 短信内容 文本 正文 消息 消息内容 內容 簡訊 簡訊內容",
    "from": "sender sender_id source 发送方 发送人 发送号码 签名",
    "category": "类别 分类 類別",
    "brand": "品牌",
    "client_ref": "ref reference 编号 订单号 参考号",
    "send_at": "发送时间",
    "template": "模板",
}
"""What the columns of other people's files are called."""
_NAMES = {name.casefold(): field for field, names in ALSO.items() for name in names.split()}
_NAMES |= {field.casefold(): field for field in FIELDS}


class MessageRow(NamedTuple):
    """One row of a file: as it stood there, and as a message or with the reason why it is none.

    ``same``: the line of an earlier row that says the same; ``again``: of the first row to the same recipient.
    """

    line: int
    given: dict[str, Any]
    message: Message | None
    fault: str = ""
    same: int = 0
    again: int = 0


class RowDefaults(NamedTuple):
    """What holds for every row that does not say otherwise. ``prefix``: of references; ``country``: of numbers."""

    fields: Mapping[str, Any] = {}
    places: PlaceholderText | None = None  # --text
    prefix: str = ""
    country: str = ""


def is_csv(name: str) -> bool:
    """By the name; what has none (standard input) is NDJSON."""
    return name.lower().endswith((".csv", ".tsv", ".txt"))


@lru_cache(4096)
def field_of(column: str) -> str:
    """The field that a column holds, by its name in English or Chinese; "" when it is none."""
    return _NAMES.get(re.sub(r"[\s\-]+", "_", column.strip().casefold()), "")


class MessageRows:
    """The rows of a file, to be gone through once. Raises BadFile when its first line names no recipients.

    Every row gets a client_ref when it has none, made of its recipient and what it says: so it is known again when the
    file is handed in once more, whatever lines were added or taken away meanwhile.
    """

    def __init__(self, text: TextIO, name: str, usual: RowDefaults = RowDefaults()) -> None:  # noqa: B008 - a tuple
        self.columns: list[str] = []  # as they are named there
        self.unused: list[str] = []  # columns that no message uses
        self._usual = usual
        self._lines = TextLines(text)
        self._first: dict[bytes, tuple[int, bytes]] = {}  # reference and recipient: the line, and what it said
        self._to: dict[bytes, int] = {}  # recipient: the line
        self._given = self._csv() if is_csv(name) else self._ndjson()
        if is_csv(name):
            self.delimiter = "\t"
            self._header()

    def __iter__(self) -> Iterator[MessageRow]:
        for line, given, fault in self._given:
            yield self._once(MessageRow(line, given, None, fault) if fault else self._row(line, given))

    # ---- one row

    def _row(self, line: int, given: dict[str, Any]) -> MessageRow:
        try:
            return MessageRow(line, given, self._message(given))
        except (NoNumber, BadPlaceholder) as error:
            return MessageRow(line, given, None, str(error))
        except msgspec.ValidationError as error:
            return MessageRow(line, given, None, in_words(error, Message))
        except msgspec.DecodeError as error:
            return MessageRow(line, given, None, f"metadata and vars must be JSON: {error}")

    def _message(self, given: Mapping[str, Any]) -> Message:
        """Raises BadPlace, NoNumber, msgspec.DecodeError."""
        said = self._fields(given)
        wanted = {**self._usual.fields, **said}
        places = self._usual.places
        if places is not None and "text" not in said and "template" not in said:
            wanted["text"] = places.fill(_Columns(given))
        elif hole := unfilled(str(said.get("text", "")), given):
            raise BadPlaceholder(
                f"{hole} stands in the row's own text, where nothing fills it: give the text with --text"
            )
        if isinstance(wanted.get("to"), str | int):
            wanted["to"] = plain(str(wanted["to"]), self._usual.country)
        if not wanted.get("to"):
            raise NoNumber("to: there is no recipient")
        if not (wanted.get("text") or wanted.get("template")):
            raise BadPlaceholder("text: there is none, and no template")
        for name in ("metadata", "vars"):  # JSON in a cell
            if isinstance(wanted.get(name), str):
                wanted[name] = msgspec.json.decode(wanted[name])
        if fault := _unwritable(wanted):
            raise BadPlaceholder(fault)
        wanted.setdefault("client_ref", self._reference(wanted))
        return msgspec.convert(wanted, Message, strict=False)

    def _fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a message that a row gives. Raises BadPlace for a field that there is not."""
        found = {}
        for column, value in given.items():
            if value in ("", None) or column in NOTES:
                continue
            if field := field_of(column):
                found[field] = value.strip() if isinstance(value, str) and field != "text" else value
            elif not self.columns and self._usual.places is None and not column.startswith("_"):
                raise BadPlaceholder(f"{column}: there is no such field")
        return found

    def _reference(self, wanted: Mapping[str, Any]) -> str:
        """By recipient and what is said: neither the line nor what else the row holds."""
        said = [wanted.get(name) for name in ("to", "text", "template", "vars")]
        text = json.dumps(said, sort_keys=True, ensure_ascii=False)
        digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{self._usual.prefix or 'file'}{':' if self._usual.prefix else '-'}{digest}"

    def _once(self, row: MessageRow) -> MessageRow:
        """The row, with the lines of those before it that say the same or go to the same recipient."""
        message = row.message
        if message is None or len(self._first) >= SAME:
            return row
        said = _short(self._reference(msgspec.to_builtins(message)))
        before, said_before = self._first.setdefault(_short(f"{message.client_ref}\0{message.to}"), (row.line, said))
        again = self._to.setdefault(_short(message.to), row.line)
        if before == row.line:
            return row._replace(again=0 if again == row.line else again)
        if said == said_before:
            return row._replace(same=before)
        fault = f"client_ref and recipient are those of line {before}, which says something else"
        return row._replace(message=None, fault=fault)

    # ---- CSV

    def _header(self) -> None:
        """Find delimiter and columns. Raises BadFile."""
        first = next(self._lines, "")
        if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # a spreadsheet's own line
            self.delimiter, first = first.strip()[4], next(self._lines, "")
        else:
            self.delimiter = delimiter_of(first)
        if not first.strip():
            raise BadFile("it is empty; the first line names the columns: to, text, …")
        self._lines.give_back([first])
        header = next(records(self._lines, self.delimiter))
        if header.fault:
            raise BadFile(f"line 1: {header.fault}")
        names = [column.strip().lstrip("\ufeff") for column in header.cells]
        while names and not names[-1]:
            names.pop()
        self.columns = names
        _check_header(names, self._usual)
        asked = {name.casefold() for name in self._usual.places.names} if self._usual.places else set()
        self.unused = [
            name for name in names if name and name[0] != "_" and not field_of(name) and name.casefold() not in asked
        ]

    def _csv(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        for line, cells, unread in records(self._lines, self.delimiter):
            fault = unread
            given: dict[str, Any] = {name: cell for name, cell in zip(self.columns, cells, strict=False) if name}
            rest = [cell for cell, name in zip_longest(cells, self.columns, fillvalue="") if cell.strip() and not name]
            if rest:
                given[REST] = rest
                fault = fault or f"{len(cells)} cells, but the header has {len(self.columns)}: {QUOTE}"
            yield line, given, fault or _bad_octet(given)

    # ---- NDJSON

    def _ndjson(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        try:
            for line in self._lines:
                if line.strip(" \t\r\n\ufeff"):
                    yield (self._lines.number, *_object(line.lstrip("\ufeff")))
        except UnicodeDecodeError as error:
            yield self._lines.number + 1, {}, f"cannot be read: {error.reason}"


class _Columns(dict[str, Any]):
    """The cells of a row by the names of its columns, of whatever case, and by the fields that they are."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__({field_of(name): value for name, value in given.items()})
        self.update({name.casefold(): value for name, value in given.items()})
        self.update(given)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, super().get(name.casefold(), default))


def _short(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _check_header(names: list[str], usual: RowDefaults) -> None:
    """Raises BadFile: columns that are there twice, missing, or most likely misspelt."""
    fields = [field_of(name) for name in names]
    there_are = f"only {', '.join(name for name in names if name)}"
    known = f"the first line names the columns: {', '.join(FIELDS)}"
    for index, name in enumerate(names):
        twice = names.index(name) if name and name in names[:index] else -1
        if twice < 0 and fields[index] and fields[index] in fields[:index]:
            twice = fields.index(fields[index])
        if twice >= 0:
            also = f" (it is {fields[index]}, as column {twice + 1} is)" if names[twice] != name else ""
            raise BadFile(f"column {index + 1}, {name!r}, is there twice{also}; take one of them away")
    if "to" not in fields and "to" not in usual.fields:
        raise BadFile(f"there is no column named to (or phone, 手机号), {there_are}; {known}")
    asked = usual.places.names if usual.places else []
    there = {name.casefold() for name in names} | {field for field in fields if field}
    for name, field in zip(names, fields, strict=True):
        near = difflib.get_close_matches(name.casefold(), FIELDS, 1, 0.8)
        if near and not field and name not in asked and near[0] not in fields:
            raise BadFile(f"column {name!r} is not a field; is it {near[0]}? {known}")
    missing = [name for name in asked if name.casefold() not in there]
    if missing:
        raise BadFile(f"the text asks for {{{missing[0]}}}, but the columns are: {', '.join(names)}")
    if usual.places is None and not {"text", "template"} & {*fields, *usual.fields}:
        raise BadFile(f"there is no column named text, and no --text or --template, {there_are}; {known}")


def _object(line: str) -> tuple[dict[str, Any], str]:
    """A line of NDJSON as an object, and why it is none. One that was none before is there as ``_line``."""
    try:
        given = json.loads(line)
        if isinstance(given, dict) and isinstance(given.get(LINE), str):
            line = given[LINE]
            given = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {LINE: line.rstrip("\r\n")}, f"not JSON: {error}"
    if not isinstance(given, dict):
        return {LINE: line.rstrip("\r\n")}, "not a JSON object"
    return given, _bad_octet(given) or (f"mend the row and take its {REST} away" if given.get(REST) else "")


def _bad_octet(given: Mapping[str, Any]) -> str:
    for name, value in given.items():
        if isinstance(value, str) and (found := BAD_OCTET.search(value)):
            octet = ord(found[0]) - 0xDC00
            return f"{name}: octet 0x{octet:02x} is not of the file's character set; save it as UTF-8, {_OR_SAY}"
    return ""


def _unwritable(wanted: Mapping[str, Any]) -> str:
    """Why a row cannot be written as UTF-8, or "": an escape in JSON may be half a character."""
    try:
        json.dumps(wanted, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        name = next(
            (name for name, value in wanted.items() if half in json.dumps(value, ensure_ascii=False, default=str)), ""
        )
        return f"{name}: holds half a character (a lone surrogate, \\u{ord(half):04x})"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def count(path: Path) -> int:
    """How many rows a file has, about: for a progress bar."""
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(0, lines - 1) if is_csv(path.name) else lines


class FailedRows:
    """Rows that were not accepted, written in the form they came in, so that the file can be handed in again.

    Nothing is written, and no file made, until the first failure. What is no text (bad octets) stays as it was.
    ``mark``: begin with a byte order mark, by which spreadsheets know UTF-8.
    """

    def __init__(
        self, path: Path, columns: list[str] | None = None, delimiter: str = "", *, mark: bool = False
    ) -> None:
        self.path = path
        self.count = 0
        self._as_csv = is_csv(path.name)
        self._columns = [name for name in columns or () if name and name not in NOTES]
        self._delimiter = delimiter or ("\t" if path.name.lower().endswith(".tsv") else ",")
        self._mark = mark
        self._file: Any = None

    def add(self, given: Mapping[str, Any], code: str, detail: str) -> None:
        """Raises OSError."""
        self.count += 1
        row = {**given, NOTES[0]: code, NOTES[1]: detail}
        if self._file is None:
            self._file = self.path.open("wb")
            if self._as_csv:
                self._columns = self._columns or [name for name in given if name not in (*NOTES, REST)]
                self._write(self._line([*self._columns, *NOTES]), mark=self._mark)
        if self._as_csv:  # cells without a column are without one here, too
            self._write(self._line([*(row.get(name, "") for name in (*self._columns, *NOTES)), *row.get(REST, ())]))
        else:
            self._write(json.dumps(row) + "\n" if _unwritable(row) else json.dumps(row, ensure_ascii=False) + "\n")

    def _line(self, cells: list[Any]) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=self._delimiter, lineterminator="\n").writerow(cells)
        return out.getvalue()

    def _write(self, text: str, *, mark: bool = False) -> None:
        try:
            octets = text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            octets = text.encode(errors="surrogatepass")
        self._file.write((b"\xef\xbb\xbf" if mark else b"") + octets)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
