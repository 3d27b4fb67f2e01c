"""In which form an answer leaves: what the request's ``Accept`` asks for, of the forms there are (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from gateway.api.problems import refuse

JSON = b"application/json"
NDJSON = b"application/x-ndjson"


def form(headers: Iterable[tuple[bytes, bytes]], usual: bytes, others: Sequence[bytes]) -> bytes:
    """The media type asked for; ``usual`` when nothing is asked for or it is wanted as much as any other.

    Raises HttpProblem (406) when none is acceptable.
    """
    accept = b",".join(value for name, value in headers if name == b"accept")
    if not accept.strip():
        return usual
    wanted = _ranges(accept.lower())
    kinds = (usual, *(kind for kind in others if kind != usual))
    best = max(kinds, key=lambda kind: _quality(kind, wanted))  # the first of equals
    if not _quality(best, wanted):
        known = b" or ".join(kinds).decode()
        raise refuse("not_acceptable", f"the answer is {known}: send Accept with one of them, or without")
    return best


def _ranges(accept: bytes) -> dict[bytes, float]:
    """Media range -> how much it is wanted, 0 to 1."""
    found: dict[bytes, float] = {}
    for item in accept.split(b","):
        kind, *parameters = (word.strip() for word in item.split(b";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                with suppress(ValueError):
                    quality = float(parameter[2:])
        if kind:
            found[kind] = quality
    return found


def _quality(kind: bytes, wanted: Mapping[bytes, float]) -> float:
    """The closest range counts."""
    family = kind.partition(b"/")[0] + b"/*"
    return next((wanted[one] for one in (kind, family, b"*/*") if one in wanted), 0.0)
