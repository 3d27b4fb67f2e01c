"""Duplicate keys in a JSON object, found without parsing most bodies a second time.

A decoder silently takes the last of two equal keys, and which one the app meant cannot be known (RFC 8259, section 4).
Each key has a colon, and so may texts and instants: when a body has as many colons as its decoded value has when it is
encoded again, nothing was left out. Only otherwise the body is parsed again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.intake.submission import Submission

_NAMES = re.compile(rb'"[ \t\r\n]*:').findall
_FEWER = re.compile(rb'\\u003[aA]|[+-][0-9]{4}"').search
"""An escaped colon, or an offset without one: such a body has fewer colons than its value encoded again."""

_encode = msgspec.json.Encoder().encode


def duplicate_in_messages(body: bytes, messages: Sequence[Submission], around: int) -> str:
    """Return the path of a duplicate key in a body of these messages, "" when there is none.

    ``around``: keys of the body outside of the messages.
    """
    equal = body.count(b":") == _encode(messages).count(b":") + around
    if equal and not ((b"\\" in body or b"_at" in body) and _FEWER(body)):
        return ""
    return duplicate_in_json(body)


def _max_keys(body: bytes) -> int:
    """Return how many keys the body has at most."""
    if b" :" in body or b"\n:" in body or b"\t:" in body or b"\r:" in body:
        return len(_NAMES(body))
    return body.count(b'":')


def _keys(tree: Any) -> int:
    if isinstance(tree, dict):
        return len(tree) + sum(map(_keys, tree.values()))
    return sum(map(_keys, tree)) if isinstance(tree, list) else 0


def duplicate_in_json(body: bytes) -> str:
    """Return the path of a duplicate key in any JSON that can be decoded, "" when there is none."""
    if _max_keys(body) == _keys(msgspec.json.decode(body)):
        return ""
    return _find_duplicate(json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str))


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, in order."""


def _find_duplicate(tree: Any, path: str = "") -> str:
    if isinstance(tree, _Pairs):
        seen: set[str] = set()
        for name, value in tree:
            here = f"{path}.{name}" if path else name
            if name in seen:
                return here
            seen.add(name)
            if found := _find_duplicate(value, here):
                return found
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            if found := _find_duplicate(value, f"{path}[{index}]"):
                return found
    return ""
