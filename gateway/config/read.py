"""Converts TOML tables to structs key by key, so that every problem is found, not only the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from gateway.config.problems import Diagnostics

S = TypeVar("S", bound=msgspec.Struct)

_NAME = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_CAP = re.compile(r"^(\d{1,9})/(\S+)$")
_OFFSET = re.compile(r"^([+-])([01]\d):?([0-5]\d)$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Return ``"90s"``, ``"10m"``, ``"6h"``, ``"3d"`` or ``"250ms"`` in seconds. Raises ValueError."""
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _UNITS[match[2]]


def cap(text: str) -> tuple[int, int]:
    """Return ``"5/1h"`` as (messages, seconds). Raises ValueError."""
    match = _CAP.match(text)
    limit, seconds = (int(match[1]), round(duration(match[2]))) if match else (0, 0)
    if limit < 1 or seconds < 1:
        raise ValueError(text)
    return limit, seconds


def offset(text: str) -> int:
    """Return ``"+03:00"`` or ``"-0330"`` in minutes east of UTC. Raises ValueError."""
    match = _OFFSET.match(text.strip())
    if match is None:
        raise ValueError(text)
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


def substitute(text: str, env: Mapping[str, str], missing: Callable[[str], None]) -> str:
    """Replace ``${NAME}`` and ``${NAME:-default}`` by environment variables, and ``$$`` by a dollar.

    ``missing`` is called with the name of a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, default = match[1], match[2]
        if name in env:
            return env[name]
        if default is None:
            missing(name)
            return ""
        return default

    return _NAME.sub(value, text)


class Reader:
    """Converts the tables of one file; problems go to ``diagnostics``."""

    def __init__(self, diagnostics: Diagnostics, env: Mapping[str, str]) -> None:
        self.diagnostics = diagnostics
        self.env = env

    def table(self, kind: type[S], raw: object, path: str = "") -> S | None:
        """Return a table as a struct of ``kind``, None when it is not a table. An invalid key gets its default."""
        if not isinstance(raw, dict):
            self.diagnostics.problem(path, "not a table", f"Write it as [{path}]")
            return None
        label = raw.get("name")
        table_name = label if isinstance(label, str) else ""
        fields, types = _struct(kind)
        raw = self._read_files(raw, types, path)
        values: dict[str, Any] = {}
        for key, given in raw.items():
            at = f"{path}.{key}" if path else key
            if key not in fields:
                self._unknown(at, key, fields, table_name)
                continue
            value = self._value(fields[key].type, types[key], given, at, table_name)
            if value is not msgspec.UNSET:
                values[fields[key].name] = value
        for key, field in fields.items():
            if field.required and field.name not in values:
                at = f"{path}.{key}" if path else key
                self.diagnostics.problem(at, "missing", f"Write {key} = {_expected(types[key])}", table_name)
                values[field.name] = () if isinstance(types[key], inspect.VarTupleType) else ""
        return kind(**values)

    def _unknown(self, at: str, key: str, fields: Mapping[str, object], table_name: str) -> None:
        close = difflib.get_close_matches(key, fields, n=1)
        remedy = f'Did you mean "{close[0]}"?' if close else f"Known keys: {', '.join(fields)}"
        self.diagnostics.problem(at, "unknown key", remedy, table_name)

    def _read_files(self, raw: dict[str, Any], types: Mapping[str, inspect.Type], path: str) -> dict[str, Any]:
        """Replace every ``NAME_file`` of a secret by ``NAME`` with the content of the file, or of a table of files."""
        result = dict(raw)
        for key in raw:
            name = key.removesuffix("_file")
            if name == key or name not in types or not _is_secret(types[name]):
                continue
            at = f"{path}.{key}" if path else key
            given = result.pop(key)
            if name in raw:
                self.diagnostics.problem(at, f"given together with {name}", "Remove one of the two")
                continue
            if isinstance(types[name], inspect.DictType) and isinstance(given, dict):
                result[name] = {
                    item: self._secret_file(substitute(str(file), self.env, self._missing(at)), types[name], at)
                    for item, file in given.items()
                }
                continue
            if not isinstance(given, str) or isinstance(types[name], inspect.DictType):
                self.diagnostics.problem(at, "not a path", f'Write {key} = "path of a file"')
                result[name] = {} if isinstance(types[name], inspect.DictType) else ""
                continue
            result[name] = self._secret_file(substitute(given, self.env, self._missing(at)), types[name], at)
        return result

    def _secret_file(self, file: str, kind: inspect.Type, at: str) -> object:
        """Return a file's text without the final line break; for a list, its non-blank lines."""
        try:
            text = Path(file).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:  # ValueError: a name with NUL, or invalid UTF-8
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.diagnostics.problem(
                at, f'cannot read "{file}": {reason}', "Name a readable file that contains only the secret"
            )
            text = ""
        else:
            if not text.strip():
                self.diagnostics.problem(at, f'"{file}" is empty', "Put only the secret into it")
        text = text.replace("$", "$$")  # no substitution in the content of a file
        return text.split() if isinstance(kind, inspect.VarTupleType) else text.strip("\r\n")

    def _missing(self, at: str) -> Callable[[str], None]:
        return lambda name: self.diagnostics.problem(
            at, f"${{{name}}} is not set in the environment", f"Set {name}, or write ${{{name}:-default}}"
        )

    def _value(self, annotation: object, kind: inspect.Type, given: object, at: str, table_name: str) -> Any:
        """Return the converted value of a key; UNSET when it is invalid, which is reported."""
        match kind, given:
            case inspect.VarTupleType(), list():
                return self._list(annotation, kind, given, at, table_name)
            case inspect.DictType(), dict():
                return self._dict(annotation, kind, given, at, table_name)
            case inspect.StructType(), _:
                table = self.table(kind.cls, given, at)
                return msgspec.UNSET if table is None else table
            case inspect.VarTupleType(), dict():
                self.diagnostics.problem(
                    at, "a single table where a list of tables is expected", f"Write it as [[{at}]]"
                )
                return msgspec.UNSET
        return self._scalar(annotation, kind, given, at, table_name)

    def _scalar(self, annotation: object, kind: inspect.Type, given: object, at: str, table_name: str) -> Any:
        value, lax = given, False
        if isinstance(given, str):
            value = substitute(given, self.env, self._missing(at))
            lax = value != given  # environment variables are text
            if self.diagnostics.has_problem(at):
                return msgspec.UNSET
        if _extra(kind, "duration") and isinstance(value, str):
            with suppress(ValueError):  # a number from the environment, or an error that the conversion reports
                value = duration(value)
        if _extra(kind, "offset") and isinstance(value, str):
            with suppress(ValueError):  # the name of a zone
                value = int(value) if lax and value.lstrip("-").isdigit() else offset(value)
        try:
            return msgspec.convert(value, annotation, strict=not lax)
        except msgspec.ValidationError:
            self.diagnostics.problem(
                at, f"invalid value{_display(given, kind)}", f"Write {_expected(kind)}", table_name
            )
            return msgspec.UNSET

    def _dict(self, annotation: Any, kind: inspect.DictType, given: dict[str, Any], at: str, table_name: str) -> Any:
        item = annotation.__args__[1]
        values = {key: self._value(item, kind.value_type, v, f"{at}.{key}", table_name) for key, v in given.items()}
        return {key: value for key, value in values.items() if value is not msgspec.UNSET}

    def _list(self, annotation: Any, kind: inspect.VarTupleType, given: list[object], at: str, table_name: str) -> Any:
        bare = annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation  # Annotated[tuple, Meta]
        item = bare.__args__[0]
        values = [self._value(item, kind.item_type, value, f"{at}[{i}]", table_name) for i, value in enumerate(given)]
        if kind.min_length and len(values) < kind.min_length:
            self.diagnostics.problem(at, "empty list", f"Write {_expected(kind)}", table_name)
        return tuple(value for value in values if value is not msgspec.UNSET)


@cache
def _struct(kind: type[msgspec.Struct]) -> tuple[dict[str, msgspec.structs.FieldInfo], dict[str, inspect.Type]]:
    """Return fields and types by their keys in the file."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    return fields, {field.encode_name: field.type for field in info.fields}


def _extra(kind: inspect.Type, name: str) -> bool:
    """Whether a type, or the type of its items, has this mark of the schema."""
    if isinstance(kind, inspect.VarTupleType):
        return _extra(kind.item_type, name)
    if isinstance(kind, inspect.DictType):
        return _extra(kind.value_type, name)
    return isinstance(kind, inspect.Metadata) and bool((kind.extra or {}).get(name))


def _is_secret(kind: inspect.Type) -> bool:
    return _extra(kind, "secret")


def _bare(kind: inspect.Type) -> inspect.Type:
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _display(given: object, kind: inspect.Type) -> str:
    """Return a value for a message: never a secret, and variables by their names only."""
    if _extra(kind, "secret"):
        return " (not shown)"
    if isinstance(given, dict | list):
        return ": a table" if isinstance(given, dict) else ": a list"
    text = f'"{given}"' if isinstance(given, str) else str(given).lower() if isinstance(given, bool) else str(given)
    return f" {text}"


def _expected(kind: inspect.Type) -> str:  # noqa: PLR0911  # one return per type
    """Return in words which values fit a type."""
    also = ' (seconds), or like "30s", "10m", "6h", "3d"' if _extra(kind, "duration") else ""
    kind = _bare(kind)
    match kind:
        case inspect.UnionType():  # only offsets are unions
            return 'minutes from -1080 to 1080, text like "+03:00", or an IANA zone'
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            word = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            low, high = kind.ge if kind.ge is not None else kind.gt, kind.le
            if low is not None and high is not None:
                return f"{word} from {low} to {high}{also}"
            return word if low is None else f"{word}, {low} or more"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values if value != "")
        case inspect.StrType():
            if kind.pattern:
                return f"text like {kind.pattern}"
            return "text in quotes" if kind.max_length is None else f"text of at most {kind.max_length} characters"
        case inspect.VarTupleType():
            return f"a list of {_expected(kind.item_type)}"
        case inspect.DictType():
            return f"a table whose values are {_expected(kind.value_type)}"
    return "a table"
