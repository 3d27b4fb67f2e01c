"""Errors of msgspec in words for people: what a field may hold, an example, and what was sent."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

EXAMPLES = {
    "to": '"+46701740605"',
    "text": '"Your code is 4711."',
    "from": '"Shop"',
    "brand": '"shop"',
    "client_ref": '"order-1017"',
    "callback_url": '"https://app.example/sms"',
    "time_zone": '"Europe/Stockholm"',
    "template": '"shipped"',
    "vars": '{"number": "17"}',
    "metadata": '{"order": 1017}',
    "messages": '[{"to": "+46701740605", "text": "Your code is 4711."}]',
}

_GOT = {
    "str": "a string",
    "int": "a number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}
_FOUND = re.compile(r"got `(\w+)`|Invalid enum value ('.*')", re.DOTALL)


def split_error(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what msgspec says and the path of the field: ``messages[3].to``, "" for the whole body."""
    text, _, path = str(error).partition(" - at `$")
    return text, path.rstrip("`").replace("[...]", "").lstrip(".")


def in_words(error: msgspec.ValidationError, kind: Any) -> str:
    """Return an error about a value of ``kind``: ``category: expected one of …, got 'sms'``."""
    text, path = split_error(error)
    return f"{path}: {explain(text, kind, path)}" if path else explain(text, kind, path)


def explain(text: str, kind: Any, path: str) -> str:
    """Return an error of msgspec about the field at ``path`` of a body of ``kind``, in words."""
    name = path.rpartition(".")[2].partition("[")[0]
    wanted = "a JSON object" if not path else descriptions(kind).get(name, "")
    if not wanted:
        return text
    found = _FOUND.search(text)
    got = "" if found is None else f"; got {_GOT.get(found[1], found[1]) if found[1] else found[2]}"
    example = f", such as {EXAMPLES[name]}" if name in EXAMPLES else ""
    return f"expected {wanted}{example}{got}"


@cache
def allowed_fields(kind: Any, nested: bool) -> str:
    """Return the fields of a struct, or of the structs in its list: ``; allowed: to, text, …``."""
    info = inspect.type_info(kind)
    found = info.fields if isinstance(info, inspect.StructType) else ()
    if nested:
        items = (field.type.item_type for field in found if isinstance(field.type, inspect.ListType))
        found = next((item.fields for item in items if isinstance(item, inspect.StructType)), ())
    return f"; allowed: {', '.join(field.encode_name for field in found)}" if found else ""


@cache
def descriptions(kind: Any) -> dict[str, str]:
    """Return field -> what it may hold, for a struct and the structs in its lists."""
    out: dict[str, str] = {}
    info = inspect.type_info(kind)
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            if isinstance(field.type, inspect.ListType) and isinstance(field.type.item_type, inspect.StructType):
                out |= descriptions(field.type.item_type.cls)
            out[field.encode_name] = describe_type(field.type)
    return out


def describe_type(kind: inspect.Type) -> str:
    """Return a type in words; "" for a type without a description."""
    text = ""
    match kind:
        case inspect.UnionType(types=types):
            text = " or ".join(filter(None, map(describe_type, types)))
        case inspect.LiteralType(values=values):
            text = f"one of {', '.join(msgspec.json.encode(value).decode() for value in values)}"
        case inspect.StrType(min_length=least, max_length=most):
            text = f"a string of {f'{least} to' if least else 'at most'} {most} characters" if most else "a string"
        case inspect.IntType(ge=least, le=most):
            text = f"an integer from {least} to {most}" if least is not None and most is not None else "a number"
        case inspect.DateTimeType():
            text = 'a date-time with a UTC offset, such as "2026-11-21T08:00:00Z"'
        case inspect.DictType(value_type=value):
            text = f"an object whose values are {describe_type(value)}" if describe_type(value) else "an object"
        case inspect.ListType():
            text = "an array"
    return text
