"""What a field may hold, in words for people: of what kind it is, what is allowed, an example."""

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
    "str": "text",
    "int": "a number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_FOUND = re.compile(r"got `(\w+)`|Invalid enum value ('.*')", re.DOTALL)


def parted(error: msgspec.ValidationError) -> tuple[str, str]:
    """What msgspec complains of, and where: ``messages[3].to``, "" for the whole."""
    said, _, path = str(error).partition(" - at `$")
    return said, path.rstrip("`").replace("[...]", "").lstrip(".")


def in_words(error: msgspec.ValidationError, kind: Any) -> str:
    """A complaint of msgspec about a value of ``kind``: ``category: write one of …, not 'sms'``."""
    said, path = parted(error)
    return f"{path}: {explained(said, kind, path)}" if path else explained(said, kind, path)


def explained(said: str, kind: Any, path: str) -> str:
    """A complaint of msgspec about the field at ``path`` of a body of ``kind``, in words."""
    name = path.rpartition(".")[2].partition("[")[0]
    wanted = "a JSON object" if not path else fields(kind).get(name, "")
    if not wanted:
        return said
    found = _FOUND.search(said)
    got = "" if found is None else f", not {_GOT.get(found[1], found[1]) if found[1] else found[2]}"
    example = f", like {EXAMPLES[name]}" if name in EXAMPLES else ""
    return f"write {wanted}{example}{got}"


@cache
def known(kind: Any, nested: bool) -> str:
    """The fields that a struct may have, or the structs in its list: ``; there are to, text, …``."""
    info = inspect.type_info(kind)
    found = info.fields if isinstance(info, inspect.StructType) else ()
    if nested:
        items = (field.type.item_type for field in found if isinstance(field.type, inspect.ListType))
        found = next((item.fields for item in items if isinstance(item, inspect.StructType)), ())
    return f"; there are {', '.join(field.encode_name for field in found)}" if found else ""


@cache
def fields(kind: Any) -> dict[str, str]:
    """What each field of a struct may hold, and of the structs in its lists."""
    out: dict[str, str] = {}
    info = inspect.type_info(kind)
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            if isinstance(field.type, inspect.ListType) and isinstance(field.type.item_type, inspect.StructType):
                out |= fields(field.type.item_type.cls)
            out[field.encode_name] = words(field.type)
    return out


def words(kind: inspect.Type) -> str:
    """A type, in words; "" for what has none."""
    said = ""
    match kind:
        case inspect.UnionType(types=types):
            said = " or ".join(filter(None, map(words, types)))
        case inspect.LiteralType(values=values):
            said = f"one of {', '.join(msgspec.json.encode(value).decode() for value in values)}"
        case inspect.StrType(min_length=least, max_length=most):
            said = f"text of {f'{least} to' if least else 'at most'} {most} characters" if most else "text"
        case inspect.IntType(ge=least, le=most):
            said = f"a whole number from {least} to {most}" if least is not None and most is not None else "a number"
        case inspect.DateTimeType():
            said = 'an instant with its offset, like "2026-11-21T08:00:00Z"'
        case inspect.DictType(value_type=value):
            said = f"an object whose values are {words(value)}" if words(value) else "an object"
        case inspect.ListType():
            said = "a list"
    return said
