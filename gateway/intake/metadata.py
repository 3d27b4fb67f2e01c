"""Checks of a submission's ``metadata``: depth, size, control characters, integers that the store can keep."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.intake.control_characters import CONTROL, control_detail
from gateway.intake.submission import SubmissionProblem

MAX_SIZE = 2048
"""Octets, as JSON."""

MAX_DEPTH = 16
"""Levels."""

_MAYBE_CONTROL = re.compile(rb"\\[ubf]|\x7f|\xc2[\x80-\x9f]").search
"""Control characters as JSON writes them. A backslash followed by one of these letters matches too."""


def check_metadata(metadata: dict[str, Any]) -> SubmissionProblem | None:
    """Return why the metadata cannot be kept with the message and given back; None when it can."""
    if _too_deep(metadata):
        return SubmissionProblem("too_large", f"nested deeper than {MAX_DEPTH} levels", "metadata")
    if len(packed := msgspec.json.encode(metadata)) > MAX_SIZE:
        return SubmissionProblem("too_large", f"larger than {MAX_SIZE} bytes as JSON", "metadata")
    if _MAYBE_CONTROL(packed) and (detail := _find_control(metadata)):
        return SubmissionProblem("invalid_value", detail, "metadata")
    try:
        msgspec.msgpack.encode(metadata)  # the form in which the store keeps it
    except OverflowError:
        detail = "contains an integer of more than 64 bits; send it as a string"
        return SubmissionProblem("invalid_value", detail, "metadata")
    return None


def _find_control(tree: Any) -> str:
    """Describe the first control character, names of fields included; "" when there is none."""
    if isinstance(tree, str):
        return control_detail(found) if (found := CONTROL(tree)) else ""
    if isinstance(tree, dict):
        tree = [*tree, *tree.values()]
    return next(filter(None, map(_find_control, tree)), "") if isinstance(tree, list) else ""


def _too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Return whether anything lies below the last level; never recurses further than that."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return levels == 0 or any(_too_deep(item, levels - 1) for item in value)
