"""Files of messages, CSV with a header or NDJSON, read one row at a time whatever their length."""

from __future__ import annotations

import difflib
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
NOTES = ("_code", "_detail")  # columns of a file of refused rows; ignored when it is read again
REST, LINE = "_rest", "_line"  # cells without a column, and a line that is not JSON: kept for correction
QUOTE = 'a text that contains the separator must be in quotes, "like this"'
_OR_CHARSET = "or pass --charset (cp1252 for plain CSV from a Western European spreadsheet)"
REMEMBERED_ROWS = 1_000_000  # in which repeated rows are recognised

ALIASES = {
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
"""Field -> common names of its column in other systems' files."""
_NAMES = {name.casefold(): field for field, names in ALIASES.items() for name in names.split()}
_NAMES |= {field.casefold(): field for field in FIELDS}


class MessageRow(NamedTuple):
    """One row of a file. ``given``: its cells; ``message``: None when there is an ``error``.

    ``duplicate_of``: line of an earlier row with the same recipient and text; ``same_recipient_as``: line of the first
    row to the same recipient. 0: none.
    """

    line: int
    given: dict[str, Any]
    message: Message | None
    error: str = ""
    duplicate_of: int = 0
    same_recipient_as: int = 0


class RowDefaults(NamedTuple):
    """What applies to rows that leave a field empty. ``prefix``: of client_refs; ``country``: of national numbers."""

    fields: Mapping[str, Any] = {}
    text: PlaceholderText | None = None  # --text
    prefix: str = ""
    country: str = ""


def is_csv(name: str) -> bool:
    """Whether a file is CSV, by its name; anything else, also standard input, is NDJSON."""
    return name.lower().endswith((".csv", ".tsv", ".txt"))


@lru_cache(4096)
def field_of(column: str) -> str:
    """Return the field that a column holds, by its English or Chinese name; "" for an unknown name."""
    return _NAMES.get(re.sub(r"[\s\-]+", "_", column.strip().casefold()), "")


class MessageRows:
    """The rows of a file; iterate once. Raises BadFile when the header cannot be used.

    A row without a client_ref gets one derived from its recipient and text, so that the row is recognised when the file
    is sent again, whatever lines were added or removed.
    """

    def __init__(self, text: TextIO, name: str, defaults: RowDefaults = RowDefaults()) -> None:  # noqa: B008 - a tuple
        self.columns: list[str] = []  # as named in the header
        self.unused: list[str] = []  # columns that are neither a field nor a placeholder
        self._defaults = defaults
        self._lines = TextLines(text)
        self._first: dict[bytes, tuple[int, bytes]] = {}  # client_ref and recipient -> line, digest of the content
        self._to: dict[bytes, int] = {}  # recipient -> line
        self._given = self._csv() if is_csv(name) else self._ndjson()
        if is_csv(name):
            self.delimiter = "\t"
            self._read_header()

    def __iter__(self) -> Iterator[MessageRow]:
        for line, given, error in self._given:
            yield self._checked_for_repeats(MessageRow(line, given, None, error) if error else self._row(line, given))

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
        """Return the message of a row. Raises BadPlaceholder, NoNumber, msgspec.DecodeError."""
        fields = self._fields(given)
        values = {**self._defaults.fields, **fields}
        text = self._defaults.text
        if text is not None and "text" not in fields and "template" not in fields:
            values["text"] = text.fill(_Columns(given))
        elif placeholder := unfilled(str(fields.get("text", "")), given):
            raise BadPlaceholder(
                f"{placeholder} in the row's own text is not replaced; pass the text with --text instead"
            )
        if isinstance(values.get("to"), str | int):
            values["to"] = plain(str(values["to"]), self._defaults.country)
        if not values.get("to"):
            raise NoNumber("to: missing")
        if not (values.get("text") or values.get("template")):
            raise BadPlaceholder("text: missing, and no template")
        for name in ("metadata", "vars"):  # JSON in a cell
            if isinstance(values.get(name), str):
                values[name] = msgspec.json.decode(values[name])
        if error := unencodable(values):
            raise BadPlaceholder(error)
        values.setdefault("client_ref", self._client_ref(values))
        return msgspec.convert(values, Message, strict=False)

    def _fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the message fields of a row. Raises BadPlaceholder for an unknown JSON field."""
        found = {}
        for column, value in given.items():
            if value in ("", None) or column in NOTES:
                continue
            if field := field_of(column):
                found[field] = value.strip() if isinstance(value, str) and field != "text" else value
            elif not self.columns and self._defaults.text is None and not column.startswith("_"):
                raise BadPlaceholder(f"{column}: unknown field")
        return found

    def _client_ref(self, values: Mapping[str, Any]) -> str:
        """Return a client_ref from the recipient and the content, independent of the line and of other columns."""
        content = [values.get(name) for name in ("to", "text", "template", "vars")]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{self._defaults.prefix or 'file'}{':' if self._defaults.prefix else '-'}{digest}"

    def _checked_for_repeats(self, row: MessageRow) -> MessageRow:
        """Return the row with the lines of earlier rows that have the same content or recipient."""
        message = row.message
        if message is None or len(self._first) >= REMEMBERED_ROWS:
            return row
        content = _digest(self._client_ref(msgspec.to_builtins(message)))
        key = _digest(f"{message.client_ref}\0{message.to}")
        first, first_content = self._first.setdefault(key, (row.line, content))
        first_to = self._to.setdefault(_digest(message.to), row.line)
        if first == row.line:
            return row._replace(same_recipient_as=0 if first_to == row.line else first_to)
        if content == first_content:
            return row._replace(duplicate_of=first)
        error = f"client_ref and recipient are those of line {first}, which has another text"
        return row._replace(message=None, error=error)

    # ---- CSV

    def _read_header(self) -> None:
        """Determine delimiter and columns. Raises BadFile."""
        first = next(self._lines, "")
        if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # written by spreadsheets
            self.delimiter, first = first.strip()[4], next(self._lines, "")
        else:
            self.delimiter = delimiter_of(first)
        if not first.strip():
            raise BadFile("the file is empty; the first line must name the columns: to, text, …")
        self._lines.give_back([first])
        header = next(records(self._lines, self.delimiter))
        if header.error:
            raise BadFile(f"line 1: {header.error}")
        names = [column.strip().lstrip("\ufeff") for column in header.cells]
        while names and not names[-1]:
            names.pop()
        self.columns = names
        _check_header(names, self._defaults)
        placeholders = {name.casefold() for name in _placeholders(self._defaults)}
        self.unused = [
            name
            for name in names
            if name and name[0] != "_" and not field_of(name) and name.casefold() not in placeholders
        ]

    def _csv(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        for line, cells, unreadable in records(self._lines, self.delimiter):
            error = unreadable
            given: dict[str, Any] = {name: cell for name, cell in zip(self.columns, cells, strict=False) if name}
            rest = [cell for cell, name in zip_longest(cells, self.columns, fillvalue="") if cell.strip() and not name]
            if rest:
                given[REST] = rest
                error = error or f"{len(cells)} cells, but the header has {len(self.columns)}: {QUOTE}"
            yield line, given, error or _bad_octet(given)

    # ---- NDJSON

    def _ndjson(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        try:
            for line in self._lines:
                if line.strip(" \t\r\n\ufeff"):
                    yield (self._lines.number, *_object(line.lstrip("\ufeff")))
        except UnicodeDecodeError as error:
            yield self._lines.number + 1, {}, f"cannot decode: {error.reason}"


class _Columns(dict[str, Any]):
    """The cells of a row by column name, in any case, and by field name."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__({field_of(name): value for name, value in given.items()})
        self.update({name.casefold(): value for name, value in given.items()})
        self.update(given)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, super().get(name.casefold(), default))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _placeholders(defaults: RowDefaults) -> list[str]:
    return defaults.text.names if defaults.text else []


def _check_header(names: list[str], defaults: RowDefaults) -> None:
    """Raise BadFile for columns that are repeated, missing, or most likely misspelt."""
    fields = [field_of(name) for name in names]
    _check_repeated(names, fields)
    have = f"the columns are {', '.join(name for name in names if name)}"
    known = f"possible columns: {', '.join(FIELDS)}"
    if "to" not in fields and "to" not in defaults.fields:
        raise BadFile(f"no column is named to (or phone, 手机号); {have}; {known}")
    placeholders = _placeholders(defaults)
    for name, field in zip(names, fields, strict=True):
        near = difflib.get_close_matches(name.casefold(), FIELDS, 1, 0.8)
        if near and not field and name not in placeholders and near[0] not in fields:
            raise BadFile(f"unknown column {name!r}; did you mean {near[0]}? {known}")
    present = {name.casefold() for name in names} | {field for field in fields if field}
    missing = [name for name in placeholders if name.casefold() not in present]
    if missing:
        raise BadFile(f"the text has {{{missing[0]}}}, but the columns are: {', '.join(names)}")
    if defaults.text is None and not {"text", "template"} & {*fields, *defaults.fields}:
        raise BadFile(f"no column is named text, and no --text or --template is given; {have}; {known}")


def _check_repeated(names: list[str], fields: list[str]) -> None:
    """Raise BadFile for two columns with one name, or for one field."""
    for index, name in enumerate(names):
        first = names.index(name) if name and name in names[:index] else -1
        if first < 0 and fields[index] and fields[index] in fields[:index]:
            first = fields.index(fields[index])
        if first >= 0:
            also = f" (it is {fields[index]}, like column {first + 1})" if names[first] != name else ""
            raise BadFile(f"column {index + 1}, {name!r}, is repeated{also}; remove one of the two")


def _object(line: str) -> tuple[dict[str, Any], str]:
    """Return a line of NDJSON as an object, and why it is none. A refused line is read from its ``_line``."""
    try:
        given = json.loads(line)
        if isinstance(given, dict) and isinstance(given.get(LINE), str):
            line = given[LINE]
            given = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {LINE: line.rstrip("\r\n")}, f"not JSON: {error}"
    if not isinstance(given, dict):
        return {LINE: line.rstrip("\r\n")}, "not a JSON object"
    return given, _bad_octet(given) or (f"correct the row and remove its {REST}" if given.get(REST) else "")


def _bad_octet(given: Mapping[str, Any]) -> str:
    for name, value in given.items():
        if isinstance(value, str) and (found := BAD_OCTET.search(value)):
            octet = ord(found[0]) - 0xDC00
            return f"{name}: octet 0x{octet:02x} is not in the file's character set; save it as UTF-8, {_OR_CHARSET}"
    return ""


def unencodable(values: Mapping[str, Any]) -> str:
    """Return why a row cannot be encoded as UTF-8, or "". A JSON escape may be a lone surrogate."""
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        name = next(
            (name for name, value in values.items() if half in json.dumps(value, ensure_ascii=False, default=str)), ""
        )
        return f"{name}: contains half a character (a lone surrogate, \\u{ord(half):04x})"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def count(path: Path) -> int:
    """Return about how many rows a file has, for a progress bar."""
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return max(0, lines - 1) if is_csv(path.name) else lines
