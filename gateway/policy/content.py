"""Limits on the content of every message."""

from __future__ import annotations

MAX_SEGMENTS = 255
"""A concatenation header counts parts in one octet (3GPP TS 23.040, 9.2.3.24.1)."""


def fault(segments: int, most: int = MAX_SEGMENTS) -> str | None:
    """Return why content of ``segments`` parts (0 = empty) cannot be sent, None when it can."""
    if segments < 1:
        return "content_empty"
    if segments > most:
        return "content_too_long"
    return None
