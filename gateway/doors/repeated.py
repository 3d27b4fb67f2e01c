"""Fields that stand twice in one JSON object, found without a second look at most bodies.

A decoder takes the last of two equal fields and says nothing, and which one an app meant nobody knows (RFC 8259,
section 4). Unescaped, a quote followed by a colon ends a field's name and nothing else, so their number in the octets
is that of the fields, or more where a text holds them. When it is the number of fields that were decoded, none stood
twice; only otherwise the body is taken apart again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.pipeline.submission import Submission

_NAMES = re.compile(rb'"[ \t\r\n]*:').findall
_FIELDS = len(Submission.__struct_fields__)
_tuple = msgspec.structs.astuple


def repeats(body: bytes, messages: Sequence[Submission], around: int) -> str:
    """The place of a field that stands twice in a body of these messages, "" when there is none.

    ``around``: fields of the body that are not of messages.
    """
    fields = around
    for message in messages:
        fields += _FIELDS - _tuple(message).count(None)
        if message.metadata is not None:
            fields += _count(message.metadata)
        if message.vars is not None:
            fields += len(message.vars)
    return "" if _named(body) == fields else repeated(body)


def _named(body: bytes) -> int:
    """How many names of fields there are at most."""
    if b" :" in body or b"\n:" in body or b"\t:" in body or b"\r:" in body:
        return len(_NAMES(body))
    return body.count(b'":')


def _count(tree: Any) -> int:
    if isinstance(tree, dict):
        return len(tree) + sum(map(_count, tree.values()))
    return sum(map(_count, tree)) if isinstance(tree, list) else 0


def repeated(body: bytes) -> str:
    """The same of any JSON that can be decoded."""
    if _named(body) == _count(msgspec.json.decode(body)):
        return ""
    return _twice(json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str))


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


def _twice(tree: Any, place: str = "") -> str:
    if isinstance(tree, _Pairs):
        seen: set[str] = set()
        for name, value in tree:
            here = f"{place}.{name}" if place else name
            if name in seen:
                return here
            seen.add(name)
            if found := _twice(value, here):
                return found
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            if found := _twice(value, f"{place}[{index}]"):
                return found
    return ""
